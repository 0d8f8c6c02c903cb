package logstream

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// randomLog is a log that begins at a time, with what may be odd in one.
func randomLog(rng *rand.Rand, at time.Time) string {
	var b strings.Builder
	for range rng.IntN(8) {
		at = at.Add(time.Duration(rng.IntN(3)) * 700 * time.Millisecond)
		if rng.IntN(6) == 0 {
			at = at.Add(-2 * time.Second)
		}
		size := []int{3, 60, 300, 5000, longLine, 2 * longLine}[rng.IntN(6)]
		fmt.Fprintf(&b, "%s %s\n", at.UTC().Format("2006-01-02T15:04:05.000000000Z07:00"), strings.Repeat("x", rng.IntN(size)))
	}
	all := b.String()
	if rng.IntN(3) == 0 && len(all) > 0 {
		all = all[:len(all)-1]
	}
	return all
}

// What was captured of another run's log, and taken back, has left nothing behind: not its
// lines, nor that it ends in one.
func TestALogOfWhichAPartWasTakenBackIsCapturedAsAnyOther(t *testing.T) {
	took := 0
	for i := range uint64(*trials * 20) {
		seed := *seed + i
		rng := rand.New(rand.NewPCG(seed, 1))
		cut := func(s string) string {
			if rng.IntN(2) == 0 {
				return s[:rng.IntN(len(s)+1)]
			}
			return s
		}
		began := time.Unix(1e9, 0)
		own, fresh, used := randomLog(rng, began), newTestSplicer(), newTestSplicer()
		both := func(resp string, follow bool) {
			fresh.oneFile, used.oneFile = !follow, !follow
			wantAnswer, wantEqual := fresh.respond(t, resp, follow, false)
			answer, equal := used.respond(t, resp, follow, false)
			want, got := fresh.captured(), used.captured()
			if answer != wantAnswer || equal != wantEqual || got != want || used.joined != fresh.joined {
				t.Fatalf("seed %d, %d bytes of %d, follow %v: %v %v %v, %d bytes; want %v %v %v, %d bytes",
					seed, len(resp), len(own), follow, answer, equal, used.joined, len(got), wantAnswer, wantEqual, fresh.joined, len(want))
			}
			if used.l.lines != fresh.l.lines || used.l.stamps != fresh.l.stamps || used.l.newest != fresh.l.newest {
				t.Fatalf("seed %d: %d lines, %d bytes of stamps; want %d, %d", seed, used.l.lines, used.l.stamps, fresh.l.lines, fresh.l.stamps)
			}
		}
		for range rng.IntN(3) {
			both(cut(own), rng.IntN(4) > 0)
		}
		if committed, end := used.l.bounds(); committed != end || used.doubt {
			continue // what a part ends: output that is not certain yet, a doubt
		}
		next := randomLog(rng, began.Add(time.Hour))
		before := used.began
		for range 1 + rng.IntN(3) {
			used.oneFile = rng.IntN(2) == 0
			used.respond(t, cut(next), !used.oneFile, false)
		}
		for ; used.began > before; took++ {
			used.takeBack()
		}
		for range 3 {
			both(cut(own), rng.IntN(4) > 0)
		}
		both(own, false)
	}
	if took < *trials {
		t.Errorf("%d parts were taken back", took)
	}
}
