package logstream

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// The node is out of inotify instances, says so, and is cut off while it does.
func TestAnEmptyLogAfterWordsThatWereCutIsEmpty(t *testing.T) {
	for n := 1; n <= len(outOfWatchers); n++ {
		inBubble(t, Options{}, nil, func(b *bench) {
			b.n.fault = func(k int, _ *corev1.PodLogOptions) *fault {
				if k == 1 {
					return &fault{words: outOfWatchers[:n]}
				}
				return nil
			}
			b.n.start("a", "a1")
			b.c.Handle(b.p.running("a", "a1"))
			time.Sleep(time.Second)
			b.n.exit("a")
			b.c.Handle(b.p.ended("a", "a1"))
			if cert := b.drain()[0]; cert.Proof != Verified || cert.Bytes != 0 {
				t.Errorf("cut after %d bytes: certificate %+v", n, cert)
			}
		})
	}
}
