package logstream

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// A clean end says nothing: a proxy's limit looks like the container's end.
func TestAStreamThatEndsWhileItsRunIsAliveIsOpenedAgainAtOnce(t *testing.T) {
	for _, every := range []time.Duration{2 * time.Second, 20 * time.Second, time.Minute} {
		t.Run(every.String(), func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.n.most = every
				b.begin("a", "a1")
				if longest := b.longestStall("a", 12_000, func(int) {}); longest > 100*time.Millisecond {
					t.Errorf("nothing was captured for %s", longest)
				}
				if follows, _ := b.n.requests(); follows > int(2*time.Minute/every)+1 {
					t.Errorf("%d streams", follows)
				}
				b.endsAs(Verified, 12_000)
			})
		})
	}
}

// Whoever ends every stream at once is not asked all the time.
func TestStreamsThatEndAtOnceAreNotOpenedInAHurry(t *testing.T) {
	for name, every := range map[string]time.Duration{"and bring something": 10 * time.Millisecond, "and bring nothing": time.Hour} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{IdleProbe: -1}, nil, func(b *bench) {
				b.n.most = time.Nanosecond
				b.begin("a", "a1", "one")
				printed := 1
				for start := time.Now(); time.Since(start) < time.Minute; printed++ {
					b.n.print("a", fmt.Sprint(printed))
					time.Sleep(min(every, time.Minute))
				}
				time.Sleep(2 * time.Second)
				follows, _ := b.n.requests()
				if committed, _ := b.c.order[0].log.bounds(); follows > 62 || committed != int64(len(b.n.cur["a"].rendered())) {
					t.Errorf("%d streams in a minute, %d bytes captured", follows, committed)
				}
				b.endsAs(Verified, printed)
			})
		})
	}
}

// A service is alive when its pod is deleted: the kubelet stops it, and nobody answers for
// its log any more.
func TestARunThatEndsWithItsPodAndWhoseStreamEndedCleanlyIsUnverifiedNotIncomplete(t *testing.T) {
	asked := func(b *bench) {
		b.p.pod.DeletionTimestamp = &metav1.Time{Time: time.Now().Add(30 * time.Second)}
		b.c.Handle(b.p.event(watch.Modified))
	}
	gone := func(b *bench) {
		b.n.change(func() {
			b.n.fault = func(int, *corev1.PodLogOptions) *fault { return &fault{err: notFound("pods", "p")} }
		})
	}
	deleted := func(b *bench) { gone(b); b.c.Handle(b.p.event(watch.Deleted)) }
	exits := func(b *bench) { b.n.print("a", "stopped"); b.n.exit("a") }
	breaks := func(b *bench) {
		b.n.print("a", "stopped")
		synctest.Wait()
		b.n.change(func() { b.n.breaks++; b.n.cur["a"].wake() })
	}
	ended := func(b *bench) { b.c.Handle(b.p.ended("a", "a1")) }
	removed := func(b *bench) {
		b.n.change(func() {
			b.n.fault = func(int, *corev1.PodLogOptions) *fault {
				return &fault{words: "unable to retrieve container logs for containerd://a1"}
			}
		})
	}
	for name, c := range map[string]struct {
		happens []func(b *bench)
		want    Proof
	}{
		"it is asked for, it ends, it is deleted":               {[]func(*bench){asked, exits, deleted}, Unverified},
		"it is deleted, it ends":                                {[]func(*bench){asked, deleted, exits}, Unverified},
		"only the deletion is seen":                             {[]func(*bench){deleted, exits}, Unverified},
		"nobody tells of the deletion, but a request":           {[]func(*bench){asked, exits, gone}, Unverified},
		"its end is told, and it cannot be read any more":       {[]func(*bench){asked, exits, gone, ended, deleted}, Unverified},
		"its end is told, and its container was removed":        {[]func(*bench){asked, exits, removed, ended, deleted}, Unverified},
		"its end is told, and it is read":                       {[]func(*bench){asked, exits, ended, deleted}, Verified},
		"its stream breaks off":                                 {[]func(*bench){asked, gone, breaks, deleted}, Incomplete},
		"its stream goes on, and hangs":                         {[]func(*bench){asked, deleted}, Incomplete},
		"its stream ended before anybody asked, and it is lost": {[]func(*bench){exits, gone, asked, deleted}, Incomplete},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.begin("a", "a1", "one")
				for _, happens := range c.happens {
					time.Sleep(3 * time.Second)
					happens(b)
				}
				time.Sleep(3 * time.Second)
				certs, err := b.c.Drain(b.ctx, nil)
				if err != nil || certs[0].Proof != c.want || c.want == Unverified && (certs[0].Why == "" || certs[0].Lines != 2) {
					t.Errorf("%+v, %v", certs, err)
				}
			})
		})
	}
}
