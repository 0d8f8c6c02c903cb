package eventsplit

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func refusedWatch(code int32, reason metav1.StatusReason) watch.Event {
	return watch.Event{Type: watch.Error, Object: &metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason,
		Message: `list pods in namespace "ci": pods is forbidden: User "ci" cannot list resource "pods" in API group "" in the namespace "ci"`,
	}}
}

// Whoever may not watch learns nothing: what waits ends, what is known is answered
// all the same, and once the watch is back everything is as before.
func TestWaitsEndWhileTheAPIServerRefusesTheWatch(t *testing.T) {
	for _, c := range []struct {
		event watch.Event
		class Class
		is    func(error) bool
	}{
		{refusedWatch(http.StatusForbidden, metav1.StatusReasonForbidden), ClassForbidden, apierrors.IsForbidden},
		{refusedWatch(http.StatusUnauthorized, metav1.StatusReasonUnauthorized), ClassUnauthorized, apierrors.IsUnauthorized},
	} {
		t.Run(string(c.class), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(testNS, testPod, Options{})
				defer s.Close()
				go func() {
					time.Sleep(15 * time.Second)
					s.Handle(c.event)
				}()
				begin := time.Now()
				for call, err := range blocked(t.Context(), t, s, "a") {
					var f *Failure
					if !errors.As(err, &f) || f.Class != c.class || !c.is(err) || f.Slot != "" {
						t.Errorf("%s: got %v, want %s of the pod", call, err, c.class)
					}
				}
				if d := time.Since(begin); d != 15*time.Second {
					t.Errorf("the waits ended after %v, want the 15 s after which the refusal was told", d)
				}
				if st := s.State("a"); st.Failure != nil || !st.Stale {
					t.Errorf("a refusal is no verdict, and what is known may be old: %s", stateText(st))
				}
				s.Handle(watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: statusFresh}})
				go func() {
					time.Sleep(time.Minute)
					s.Handle(modified(withTerminated(onePod("1", "a"), "a", "A", 3)))
				}()
				if st, err := s.Wait(t.Context(), "a", Ended); err != nil || st.Outcome.ExitCode != 3 {
					t.Errorf("with the watch back: %s, %v", stateText(st), err)
				}
				s.Handle(c.event)
				if st, err := s.Wait(t.Context(), "a", Ended); err != nil || st.Outcome.ExitCode != 3 {
					t.Errorf("of what is known: %s, %v", stateText(st), err)
				}
			})
		})
	}
}
