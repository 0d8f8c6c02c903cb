package eventsplit

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

func statusOf(reason metav1.StatusReason, code int32, message string) watch.Event {
	return watch.Event{Type: watch.Error, Object: &metav1.Status{
		Status: metav1.StatusFailure, Reason: reason, Code: code, Message: message,
	}}
}

func TestARefusedWatchEndsEveryWait(t *testing.T) {
	words := `list pods in namespace "ci": pods is forbidden: User "worker" cannot list resource "pods"`
	for name, c := range map[string]struct {
		refusal watch.Event
		class   Class
	}{
		"forbidden":    {statusOf(metav1.StatusReasonForbidden, http.StatusForbidden, words), ClassForbidden},
		"unauthorized": {statusOf(metav1.StatusReasonUnauthorized, http.StatusUnauthorized, words), ClassUnauthorized},
	} {
		for _, seen := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				s := New(testNS, testPod, Options{})
				defer s.Close()
				if seen {
					s.Handle(modified(withTerminated(withRunning(onePod("1", "done", "runs"), "runs", "r1"), "done", "d1", 3)))
				}
				until := func(State) bool { return false }
				waits := map[string]func(context.Context) error{
					"Wait":            func(ctx context.Context) error { _, err := s.Wait(ctx, "runs", until); return err },
					"Wait of the pod": func(ctx context.Context) error { _, err := s.Wait(ctx, "", until); return err },
					"Entries": func(ctx context.Context) (last error) {
						for _, last = range s.Entries(ctx, "runs") {
						}
						return last
					},
					"NextRun": func(ctx context.Context) error {
						after := ""
						if seen {
							after = "r1"
						}
						_, err := s.NextRun(ctx, "runs", after)
						return err
					},
				}
				if !seen {
					waits["Swap"] = func(ctx context.Context) error {
						return s.Swap(ctx, func(context.Context) (*corev1.Pod, error) { t.Error("patch was called"); return nil, nil }, "runs")
					}
				}
				check := func(wait string, err error) {
					t.Helper()
					f := (*Failure)(nil)
					if !errors.As(err, &f) || f.Class != c.class || !strings.Contains(f.Error(), words) {
						t.Errorf("%s, %s, pod seen %v: ends with %v; want class %s and the API server's words", name, wait, seen, err, c.class)
					}
					if status := apierrors.APIStatus(nil); !errors.As(err, &status) {
						t.Errorf("%s, %s: the API error is not reachable", name, wait)
					}
				}
				ended := map[string]chan error{}
				for wait, do := range waits { // calls that wait already
					done := make(chan error, 1)
					ended[wait] = done
					go func() { done <- do(t.Context()) }()
				}
				synctest.Wait()
				s.Handle(c.refusal)
				for wait, done := range ended {
					check(wait, <-done)
				}
				for wait, do := range waits { // calls that begin to wait
					check(wait, do(t.Context()))
				}
				if st := s.State("runs"); st.Failure != nil || st.Final || seen && !st.Stale {
					t.Errorf("%s: State is %+v; want it stale, and no Failure: it is taken back", name, st)
				}
				if seen { // an answer that is known is given
					if st, err := s.Wait(t.Context(), "done", Ended); err != nil || st.Outcome.ExitCode != 3 {
						t.Errorf("%s: Wait of a slot that has ended: %+v, %v", name, st, err)
					}
					if id, err := s.NextRun(t.Context(), "runs", ""); id != "r1" || err != nil {
						t.Errorf("%s: NextRun of a run that is known: %q, %v", name, id, err)
					}
				}
				s.Handle(statusOf(statusFresh, 0, ""))
				for wait, do := range waits { // the refusal is over: the same calls wait again
					ctx, cancel := context.WithCancelCause(t.Context())
					done := make(chan error, 1)
					go func() { done <- do(ctx) }()
					synctest.Wait()
					cancel(errGaveUp)
					if err := <-done; !errors.Is(err, errGaveUp) {
						t.Errorf("%s, %s: ends with %v after Fresh, want it to wait", name, wait, err)
					}
				}
			})
		}
	}
}
