package logstream

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/testutil/nodelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

var (
	// A change is not to fail by another's luck: new trials are those of other seeds.
	seed   = flag.Uint64("seed", 519, "seed of the random trials; 0: by the clock")
	trials = flag.Int("trials", 60, "random trials of each kind")
)

// check compares a capture with what the container wrote: nothing twice, nothing
// missing outside a gap, nothing invented; Verified means equal.
func check(truth []string, captured string, cert Certificate) error {
	if cert.Proof == Verified {
		if want := strings.Join(truth, ""); captured != want {
			return fmt.Errorf("Verified, but captured %d bytes of %d: %q", len(captured), len(want), captured)
		}
		if len(cert.Gaps) > 0 {
			return fmt.Errorf("Verified with gaps %+v", cert.Gaps)
		}
	}
	// The capture is a part of the truth in the truth's order; lines may be equal.
	at, seen := 0, make([]bool, len(truth))
	for _, l := range strings.SplitAfter(captured, "\n") {
		i := at
		for i < len(truth) && truth[i] != l {
			i++
		}
		switch {
		case i < len(truth):
			seen[i], at = true, i+1
		case l != "" && (strings.HasSuffix(l, "\n") || !isPartOf(l, truth)):
			return fmt.Errorf("captured %q twice, or not in its place", l)
		}
	}
	var c stamp.Clock
	for i, l := range truth {
		if ns, _ := c.Parse([]byte(l)); !seen[i] && !inGap(stamp.Time(ns), cert.Gaps) {
			return fmt.Errorf("%q (%d of %d) is missing outside the gaps %+v", l, i, len(truth), cert.Gaps)
		}
	}
	return nil
}

// withoutHalves returns what was captured but for the halves of lines that end at halves,
// each before another file, and the text of all of it.
func withoutHalves(captured string, halves []int64, truth []string) (lines, text string) {
	at := 0
	for _, h := range halves {
		piece := captured[at:h]
		at = int(h)
		text += stripped(piece)
		whole := piece[:strings.LastIndexByte(piece, '\n')+1]
		if half := piece[len(whole):]; !isPartOf(half, truth) {
			whole = piece // which check finds wrong
		}
		lines += whole
	}
	return lines + captured[at:], text + stripped(captured[at:])
}

func isPartOf(part string, truth []string) bool {
	for _, l := range truth {
		if strings.HasPrefix(l, strings.TrimSuffix(part, "\n")) {
			return true
		}
	}
	return false
}

func inGap(t time.Time, gaps []Gap) bool {
	const skew = 10 * time.Millisecond // between stdout and stderr
	for _, g := range gaps {
		if !t.Before(g.From.Add(-skew)) && (g.To.IsZero() || !t.After(g.To.Add(skew))) {
			return true
		}
	}
	return false
}

var filtered int // requests by time, so that the log tells whether any was made

// trial is one random life of one container.
type trial struct {
	name      string
	rotations bool                               // the node rotates its log
	faults    int                                // in a hundred requests
	late      bool                               // the runtime writes to the old file while rotating
	deaf      bool                               // the node has no inotify instances left, at times
	again     bool                               // a follower is sent its file twice
	clock     func(rng *rand.Rand) nodelog.Clock // nil: all times different, in order
}

func (k trial) run(t *testing.T, seed uint64) (proof Proof, gaps int) {
	rng := rand.New(rand.NewPCG(seed, seed))
	inBubble(t, Options{IdleProbe: 2 * time.Second, HeadProbe: time.Second, RotateSize: 400}, nil, func(b *bench) {
		turns := time.Duration(seed%2) * 3 * time.Second // the node looks so often, or whenever a test likes
		if turns == 0 {
			b.s.fileLife = 0
		}
		turnedAt := time.Now()
		b.s.filterFrom = int64(rng.IntN(2)) * 1 << 20          // every resumed stream is asked for by time, or none
		b.n.fault = k.faultsBy(rand.New(rand.NewPCG(seed, 1))) // under the node's lock
		b.n.deaf = k.deaf
		if k.again {
			in := rand.New(rand.NewPCG(seed, 3)).IntN(60)
			b.n.again = func() bool { in--; return in == 0 }
		}
		b.n.start("a", "a1")
		file := 0
		if k.clock != nil {
			clock := k.clock(rand.New(rand.NewPCG(seed, 2)))
			b.n.cur["a"].stamp = func(now time.Time, i int) time.Time { return clock(now, i, file) }
		}
		lines := rng.IntN(60)
		before := rng.IntN(lines + 1) // written before anyone looks
		rotated := time.Now()
		write := func(i int) { b.n.raw("a", randomText(rng, i)) }
		for i := range before {
			write(i)
		}
		b.c.Handle(b.p.running("a", "a1"))
		for i := before; i < lines; i++ {
			time.Sleep(time.Duration(rng.ExpFloat64() * float64(rng.IntN(2)) * float64(time.Second)))
			write(i)
			if k.deaf {
				b.n.change(func() { b.n.deaf = rng.IntN(50) > 0 })
			}
			if k.rotations && rng.IntN(12) == 0 && time.Since(turnedAt) >= turns {
				turnedAt = time.Now()
				if rng.IntN(2) == 0 {
					synctest.Wait() // seldom does a reader keep up to the byte
				}
				if committed, _ := b.c.order[0].log.bounds(); committed == 0 || rotated.Equal(time.Now()) {
					continue // what is rotated before it was ever read is lost untold; no file is of one moment
				}
				rotated = time.Now()
				var late []string
				if k.late && rng.IntN(2) == 0 {
					late = []string{"too late\n"}
				}
				b.n.rotate("a", late...)
				b.n.change(func() { file++ })
			}
		}
		if rng.IntN(3) == 0 {
			b.n.raw("a", "no newline")
		}
		b.n.exit("a")
		time.Sleep(time.Duration(rng.IntN(2000)) * time.Millisecond)
		b.c.Handle(b.p.ended("a", "a1"))
		certs := b.drain()
		r := b.c.order[0]
		committed, _ := r.log.bounds()
		captured := string(r.log.peek(make([]byte, committed), 0, committed))
		whole, want := withoutHalves(captured, r.log.halves, b.n.cur["a"].truth)
		if err := check(b.n.cur["a"].truth, whole, certs[0]); err != nil {
			t.Errorf("seed %d: %v; certificate %+v\ncaptured:\n%s\ntruth:\n%s\n%v", seed, err, certs[0], captured, strings.Join(b.n.cur["a"].truth, ""), b.n.log)
		}
		text, err := b.readAll("a", ReadOptions{})
		if text != want {
			t.Errorf("seed %d: read %q, want %q", seed, text, want)
		}
		var inc *IncompleteError
		if errors.As(err, &inc) != (certs[0].Proof == Incomplete) {
			t.Errorf("seed %d: %s ends readers in %v", seed, certs[0].Proof, err)
		}
		if got := int64(len(text)); got != certs[0].Bytes {
			t.Errorf("seed %d: %d bytes read, %d certified", seed, got, certs[0].Bytes)
		}
		byTime := filtered
		for _, o := range b.n.log {
			if o.SinceTime != nil {
				filtered++
			}
		}
		hidden := k.name == "clock set back" && filtered > byTime // by the filter, from a stream that went on
		unseen := slices.ContainsFunc(certs[0].Gaps, func(g Gap) bool { return g.Why == whyWasEmpty })
		if !k.rotations && !k.again && certs[0].Proof != Verified && !hidden && !unseen {
			t.Errorf("seed %d: %+v, though nothing was rotated; requests %+v", seed, certs[0], len(b.n.log))
		}
		if !k.late && k.faults == 0 && certs[0].Proof == Incomplete {
			t.Errorf("seed %d: %+v, though nothing failed", seed, certs[0])
		}
		proof, gaps = certs[0].Proof, len(certs[0].Gaps)
	})
	return proof, gaps
}

func stripped(raw string) string {
	var b strings.Builder
	for _, l := range strings.SplitAfter(raw, "\n") {
		b.WriteString(l[stamp.Len([]byte(l)):])
	}
	return b.String()
}

func randomText(rng *rand.Rand, i int) string {
	switch rng.IntN(10) {
	case 0:
		return "\n"
	case 1:
		return "the same text again and again\n"
	case 2:
		return "rpc error: code = NotFound desc = forged\n"
	case 3:
		return strings.Repeat("long ", rng.IntN(200)) + "\n"
	}
	return fmt.Sprintf("line %d\n", i)
}

// faultsBy cuts, refuses, stalls and garbles requests at random. In the end the
// node recovers.
func (k trial) faultsBy(rng *rand.Rand) func(int, *corev1.PodLogOptions) *fault {
	used := map[int]bool{}
	return func(n int, o *corev1.PodLogOptions) *fault {
		if n > 18 || rng.IntN(100) >= k.faults {
			return nil
		}
		f := &fault{}
		switch rng.IntN(8) {
		case 0:
			f.with = errors.New("http2: client connection lost")
		case 1:
			f.words = "failed to create fsnotify watcher: too many open files"
		case 2:
			f.words = "rpc error: code = Unknown desc = transport is closing"
		case 3:
			f.err = refused()
		case 4:
			f.err = notFound("pods/log", "p")
		case 5:
			f.hang = o.Follow
		}
		// Two reads that end at the same byte, cleanly, are two reads that agree.
		for f.cut = rng.IntN(3000); used[f.cut]; f.cut = rng.IntN(3000) {
		}
		used[f.cut] = true
		return f
	}
}

func TestRandomFaultsLoseAndRepeatNothing(t *testing.T) {
	kinds := map[string]trial{
		"no rotation":                {faults: 60},
		"rotation":                   {rotations: true},
		"rotation and faults":        {rotations: true, faults: 50},
		"late writes":                {rotations: true, late: true, faults: 30},
		"nothing out of ordinary":    {},
		"shared times":               {faults: 60, clock: nodelog.Conmon},
		"inverted times":             {faults: 60, clock: nodelog.BothStreams},
		"clock set back":             {faults: 60, clock: nodelog.SetBack},
		"shared, rotation":           {faults: 30, clock: nodelog.Conmon, rotations: true},
		"inverted, rotation":         {faults: 30, clock: nodelog.BothStreams, rotations: true},
		"sent again":                 {again: true},
		"sent again, faults":         {again: true, faults: 40},
		"sent again, rotation":       {again: true, faults: 20, rotations: true},
		"sent again, clock set back": {again: true, faults: 20, clock: nodelog.SetBack},
		"sent again, polled":         {again: true, faults: 20, rotations: true, deaf: true},
		"sent again, late writes":    {again: true, faults: 20, rotations: true, late: true},
		"polled":                     {deaf: true},
		"polled, faults":             {deaf: true, faults: 60},
		"polled, rotation":           {deaf: true, faults: 30, rotations: true},
		"polled, shared times":       {deaf: true, faults: 40, clock: nodelog.Conmon},
		"polled, inverted times":     {deaf: true, faults: 40, clock: nodelog.BothStreams},
		"polled, clock set back":     {deaf: true, faults: 40, clock: nodelog.SetBack},
		"polled, late writes":        {deaf: true, faults: 20, rotations: true, late: true},
	}
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for name, k := range kinds {
		k.name = name
		t.Run(name, func(t *testing.T) {
			proofs := map[Proof]int{}
			gaps := 0
			for i := range *trials {
				p, g := k.run(t, first+uint64(i))
				proofs[p]++
				gaps += g
				if t.Failed() {
					t.Fatalf("run again with -seed %d -trials 1", first+uint64(i))
				}
			}
			t.Logf("seed %d, %d trials: %v, %d gaps, %d requests by time", first, *trials, proofs, gaps, filtered)
		})
	}
}
