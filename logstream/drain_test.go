package logstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/google/go-cmp/cmp"
)

// otherPod is a pod of the same name, at another version.
func otherPod(rv int) *corev1.Pod {
	p := newPod(corev1.RestartPolicyNever, "a", "b").pod
	p.UID, p.ResourceVersion = types.UID("other"), fmt.Sprint(rv)
	return p
}

// Whoever is first to tell of a run's end, Drain knows of it, and nothing stale
// undoes it.
func TestDrainIsRightInWhateverOrderTheHandlersHear(t *testing.T) {
	for name, drain := range map[string]func(b *bench, running, ended watch.Event) ([]Certificate, error){
		"before Handle": func(b *bench, _, ended watch.Event) ([]Certificate, error) {
			certs, err := b.c.Drain(b.ctx, ended.Object.(*corev1.Pod))
			b.c.Handle(ended)
			return certs, err
		},
		"after Handle": func(b *bench, _, ended watch.Event) ([]Certificate, error) {
			b.c.Handle(ended)
			return b.c.Drain(b.ctx, ended.Object.(*corev1.Pod))
		},
		"with Handle": func(b *bench, _, ended watch.Event) ([]Certificate, error) {
			var wg sync.WaitGroup
			defer wg.Wait()
			wg.Go(func() { b.c.Handle(ended) })
			return b.c.Drain(b.ctx, ended.Object.(*corev1.Pod))
		},
		"no pod": func(b *bench, _, ended watch.Event) ([]Certificate, error) {
			b.c.Handle(ended)
			return b.c.Drain(b.ctx, nil)
		},
		"a stale pod": func(b *bench, running, ended watch.Event) ([]Certificate, error) {
			b.c.Handle(ended)
			return b.c.Drain(b.ctx, running.Object.(*corev1.Pod))
		},
		"a stale pod, and the watch is late": func(b *bench, running, ended watch.Event) ([]Certificate, error) {
			time.AfterFunc(time.Second, func() { b.c.Handle(ended) })
			if certs, err := b.c.Drain(b.ctx, running.Object.(*corev1.Pod)); err != nil || certs[0].Proof != Live {
				b.Errorf("before the watch tells: %+v, %v", certs, err)
			}
			time.Sleep(2 * time.Second)
			return b.c.Drain(b.ctx, running.Object.(*corev1.Pod))
		},
		"a pod that was replaced by this one": func(b *bench, _, ended watch.Event) ([]Certificate, error) {
			b.c.Handle(ended)
			return b.c.Drain(b.ctx, otherPod(50))
		},
		"such a pod, while it runs": func(b *bench, _, ended watch.Event) ([]Certificate, error) {
			if certs, err := b.c.Drain(b.ctx, otherPod(50)); err != nil || certs[0].Proof != Live {
				b.Errorf("while it runs: %+v, %v", certs, err)
			}
			return b.c.Drain(b.ctx, ended.Object.(*corev1.Pod))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p.rv = 100
				b.n.start("a", "a1")
				running := b.p.running("a", "a1")
				b.c.Handle(running)
				b.n.print("a", "one", "two")
				synctest.Wait()
				b.n.exit("a")
				ended := b.p.ended("a", "a1")
				certs, err := drain(b, running, ended)
				want := []Certificate{{Slot: "a", ContainerID: "a1", Proof: Verified, Lines: 2, Bytes: 8}}
				if d := cmp.Diff(want, certs); d != "" || err != nil {
					t.Errorf("%v, certificates (-want +got):\n%s", err, d)
				}
			})
		})
	}
}

func TestAPodThatReplacedAnotherEndsItsRuns(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "one")
		b.n.exit("a")
		certs, err := b.c.Drain(b.ctx, otherPod(100))
		if err != nil || len(certs) != 1 || certs[0].Lines != 1 || !strings.Contains(certs[0].Why, "the pod was deleted") {
			t.Errorf("%+v, %v", certs, err)
		}
	})
}

// A watch that missed a deletion tells of it with the last version that it had. Drain may
// have been given a newer one.
func TestADeletionCountsHoweverOldTheVersionThatItComesWith(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "one")
		late := b.p.event(watch.Deleted)
		b.p.event(watch.Modified)
		b.drain()
		older := otherPod(1) // that one's end is none of this pod's
		b.c.Handle(watch.Event{Type: watch.Deleted, Object: older})
		if c := b.drain()[0]; c.Proof != Live {
			t.Errorf("after the end of a pod before it: %+v", c)
		}
		b.n.exit("a")
		ended := make(chan string, 1)
		go func() { ended <- readBytes(b.c.Reader(b.ctx, "a", ReadOptions{})).end }()
		b.c.Handle(late)
		time.Sleep(time.Hour)
		select {
		case end := <-ended:
			if end != "incomplete" {
				t.Errorf("the reader ends in %s", end)
			}
		default:
			t.Error("the reader still waits")
		}
	})
}

func TestDrainsSideBySideSayTheSame(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "one", "two")
		b.n.exit("a")
		b.p.ended("a", "a1")
		got := make([][]Certificate, 10)
		var wg sync.WaitGroup
		for i := range got {
			wg.Go(func() { got[i], _ = b.c.Drain(b.ctx, b.p.pod) })
		}
		wg.Wait()
		for i := range got {
			if d := cmp.Diff(b.drain(), got[i]); d != "" || got[i][0].Proof != Verified {
				t.Errorf("certificates (-want +got):\n%s", d)
			}
		}
		if f, r := b.n.requests(); f != 1 || r != 1 {
			t.Errorf("%d follows, %d reads", f, r)
		}
	})
}

func TestARunThatOnlyADrainKnowsOfEndsWithTheTracking(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.c.Handle(closedEvent())
		b.n.start("a", "a1")
		b.n.print("a", "one")
		newest, _ := b.p.running("a", "a1").Object.(*corev1.Pod)
		ctx, cancel := context.WithTimeout(b.ctx, time.Minute)
		defer cancel()
		certs, err := b.c.Drain(ctx, newest)
		if err != nil || len(certs) != 1 || certs[0].Proof != Unverified {
			t.Errorf("certificates %+v, %v", certs, err)
		}
		if text, err := b.readAll("a", ReadOptions{}); err != nil {
			t.Errorf("read %q, %v", text, err)
		}
	})
}

func TestARunThatOnlyADrainKnowsOfIsLostWithItsPod(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.c.Handle(b.p.event(watch.Deleted)) // a watch that missed it tells of it with an older version
		b.n.start("a", "a1")
		b.n.print("a", "one")
		b.p.running("a", "a1")
		if c := b.drain()[0]; c.Proof != Incomplete || len(c.Gaps) != 1 {
			t.Errorf("certificate %+v", c)
		}
	})
}

func TestADrainOfACaptureThatIsClosedSaysSo(t *testing.T) {
	for name, first := range map[string]bool{"before": true, "meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.run("b", "b1", "done")
				b.drain()
				b.n.start("a", "a1")
				b.n.exit("a")
				b.n.fault = func(int, *corev1.PodLogOptions) *fault { return &fault{err: refused()} }
				b.p.ended("a", "a1")
				if first {
					b.c.Close()
				} else {
					time.AfterFunc(10*time.Second, func() { b.c.Close() })
				}
				certs, err := b.c.Drain(b.ctx, b.p.pod)
				if !errors.Is(err, ErrClosed) || certs[0].Proof != Verified {
					t.Errorf("%+v, %v", certs, err)
				}
				if !first && (len(certs) != 2 || certs[1].Proof == Verified) {
					t.Errorf("%+v", certs)
				}
			})
		})
	}
}

func TestADrainBeforeRunWaitsForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		s := New(n, Options{})
		c, p := s.Pod("n", "p", nil), newPod(corev1.RestartPolicyNever, "a")
		n.start("a", "a1")
		n.print("a", "one")
		n.exit("a")
		p.ended("a", "a1")
		why := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, why)
		defer cancel()
		certs, err := c.Drain(ctx, p.pod)
		if !errors.Is(err, why) || len(certs) != 1 || certs[0].Proof != Live {
			t.Errorf("%+v, %v", certs, err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		time.AfterFunc(time.Minute, func() { done <- s.Run(ctx) })
		certs, err = c.Drain(t.Context(), nil)
		if err != nil || certs[0].Proof != Verified {
			t.Errorf("%+v, %v", certs, err)
		}
		c.Close()
		stop()
		<-done
	})
}

// Close takes what waits for Run out of its queue, also what gets there meanwhile.
func TestCloseBeforeRunDoesNotWaitForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		s := New(n, Options{})
		for range 3 {
			c, p := s.Pod("n", "p", nil), newPod(corev1.RestartPolicyNever, "a", "b")
			c.Handle(p.running("a", "a1"))
			r := newRun(c, "b", "b1", 0)
			c.order = append(c.order, r) // Handle found it, and has not started it yet
			time.AfterFunc(time.Second, func() { s.start(r) })
			c.Close()
		}
		if st := s.Stats(); st.Live != 0 || st.Captures != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestWhatADeletedPodsStreamsStillBringIsKept(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.run("b", "b1", "proved before")
		b.drain()
		b.begin("a", "a1", "one")
		b.c.Handle(b.p.event(watch.Deleted))
		b.n.fault = func(int, *corev1.PodLogOptions) *fault { return &fault{err: notFound("pods", "p")} }
		time.AfterFunc(5*time.Second, func() { b.n.print("a", "last words"); b.n.exit("a") })
		certs := b.drain()
		if len(certs) != 2 || certs[0].Proof != Verified || certs[1].Proof != Unverified || certs[1].Lines != 2 {
			t.Fatalf("certificates %+v", certs)
		}
		g := certs[1].Gaps
		if len(g) != 1 || g[0].Certain || g[0].AfterLine != 2 || !g[0].To.IsZero() {
			t.Errorf("gaps %+v", g)
		}
	})
}

// Two reads that agree prove a log. What was read before the last of it was printed is
// none of the two: an answer that is cut where that ended would agree with it.
func TestWhatWasReadBeforeTheEndIsNotHalfOfTheProof(t *testing.T) {
	for name, first := range map[string]map[int]*fault{
		"a poll": {1: {words: outOfWatchers}},
		"a stream that ended, before one that hangs": {1: {}, 2: {hang: true}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{IdleProbe: -1}, nil, func(b *bench) {
				cut := 0 // the first request after the container's end
				b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
					if n == cut {
						return &fault{}
					}
					return first[n]
				}
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				time.Sleep(time.Minute)
				b.n.change(func() { cut = len(b.n.log) + 1 })
				b.n.print("a", "one")
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				if cert := b.drain()[0]; cert.Proof != Verified || cert.Lines != 1 {
					t.Errorf("certificate %+v", cert)
				}
				b.wantText("a", "one\n")
			})
		})
	}
}

// Neither are two reads of one moment two: the runtime may still write, and the status of
// the next run, whose log the second would be, be on its way.
func TestALogSettlesBetweenTheTwoReads(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.n.print("a", "one")
		b.n.exit("a")
		time.AfterFunc(settle/2, func() { b.n.print("a", "last words") })
		b.p.ended("a", "a1")
		if c := b.drain()[0]; c.Proof != Verified || c.Lines != 2 {
			t.Errorf("certificate %+v", c)
		}
	})
}

// Nor is a stream that ended before the capture does.
func TestAStreamThatBringsLessIsNotHalfOfTheProof(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		line := len(body("one"))
		b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
			return map[int]*fault{1: {cut: line, with: io.ErrUnexpectedEOF}, 2: {cut: line / 2}, 3: {cut: line}}[n]
		}
		b.n.start("a", "a1")
		b.n.print("a", "one", "two")
		b.n.exit("a")
		b.c.Handle(b.p.running("a", "a1"))
		time.Sleep(time.Second)
		b.c.Handle(b.p.ended("a", "a1"))
		if cert := b.drain()[0]; cert.Proof != Verified || cert.Lines != 2 {
			t.Errorf("certificate %+v", cert)
		}
		b.wantText("a", "one\ntwo\n")
	})
}

// What its status says then is what it said before.
func TestAPodThatComesBackIntoItsWatchsScopeIsCapturedOn(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		dead := false
		b.n.fault = func(int, *corev1.PodLogOptions) *fault {
			return map[bool]*fault{true: {cut: len(body("one"))}}[dead]
		}
		b.begin("a", "a1", "one")
		b.c.Handle(watch.Event{Type: watch.Error, Object: outOfScope()})
		b.c.Handle(b.p.event(watch.Modified))
		b.n.change(func() { dead = true })
		b.c.order[0].kickStream()
		time.Sleep(time.Minute)
		b.n.change(func() { dead = false })
		b.n.print("a", "two")
		time.Sleep(time.Minute)
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		if cert := b.drain()[0]; cert.Proof != Verified || cert.Lines != 2 {
			t.Errorf("certificate %+v", cert)
		}
	})
}

// A pod that left the scope of its watch: a clean end of its stream is all that tells
// when a container ends.
func TestABreakEndsNoRunOfAPodThatLeftItsWatchsScope(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
			return map[int]*fault{1: {}, 2: {cut: len(body("one")), with: io.ErrUnexpectedEOF}}[n]
		}
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		time.Sleep(5 * time.Second) // the first stream has ended, the second is open
		b.c.Handle(watch.Event{Type: watch.Error, Object: outOfScope()})
		b.n.print("a", "one")
		time.Sleep(time.Minute)
		b.n.print("a", "two")
		b.n.exit("a")
		time.Sleep(time.Minute)
		if cert := b.drain()[0]; cert.Proof != Unverified || cert.Lines != 2 {
			t.Errorf("certificate %+v", cert)
		}
	})
}

// Whatever else ends the capture.
func TestARunOfWhichLinesAreKnownToBeMissingIsIncomplete(t *testing.T) {
	for name, end := range map[string]func(b *bench){
		"its tracking ends": func(b *bench) { b.c.Handle(closedEvent()) },
		"its capture does":  func(b *bench) { b.c.Close() },
		"its pod leaves the watch's scope": func(b *bench) {
			b.c.Handle(watch.Event{Type: watch.Error, Object: outOfScope()})
			b.n.exit("a")
			time.Sleep(time.Minute)
			b.c.Handle(b.p.ended("a", "a1"))
		},
		"it ends": func(b *bench) { b.n.exit("a"); b.c.Handle(b.p.ended("a", "a1")) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
					switch n {
					case 1:
						return &fault{cut: 40, with: errReset} // in the second line
					case 2:
						b.n.cur["a"].Rotate(maxFiles)
					}
					return nil
				}
				b.n.start("a", "a1")
				b.n.print("a", "one", "two")
				b.c.Handle(b.p.running("a", "a1"))
				time.Sleep(time.Second)
				b.n.print("a", "three")
				time.Sleep(time.Second)
				end(b)
				certs, err := b.c.Drain(b.ctx, nil)
				if err != nil && !errors.Is(err, ErrClosed) {
					t.Error(err)
				}
				if c := certs[0]; c.Proof != Incomplete || c.Why != "lines are missing" || !c.Gaps[0].Certain {
					t.Errorf("certificate %+v", c)
				}
			})
		})
	}
}
