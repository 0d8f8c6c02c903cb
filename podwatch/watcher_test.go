package podwatch_test

import (
	"testing"
	"time"

	"github.com/go-vela/podlife/podwatch"
)

func TestATrackingBegunBeforeThePodExistsHearsOfItsWholeLife(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, stop := b.start(podwatch.Options{Namespace: ns})
		var r recorder
		tr := b.follow(w, "a", &r)
		if tr.Pod() != nil {
			t.Error("Pod is not nil before there is one")
		}
		p := b.create("a")
		r.want(t, "ADDED pod")
		tr.Created(p)
		r.want(t)
		b.label("a", "1")
		r.want(t, "MODIFIED pod 1")
		b.event(p, "e1", "Pulled")
		r.want(t, "ADDED event Pulled x1")
		if got := tr.Pod().Labels["v"]; got != "1" {
			t.Errorf("Pod has version %q, want 1", got)
		}
		b.delete("a")
		r.want(t, "MODIFIED pod 1", "DELETED pod 1")
		if tr.Pod() == nil || tr.Pod().UID != p.UID {
			t.Error("Pod forgot the last state")
		}
		stop()
		r.want(t, "ERROR Closed")
	})
}

func TestALateTrackingBeginsWithTheNewestVersionAndTheEventsOfThatPod(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		old := b.create("a")
		b.event(old, "e0", "OfTheOldPod")
		b.delete("a")
		b.create("a")
		p := b.label("a", "1")
		b.event(p, "e1", "Pulling")
		b.event(p, "e2", "Pulled")
		w, _ := b.start(podwatch.Options{})
		settle(time.Second)
		var r recorder
		b.trackPod(w, p, &r)
		r.want(t, "ADDED pod 1", "ADDED event Pulling x1", "ADDED event Pulled x1")
	})
}

func TestEventsThatComeBeforeTheirPodAreHeldBackAndThoseOfAnEarlierPodNeverLeak(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{})
		var r recorder
		tr := b.follow(w, "a", &r)
		mine, old := pod("a"), pod("a")
		mine.UID, old.UID = "mine", "old"
		mine.ResourceVersion = "1000000"
		b.event(old, "e0", "OfTheOldPod")
		b.event(mine, "e1", "Scheduled")
		r.want(t)
		tr.Created(mine)
		r.want(t, "ADDED pod", "ADDED event Scheduled x1")
		b.event(old, "e3", "StillOfTheOldPod")
		b.event(mine, "e2", "Pulled")
		r.want(t, "ADDED event Pulled x1")
	})
}

func TestNoRequestAsksForInitialEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		b.start(podwatch.Options{})
		b.cluster.Compact()
		b.create("a")
		b.cluster.DropWatches(nil)
		settle(15 * time.Minute)
		if len(b.cluster.Requests()) < 6 {
			t.Fatalf("only %d requests", len(b.cluster.Requests()))
		}
		for _, r := range b.cluster.Requests() {
			if r.Query.Has("sendInitialEvents") {
				t.Errorf("%s %s asks for initial events", r.Method, r.Path)
			}
		}
	})
}

func TestOneListAndWatchServesAnyNumberOfPods(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{LabelSelector: "app=ci"})
		var rs [50]recorder
		for i := range rs {
			tr := b.follow(w, podName(i), &rs[i])
			tr.Created(b.create(podName(i)))
		}
		settle(time.Minute)
		for i := range rs {
			rs[i].want(t, "ADDED pod")
		}
		for _, x := range []struct{ verb, resource string }{{"list", "pods"}, {"watch", "pods"}, {"list", "events"}, {"watch", "events"}} {
			if n := b.requests(x.verb, x.resource); n != 1 {
				t.Errorf("%d requests to %s %s, want 1", n, x.verb, x.resource)
			}
		}
		if n := b.requests("get", "pods"); n != 0 {
			t.Errorf("%d live GETs, want none", n)
		}
	})
}

func podName(i int) string { return "pod-" + string(rune('a'+i/26)) + string(rune('a'+i%26)) }

func TestAPodReplacedUnderItsNameWhileTheWatchIsDownEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{})
		var r recorder
		b.follow(w, "a", &r)
		b.create("a")
		b.label("a", "1")
		r.want(t, "ADDED pod", "MODIFIED pod 1")
		b.whileDown(func() {
			b.delete("a")
			b.create("a")
			b.label("a", "2")
			b.cluster.Compact() // the watch cannot resume: one update from UID to UID
		})
		r.want(t, "ERROR Stale", "DELETED pod 1", "ERROR Fresh")
	})
}
