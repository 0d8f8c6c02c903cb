package podwatch_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/podwatch"
)

var (
	forbiddenList = testutil.Fault{
		Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden,
		Message: `pods is forbidden: User "worker" cannot list resource "pods" in API group "" in the namespace "default"`,
	}
	unauthorized = testutil.Fault{
		Status: http.StatusUnauthorized, Reason: metav1.StatusReasonUnauthorized, Message: "Unauthorized",
	}
)

func isPods(r *http.Request) bool { return r.Method == http.MethodGet && of(r, "pods") }

func isPodList(r *http.Request) bool { return isPods(r) && !isWatch(r) }

func isPodWatch(r *http.Request) bool { return isPods(r) && isWatch(r) }

// refusal returns the status that the handler heard last.
func (r *recorder) refusal() metav1.Status {
	s, _ := r.last().Object.(*metav1.Status)
	if s == nil {
		return metav1.Status{}
	}
	return *s
}

func TestARefusalThatLastsIsToldToAllWhoWaitAndTakenBackWhenGranted(t *testing.T) {
	for name, c := range map[string]struct {
		refused func(*http.Request) bool
		fault   testutil.Fault
		want    string // the handler's line
		message string
	}{
		"list forbidden":    {isPodList, forbiddenList, "ERROR Forbidden", `list pods in namespace "default": ` + forbiddenList.Message},
		"watch forbidden":   {isPodWatch, forbiddenList, "ERROR Forbidden", `watch pods in namespace "default": ` + forbiddenList.Message},
		"list unauthorized": {isPodList, unauthorized, "ERROR Unauthorized", `list pods in namespace "default": Unauthorized`},
		"all unauthorized":  {isPods, unauthorized, "ERROR Unauthorized", `list pods in namespace "default": Unauthorized`},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				h.answer(c.refused, c.fault)
				w := h.watcher(podwatch.Options{Namespace: ns, Events: podwatch.EventsOff})
				var early, late recorder
				h.track(w, "a", &early)
				h.run(w)
				settle(14 * time.Second)
				early.want(t, "ERROR Stale")
				settle(2 * time.Second)
				early.want(t, c.want)
				if s := early.refusal(); s.Message != c.message || s.Code != int32(c.fault.Status) {
					t.Errorf("the handler heard %d %q, want %d %q", s.Code, s.Message, c.fault.Status, c.message)
				}
				created := h.track(w, "b", &late)
				late.want(t, c.want)
				settle(time.Hour) // Run goes on, and nothing is said again
				created.Created(h.leftover("b"))
				early.want(t)
				if l := late.heard(); len(l) == 0 || l[0] != "ADDED pod" {
					t.Errorf("after Created the handler heard %q", l)
				}
				if !w.Stats().Stale {
					t.Error("Stats does not say that the watch is stale")
				}
				h.cluster.Fault(nil)
				settle(2 * time.Minute)
				early.want(t, "ERROR Fresh")
				if l := late.heard(); l[len(l)-1] != "ERROR Fresh" {
					t.Errorf("the handler heard %q, want Fresh at the end", l)
				}
				var after recorder
				h.track(w, "c", &after)
				after.want(t)
				h.notices.without(podwatch.NoticeRelist)
				h.notices.want(t, "forbidden pods", "stale pods", "granted pods", "fresh pods")
			})
		})
	}
}

func TestARefusalAfterTheWatchWasLostIsToldToo(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{Refusal: time.Minute})
		var r recorder
		h.follow(w, "a", &r)
		h.create("a")
		settle(time.Minute)
		h.answer(isPods, unauthorized)
		h.cluster.DropWatches(io.ErrUnexpectedEOF)
		settle(50 * time.Second)
		r.want(t, "ADDED pod", "ERROR Stale")
		settle(time.Minute)
		r.want(t, "ERROR Unauthorized")
		if s := r.refusal(); !strings.HasSuffix(s.Message, " pods in all namespaces: Unauthorized") {
			t.Errorf("the handler heard %q", s.Message)
		}
		h.cluster.Fault(nil)
		settle(2 * time.Minute)
		r.want(t, "ERROR Fresh")
		h.label("a", "1")
		r.want(t, "MODIFIED pod 1")
	})
}

// What was granted takes the API server seconds to learn of, and it is one thing
// to be refused, another to get no answer.
func TestARefusalThatDoesNotLastIsNotTold(t *testing.T) {
	other := testutil.Fault{Status: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError}
	cut := testutil.Fault{Err: io.ErrUnexpectedEOF}
	type phase struct {
		fault testutil.Fault
		lasts time.Duration
	}
	for name, c := range map[string]struct {
		phases []phase
		want   []string
	}{
		"granted soon":                {[]phase{{forbiddenList, 10 * time.Second}}, []string{"ERROR Stale", "ERROR Fresh"}},
		"another answer in between":   {[]phase{{forbiddenList, 10 * time.Second}, {other, 30 * time.Second}, {forbiddenList, 10 * time.Second}}, []string{"ERROR Stale", "ERROR Fresh"}},
		"no answer since":             {[]phase{{forbiddenList, 10 * time.Second}, {cut, time.Hour}}, []string{"ERROR Stale", "ERROR Fresh"}},
		"no answer in between":        {[]phase{{forbiddenList, 10 * time.Second}, {cut, time.Hour}, {forbiddenList, time.Minute}}, []string{"ERROR Stale", "ERROR Forbidden", "ERROR Fresh"}},
		"every answer comes late":     {[]phase{{testutil.Fault{Delay: 7 * time.Second, Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden}, time.Minute}}, []string{"ERROR Stale", "ERROR Forbidden", "ERROR Fresh"}},
		"refused, then other trouble": {[]phase{{forbiddenList, 20 * time.Second}, {other, time.Minute}}, []string{"ERROR Stale", "ERROR Forbidden", "ERROR Fresh"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				w := h.watcher(podwatch.Options{Events: podwatch.EventsOff})
				var r recorder
				h.track(w, "a", &r)
				for i, p := range c.phases {
					h.fault = nil
					h.answer(isPodList, p.fault)
					if i == 0 {
						h.run(w)
					}
					settle(p.lasts)
				}
				h.cluster.Fault(nil)
				settle(2 * time.Minute)
				r.want(t, c.want...)
				h.notices.balanced(t)
			})
		})
	}
}

func TestRefusedEventsAreNoRefusalOfThePods(t *testing.T) {
	for _, mode := range []podwatch.EventMode{podwatch.EventsOptional, podwatch.EventsRequired} {
		inBubble(t, func(t *testing.T, h *harness) {
			h.answer(func(r *http.Request) bool { return of(r, "events") && r.Method == http.MethodGet }, forbiddenList)
			w := h.watcher(podwatch.Options{Events: mode})
			h.run(w)
			var r recorder
			h.follow(w, "a", &r)
			h.create("a")
			settle(time.Hour)
			r.want(t, "ADDED pod")
		})
	}
}

func TestASlowHandlerHearsHowTheContactIsAndNotHowItWas(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		slow := blocked()
		h.follow(w, "a", slow)
		h.create("a")
		settle(time.Second)
		h.answer(isPods, unauthorized)
		h.cluster.DropWatches(io.ErrUnexpectedEOF)
		settle(time.Minute)
		slow.want(t, "ADDED pod", "ERROR Unauthorized")
	})
}

func TestARefusalIsAnErrorOfTheAPIServer(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		h.answer(isPodList, forbiddenList)
		w := h.watcher(podwatch.Options{})
		var r recorder
		h.track(w, "a", &r)
		h.run(w)
		settle(time.Minute)
		s := r.refusal()
		err := error(&apierrors.StatusError{ErrStatus: s})
		var status apierrors.APIStatus
		if !apierrors.IsForbidden(err) || !errors.As(err, &status) || s.Status != metav1.StatusFailure {
			t.Errorf("the handler heard %+v", s)
		}
	})
}
