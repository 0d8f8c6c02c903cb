package podwatch_test

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/podwatch"
)

// slowly is a Notify that takes a minute for every notice of a kind.
func (n *notices) slowly(kind podwatch.NoticeKind, took time.Duration) func(podwatch.Notice) {
	var mu sync.Mutex
	return func(x podwatch.Notice) {
		if !mu.TryLock() {
			x.Kind = "two calls at a time: " + x.Kind
			n.take(x)
			return
		}
		defer mu.Unlock()
		if x.Kind == kind {
			time.Sleep(took)
		}
		n.take(x)
	}
}

func TestNoticesComeOneAtATimeInTheOrderOfWhatHappenedHoweverSlowNotifyIs(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, err := podwatch.New(h.client, podwatch.Options{
			Events: podwatch.EventsOff, Notify: h.notices.slowly(podwatch.NoticeStale, time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		h.run(w)
		h.sync(w)
		var r recorder
		h.follow(w, "a", &r)
		h.create("a")
		settle(time.Minute)
		for range 2 {
			h.whileDown(func() { h.label("a", time.Now().Format("150405")) })
		}
		lines := r.heard() // the handlers hear of all of it meanwhile
		if want := 7; len(lines) != want || lines[len(lines)-1] != "ERROR Fresh" {
			t.Errorf("the handler heard %q", lines)
		}
		h.notices.want(t)
		settle(3 * time.Hour)
		h.notices.want(t, "stale pods", "fresh pods", "stale pods", "fresh pods")
		if w.Stats().Stale {
			t.Error("the notices ended in fresh, Stats in stale")
		}
	})
}

func TestNotifyMayCallTheWatcher(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		var w *podwatch.Watcher
		var stale []bool
		w, err := podwatch.New(h.client, podwatch.Options{Events: podwatch.EventsOff, Notify: func(podwatch.Notice) {
			stale = append(stale, w.Stats().Stale)
			tr := h.track(w, "b")
			tr.Created(nil)
			tr.Close()
		}})
		if err != nil {
			t.Fatal(err)
		}
		h.run(w)
		h.sync(w)
		settle(time.Minute)
		h.whileDown(func() {})
		if !slices.Equal(stale, []bool{true, false}) {
			t.Errorf("during the notices Stats().Stale was %v", stale)
		}
	})
}

func TestNoticesWaitForRunAndNoneComesAfterIt(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, err := podwatch.New(h.client, podwatch.Options{Notify: h.notices.slowly(podwatch.NoticeMismatch, time.Minute)})
		if err != nil {
			t.Fatal(err)
		}
		tr := h.track(w, "a")
		for range 3 {
			tr.Created(h.leftover("other" + time.Now().Format("150405")))
			time.Sleep(time.Second)
		}
		settle(time.Hour)
		h.notices.want(t)
		stop := h.run(w)
		h.sync(w)
		settle(time.Second)
		before := time.Now()
		stop() // waits for those that were raised
		if d := time.Since(before); d < 2*time.Minute || d > 3*time.Minute {
			t.Errorf("Run took %v to end, want the time of three calls of Notify", d)
		}
		h.notices.want(t, "mismatch pods default/a", "mismatch pods default/a", "mismatch pods default/a")
		tr.Created(h.leftover("z"))
		h.answer(isGet, forbiddenList)
		_, _ = tr.Confirm(t.Context())
		settle(time.Hour)
		h.notices.want(t)
	})
}

func TestTooManyNoticesForASlowNotifyAreDroppedFromTheOldestAndCounted(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		first := true
		w, err := podwatch.New(h.client, podwatch.Options{Notify: func(n podwatch.Notice) {
			if first {
				first = false
				time.Sleep(time.Hour)
			}
			h.notices.take(n)
		}})
		if err != nil {
			t.Fatal(err)
		}
		h.run(w)
		h.sync(w)
		other := h.leftover("other")
		tr := h.track(w, "a")
		for range 3000 {
			tr.Created(other)
		}
		last := h.track(w, "last")
		last.Created(other)
		settle(2 * time.Hour)
		h.notices.mu.Lock()
		n, end := len(h.notices.text), h.notices.text[len(h.notices.text)-1]
		h.notices.mu.Unlock()
		if dropped := w.Stats().NoticesDropped; uint64(n)+dropped != 3001 || n > 1026 || n < 1024 || end != "mismatch pods default/last" {
			t.Errorf("%d notices told, %d dropped of 3,001, the last is %q", n, dropped, end)
		}
	})
}

// The answer comes in the very moment in which its absence would be noted.
func TestAnAnswerThatComesWhenPatienceEndsLeavesNothingStale(t *testing.T) {
	for _, request := range []func(*http.Request) bool{isPodList, isPodWatch} {
		for range 20 {
			inBubble(t, func(t *testing.T, h *harness) {
				h.answer(request, testutil.Fault{Delay: 5 * time.Second})
				w := h.watcher(podwatch.Options{Events: podwatch.EventsOff})
				h.run(w)
				settle(10 * time.Second)
				h.sync(w)
				settle(10 * time.Second)
				if w.Stats().Stale {
					t.Error("the watch is up, and said to be stale")
				}
				h.notices.balanced(t)
			})
		}
	}
}

func TestTroubleOfAllKindsIsClosedInTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		slow := blocked()
		p := h.leftover("a")
		settle(time.Second)
		h.trackPod(w, p, slow)
		h.label("a", "1")
		h.label("a", "2") // coalesced
		h.answer(isGet, testutil.Fault{Err: io.ErrUnexpectedEOF})
		h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`) // unconfirmed
		settle(time.Minute)
		h.answer(isGet, testutil.Fault{})
		settle(time.Minute)                                  // out of scope
		h.patch("a", `{"metadata":{"labels":{"app":"ci"}}}`) // settled
		synctest.Wait()
		h.track(w, "a") // nobody claims
		settle(time.Minute)
		h.delete("a")
		h.answer(isPods, unauthorized)
		h.cluster.DropWatches(io.ErrUnexpectedEOF)
		settle(time.Minute)
		h.cluster.Fault(nil)
		settle(2 * time.Minute)
		h.notices.mu.Lock()
		for _, kind := range []podwatch.NoticeKind{
			podwatch.NoticeCoalesced, podwatch.NoticeUnconfirmed, podwatch.NoticeOutOfScope, podwatch.NoticeUnclaimed,
			podwatch.NoticeForbidden, podwatch.NoticeStale,
		} {
			if !slices.ContainsFunc(h.notices.all, func(n podwatch.Notice) bool { return n.Kind == kind }) {
				t.Errorf("%s was not said", kind)
			}
		}
		h.notices.mu.Unlock()
		h.notices.balanced(t)
	})
}

func TestANoticeSaysItselfInOneLine(t *testing.T) {
	for _, c := range []struct {
		notice podwatch.Notice
		want   string
	}{
		{podwatch.Notice{Kind: podwatch.NoticeFresh, Resource: "events"}, "watch of events: in contact again with the API server"},
		{
			podwatch.Notice{Kind: podwatch.NoticeStale, Resource: "pods", Err: errors.New("broken\npipe")},
			"watch of pods: lost contact with the API server, trying again: broken pipe",
		},
		{
			podwatch.Notice{Kind: podwatch.NoticeForbidden, Resource: "pods", Namespace: ns, Name: "a", Err: errors.New("no get")},
			"pod default/a: the API server refuses the request: no get",
		},
	} {
		if got := c.notice.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	for opening, closing := range closes {
		for _, k := range []podwatch.NoticeKind{opening, closing} {
			if s := (podwatch.Notice{Kind: k, Resource: "pods"}).String(); strings.HasSuffix(s, ": ") {
				t.Errorf("of kind %s there are no words: %q", k, s)
			}
		}
	}
}
