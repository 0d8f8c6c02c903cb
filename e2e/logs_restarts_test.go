package e2e

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/logstream"
)

// Every part between a container and the capture is ended, and started again, while
// the container prints. One pod's containers end while the part is away for the last
// time, the other's later.
func TestLogsSurviveTheDeathOfTheClustersParts(t *testing.T) {
	s := ownSite(t, cluster.Config{})
	for _, c := range []struct {
		component string
		kill      bool
		times     int
	}{
		{cluster.Kubelet, true, 3},
		{cluster.APIServer, true, 1},
		{cluster.Containerd, true, 1},
		{cluster.Containerd, false, 1},
	} {
		how := map[bool]string{true: "killed", false: "ended"}[c.kill]
		t.Run(c.component+" "+how, func(t *testing.T) {
			l := newLab(t, s, logstream.Options{})
			const pods, slots = 2, 10
			var all []*printing
			var plainly []func(*tally)
			for range pods {
				var truths []truth
				for i := range slots {
					truths = append(truths, truth{slot: fmt.Sprintf("c%d", i), batch: 20, pause: 200 * time.Millisecond, gate: true})
				}
				p := l.print(t, c.component, corev1.RestartPolicyNever, truths...)
				all, plainly = append(all, p), append(plainly, p.plainly(t))
			}
			for _, p := range all {
				p.await(t, allRun)
				for _, tr := range p.truths {
					p.awaitLines(t, tr.slot, 1)
				}
			}
			for i := range c.times {
				after(t, time.Second)
				if err := s.cluster.Stop(t.Context(), c.component, c.kill); err != nil {
					t.Fatal(err)
				}
				if i == c.times-1 {
					all[0].openGate(t)
				}
				after(t, time.Second)
				if err := s.cluster.Start(t.Context(), c.component); err != nil {
					t.Fatal(err)
				}
			}
			after(t, time.Second)
			all[1].openGate(t)
			var sum tally
			for i, p := range all {
				certificates := p.drain(t, hasEnded)
				p.check(t, &sum, certificates, p.plains(t))
				plainly[i](&sum)
			}
			l.report(t, fmt.Sprintf("%s %s, %d times", c.component, how, c.times), sum)
			sum.wantVerified(t, pods*slots)
			// What a runtime that is away never wrote is in no log.
			if c.component != cluster.Containerd {
				sum.wantAll(t, pods*slots)
			}
		})
	}
}
