package eventsplit

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

var errGaveUp = errors.New("gave up")

// onePod returns a pod of plain containers with image img.
func onePod(version string, names ...string) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: testNS, Name: testPod, UID: "u", ResourceVersion: version},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, name := range names {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: name, Image: "img"})
	}
	return p
}

func withRunning(p *corev1.Pod, name, id string) *corev1.Pod {
	p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
		Name: name, ContainerID: id, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	})
	return p
}

func withTerminated(p *corev1.Pod, name, id string, code int32) *corev1.Pod {
	p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
		Name: name, ContainerID: id, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: id, ExitCode: code}},
	})
	return p
}

func modified(p *corev1.Pod) watch.Event { return watch.Event{Type: watch.Modified, Object: p} }

func TestAWaitEndsWithTheCauseOfItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
		defer s.Close()
		ctx, cancel := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		for _, wait := range []func() error{
			func() error { _, err := s.Wait(ctx, "a", Ended); return err },
			func() error { _, err := s.Wait(ctx, "", Ended); return err },
			func() error { _, err := s.NextRun(ctx, "a", ""); return err },
			func() error {
				return s.Swap(ctx, func(context.Context) (*corev1.Pod, error) { t.Error("patch was called"); return nil, nil }, "a")
			},
			func() error {
				for _, err := range s.Entries(ctx, "a") {
					if err != nil {
						return err
					}
				}
				return nil
			},
		} {
			wg.Go(func() {
				if err := wait(); !errors.Is(err, errGaveUp) {
					t.Errorf("got %v, want %v", err, errGaveUp)
				}
			})
		}
		synctest.Wait()
		cancel(errGaveUp)
		wg.Wait()
	})
}

func TestACancelledContextComesBeforeAnAnswer(t *testing.T) {
	s := New(testNS, testPod, Options{})
	defer s.Close()
	s.Handle(modified(withTerminated(onePod("1", "a"), "a", "A", 0)))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGaveUp)
	if _, err := s.Wait(ctx, "a", Ended); !errors.Is(err, errGaveUp) {
		t.Errorf("Wait: got %v", err)
	}
	if _, err := s.NextRun(ctx, "a", ""); !errors.Is(err, errGaveUp) {
		t.Errorf("NextRun: got %v", err)
	}
}

func TestACancelledSwapDoesNotCallPatch(t *testing.T) {
	s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
	defer s.Close()
	s.Handle(modified(withRunning(onePod("1", "a"), "a", "P")))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGaveUp)
	err := s.Swap(ctx, func(context.Context) (*corev1.Pod, error) { t.Error("patch was called"); return nil, nil }, "a")
	if !errors.Is(err, errGaveUp) {
		t.Errorf("got %v", err)
	}
}

func TestACancelledPatchKeepsTheRecordOfTheSwap(t *testing.T) {
	s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
	defer s.Close()
	s.Handle(modified(withRunning(onePod("1", "a"), "a", "P")))
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) { cancel(); return nil, ctx.Err() }, "a")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p := onePod("2", "a")
	p.Spec.Containers[0].Image = "step"
	s.Handle(modified(withTerminated(p, "a", "S", 4)))
	if st := s.State("a"); st.Outcome == nil || st.Outcome.ExitCode != 4 {
		t.Errorf("the patch was applied all the same, yet: %s", stateText(st))
	}
}

func TestASlotCanBeSwappedAfterAPanicInPatch(t *testing.T) {
	s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
	defer s.Close()
	s.Handle(modified(withRunning(onePod("1", "a"), "a", "P")))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = s.Swap(t.Context(), func(context.Context) (*corev1.Pod, error) { panic("patch") }, "a")
	}()
	p := onePod("2", "a")
	p.Spec.Containers[0].Image = "step"
	if err := s.Swap(t.Context(), func(context.Context) (*corev1.Pod, error) { return withRunning(p, "a", "P"), nil }, "a"); err != nil {
		t.Error(err)
	}
}

// Handle may be given a pod before or after someone asks about a run in it.
func TestIsPlaceholderAnswersTheSameBeforeAndAfterHandle(t *testing.T) {
	for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyNever, corev1.RestartPolicyAlways} {
		patched := func(version string) *corev1.Pod {
			p := onePod(version, "a")
			p.Spec.Containers[0].Image, p.Spec.RestartPolicy = "step", policy
			return p
		}
		for _, askFirst := range []bool{false, true} {
			s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
			see := func(p *corev1.Pod, id string, want bool) {
				t.Helper()
				p.Spec.RestartPolicy = policy
				if !askFirst {
					s.Handle(modified(p))
				}
				if got := s.IsPlaceholder("a", id); got != want {
					t.Errorf("%s, asked first %v: IsPlaceholder(%s) = %v", policy, askFirst, id, got)
				}
				s.Handle(modified(p))
				if got := s.IsPlaceholder("a", id); got != want {
					t.Errorf("%s: IsPlaceholder(%s) = %v", policy, id, got)
				}
			}
			see(withRunning(onePod("1", "a"), "a", "P"), "P", true)
			if err := s.Swap(t.Context(), func(context.Context) (*corev1.Pod, error) { return withRunning(patched("2"), "a", "P"), nil }, "a"); err != nil {
				t.Fatal(err)
			}
			see(withRunning(patched("3"), "a", "S"), "S", false)
			s.Close()
		}
	}
}

// A log capture asks about the last run and the current one before Handle was given the pod.
func TestIsPlaceholderKnowsTheFirstOfTwoUnseenRuns(t *testing.T) {
	s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
	defer s.Close()
	p := withRunning(onePod("1", "a"), "a", "S")
	p.Status.ContainerStatuses[0].RestartCount = 1
	p.Status.ContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: "P"}
	for range 2 {
		if !s.IsPlaceholder("a", "P") || s.IsPlaceholder("a", "S") {
			t.Errorf("P: %v, S: %v", s.IsPlaceholder("a", "P"), s.IsPlaceholder("a", "S"))
		}
		s.Handle(modified(p))
	}
}

func TestTwoSwapsOfOneSlotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
		s.Handle(modified(withRunning(onePod("1", "a"), "a", "P")))
		inFlight, patches := 0, 0
		var wg sync.WaitGroup
		for _, image := range []string{"one", "two"} {
			wg.Go(func() {
				if err := s.Swap(t.Context(), func(context.Context) (*corev1.Pod, error) {
					if inFlight++; inFlight > 1 {
						t.Error("two patches at a time")
					}
					time.Sleep(time.Second)
					inFlight--
					patches++
					p := onePod("", "a")
					p.Spec.Containers[0].Image = image
					return withRunning(p, "a", "P"), nil
				}, "a"); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if patches != 2 {
			t.Errorf("%d patches", patches)
		}
		s.Close()
	})
}

func TestPolicyAndPlaceholderMayCallTheSplitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s *Splitter
		s = New(testNS, testPod, Options{
			Placeholder: func(slot string) bool { s.State(slot); return false },
			Policy:      func(f *Failure) (time.Duration, bool) { s.State(f.Slot); return time.Hour, true },
		})
		p := onePod("1", "a")
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerError"}}}}
		s.Handle(modified(p))
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if st := s.State("a"); st.Failure == nil || st.Failure.Class != ClassCreate {
			t.Errorf("after an hour: %s", stateText(st))
		}
		s.Close()
	})
}

func TestCloseStopsTheTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testNS, testPod, Options{})
		p := onePod("1", "a")
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerError"}}}}
		s.Handle(modified(p))
		s.Close()
		s.Close()
		time.Sleep(time.Hour)
		if st := s.State("a"); st.Failure != nil {
			t.Errorf("the grace period ended after Close: %s", stateText(st))
		}
	})
}

func TestPolicyIsNotCalledOnceCloseHasReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		var running, closed atomic.Bool
		s := New(testNS, testPod, Options{Policy: func(*Failure) (time.Duration, bool) {
			if calls.Add(1); closed.Load() {
				t.Error("Policy was called after Close")
			}
			running.Store(true)
			time.Sleep(time.Minute)
			running.Store(false)
			return time.Hour, true
		}})
		p := onePod("1", "a", "b")
		for _, name := range []string{"a", "b"} {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
				Name: name, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerError"}},
			})
		}
		go s.Handle(modified(p))
		synctest.Wait()
		if !running.Load() {
			t.Fatal("Policy was not asked")
		}
		s.Close()
		if closed.Store(true); running.Load() {
			t.Error("Close returned while Policy was being asked")
		}
		time.Sleep(time.Hour)
		if n := calls.Load(); n != 1 {
			t.Errorf("Policy was asked %d times, want the one that Close found under way", n)
		}
	})
}

func TestEveryReaderOfEntriesSeesTheSameEntries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testNS, testPod, Options{})
		var early, late []uint64
		read := func(into *[]uint64) {
			for e, err := range s.Entries(t.Context(), "a") {
				if err != nil {
					t.Error(err)
				}
				*into = append(*into, e.Seq)
			}
		}
		var wg sync.WaitGroup
		wg.Go(func() { read(&early) })
		synctest.Wait()
		s.Handle(modified(withRunning(onePod("1", "a"), "a", "A")))
		s.Handle(modified(withTerminated(onePod("2", "a"), "a", "A", 0)))
		wg.Go(func() { read(&late) })
		wg.Wait()
		if len(early) == 0 || !slices.Equal(early, late) {
			t.Errorf("early reader: %v, late reader: %v", early, late)
		}
		s.Close()
	})
}

func TestASlowReaderOfEntriesIsToldWhatWasDropped(t *testing.T) {
	s := New(testNS, testPod, Options{Buffer: 4})
	s.Handle(modified(onePod("1", "a")))
	var dropped uint64
	var seen []uint64
	n := 0
	for e, err := range s.Entries(t.Context(), "a") {
		if err != nil {
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
			break
		}
		if dropped += e.Dropped; e.Dropped == 0 {
			seen = append(seen, e.Seq)
		}
		if n++; n == 1 {
			for i := range 10 {
				s.Handle(watch.Event{Type: watch.Added, Object: &corev1.Event{
					ObjectMeta:     metav1.ObjectMeta{UID: "e"},
					InvolvedObject: corev1.ObjectReference{Kind: "Pod", Name: testPod, Namespace: testNS, FieldPath: "spec.containers{a}"},
					Count:          int32(i + 1), Reason: "Pulling",
				}})
			}
			s.Close()
		}
	}
	if last := seen[len(seen)-1]; dropped+uint64(len(seen)) != last || dropped == 0 {
		t.Errorf("saw %v and was told of %d dropped ones", seen, dropped)
	}
}

func TestNextRunReplaysThePastAfterClose(t *testing.T) {
	s := New(testNS, testPod, Options{})
	s.Handle(modified(withRunning(onePod("1", "a"), "a", "A")))
	s.Close()
	if id, err := s.NextRun(t.Context(), "a", ""); id != "A" || err != nil {
		t.Errorf("got %q, %v", id, err)
	}
	if _, err := s.NextRun(t.Context(), "a", "A"); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want EOF", err)
	}
}

func TestConcurrentUseIsSafe(t *testing.T) {
	s := New(testNS, testPod, Options{Placeholder: func(slot string) bool { return slot == "a" }})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { _, _ = s.Wait(ctx, "a", Ended) })
		wg.Go(func() { _, _ = s.NextRun(ctx, "b", "") })
		wg.Go(func() {
			for range s.Entries(ctx, "b") {
			}
		})
		wg.Go(func() {
			for range 50 {
				s.Handle(modified(withRunning(withRunning(onePod("", "a", "b"), "a", "P"), "b", "B")))
				s.IsPlaceholder("a", "P")
				s.State("b")
				Classify(onePod("", "a"), nil)
			}
		})
	}
	wg.Go(func() {
		_ = s.Swap(ctx, func(context.Context) (*corev1.Pod, error) {
			p := onePod("", "a", "b")
			p.Spec.Containers[0].Image = "step"
			return withRunning(withTerminated(p, "a", "S", 0), "b", "B"), nil
		}, "a")
		cancel()
	})
	wg.Wait()
	s.Close()
}

// The watch may lose contact before it has shown the pod.
func TestAWaitForAnUnseenPodShowsThatTheWatchIsStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testNS, testPod, Options{})
		defer s.Close()
		told := make(chan State, 1)
		go func() {
			if st, err := s.Wait(t.Context(), "a", func(st State) bool { return st.Stale }); err == nil {
				told <- st
			}
		}()
		synctest.Wait()
		s.Handle(watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: statusStale}})
		synctest.Wait()
		if len(told) == 0 {
			t.Fatal("nothing was said")
		}
		s.Handle(watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: statusFresh}})
		if s.State("a").Stale || s.State("").Stale {
			t.Error("it is stale with contact regained")
		}
	})
}
