package logstream

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The host's watch is dead, the stream is a connection that nobody ends.
func TestARunWhosePodIsGoneEndsThoughNoWatchTells(t *testing.T) {
	for name, hangs := range map[string]bool{"its stream hangs": true, "its stream ended": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
					if n == 1 {
						return &fault{cut: 40, hang: hangs}
					}
					return &fault{err: notFound("pods", "p")}
				}
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", "one", "two")
				time.Sleep(2 * time.Minute)
				certs, err := b.c.Drain(b.ctx, nil)
				if err != nil || len(certs) != 1 || certs[0].Proof != Incomplete {
					t.Errorf("certificates %+v, %v", certs, err)
				}
				if text, err := b.readAll("a", ReadOptions{Snapshot: true}); text != "one\n" || err != nil {
					t.Errorf("read %q, %v", text, err)
				}
			})
		})
	}
}
