package e2e

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/logstream"
)

// Logs that the node rotates every three seconds. The first lines come some time
// before the others: of a log that was rotated before it was first read nobody
// can know what it began with.
func TestLogsThatAreRotatedSayWhatTheyMayMiss(t *testing.T) {
	s := ownSite(t, cluster.Config{LogMaxSize: "100Ki", LogMonitorInterval: 3 * time.Second})
	const first = 3 * time.Second
	for _, c := range []struct {
		name  string
		truth truth
		slots int
	}{
		{"at a moderate rate", truth{batch: 200, pause: 150 * time.Millisecond, first: first, lasts: 15 * time.Second}, 4},
		{"at a mad rate", truth{batch: 500, first: first, lasts: 10 * time.Second}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []*printing
			var plainly []func(*tally)
			for _, o := range []logstream.Options{{}, {RotateSize: 64 << 10, HeadProbe: 1500 * time.Millisecond}} {
				var truths []truth
				for i := range c.slots {
					tr := c.truth
					tr.slot = fmt.Sprintf("c%d", i)
					truths = append(truths, tr)
				}
				p := newLab(t, s, o).print(t, "rotated", corev1.RestartPolicyNever, truths...)
				p.keepFiles(t)
				all, plainly = append(all, p), append(plainly, p.plainly(t))
			}
			for i, p := range all {
				certificates := p.drain(t, hasEnded)
				var sum tally
				p.check(t, &sum, certificates, p.plains(t))
				plainly[i](&sum)
				p.lab.report(t, fmt.Sprintf("rotated %s, %s", c.name, []string{"default options", "options for small files"}[i]), sum)
				if sum.lines < 1000 || sum.rotations == 0 {
					t.Errorf("only %d lines were captured, of files that were rotated %d times", sum.lines, sum.rotations)
				}
			}
		})
	}
}
