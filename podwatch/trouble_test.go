package podwatch_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/podwatch"
)

func isWatch(r *http.Request) bool { return r.URL.Query().Get("watch") == "true" }

func of(r *http.Request, resource string) bool { return strings.HasSuffix(r.URL.Path, "/"+resource) }

// Whatever goes wrong for a minute: nothing is missed, handlers are told that
// what they know may be old, and the watch is back soon.
func TestTroubleIsSaidOnceAndNothingIsMissed(t *testing.T) {
	refusedBy := func(code int, reason metav1.StatusReason) testutil.Fault {
		return testutil.Fault{Status: code, Reason: reason, Message: "trouble"}
	}
	for name, c := range map[string]struct {
		fault testutil.Fault
		also  string // what the handler hears between Stale and Fresh
	}{
		"429":                 {fault: refusedBy(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)},
		"500":                 {fault: refusedBy(http.StatusInternalServerError, metav1.StatusReasonInternalError)},
		"503":                 {fault: refusedBy(http.StatusServiceUnavailable, metav1.StatusReasonServiceUnavailable)},
		"401":                 {fault: refusedBy(http.StatusUnauthorized, metav1.StatusReasonUnauthorized), also: "ERROR Unauthorized"},
		"410 as HTTP":         {fault: refusedBy(http.StatusGone, metav1.StatusReasonExpired)},
		"broken connections":  {fault: testutil.Fault{Err: io.ErrUnexpectedEOF}},
		"no answer, then cut": {fault: testutil.Fault{Delay: 20 * time.Second, Err: io.EOF}},
		"slow answers":        {fault: testutil.Fault{Delay: 20 * time.Second}},
		"empty watches":       {fault: testutil.Fault{CutAfter: -1}},
		"garbage":             {fault: testutil.Fault{Status: http.StatusOK, Message: "<html>login</html>"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				w, _ := h.start(podwatch.Options{LabelSelector: "app=ci", Events: podwatch.EventsOff})
				var r recorder
				h.follow(w, "a", &r)
				h.create("a")
				h.create("b")
				settle(time.Minute)
				r.want(t, "ADDED pod")
				h.answer(func(q *http.Request) bool { return q.Method == http.MethodGet && of(q, "pods") }, c.fault)
				h.cluster.DropWatches(io.ErrUnexpectedEOF)
				settle(10 * time.Second)
				h.label("a", "1")
				settle(50 * time.Second)
				// client-go by itself repeats a broken request every second.
				if n := len(h.cluster.Requests()); n > 80 {
					t.Errorf("%d requests in a minute: the server is hammered", n)
				}
				h.cluster.Fault(nil)
				settle(time.Minute)
				want := []string{"ERROR Stale", c.also, "MODIFIED pod 1", "ERROR Fresh"}
				r.want(t, slices.DeleteFunc(want, func(s string) bool { return s == "" })...)
				h.label("a", "2")
				r.want(t, "MODIFIED pod 2")
			})
		})
	}
}

func TestTheWatchIsBackSecondsAfterTheServerHoweverLongItWasAway(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		h.follow(w, "a", &r)
		h.create("a")
		settle(time.Minute)
		if err := h.cluster.RestartServer(t.Context(), time.Hour); err != nil {
			t.Fatal(err)
		}
		h.label("a", "1")
		settle(14 * time.Second)
		r.want(t, "ADDED pod", "ERROR Stale", "MODIFIED pod 1", "ERROR Fresh")
		if s := w.Stats(); s.Stale || s.Relists != 0 {
			t.Errorf("after the restart: %+v, want to resume without a relist", s)
		}
	})
}

func TestAnExpiredWatchListsAgainAndLosesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{Events: podwatch.EventsOff})
		var changed, same, gone recorder
		h.follow(w, "changed", &changed)
		h.follow(w, "same", &same)
		h.follow(w, "gone", &gone)
		for _, n := range []string{"changed", "same", "gone"} {
			h.create(n)
		}
		settle(time.Second)
		for _, r := range []*recorder{&changed, &same, &gone} {
			r.want(t, "ADDED pod")
		}
		h.whileDown(func() {
			h.label("changed", "1")
			h.delete("gone")
			h.cluster.Compact()
		})
		changed.want(t, "ERROR Stale", "MODIFIED pod 1", "ERROR Fresh")
		same.want(t, "ERROR Stale", "ERROR Fresh")
		gone.want(t, "ERROR Stale", "DELETED pod", "ERROR Fresh")
		h.notices.want(t, "stale pods", "expired pods", "relist pods", "fresh pods")
		if s := w.Stats(); s.Relists != 1 || s.Expired != 1 || s.Lists != 2 {
			t.Errorf("%+v: want one relist", s)
		}
	})
}

func TestATrackingThatBeginsWhileTheWatchIsLostIsToldSo(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		h.whileDown(func() {
			var r recorder
			h.follow(w, "a", &r)
			r.want(t, "ERROR Stale")
			if !w.Stats().Stale {
				t.Error("Stats does not say that the watch is stale")
			}
		})
	})
}

func TestAWatchThatFallsSilentIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		h.answer(func(r *http.Request) bool { return isWatch(r) && of(r, "pods") }, testutil.Fault{Stall: true, CutAfter: 1})
		w, _ := h.start(podwatch.Options{})
		h.cluster.Fault(nil)
		var r recorder
		h.follow(w, "a", &r)
		h.create("a")
		settle(11 * time.Minute)
		r.want(t, "ADDED pod")
	})
}

func TestAListWithoutAnAnswerIsGivenUp(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		h.answer(func(r *http.Request) bool { return !isWatch(r) && of(r, "pods") }, testutil.Fault{Stall: true})
		w := h.watcher(podwatch.Options{Events: podwatch.EventsOff})
		h.run(w)
		settle(time.Minute)
		h.cluster.Fault(nil)
		h.sync(w)
		h.notices.want(t, "stale pods", "fresh pods")
	})
}

func TestAWatchThatEndsInGoodOrderIsNoTrouble(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		h.follow(w, "a", &r)
		h.create("a")
		settle(24 * time.Hour)
		r.want(t, "ADDED pod")
		h.notices.want(t)
		if s := w.Stats(); s.Lists != 2 || s.Watches < 200 || s.Watches > 2*24*12 {
			t.Errorf("after a day: %+v; want no relist, and a watch in 5 to 10 minutes", s)
		}
	})
}

func TestEventsForbiddenIsSaidOnceAndNotHammered(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		h.answer(func(r *http.Request) bool { return of(r, "events") && r.Method == http.MethodGet },
			testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "events is forbidden"})
		w, stop := h.start(podwatch.Options{})
		var r recorder
		h.follow(w, "a", &r)
		p := h.create("a")
		settle(time.Hour)
		r.want(t, "ADDED pod")
		h.notices.want(t, "forbidden events", "stale events")
		if !apierrors.IsForbidden(h.notices.lastError()) {
			t.Errorf("the notice carries %v", h.notices.lastError())
		}
		if n := h.requests("list", "events"); n < 5 || n > 13 {
			t.Errorf("%d lists of Events in an hour, want one in some minutes", n)
		}
		h.event(p, "e1", "Pulled")
		h.cluster.Fault(nil) // granted
		settle(10 * time.Minute)
		r.want(t, "ADDED event Pulled x1")
		h.notices.want(t, "granted events", "fresh events")
		stop()
	})
}

func TestRunEndsAtOnceWhileARefusedListWaits(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		h.answer(func(r *http.Request) bool { return of(r, "events") },
			testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden})
		_, stop := h.start(podwatch.Options{})
		settle(10 * time.Second)
		before := time.Now()
		stop()
		if d := time.Since(before); d > 0 {
			t.Errorf("Run took %v to end", d)
		}
	})
}

func TestRequiredEventsAreWaitedForAndTheirRefusalIsAnError(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		p := h.create("a")
		h.event(p, "e1", "Pulled")
		w, stop := h.start(podwatch.Options{Events: podwatch.EventsRequired})
		var r recorder
		h.trackPod(w, p, &r)
		r.want(t, "ADDED pod", "ADDED event Pulled x1")
		stop()

		h.answer(func(r *http.Request) bool { return of(r, "events") },
			testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden})
		w = h.watcher(podwatch.Options{Events: podwatch.EventsRequired})
		h.run(w)
		if err := w.WaitForSync(t.Context()); !apierrors.IsForbidden(err) {
			t.Errorf("WaitForSync returns %v, want the refusal", err)
		}
	})
}

func TestEventsOffMakesNoRequestForEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{Events: podwatch.EventsOff})
		var r recorder
		h.follow(w, "a", &r)
		h.event(h.create("a"), "e1", "Pulled")
		settle(time.Hour)
		r.want(t, "ADDED pod")
		if n := h.requests("list", "events") + h.requests("watch", "events"); n != 0 {
			t.Errorf("%d requests for Events", n)
		}
	})
}

func TestARepeatedEventIsModifiedAndItsExpiryIsNotHandedOn(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		h.follow(w, "a", &r)
		p := h.create("a")
		r.want(t, "ADDED pod")
		e := h.event(p, "e1", "BackOff")
		r.want(t, "ADDED event BackOff x1")
		e.Count = 2
		e, err := h.client.CoreV1().Events(ns).Update(t.Context(), e, metav1.UpdateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		r.want(t, "MODIFIED event BackOff x2")
		h.relist()
		if err := h.client.CoreV1().Events(ns).Delete(t.Context(), e.Name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		for _, l := range r.heard() {
			if strings.Contains(l, "event") {
				t.Errorf("heard %q", l)
			}
		}
		var late recorder
		h.trackPod(w, p, &late)
		late.want(t, "ADDED pod")
	})
}
