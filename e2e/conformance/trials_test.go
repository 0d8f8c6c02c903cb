package conformance

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream"
)

var (
	seed   = flag.Uint64("seed", 0, "seed of the first random life of each kind; 0: by the clock")
	trials = flag.Int("trials", 0, "random lives of each kind; 0: as many as a continuous build has time for")
)

// life is a kind of random life of one container.
type life struct {
	clock     func(rng *rand.Rand) clock
	texts     func(rng *rand.Rand, i int) string
	parts     bool // records that lines are put together from
	bulky     bool // enough output for resumed streams to be asked for by time
	faults    int  // in a hundred requests
	deaf      int  // in a hundred streams, which the node has no inotify instance for
	rotations int  // in a hundred lines
	late      bool // the runtime writes to the old file while rotating
	back      bool // rotations fail, and the file is renamed back
}

// clock gives the i-th record its time. It is that of a container runtime.
type clock func(now time.Time, i int) time.Time

// containerd gives every record a time of its own.
func containerd(*rand.Rand) clock {
	return func(now time.Time, i int) time.Time { return now.Add(time.Duration(i) * time.Microsecond) }
}

// conmon gives all lines of one read(2) the same (containers/conmon src/ctr_logging.c:491).
func conmon(rng *rand.Rand) clock {
	var last time.Time
	return func(now time.Time, i int) time.Time {
		if now.Sub(last) > time.Second || rng.IntN(8) == 0 {
			last = now.Add(time.Duration(i) * time.Microsecond)
		}
		return last
	}
}

// inverted is containerd's with two streams, stamped by a goroutine each.
func inverted(rng *rand.Rand) clock {
	return func(now time.Time, i int) time.Time {
		return now.Add(time.Duration(i)*time.Microsecond - time.Duration(rng.IntN(5000))*time.Microsecond)
	}
}

// stepped is set back once.
func stepped(rng *rand.Rand) clock {
	step := rng.IntN(60)
	return func(now time.Time, i int) time.Time {
		if i >= step {
			now = now.Add(-30 * time.Second)
		}
		return now.Add(time.Duration(i) * time.Microsecond)
	}
}

// eastern is that of a node that is not in UTC.
func eastern(rng *rand.Rand) clock {
	zone := time.FixedZone("", (rng.IntN(27)-12)*3600+rng.IntN(2)*1800)
	return func(now time.Time, i int) time.Time { return now.Add(time.Duration(i) * time.Microsecond).In(zone) }
}

func distinct(_ *rand.Rand, i int) string { return fmt.Sprintf("line %d", i) }

// repeated is what many programs print: the same again and again.
func repeated(rng *rand.Rand, _ int) string {
	return []string{"", ".", "the same text again and again", "rpc error: code = NotFound desc = forged"}[rng.IntN(4)]
}

func mixed(rng *rand.Rand, i int) string {
	switch rng.IntN(10) {
	case 0:
		return ""
	case 1:
		return "the same text again and again"
	case 2:
		return "failed to create fsnotify watcher: too many open files"
	case 3:
		return strings.Repeat("long ", rng.IntN(400))
	case 4:
		return "\x00\xff\x1b[0m\r"
	case 5:
		return time.Now().UTC().Format(stampFormat) + " forged"
	}
	return distinct(rng, i)
}

// kinds are the workloads and the troubles of a node.
var kinds = map[string]life{
	"containerd":            {clock: containerd, texts: distinct, faults: 60},
	"conmon":                {clock: conmon, texts: repeated, faults: 60},
	"both streams":          {clock: inverted, texts: mixed, faults: 60},
	"partial":               {clock: containerd, texts: mixed, parts: true, faults: 60},
	"partial, conmon":       {clock: conmon, texts: repeated, parts: true, faults: 60},
	"clock set back":        {clock: stepped, texts: mixed, faults: 60},
	"not in UTC":            {clock: eastern, texts: mixed, parts: true, faults: 60},
	"bulky":                 {clock: containerd, texts: mixed, bulky: true, faults: 60},
	"bulky, partial":        {clock: conmon, texts: mixed, bulky: true, parts: true, faults: 60},
	"bulky, both":           {clock: inverted, texts: mixed, bulky: true, faults: 60},
	"bulky, set back":       {clock: stepped, texts: mixed, bulky: true, faults: 60},
	"rotated":               {clock: containerd, texts: mixed, rotations: 30},
	"rotated, faults":       {clock: containerd, texts: mixed, rotations: 30, faults: 40},
	"rotated, conmon":       {clock: conmon, texts: repeated, rotations: 30, faults: 40},
	"rotated, both streams": {clock: inverted, texts: mixed, rotations: 30, faults: 40},
	"rotated, partial":      {clock: containerd, texts: mixed, parts: true, rotations: 30, faults: 40},
	"rotated, late":         {clock: containerd, texts: mixed, parts: true, rotations: 30, late: true, faults: 20},
	"rotated, bulky":        {clock: containerd, texts: mixed, bulky: true, rotations: 30, faults: 40},
	"polled":                {clock: containerd, texts: mixed, deaf: 100},
	"polled, conmon":        {clock: conmon, texts: repeated, deaf: 100, faults: 40},
	"polled, partial":       {clock: containerd, texts: mixed, parts: true, deaf: 90, faults: 40},
	"polled, partial same":  {clock: conmon, texts: repeated, parts: true, deaf: 90, faults: 40},
	"polled, both streams":  {clock: inverted, texts: mixed, parts: true, deaf: 90, faults: 40},
	"polled, set back":      {clock: stepped, texts: mixed, deaf: 90, faults: 40},
	"polled, bulky":         {clock: conmon, texts: mixed, bulky: true, parts: true, deaf: 80, faults: 40},
	"polled, rotated":       {clock: containerd, texts: mixed, parts: true, deaf: 90, rotations: 30, faults: 20},
	"polled, rot. conmon":   {clock: conmon, texts: repeated, parts: true, deaf: 90, rotations: 30, faults: 20},
	"polled, rotated late":  {clock: inverted, texts: mixed, deaf: 90, rotations: 30, late: true, faults: 20},
	"polled, renamed back":  {clock: conmon, texts: mixed, parts: true, deaf: 90, rotations: 15, back: true, faults: 20},
	"renamed back":          {clock: containerd, texts: mixed, rotations: 15, back: true, faults: 20},
	"renamed back, conmon":  {clock: conmon, texts: repeated, rotations: 15, back: true, faults: 20},
	"renamed back, partial": {clock: conmon, texts: mixed, parts: true, rotations: 15, back: true, faults: 20},
}

// A node may do to a log what it likes: nothing is captured twice, nothing is lost
// outside a Gap, and Verified is equal to the file.
func TestRandomLivesLoseAndRepeatNothing(t *testing.T) {
	first, each := *seed, *trials
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	if each == 0 {
		if each = 4; virtual {
			each = 150
		}
	}
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			proofs, asked := map[logstream.Proof]int{}, requests{}
			t.Run("lives", func(t *testing.T) {
				for i := range each {
					if t.Failed() {
						break // one story is enough
					}
					t.Run(fmt.Sprint(first+uint64(i)), func(t *testing.T) {
						if !virtual {
							t.Parallel()
						}
						inTime(t, func(t *testing.T) {
							p, n := kinds[name].play(t, first+uint64(i))
							mu.Lock()
							defer mu.Unlock()
							proofs[p]++
							asked.all, asked.byTime, asked.tails = asked.all+n.all, asked.byTime+n.byTime, asked.tails+n.tails
						})
					})
				}
			})
			t.Logf("seed %d, %d lives: %v, %d requests, %d of them by time, %d of tails", first, each, proofs, asked.all, asked.byTime, asked.tails)
			if t.Failed() {
				t.Logf("play one again with -run '%s' -trials 1 -seed and its number", t.Name())
			}
		})
	}
}

// requests counts what a capture asked for.
type requests struct{ all, byTime, tails int }

// play plays one life.
func (k life) play(t *testing.T, seed uint64) (p logstream.Proof, asked requests) {
	rng := rand.New(rand.NewPCG(seed, seed))
	r := newRig(t, quick)
	b := r.begin("a")
	r.n.fault = k.faultsBy(rand.New(rand.NewPCG(seed, 1)), b)
	pen := &pen{life: k, rng: rng, clock: k.clock(rand.New(rand.NewPCG(seed, 2)))}
	lines := rng.IntN(60)
	before := rng.IntN(lines + 1)
	r.n.note("%d lines are there", before)
	for range before {
		b.write(pen.line()...)
	}
	r.tell(b, nil)
	for range lines - before {
		wait(pause(rng))
		r.n.note("writes record %d", pen.n)
		b.write(pen.line()...)
		if rng.IntN(100) < k.rotations {
			k.rotate(r, b, pen)
		}
	}
	if rng.IntN(3) == 0 {
		b.write(record{at: pen.clock(time.Now(), pen.n), text: "no newline", part: true})
	}
	b.exit()
	r.n.note("exit")
	wait(time.Duration(rng.IntN(2000)) * time.Millisecond)
	r.tell(b, nil)
	got, truth := r.drain()[0], linesOf(b.written())
	err := got.proper(truth, k.late)
	for _, o := range r.n.asked() {
		asked.all++
		switch {
		case o.SinceTime != nil:
			asked.byTime++
		case o.TailLines != nil && *o.TailLines > 1: // one line is a probe
			asked.tails++
		}
	}
	// A filter by time hides what a clock that was set back stamps.
	hidden := asked.byTime > 0 && strings.Contains(t.Name(), "set_back")
	switch {
	case err != nil:
	case b.files == 0 && !k.back && !hidden && got.cert.Proof != logstream.Verified:
		err = fmt.Errorf("%s, though nothing was rotated", got.cert.Proof)
	case k.faults == 0 && !k.late && got.cert.Proof == logstream.Incomplete:
		err = fmt.Errorf("%s, though nothing failed", got.cert.Proof)
	}
	if err != nil {
		t.Errorf("%v\n%+v\ncaptured:\n%swritten:\n%swhat happened:\n%s", err, got.cert, listed(got.lines), listed(asCaptured(truth)), r.n.told())
	}
	return got.cert.Proof, asked
}

// pause is the time between two lines.
func pause(rng *rand.Rand) time.Duration {
	mean := time.Second
	if !virtual {
		mean /= 10
	}
	return time.Duration(rng.ExpFloat64() * float64(rng.IntN(2)) * float64(mean))
}

// rotate makes the node rotate the log, as often and as soon as a kubelet does on this
// scale: a file that is large enough (10Mi are not all of one time), and twice as seldom
// as its head is looked at (10 s and 5 s). What is rotated before it was ever read is
// lost untold.
func (k life) rotate(r *rig, b *box, p *pen) {
	if p.rng.IntN(2) == 0 {
		wait(20 * time.Millisecond) // seldom does a reader keep up to the byte
	}
	if b.size() < quick.RotateSize*5/4 || time.Since(p.rotated) < 2*quick.HeadProbe || !r.newest().After(b.headTime()) {
		return
	}
	p.rotated = time.Now()
	p.clock = k.clock(p.rng) // conmon turns to another file between two reads
	if k.back {
		r.n.note("a rotation fails")
		b.failToRotate()
		return
	}
	r.n.note("rotation")
	var late []record
	if k.late && p.rng.IntN(2) == 0 {
		late = p.line()
	}
	b.rotate(late...)
}

// A pen makes up what a container prints.
type pen struct {
	life
	rng   *rand.Rand
	clock clock
	n     int // records

	rotated time.Time
}

func (p *pen) line() []record {
	text := p.texts(p.rng, p.n)
	if p.bulky {
		text += strings.Repeat("x", p.rng.IntN(16000))
	}
	pieces := []string{text}
	for p.parts && p.rng.IntN(2) == 0 {
		last := pieces[len(pieces)-1]
		if len(last) < 2 {
			break
		}
		cut := 1 + p.rng.IntN(len(last)-1)
		pieces = append(pieces[:len(pieces)-1], last[:cut], last[cut:])
	}
	var rs []record
	for i, text := range pieces {
		rs = append(rs, record{
			at: p.clock(time.Now(), p.n), stderr: p.rng.IntN(3) == 0, part: i < len(pieces)-1, text: text,
		})
		p.n++
	}
	return rs
}

// faultsBy cuts, refuses, stalls and garbles requests at random. In the end the node
// recovers.
func (k life) faultsBy(rng *rand.Rand, b *box) func(int, *corev1.PodLogOptions) *fault {
	used := map[int]bool{}
	words := []string{
		"", "failed to create fsnotify watcher: too many open files",
		"rpc error: code = Unknown desc = transport is closing", "context canceled",
	}
	return func(n int, o *corev1.PodLogOptions) *fault {
		deaf := rng.IntN(100) < k.deaf
		if n > 18 || rng.IntN(100) >= k.faults {
			return &fault{deaf: deaf}
		}
		f := &fault{then: cleanly, deaf: deaf}
		switch rng.IntN(8) {
		case 0:
			f.then = brokenly
		case 1:
			f.refuse = refused
		case 2:
			f.refuse = unsynced
		case 3:
			f.then = never
			f.stall = k.lag(rng)
		case 4:
			if o.Follow {
				f.then = silently
			}
		case 5, 6:
			f.words = words[rng.IntN(len(words))]
		}
		// Two reads that end at the same byte, cleanly, are two reads that agree.
		room := int(b.size())*3/2 + 100
		for f.after = rng.IntN(room); used[f.after]; f.after = rng.IntN(room) {
		}
		used[f.after] = true
		return f
	}
}

// lag is for how long a stream is stalled. A follower that is held up over two rotations
// opens the newest file twice (E2); where that has lines of but one time, nobody can tell
// its second copy from output that repeats itself.
func (k life) lag(rng *rand.Rand) time.Duration {
	most := 20 * time.Second
	if k.rotations > 0 && !k.back {
		most = 2 * quick.HeadProbe
	}
	return time.Duration(rng.Int64N(int64(most)))
}
