package logstream

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// breakStreams breaks every open stream off, rotates the log of slot and lets what is
// printed from then on be found in the new file only. The runtime still writes late texts
// to the old one, which nobody follows.
func (n *node) breakStreams(slot string, late ...string) {
	n.change(func() {
		b := n.cur[slot]
		n.breaks++
		b.Rename(maxFiles)
		b.Reopen()
		for _, text := range late {
			b.put(text)
		}
		b.Turn()
	})
}

// longestStall plays a run that prints lines for as long as it takes, one every 10 ms, and
// returns the longest time in which nothing of it was captured. Before line k happens is
// called.
func (b *bench) longestStall(slot string, lines int, happens func(k int)) (longest time.Duration) {
	r := b.c.order[len(b.c.order)-1]
	last, known := time.Now(), int64(0)
	for k := range lines {
		happens(k)
		b.n.print(slot, fmt.Sprint("line ", k))
		time.Sleep(10 * time.Millisecond)
		if committed, _ := r.log.bounds(); committed > known {
			last, known = time.Now(), committed
		}
		longest = max(longest, time.Since(last))
	}
	return longest
}

// Nobody can say of a new file whose it is: the run before was a placeholder, or is gone.
func TestAChattyRunWhoseLogRotatesIsCapturedWithoutAStall(t *testing.T) {
	for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyNever, corev1.RestartPolicyAlways} {
		for name, before := range map[string]string{"bare": "", "behind a placeholder": "pause", "behind a run whose log is gone": "a0"} {
			t.Run(fmt.Sprint(name, ", ", policy), func(t *testing.T) {
				inBubble(t, Options{}, &script{placeholders: map[string]bool{"pause": true}}, func(b *bench) {
					b.p = newPod(policy, "a")
					b.n.most = 20 * time.Second
					b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
						if o.Previous && before == "a0" {
							return &fault{words: "unable to retrieve container logs for containerd://a0"}
						}
						return nil
					}
					if before != "" {
						b.n.start("a", before)
						b.c.Handle(b.p.running("a", before))
						if before == "a0" {
							b.n.print("a", "of the first")
						}
						time.Sleep(5 * time.Second)
						b.n.exit("a")
						b.c.Handle(b.p.ended("a", before))
						time.Sleep(5 * time.Second)
					}
					b.begin("a", "a1")
					longest := b.longestStall("a", 9000, func(k int) {
						if k == 1500 || k == 4500 || k == 7500 {
							synctest.Wait()
							b.n.breakStreams("a")
						}
					})
					t.Logf("nothing was captured for %s at most", longest)
					if longest > 100*time.Millisecond {
						t.Errorf("nothing was captured for %s", longest)
					}
					b.n.exit("a")
					b.p.pod.Status.Phase = corev1.PodSucceeded
					b.c.Handle(b.p.ended("a", "a1"))
					certs := b.drain()
					cert := certs[len(certs)-1]
					if cert.Proof != Unverified || cert.Lines != 9000 || len(seams(cert)) != 3 {
						t.Errorf("certificate %+v", cert)
					}
					for i, g := range seams(cert) {
						if want := uint64(1500 + 3000*i); g.AfterLine != want || g.Certain || g.To.Sub(g.From) > 30*time.Millisecond {
							t.Errorf("gap %+v, want one after line %d", g, want)
						}
					}
					text, err := b.readAll("a", ReadOptions{Snapshot: true})
					if n := strings.Count(text, "line "); n != 9000 || err != nil {
						t.Errorf("%d lines are read, %v", n, err)
					}
				})
			})
		}
	}
}
