package logstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func statusError(code int32, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Message: message}}
}

// disturb plays a run of three lines whose requests fail as told.
func disturb(t *testing.T, f func(n int, o *corev1.PodLogOptions) *fault, check func(b *bench, c Certificate)) {
	t.Helper()
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.fault = f
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", "one", "two")
		time.Sleep(20 * time.Second)
		b.n.print("a", "three")
		b.n.exit("a")
		time.Sleep(time.Second)
		b.c.Handle(b.p.ended("a", "a1"))
		check(b, b.drain()[0])
	})
}

func verified(b *bench, c Certificate) {
	b.Helper()
	if c.Proof != Verified {
		b.Errorf("certificate %+v", c)
	}
	b.wantText("a", "one\ntwo\nthree\n")
}

func TestAnswersThatPassAreWaitedFor(t *testing.T) {
	for name, f := range map[string]*fault{
		"kubelet down":     {err: refused()},
		"kubelet resyncs":  {err: notFound("pods/log", "p")},
		"still waiting":    {err: statusError(400, `container "a" in pod "p" is waiting to start: ContainerCreating`)},
		"cannot dial":      {err: errors.New("dial tcp: connection refused")},
		"broken in a line": {cut: 40, with: io.ErrUnexpectedEOF},
		"clean in a line":  {cut: 40},
		"words":            {cut: 40, words: "rpc error: code = Unavailable desc = closing"},
		"words alone":      {words: "unable to retrieve container logs for containerd://a1"},
		"no such file":     {words: "failed to try resolving symlinks in path \"/var/log\": lstat"},
	} {
		t.Run(name, func(t *testing.T) {
			disturb(t, func(n int, _ *corev1.PodLogOptions) *fault {
				if n <= 4 {
					return f
				}
				return nil
			}, verified)
		})
	}
}

// The kubelet speaks of a runtime that is away as of a container that is gone.
func TestARuntimeThatRestartsAtTheFinalReadIsWaitedFor(t *testing.T) {
	var since time.Time
	disturb(t, func(_ int, o *corev1.PodLogOptions) *fault {
		if o.Follow || o.TailLines != nil || !since.IsZero() && time.Since(since) > 5*time.Second {
			return nil
		}
		if since.IsZero() {
			since = time.Now()
		}
		return &fault{words: "unable to retrieve container logs for containerd://a1"}
	}, verified)
}

func TestAnEndlesslyFailingFinalReadIsIncompleteWithTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		fault *fault
		why   string
	}{
		"pod gone":       {&fault{err: notFound("pods", "p")}, "the pod was deleted"},
		"node gone":      {&fault{err: notFound("nodes", "x")}, "the node is gone"},
		"node dead":      {&fault{err: refused()}, "the kubelet cannot be reached"},
		"denied":         {&fault{err: statusError(403, "no")}, "not allowed"},
		"container gone": {&fault{words: "unable to retrieve container logs for containerd://a1"}, "removed from its node"},
		"always cut":     {&fault{cut: 40}, "no read of the log"},
	} {
		t.Run(name, func(t *testing.T) {
			disturb(t, func(_ int, o *corev1.PodLogOptions) *fault {
				if !o.Follow {
					return c.fault
				}
				return nil
			}, func(b *bench, cert Certificate) {
				if cert.Proof != Incomplete || !strings.Contains(cert.Why, c.why) || len(cert.Gaps) != 1 {
					b.Errorf("certificate %+v", cert)
				}
				text, err := b.readAll("a", ReadOptions{})
				var inc *IncompleteError
				if text != "one\ntwo\nthree\n" || !errors.As(err, &inc) || !strings.Contains(inc.Error(), c.why) {
					b.Errorf("read %q, %v", text, err)
				}
			})
		})
	}
}

func TestANodeOutOfWatchersIsPolled(t *testing.T) {
	disturb(t, func(_ int, o *corev1.PodLogOptions) *fault {
		if o.Follow {
			return &fault{cut: 1 << 20, words: "failed to create fsnotify watcher: too many open files"}
		}
		return nil
	}, verified)
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
			if o.Follow {
				return &fault{words: "failed to create fsnotify watcher: too many open files"}
			}
			return nil
		}
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		r := b.c.Reader(b.ctx, "a", ReadOptions{})
		time.Sleep(10 * time.Second)
		for i := range 3 {
			b.n.print("a", fmt.Sprint(i))
			start := time.Now()
			p := make([]byte, 10)
			if n, err := r.Read(p); err != nil || string(p[:n]) != fmt.Sprintln(i) || time.Since(start) > 2600*time.Millisecond {
				t.Errorf("read %q, %v after %v", p[:n], err, time.Since(start))
			}
		}
	})
}

func TestAStreamThatHangsIsNoticedByItsSilence(t *testing.T) {
	for name, back := range map[string]time.Duration{"in order": 0, "though the node's clock was set back": time.Hour} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
					if n == 1 {
						return &fault{cut: 2 * len(body("one")), hang: true}
					}
					return nil
				}
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", "one")
				b.n.cur["a"].stamp = func(now time.Time, i int) time.Time { return inOrder(now, i).Add(-back) }
				b.n.print("a", "two", "six")
				ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
				defer cancel()
				r := b.c.Reader(ctx, "a", ReadOptions{})
				start := time.Now()
				p := make([]byte, 100)
				n, err := io.ReadFull(r, p[:12])
				if err != nil || string(p[:n]) != "one\ntwo\nsix\n" || time.Since(start) > 15*time.Second {
					t.Errorf("read %q, %v after %v", p[:n], err, time.Since(start))
				}
			})
		})
	}
}

func TestAQuietRunIsProbedSeldom(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", "one")
		time.Sleep(time.Hour)
		if st := b.s.Stats(); st.Follows != 1 || st.Probes < 50 || st.Probes > 65 {
			t.Errorf("in an hour: %+v", st)
		}
	})
}

// Only so many probes go side by side: the others come next, not when the silence is twice as long.
func TestEveryOneOfManyQuietRunsIsProbed(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		slots := numbered(100)
		b.p = newPod(corev1.RestartPolicyNever, slots...)
		for _, slot := range slots {
			b.n.start(slot, slot)
			b.n.print(slot, "one")
			b.p.running(slot, slot)
		}
		b.c.Handle(b.p.event(watch.Modified))
		time.Sleep(28 * time.Second)
		probed := map[string]bool{}
		b.n.change(func() {
			for _, o := range b.n.log {
				if o.TailLines != nil {
					probed[o.Container] = true
				}
			}
		})
		if len(probed) != len(slots) {
			t.Errorf("%d of %d were probed", len(probed), len(slots))
		}
	})
}

func TestARotationIsNoticedWhileTheRunGoesOn(t *testing.T) {
	inBubble(t, Options{RotateSize: 1000}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		for range 5 {
			b.n.print("a", numbered(40)...)
			time.Sleep(2 * time.Second)
			b.n.rotate("a")
			b.n.print("a", "first of the next file")
			time.Sleep(6 * time.Second)
		}
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		cert := b.drain()[0]
		if cert.Proof != Unverified || len(cert.Gaps) != 5 || cert.Lines != 205 {
			t.Errorf("certificate %+v", cert)
		}
		for i, g := range cert.Gaps {
			if g.Certain || g.AfterLine != uint64(40+41*i) {
				t.Errorf("gap %+v", g)
			}
		}
	})
}

func TestTheLogOfAnotherRunIsNotTaken(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.run("a", "a1", "of the first")
		time.Sleep(5 * time.Second)
		// The status is ahead of the kubelet that answers.
		b.c.Handle(b.p.running("a", "a2"))
		time.Sleep(1500 * time.Millisecond)
		b.n.start("a", "a2")
		b.n.print("a", "of the second")
		time.Sleep(10 * time.Second)
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a2"))
		certs := b.drain()
		if len(certs) != 2 || certs[0].Proof != Verified || certs[1].Proof != Verified || certs[1].Lines != 1 {
			t.Errorf("certificates %+v", certs)
		}
	})
}

func TestTheRunBeforeIsReadAsThePreviousOne(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.begin("a", "a1", "first")
		b.n.start("a", "a2")
		b.n.print("a", "second")
		b.c.Handle(b.p.running("a", "a2"))
		time.Sleep(5 * time.Second)
		certs := b.drain()
		if len(certs) != 2 || certs[0].Proof != Verified || certs[1].Proof != Live {
			t.Errorf("certificates %+v", certs)
		}
		var last corev1.PodLogOptions
		for _, o := range b.n.log {
			if o.LimitBytes == nil { // others only look whose the log is
				last = o
			}
		}
		if !last.Previous || last.Follow {
			t.Errorf("the last request was %+v", last)
		}
	})
}

func TestRunsThatNobodySawAreCounted(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.run("a", "a1", "first")
		time.Sleep(5 * time.Second)
		b.p.running("a", "a2")
		b.p.ended("a", "a2")
		b.p.running("a", "a3")
		b.p.ended("a", "a3")
		b.n.start("a", "a4")
		b.n.print("a", "fourth")
		b.c.Handle(b.p.running("a", "a4"))
		time.Sleep(5 * time.Second)
		endLast(b)
		b.drain()
		text, err := b.readAll("a", ReadOptions{Gap: func(g Gap) string { return "[" + g.Why + "]\n" }})
		if !strings.Contains(text, "[1 earlier runs") || !strings.HasSuffix(text, "fourth\n") || err != nil {
			t.Errorf("read %q, %v", text, err)
		}
	})
}

func TestAReplacedPodEndsTheRunsOfTheOld(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.run("a", "a1", "old")
		b.drain()
		b.p.pod.UID = "other"
		b.p.status("a").ContainerID = ""
		b.p.status("a").State = corev1.ContainerState{}
		b.c.Handle(b.p.event(watch.Modified))
		b.run("a", "a2", "new")
		certs := b.drain()
		if len(certs) != 2 || certs[0].Proof != Verified || certs[1].Proof != Verified {
			t.Errorf("certificates %+v", certs)
		}
	})
}

func TestAnOlderVersionOfThePodIsIgnored(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		running := b.p.running("a", "a1")
		b.n.start("a", "a1")
		b.n.exit("a")
		ended := b.p.ended("a", "a1")
		b.c.Handle(ended)
		b.c.Handle(running)
		if certs := b.drain(); len(certs) != 1 || certs[0].Proof != Verified {
			t.Errorf("certificates %+v", certs)
		}
	})
}
