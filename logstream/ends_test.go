package logstream

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
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

// What a status says to be dead may print on: on a node that is cut off, say.
func TestALogThatDoesNotEndEndsInTime(t *testing.T) {
	for name, follows := range map[string]bool{"its stream does not": true, "its final reads do not": false} {
		t.Run(name, func(t *testing.T) {
			inBubbleBy(t, func(n *node) Opener { return &endless{n, follows} }, Options{Disk: -1}, nil, func(b *bench) {
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", "one")
				time.Sleep(time.Minute)
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				start := time.Now()
				if c := b.drain()[0]; c.Proof == Verified || time.Since(start) > 31*time.Minute {
					t.Errorf("certificate %+v after %s", c, time.Since(start))
				}
			})
		})
	}
}

// endless is a node whose streams, or whose reads, bring a line a second for ever.
type endless struct {
	*node
	follows bool
}

func (e *endless) OpenLog(ctx context.Context, ns, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	body, err := e.node.OpenLog(ctx, ns, pod, o)
	if err == nil && o.Follow == e.follows && o.TailLines == nil {
		body = &endlessBody{ReadCloser: body, ctx: ctx}
	}
	return body, err
}

type endlessBody struct {
	io.ReadCloser
	ctx context.Context
}

func (e *endlessBody) Read(p []byte) (int, error) {
	if n, err := e.ReadCloser.Read(p); err == nil {
		return n, nil
	}
	t := time.NewTimer(time.Second)
	defer t.Stop()
	select {
	case now := <-t.C:
		if e.ctx.Err() != nil {
			return 0, e.ctx.Err()
		}
		return copy(p, now.UTC().Format("2006-01-02T15:04:05.000000000Z")+" and on\n"), nil
	case <-e.ctx.Done():
		return 0, e.ctx.Err()
	}
}

// A Capture may be closed while a handler starts what it has found.
func TestARunThatIsClosedBeforeItIsStartedEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(newNode(), Options{})
		c := s.Pod("n", "p", nil)
		r := newRun(c, "a", "a1", 0)
		c.order = append(c.order, r)
		r.close()
		s.start(r)
		select {
		case <-r.done:
		default:
			t.Fatal("the run has not ended, and Run was not called")
		}
		if got := r.certificate(); got.Proof != Incomplete || s.Stats().Live != 0 {
			t.Errorf("%+v, %+v", got, s.Stats())
		}
	})
}

// However many runs are silent, each is looked after.
func TestEverySilentRunIsProbed(t *testing.T) {
	const runs = 1000
	inBubble(t, Options{}, nil, func(b *bench) {
		captures := make([]*Capture, runs)
		b.n.start("a", "a1")
		b.n.print("a", "one")
		for i := range captures {
			captures[i] = b.s.Pod("n", "p", nil)
			captures[i].Handle(newPod(corev1.RestartPolicyNever, "a").running("a", "a1"))
		}
		time.Sleep(5 * time.Second)
		b.n.change(func() { b.n.slow = 20 * time.Millisecond })
		time.Sleep(25 * time.Second)
		probed := 0
		for _, c := range captures {
			r := c.order[0]
			r.mu.Lock()
			if !r.probe.idleAt.IsZero() {
				probed++
			}
			r.mu.Unlock()
			defer c.Close()
		}
		if st := b.s.Stats(); probed != runs || st.Probes < runs {
			t.Errorf("%d of %d runs, %d probes", probed, runs, st.Probes)
		}
	})
}

// The capture counts as the first of two reads that agree. But not when it ends where the
// log ended at some time before: the one read that agrees may have been cut there.
func TestAReadThatEndsWhereTheLogOnceDidProvesNothing(t *testing.T) {
	for name, deaf := range map[string]bool{"polled": true, "streamed, and then out of reach": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{IdleProbe: -1}, nil, func(b *bench) {
				if b.n.deaf = deaf; !deaf {
					b.n.most = 4 * time.Second
					b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
						if n > 1 {
							return &fault{err: refused()}
						}
						return nil
					}
				}
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", numbered(20)...)
				time.Sleep(10 * time.Second)
				size := len(b.n.cur["a"].rendered())
				b.n.print("a", "the last")
				b.n.exit("a")
				b.n.change(func() {
					finals := 0
					b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
						if finals++; !o.Follow && o.TailLines == nil && finals == 1 {
							return &fault{cut: size}
						}
						return nil
					}
				})
				b.c.Handle(b.p.ended("a", "a1"))
				if c := b.drain()[0]; c.Proof != Verified || c.Lines != 21 {
					t.Errorf("certificate %+v", c)
				}
			})
		})
	}
}
