package logstream

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// A rotatedFlood is a container that prints fast, on a node that rotates its log at an interval.
type rotatedFlood struct {
	every  time.Duration // between rotations
	looks  time.Duration // between looks at a log that grows fast
	behind bool          // the stream is slower than the container prints
	ends   int           // in a hundred rotations the stream ends
	slow   time.Duration // what an answer takes, at most
}

// play plays a random flood and returns what was captured of it, and what was printed.
func (f rotatedFlood) play(t *testing.T, seed uint64) (cert Certificate, captured string, truth []string, probes int64) {
	rng := rand.New(rand.NewPCG(seed, 0))
	inBubble(t, Options{RotateSize: 4000, HeadProbe: floodProbes * f.looks}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", "the first line")
		time.Sleep(time.Second)
		const pause = 5 * time.Millisecond
		if f.behind {
			b.n.lag = pause + time.Duration(rng.Int64N(int64(pause)))
		}
		next, files := time.Now().Add(f.every), 2+rng.IntN(8)
		for i := 0; files > 0; i++ {
			b.n.print("a", fmt.Sprintf("line %d %s", i, strings.Repeat("x", rng.IntN(20))))
			time.Sleep(time.Duration(rng.Int64N(int64(2 * pause))))
			if f.slow > 0 && rng.IntN(50) == 0 {
				b.n.change(func() { b.n.slow = time.Duration(rng.Int64N(int64(f.slow))) })
			}
			if time.Now().Before(next) {
				continue
			}
			next, files = next.Add(f.every), files-1
			b.n.rotate("a")
			if rng.IntN(100) < f.ends {
				b.n.change(func() { b.n.breaks, b.n.cleanly = b.n.breaks+1, rng.IntN(2) == 0 })
			}
		}
		time.Sleep(time.Duration(rng.Int64N(int64(2 * time.Second))))
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		cert = b.drain()[0]
		log := &b.c.order[0].log
		committed, _ := log.bounds()
		captured, truth = string(log.peek(make([]byte, committed), 0, committed)), b.n.cur["a"].truth
		probes = b.s.Stats().Probes
	})
	return cert, captured, truth, probes
}

// Of what a node rotates, a gap encloses what is missing, and no more, however fast it
// rotates and however far behind the stream is. Where nobody looked for longer than a file
// lives, it may enclose what was captured meanwhile.
func TestGapsOfRandomFloodsAreNarrow(t *testing.T) {
	first, many := *seed, max(2, *trials/12/slowed)
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for name, c := range map[string]struct {
		rotatedFlood
		wide time.Duration // gaps may be, so much
	}{
		"rotated slower than it is looked at":            {rotatedFlood{every: 4 * time.Second, looks: time.Second}, 0},
		"rotated slower, the stream is behind":           {rotatedFlood{every: 4 * time.Second, looks: time.Second, behind: true}, 0},
		"rotated slower, the stream ends":                {rotatedFlood{every: 3 * time.Second, looks: time.Second, behind: true, ends: 50}, 0},
		"rotated slower, answers are slow":               {rotatedFlood{every: 4 * time.Second, looks: time.Second, behind: true, ends: 20, slow: 500 * time.Millisecond}, 0},
		"rotated as often as it is looked at":            {rotatedFlood{every: 3 * time.Second, looks: 3 * time.Second}, 3 * time.Second},
		"rotated as often, the stream is behind":         {rotatedFlood{every: 3 * time.Second, looks: 3 * time.Second, behind: true, ends: 20}, 3 * time.Second},
		"rotated faster than it is looked at":            {rotatedFlood{every: 3 * time.Second, looks: 10 * time.Second}, 10 * time.Second},
		"rotated faster, the stream is behind":           {rotatedFlood{every: 3 * time.Second, looks: 10 * time.Second, behind: true}, 10 * time.Second},
		"rotated faster, the stream is behind, and ends": {rotatedFlood{every: 3 * time.Second, looks: 10 * time.Second, behind: true, ends: 50}, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			gaps, missing, doubted := 0, 0, 0
			for i := range many {
				cert, captured, truth, probes := c.play(t, first+uint64(i))
				inside, lost, err := judgeGaps(cert, captured, truth)
				gaps += len(cert.Gaps)
				for k := range cert.Gaps {
					missing, doubted = missing+lost[k], doubted+inside[k]
					if g := cert.Gaps[k]; inside[k] > lost[k] && (c.wide == 0 || g.To.Sub(g.From) > c.wide) {
						err = fmt.Errorf("%d lines were captured, and %d are missing, in the gap %+v", inside[k], lost[k], cert.Gaps[k])
					}
				}
				if err != nil {
					t.Fatalf("seed %d: %v; %d lines printed, %d probes, certificate %+v\n%+v", first+uint64(i), err, len(truth), probes, cert, cert.Gaps)
				}
			}
			t.Logf("seed %d, %d floods: %d gaps, %d lines missing, %d captured in gaps", first, many, gaps, missing, doubted)
		})
	}
}

// judgeGaps counts the lines that were captured, and those that are missing, inside each
// gap, and finds lines that are missing outside them, or were captured twice.
func judgeGaps(cert Certificate, captured string, truth []string) (inside, lost []int, err error) {
	got := map[string]int{}
	for _, line := range strings.SplitAfter(captured, "\n") {
		got[line]++
	}
	inside, lost = make([]int, len(cert.Gaps)), make([]int, len(cert.Gaps))
	var c stamp.Clock
	for _, line := range truth {
		ns, _ := c.Parse([]byte(line))
		covered := false
		for i, g := range cert.Gaps {
			if !g.From.IsZero() && ns <= g.From.UnixNano() || !g.To.IsZero() && ns >= g.To.UnixNano() {
				continue
			}
			if covered = true; got[line] == 0 {
				lost[i]++
			} else {
				inside[i]++
			}
		}
		switch {
		case got[line] > 1:
			err = fmt.Errorf("captured %d times: %s", got[line], line)
		case got[line] == 0 && !covered:
			err = fmt.Errorf("missing outside gaps: %s", line)
		}
	}
	if !slices.IsSortedFunc(cert.Gaps, func(a, b Gap) int { return int(a.AfterLine) - int(b.AfterLine) }) {
		err = fmt.Errorf("the gaps are not in order")
	}
	return inside, lost, err
}
