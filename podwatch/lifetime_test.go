package podwatch_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/podwatch"
)

func TestNothingIsDeliveredBeforeRunAndNothingIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w := h.watcher(podwatch.Options{})
		var r recorder
		tr := h.follow(w, "a", &r)
		tr.Created(h.create("a"))
		r.want(t)
		if n := len(h.cluster.Requests()); n != 1 {
			t.Errorf("%d requests before Run, want the Create alone", n)
		}
		h.run(w)
		h.sync(w)
		r.want(t, "ADDED pod")
	})
}

func TestCloseReturnsAtOnceAndDoneFollowsTheLastCall(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		r := recorder{before: func(watch.Event) { time.Sleep(time.Minute) }}
		tr := h.follow(w, "a", &r)
		h.create("a")
		settle(time.Second)
		h.label("a", "1")
		settle(time.Second)
		before := time.Now()
		tr.Close()
		if d := time.Since(before); d != 0 {
			t.Errorf("Close took %s while a handler was being called", d)
		}
		select {
		case <-tr.Done():
			t.Error("Done is closed while a handler is being called")
		default:
		}
		<-tr.Done()
		r.want(t, "ADDED pod", "MODIFIED pod 1", "ERROR Closed")
		tr.Close()
		h.label("a", "2")
		h.delete("a")
		settle(time.Hour)
		r.want(t)
		if n := w.Stats().Tracked; n != 0 {
			t.Errorf("%d pods are tracked after Close", n)
		}
	})
}

// Whoever calls Close, and whatever waits for it, no handler is waited for.
func TestCloseOnAnotherGoroutineForWhichTheHandlerWaitsDoesNotDeadlock(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		var tr *podwatch.Tracking
		r.before = func(ev watch.Event) {
			if ev.Type == watch.Added {
				var wg sync.WaitGroup
				wg.Go(tr.Close)
				wg.Wait()
			}
		}
		tr = h.follow(w, "a", &r)
		h.create("a")
		<-tr.Done()
		r.want(t, "ADDED pod", "ERROR Closed")
	})
}

// A build may be given up while its pod is being created.
func TestCreatedAfterCloseAsksNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		tr := h.follow(w, "a", &r)
		tr.Close()
		h.whileDown(func() { tr.Created(h.create("a")) }) // the watch has not shown it yet
		for range 60 {                                    // the cache moves on
			h.label("a", time.Now().String()[11:19])
			settle(time.Minute)
		}
		r.want(t, "ERROR Closed")
		if n := h.requests("get", "pods"); n != 0 {
			t.Errorf("%d live GETs for a tracking that nobody has any more, want none", n)
		}
		if tr.Pod() != nil {
			t.Error("a closed tracking learned of a pod")
		}
	})
}

func TestCloseBeforeRunDeliversClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w := h.watcher(podwatch.Options{})
		var r recorder
		tr := h.follow(w, "a", &r)
		tr.Created(h.create("a"))
		tr.Close()
		<-tr.Done()
		r.want(t, "ADDED pod", "ERROR Closed")
		h.run(w)
		h.sync(w)
		r.want(t)
	})
}

func TestCloseWithinAHandlerDoesNotDeadlock(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var self, other, busy recorder
		var mine, others, busys *podwatch.Tracking
		busy.before = func(watch.Event) { time.Sleep(time.Minute) }
		self.before = func(ev watch.Event) {
			if ev.Type == watch.Added {
				mine.Close()
				others.Close()
				busys.Close()
			}
		}
		mine, others, busys = h.follow(w, "a", &self), h.follow(w, "b", &other), h.follow(w, "c", &busy)
		h.create("c")
		settle(time.Second)
		h.create("a")
		settle(time.Second)
		self.want(t, "ADDED pod", "ERROR Closed")
		other.want(t, "ERROR Closed")
		busy.want(t)
		<-mine.Done()
		<-busys.Done()
		busy.want(t, "ADDED pod", "ERROR Closed")
	})
}

func TestTwoTrackingsThatCloseEachOtherDoNotDeadlock(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var x, y recorder
		var tx, ty *podwatch.Tracking
		meet := func(peer **podwatch.Tracking) func(watch.Event) {
			return func(ev watch.Event) {
				if ev.Type == watch.Added {
					time.Sleep(time.Second) // both are inside now
					(*peer).Close()
				}
			}
		}
		x.before, y.before = meet(&ty), meet(&tx)
		tx, ty = h.follow(w, "a", &x), h.follow(w, "a", &y)
		h.create("a")
		settle(time.Minute)
		x.want(t, "ADDED pod", "ERROR Closed")
		y.want(t, "ADDED pod", "ERROR Closed")
	})
}

func TestHandlersAreCalledInTheOrderGiven(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var mu sync.Mutex
		var order []int
		hs := make([]podwatch.Handler, 4)
		for i := range hs {
			hs[i] = &recorder{before: func(watch.Event) {
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			}}
		}
		h.follow(w, "a", hs...)
		h.create("a")
		settle(time.Second)
		h.label("a", "1")
		settle(time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(order) != 8 {
			t.Fatalf("%d calls, want 8", len(order))
		}
		for i, n := range order {
			if n != i%4 {
				t.Fatalf("called in the order %v", order)
			}
		}
	})
}

func TestRunEndsEveryTrackingAndRefusesNewOnes(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, stop := h.start(podwatch.Options{})
		var x, y recorder
		tr := h.follow(w, "a", &x)
		h.follow(w, "b", &y)
		h.create("a")
		x.want(t, "ADDED pod")
		stop()
		x.want(t, "ERROR Closed")
		y.want(t, "ERROR Closed")
		tr.Close()
		<-tr.Done()
		tr.Created(h.create("c"))
		if _, err := w.Track(ns, "a"); !errors.Is(err, podwatch.ErrStopped) {
			t.Errorf("Track returns %v, want ErrStopped", err)
		}
		if err := w.WaitForSync(t.Context()); !errors.Is(err, podwatch.ErrStopped) {
			t.Errorf("WaitForSync returns %v, want ErrStopped", err)
		}
		if err := w.Run(t.Context()); !errors.Is(err, podwatch.ErrStopped) {
			t.Errorf("Run returns %v, want ErrStopped", err)
		}
		settle(time.Hour)
		x.want(t)
	})
}

func TestASecondRunIsRefusedAndHarmsNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		if err := w.Run(t.Context()); err == nil || errors.Is(err, podwatch.ErrStopped) {
			t.Errorf("Run returns %v, want an error of its own", err)
		}
		var r recorder
		h.follow(w, "a", &r)
		h.create("a")
		r.want(t, "ADDED pod")
	})
}

func TestRunWaitsForAHandlerThatStillRuns(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, stop := h.start(podwatch.Options{})
		r := recorder{before: func(watch.Event) { time.Sleep(10 * time.Second) }}
		h.follow(w, "a", &r)
		h.create("a")
		settle(time.Second)
		stop()
		r.want(t, "ADDED pod", "ERROR Closed")
	})
}

func TestRunWaitsForAHandlerThatACloseBeforeItCalls(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w := h.watcher(podwatch.Options{})
		r := recorder{before: func(watch.Event) { time.Sleep(10 * time.Second) }}
		tr := h.track(w, "a", &r)
		tr.Close()
		stop := h.run(w)
		settle(time.Second)
		stop()
		select {
		case <-tr.Done():
		default:
			t.Error("Run returned while a handler was being called")
		}
		r.want(t, "ERROR Closed")
	})
}

func TestTrackAndCloseFromManyGoroutinesWhileTheListComesIn(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		var pods [40]*corev1.Pod
		for i := range pods {
			pods[i] = h.create(podName(i))
		}
		w := h.watcher(podwatch.Options{})
		h.run(w)
		rs := make([]recorder, 400)
		var wg sync.WaitGroup
		for i := range rs {
			wg.Go(func() {
				tr, err := w.TrackPod(pods[i%40], &rs[i])
				if err != nil {
					t.Error(err)
					return
				}
				if i%2 == 0 {
					tr.Close()
				}
			})
		}
		h.sync(w)
		wg.Wait()
		settle(time.Second)
		for i := range rs {
			lines := rs[i].heard()
			if i%2 == 1 {
				if len(lines) != 1 || lines[0] != "ADDED pod" {
					t.Fatalf("tracking %d heard %q", i, lines)
				}
			} else if len(lines) == 0 || lines[len(lines)-1] != "ERROR Closed" {
				t.Fatalf("closed tracking %d heard %q", i, lines)
			}
		}
	})
}

func TestWaitForSyncEndsWithTheCauseOfItsContext(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		h.cluster.Fault(func(*http.Request) testutil.Fault { return testutil.Fault{Stall: true} })
		w := h.watcher(podwatch.Options{})
		h.run(w)
		why := errors.New("tired of waiting")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, why)
		defer cancel()
		if err := w.WaitForSync(ctx); !errors.Is(err, why) {
			t.Errorf("WaitForSync returns %v, want the cause", err)
		}
		h.cluster.Fault(nil)
		h.sync(w)
		if err := w.WaitForSync(ctx); !errors.Is(err, why) {
			t.Errorf("WaitForSync returns %v though its context has ended", err)
		}
	})
}

func TestWaitForSyncFailsAtOnceWhereTheListIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		h.cluster.Fault(func(*http.Request) testutil.Fault {
			return testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "pods is forbidden"}
		})
		w := h.watcher(podwatch.Options{})
		h.run(w)
		if err := w.WaitForSync(t.Context()); !apierrors.IsForbidden(err) {
			t.Errorf("WaitForSync returns %v, want the API server's refusal", err)
		}
		h.cluster.Fault(nil) // somebody grants it
		settle(2 * time.Minute)
		h.sync(w)
	})
}

// Hosts that own informers get the same, at the floor too, where client-go
// removes a handler without waiting for its calls.
func TestOverAHostsInformersTheLifetimesAreTheSame(t *testing.T) {
	for name, started := range map[string]bool{"started before": true, "started after": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
				f := informers.NewSharedInformerFactory(h.client, 0)
				pods, events := f.Core().V1().Pods().Informer(), f.Core().V1().Events().Informer()
				defer f.Shutdown()
				defer cancel()
				p := h.create("a")
				start := func() {
					f.Start(ctx.Done())
					settle(time.Second)
				}
				if started {
					start()
				}
				w, err := podwatch.FromInformers(h.client, pods, events, podwatch.Options{Notify: h.notices.take})
				if err != nil {
					t.Fatal(err)
				}
				var r recorder
				h.trackPod(w, p, &r)
				stop := h.run(w)
				r.want(t, "ADDED pod")
				if !started {
					settle(time.Minute)
					start()
				}
				h.sync(w)
				r.want(t)
				h.label("a", "1")
				h.event(h.label("a", "2"), "e1", "Pulled")
				r.want(t, "MODIFIED pod 1", "MODIFIED pod 2", "ADDED event Pulled x1")
				stop()
				r.want(t, "ERROR Closed")
				h.label("a", "3")
				settle(time.Minute)
				r.want(t)
			})
		})
	}
}

func TestOverAHostsInformersADeletionUnseenAndALeftSelectorAreToldApart(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		f := informers.NewSharedInformerFactoryWithOptions(h.client, 0,
			informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = "app=ci" }))
		pods := f.Core().V1().Pods().Informer()
		defer f.Shutdown()
		defer cancel()
		w, err := podwatch.FromInformers(h.client, pods, nil, podwatch.Options{})
		if err != nil {
			t.Fatal(err)
		}
		f.Start(ctx.Done())
		h.run(w)
		h.sync(w)
		var left, outside recorder
		h.follow(w, "a", &left)
		h.create("a")
		left.want(t, "ADDED pod")
		h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`)
		left.want(t, "ERROR OutOfScope")

		p := pod("b")
		p.Labels = nil
		h.track(w, "b", &outside).Created(h.make(p))
		outside.want(t, "ADDED pod")
		settle(5 * time.Minute) // a bookmark carries the cache past the pod's version
		outside.want(t, "ERROR OutOfScope")
	})
}

func TestOptionsThatMakeNoSenseAreRefusedInPlainWords(t *testing.T) {
	c := testutil.New(testutil.Options{}).Client()
	f := informers.NewSharedInformerFactory(c, 0)
	pods := f.Core().V1().Pods().Informer()
	from := func(o podwatch.Options) error {
		_, err := podwatch.FromInformers(c, pods, nil, o)
		return err
	}
	made := func(o podwatch.Options) error {
		_, err := podwatch.New(c, o)
		return err
	}
	_, noClient := podwatch.New(nil, podwatch.Options{})
	_, noPods := podwatch.FromInformers(c, nil, nil, podwatch.Options{})
	w, err := podwatch.New(c, podwatch.Options{Namespace: "a", Name: "b"})
	if err != nil {
		t.Fatal(err)
	}
	track := func(namespace, name string, hs ...podwatch.Handler) error {
		_, err := w.Track(namespace, name, hs...)
		return err
	}
	for name, err := range map[string]error{
		"no client":                  noClient,
		"no informer":                noPods,
		"a name without a namespace": made(podwatch.Options{Name: "a"}),
		"a broken selector":          made(podwatch.Options{LabelSelector: "a in"}),
		"an unknown mode":            made(podwatch.Options{Events: 7}),
		"a namespace for informers":  from(podwatch.Options{Namespace: "a"}),
		"a selector for informers":   from(podwatch.Options{LabelSelector: "a=b"}),
		"Keep for informers":         from(podwatch.Options{Keep: podwatch.Trim}),
		"required without informer":  from(podwatch.Options{Events: podwatch.EventsRequired}),
		"no name":                    track("a", ""),
		"no namespace":               track("", "b"),
		"another namespace":          track("x", "b"),
		"another pod":                track("a", "x"),
		"a nil handler":              track("a", "b", nil),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
