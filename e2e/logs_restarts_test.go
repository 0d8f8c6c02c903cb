package e2e

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/logstream"
)

// Every part between a container and the capture is killed, and started again,
// while the container prints.
func TestLogsSurviveTheDeathOfTheClustersParts(t *testing.T) {
	s := ownSite(t, cluster.Config{})
	for _, c := range []struct {
		component string
		times     int
	}{
		{cluster.Kubelet, 3},
		{cluster.APIServer, 1},
		{cluster.Containerd, 1},
	} {
		t.Run(c.component, func(t *testing.T) {
			l := newLab(t, s, logstream.Options{})
			l.lossy = c.component == cluster.Containerd
			const pods, slots = 2, 10
			var all []*printing
			for range pods {
				var truths []truth
				for i := range slots {
					truths = append(truths, truth{slot: fmt.Sprintf("c%d", i), batch: 20, pause: 200 * time.Millisecond, gate: true})
				}
				all = append(all, l.print(t, c.component, corev1.RestartPolicyNever, truths...))
			}
			for _, p := range all {
				p.await(t, allRun)
			}
			for range c.times {
				after(t, time.Second)
				if err := s.cluster.Stop(t.Context(), c.component, true); err != nil {
					t.Fatal(err)
				}
				after(t, time.Second)
				if err := s.cluster.Start(t.Context(), c.component); err != nil {
					t.Fatal(err)
				}
			}
			after(t, time.Second)
			l.openGate(t)
			var sum tally
			for _, p := range all {
				certificates := p.drain(t, hasEnded)
				sum.plus(p.check(t, certificates, p.plains(t)))
			}
			l.report(t, fmt.Sprintf("%s killed %d times", c.component, c.times), sum)
			sum.wantVerified(t, pods*slots)
		})
	}
}
