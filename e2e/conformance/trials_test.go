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
	seed   = flag.Uint64("seed", 519, "seed of the first random life of each kind; 0: by the clock")
	trials = flag.Int("trials", 0, "random lives of each kind; 0: as many as a continuous build has time for")
)

// seeded says which trials to make, and how many of each kind: as flags say, or as many
// as there is time for.
func seeded(real, virtually int) (first uint64, each int) {
	first, each = *seed, *trials
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	if each == 0 {
		if each = real; virtual {
			each = virtually
		}
	}
	return first, each
}

// A node may do to a log what it likes: nothing is captured twice, nothing is lost
// outside a Gap, and Verified is equal to the file.
func TestRandomLivesLoseAndRepeatNothing(t *testing.T) {
	first, each := seeded(2, 150)
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
	r := newRigOver(t, k.tuned, !virtual, func(open logstream.Opener) logstream.Opener {
		if k.lumps {
			return lumpy{open}
		}
		return open
	})
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
		if rng.IntN(100) < k.outages {
			r.n.away(time.Duration(rng.Int64N(int64(8 * time.Second))))
		}
	}
	if rng.IntN(3) == 0 {
		b.write(record{At: pen.clock(time.Now(), pen.n, pen.file), Text: "no newline", Partial: true})
	}
	b.Exit()
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
	// What is printed between an empty read and the next one may be rotated away unseen.
	unseen := slices.ContainsFunc(got.cert.Gaps, func(g logstream.Gap) bool { return strings.Contains(g.Why, "found it empty") })
	switch {
	case err != nil:
	case b.files == 0 && !k.back && !hidden && !unseen && got.cert.Proof != logstream.Verified:
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

// monitorInterval is the shortest containerLogMonitorInterval (kubernetes v1.36.3
// pkg/kubelet/apis/config/validation/validation.go:381).
const monitorInterval = 3 * time.Second

// rotate makes the node rotate the log, if the file is large enough: 10Mi are not all of
// one time. What is rotated before it was ever read is lost untold.
func (k life) rotate(r *rig, b *box, p *pen) {
	if p.rng.IntN(2) == 0 {
		wait(20 * time.Millisecond) // seldom does a reader keep up to the byte
	}
	if b.size() < quick.RotateSize*5/4 || b.lasted() == 0 || r.newest().IsZero() || time.Since(p.turned) < monitorInterval {
		return
	}
	p.turned = time.Now()
	if k.back {
		r.n.note("a rotation fails")
		b.FailToRotate(maxFiles)
		return
	}
	r.n.note("rotation")
	var late []record
	if k.late && p.rng.IntN(2) == 0 {
		late = p.line()
	}
	b.rotate(late...)
	p.file++
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
			f.stall = time.Duration(rng.Int64N(int64(20 * time.Second)))
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
