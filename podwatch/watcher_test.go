package podwatch_test

import (
	"testing"
	"time"

	"github.com/go-vela/podlife/podwatch"
)

func TestATrackingBegunBeforeThePodExistsHearsOfItsWholeLife(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, stop := h.start(podwatch.Options{Namespace: ns})
		var r recorder
		tr := h.follow(w, "a", &r)
		if tr.Pod() != nil {
			t.Error("Pod is not nil before there is one")
		}
		p := h.create("a")
		r.want(t, "ADDED pod")
		tr.Created(p)
		r.want(t)
		h.label("a", "1")
		r.want(t, "MODIFIED pod 1")
		h.event(p, "e1", "Pulled")
		r.want(t, "ADDED event Pulled x1")
		if got := tr.Pod().Labels["v"]; got != "1" {
			t.Errorf("Pod has version %q, want 1", got)
		}
		h.delete("a")
		r.want(t, "MODIFIED pod 1", "DELETED pod 1")
		if tr.Pod() == nil || tr.Pod().UID != p.UID {
			t.Error("Pod forgot the last state")
		}
		stop()
		r.want(t, "ERROR Closed")
	})
}

func TestALateTrackingBeginsWithTheNewestVersionAndTheEventsOfThatPod(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		old := h.create("a")
		h.event(old, "e0", "OfTheOldPod")
		h.delete("a")
		h.create("a")
		p := h.label("a", "1")
		h.event(p, "e1", "Pulling")
		h.event(p, "e2", "Pulled")
		w, _ := h.start(podwatch.Options{})
		settle(time.Second)
		var r recorder
		h.trackPod(w, p, &r)
		r.want(t, "ADDED pod 1", "ADDED event Pulling x1", "ADDED event Pulled x1")
	})
}

func TestEventsThatComeBeforeTheirPodAreHeldBackAndThoseOfAnEarlierPodNeverLeak(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		tr := h.follow(w, "a", &r)
		mine, old := pod("a"), pod("a")
		mine.UID, old.UID = "mine", "old"
		mine.ResourceVersion = "1000000"
		h.event(old, "e0", "OfTheOldPod")
		h.event(mine, "e1", "Scheduled")
		r.want(t)
		tr.Created(mine)
		r.want(t, "ADDED pod", "ADDED event Scheduled x1")
		h.event(old, "e3", "StillOfTheOldPod")
		h.event(mine, "e2", "Pulled")
		r.want(t, "ADDED event Pulled x1")
	})
}

func TestNoRequestAsksForInitialEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		h.start(podwatch.Options{})
		h.cluster.Compact()
		h.create("a")
		h.cluster.DropWatches(nil)
		settle(15 * time.Minute)
		if len(h.cluster.Requests()) < 6 {
			t.Fatalf("only %d requests", len(h.cluster.Requests()))
		}
		for _, r := range h.cluster.Requests() {
			if r.Query.Has("sendInitialEvents") {
				t.Errorf("%s %s asks for initial events", r.Method, r.Path)
			}
		}
	})
}

func TestOneListAndWatchServesAnyNumberOfPods(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		var rs [50]recorder
		for i := range rs {
			tr := h.follow(w, podName(i), &rs[i])
			tr.Created(h.create(podName(i)))
		}
		settle(time.Minute)
		for i := range rs {
			rs[i].want(t, "ADDED pod")
		}
		for _, x := range []struct{ verb, resource string }{{"list", "pods"}, {"watch", "pods"}, {"list", "events"}, {"watch", "events"}} {
			if n := h.requests(x.verb, x.resource); n != 1 {
				t.Errorf("%d requests to %s %s, want 1", n, x.verb, x.resource)
			}
		}
		if n := h.requests("get", "pods"); n != 0 {
			t.Errorf("%d live GETs, want none", n)
		}
	})
}

func podName(i int) string { return "pod-" + string(rune('a'+i/26)) + string(rune('a'+i%26)) }

func TestAPodReplacedUnderItsNameWhileTheWatchIsDownEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		h.follow(w, "a", &r)
		h.create("a")
		h.label("a", "1")
		r.want(t, "ADDED pod", "MODIFIED pod 1")
		h.whileDown(func() {
			h.delete("a")
			h.create("a")
			h.label("a", "2")
			h.cluster.Compact() // the watch cannot resume: one update from UID to UID
		})
		r.want(t, "ERROR Stale", "DELETED pod 1", "ERROR Fresh")
	})
}
