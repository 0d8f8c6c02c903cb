package logstream

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// What another run's log has left behind makes no difference: not its lines, nor that it ends in one.
func TestALogThatBeginsBehindAnothersIsCapturedAsAnyOther(t *testing.T) {
	for i := range uint64(*trials * 20) {
		seed := *seed + i
		rng := rand.New(rand.NewPCG(seed, 1))
		text := func(at time.Time) string {
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
		cut := func(s string) string {
			if rng.IntN(2) == 0 {
				return s[:rng.IntN(len(s)+1)]
			}
			return s
		}
		began := time.Unix(1e9, 0)
		fresh, used := newTestSplicer(), newTestSplicer()
		next := text(began.Add(time.Duration(rng.IntN(5)) * time.Second))
		for range 1 + rng.IntN(3) {
			used.oneFile = rng.IntN(2) == 0
			used.respond(t, cut(next), !used.oneFile, false)
		}
		used.disown()
		fresh.stepped = true
		own := text(began)
		for k := range 4 {
			resp, follow := own, rng.IntN(4) == 0
			if k < 3 {
				resp = cut(own)
			}
			fresh.oneFile, used.oneFile = !follow, !follow
			wantAnswer, wantEqual := fresh.respond(t, resp, follow, false)
			answer, equal := used.respond(t, resp, follow, false)
			want, got := fresh.captured(), used.captured()[used.base:]
			if answer != wantAnswer || equal != wantEqual || got != want || used.joined != fresh.joined {
				t.Fatalf("seed %d, response %d (%d of %d bytes, follow %v): %v %v %v, %d bytes; want %v %v %v, %d bytes",
					seed, k, len(resp), len(own), follow, answer, equal, used.joined, len(got), wantAnswer, wantEqual, fresh.joined, len(want))
			}
		}
	}
}
