package eventsplit

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

func asEvicted(p *corev1.Pod) *corev1.Pod {
	p.Status.Phase, p.Status.Reason, p.Status.Message = corev1.PodFailed, "Evicted", "The node was low on resource: memory."
	return p
}

// endings are ways in which container a ends and has not succeeded, whatever its exit code is.
var endings = []struct {
	name  string
	pod   func() *corev1.Pod
	class Class
	code  int32
}{
	{"evicted, and it obeyed SIGTERM", func() *corev1.Pod { return asEvicted(withTerminated(onePod("9", "a"), "a", "A", 0)) }, ClassEvicted, 0},
	{"evicted and killed", func() *corev1.Pod { return asEvicted(withTerminated(onePod("9", "a"), "a", "A", 137)) }, ClassEvicted, 137},
	{"its process could not be started", func() *corev1.Pod {
		p := withTerminated(onePod("9", "a"), "a", "A", 128)
		p.Status.ContainerStatuses[0].State.Terminated.Reason = "StartError"
		return p
	}, ClassStart, 128},
}

func TestWaitReturnsTheFailureOfItsState(t *testing.T) {
	for _, c := range endings {
		t.Run(c.name, func(t *testing.T) {
			s := New(testNS, testPod, Options{})
			defer s.Close()
			s.Handle(modified(c.pod()))
			st, err := s.Wait(t.Context(), "a", Ended)
			var f *Failure
			if !errors.As(err, &f) || f != st.Failure || f.Class != c.class {
				t.Errorf("the error is %v, the state's failure %v, want %s", err, st.Failure, c.class)
			}
			if !Ended(st) || st.Outcome.ExitCode != c.code {
				t.Errorf("got %s, want exit code %d beside the failure", stateText(st), c.code)
			}
		})
	}
}

// The Failure of a pod that is being deleted is known before the pod's end. until decides what
// is waited for: the Failure alone ends no Wait.
func TestAWaitForTheEndOfADeletedPodWaitsForTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testNS, testPod, Options{})
		defer s.Close()
		p := withRunning(onePod("1", "a"), "a", "A")
		p.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		s.Handle(modified(p))
		done := make(chan State, 1)
		go func() {
			st, err := s.Wait(t.Context(), "", func(st State) bool { return st.Phase == PhaseEnded })
			if f := (*Failure)(nil); !errors.As(err, &f) || f.Class != ClassDeleted {
				t.Errorf("got %v, want %s", err, ClassDeleted)
			}
			done <- st
		}()
		synctest.Wait()
		if len(done) > 0 {
			t.Fatalf("the wait ended with the pod still there: %s", stateText(<-done))
		}
		s.Handle(watch.Event{Type: watch.Deleted, Object: p})
		if st := <-done; st.Phase != PhaseEnded {
			t.Errorf("got %s", stateText(st))
		}
	})
}

func TestWaitAnswersTheSameBeforeAndAfterAFailure(t *testing.T) {
	predicates := map[string]func(State) bool{
		"started": Started, "ended": Ended, "pulled": Pulled,
		"running": func(s State) bool { return s.Phase == PhaseRunning },
	}
	for _, c := range endings {
		for name, until := range predicates {
			t.Run(c.name+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := New(testNS, testPod, Options{})
					defer s.Close()
					s.Handle(modified(onePod("1", "a")))
					var before State
					var errBefore error
					var wg sync.WaitGroup
					wg.Go(func() { before, errBefore = s.Wait(t.Context(), "a", until) })
					synctest.Wait()
					s.Handle(modified(c.pod()))
					wg.Wait()
					after, errAfter := s.Wait(t.Context(), "a", until)
					if before != after || errBefore != errAfter { //nolint:errorlint // the same pointer
						t.Errorf("asked before: %s, %v\nasked after: %s, %v", stateText(before), errBefore, stateText(after), errAfter)
					}
				})
			})
		}
	}
}

func TestACallThatEndsWithItsContextSaysWhatItWaitedFor(t *testing.T) {
	unpullable := onePod("1", "a")
	unpullable.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{
		Waiting: &corev1.ContainerStateWaiting{Reason: reasonErrImagePull, Message: "dial tcp 10.0.0.1:443: i/o timeout"},
	}}}
	for _, c := range []struct {
		name    string
		pod     *corev1.Pod
		waiting Class
		words   []string
	}{
		{"a pod nobody saw", nil, "", []string{"the pod was not seen yet"}},
		{"an image that cannot be pulled", unpullable, ClassImagePull, []string{`image "img" cannot be pulled`, "i/o timeout"}},
		{"a container that is being started", onePod("1", "a"), ClassProgress, []string{`image "img"`, "Pending"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(testNS, testPod, Options{})
				defer s.Close()
				if c.pod != nil {
					s.Handle(modified(c.pod))
				}
				for call, err := range endedWithContext(t, s, "a") {
					var w *WaitError
					if !errors.As(err, &w) || w.Slot != "a" || !errors.Is(err, errGaveUp) || !errors.Is(w.Cause, errGaveUp) {
						t.Errorf("%s: got %v, want a WaitError of container a that unwraps to the cause", call, err)
						continue
					}
					if got := classOf(w.Waiting); got != c.waiting {
						t.Errorf("%s: it waits for %q, want %q", call, got, c.waiting)
					}
					for _, word := range append(c.words, call, `"a"`, errGaveUp.Error()) {
						if !strings.Contains(err.Error(), word) {
							t.Errorf("%s: %q does not say %q", call, err, word)
						}
					}
					// The trouble that it waits with is no Failure of the wait.
					if f := (*Failure)(nil); errors.As(err, &f) {
						t.Errorf("%s: the error unwraps to the Failure %v", call, f)
					}
				}
			})
		})
	}
}

func classOf(f *Failure) Class {
	if f == nil {
		return ""
	}
	return f.Class
}

// endedWithContext calls everything that blocks, ends the context after a second, and returns
// the error of each call by its name.
func endedWithContext(t *testing.T, s *Splitter, slot string) map[string]error {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(time.Second, func() { cancel(errGaveUp) })
	return blocked(ctx, t, s, slot)
}

// blocked makes every call that blocks, and returns the error with which each ended.
func blocked(ctx context.Context, t *testing.T, s *Splitter, slot string) map[string]error {
	t.Helper()
	errs := map[string]error{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for name, call := range map[string]func() error{
		"waiting for container":       func() error { _, err := s.Wait(ctx, slot, Ended); return err },
		"waiting for the next run of": func() error { _, err := s.NextRun(ctx, slot, ""); return err },
		"waiting to swap": func() error {
			return s.Swap(ctx, func(context.Context) (*corev1.Pod, error) { t.Error("patch was called"); return nil, nil }, slot)
		},
		"waiting for more of": func() error {
			for _, err := range s.Entries(ctx, slot) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		wg.Go(func() {
			err := call()
			mu.Lock()
			errs[name] = err
			mu.Unlock()
		})
	}
	wg.Wait()
	return errs
}

// Where a container is meant, an empty name is a mistake; it is not the pod.
func TestCallsForAContainerRefuseAnEmptyName(t *testing.T) {
	s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
	defer s.Close()
	_, next := s.NextRun(t.Context(), "", "")
	for call, err := range map[string]error{
		"NextRun": next,
		"Swap":    s.Swap(t.Context(), func(context.Context) (*corev1.Pod, error) { t.Error("patch was called"); return nil, nil }, "a", ""),
	} {
		if f := (*Failure)(nil); !errors.As(err, &f) || f.Class != ClassUnknownSlot {
			t.Errorf("%s: got %v, want %s", call, err, ClassUnknownSlot)
		}
	}
	if s.IsPlaceholder("", "P") {
		t.Error("the pod has a placeholder")
	}
}

// Events may come late: an Event that is older than the newest run is about the start of that
// run, and about nothing after it.
func TestAnEventFromBeforeTheNewestRunExplainsNothing(t *testing.T) {
	event := func(uid, message string, at time.Time) *corev1.Event {
		return &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{UID: types.UID(uid)},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: testNS, Name: testPod, UID: "u", FieldPath: "spec.containers{a}"},
			Type:           "Warning", Reason: "Failed", Message: message,
			FirstTimestamp: metav1.NewTime(at.Add(-time.Hour)), LastTimestamp: metav1.NewTime(at),
		}
	}
	const placeholders, steps = `Failed to pull image "pause": EOF`, `Failed to pull image "step": manifest unknown`
	for _, c := range []struct {
		name     string
		messages []string
		want     Class
		image    string
	}{
		{"the step's comes first", []string{steps, placeholders}, ClassImagePull, "step"},
		{"the placeholder's comes first", []string{placeholders, steps}, ClassImagePull, "step"},
		{"the placeholder's alone", []string{placeholders}, ClassNotStarted, "step"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
				defer s.Close()
				s.Handle(modified(onePod("", "a")))
				p := onePod("", "a")
				p.Spec.Containers[0].Image = "pause"
				started := time.Now().Truncate(time.Second)
				p.Status.ContainerStatuses = []corev1.ContainerStatus{running("P", 0)}
				s.Handle(modified(p.DeepCopy()))
				p.Spec.Containers[0].Image = "step"
				swap(t, s, p, "a")
				for _, message := range c.messages {
					at := started.Add(-time.Minute)
					if message == steps {
						at = started // the times are whole seconds
					}
					s.Handle(watch.Event{Type: watch.Added, Object: event(message, message, at)})
				}
				p.Status.ContainerStatuses = []corev1.ContainerStatus{exited("P", 0, 0)}
				s.Handle(modified(p))
				st, _ := s.Wait(within(t, time.Minute), "a", Ended)
				if st.Failure == nil || st.Failure.Class != c.want || st.Failure.Image != c.image {
					t.Errorf("got %s, want %s of image %s", stateText(st), c.want, c.image)
				}
			})
		})
	}
}
