package logstream

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A host that wants to say that logs broke off has nothing but this counter.
func TestEveryStreamThatBreaksOffAndIsOpenedAgainIsCountedOnce(t *testing.T) {
	for name, with := range map[string]error{"cleanly, as a kubelet's death shows": nil, "in an error": io.ErrUnexpectedEOF} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
					switch n {
					case 1:
						return &fault{cut: 10, with: with}
					case 2, 3: // the kubelet is away: not opened again yet
						return &fault{err: refused()}
					}
					return nil
				}
				b.n.start("a", "a1")
				b.n.print("a", "one", "two")
				b.c.Handle(b.p.running("a", "a1"))
				time.Sleep(time.Minute)
				synctest.Wait()
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				b.drain()
				b.wantText("a", "one\ntwo\n")
				if st := b.s.Stats(); st.Resumed != 1 || st.Failed != 2 {
					t.Errorf("%+v; want 1 resumed, 2 failed", st)
				}
			})
		})
	}
}
