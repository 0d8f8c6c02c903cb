package podwatch_test

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/podwatch"
)

// isGet tells a live GET of a pod from lists and watches.
func isGet(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/pods/")
}

func TestCreatedForAPodMadeAnewEndsTheEarlierOneAndHearsNoMoreOfIt(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		h.create("a")
		stale := h.label("a", "stale")
		w, _ := h.start(podwatch.Options{})
		var r recorder
		tr := h.trackPod(w, stale, &r)
		r.want(t, "ADDED pod stale")
		h.whileDown(func() {
			h.delete("a")
			tr.Created(h.create("a"))
			r.want(t, "ERROR Stale", "DELETED pod stale", "ADDED pod")
			h.label("a", "mine")
		})
		r.want(t, "MODIFIED pod mine", "ERROR Fresh")
	})
}

func TestAStalePodInTheCacheAnswersNothingOnceThePodIsCreated(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		stale := h.create("a")
		w, _ := h.start(podwatch.Options{})
		h.whileDown(func() {
			h.delete("a")
			p := h.create("a")
			var r recorder
			tr := h.track(w, "a", &r)
			r.want(t, "ERROR Stale")
			tr.Created(p)
			r.want(t, "ADDED pod")
			if tr.Pod().UID != p.UID || tr.Pod().UID == stale.UID {
				t.Error("Pod speaks of the stale pod")
			}
		})
	})
}

func TestAVersionIsNotDeliveredTwiceWhicheverOfCreateAndWatchIsFaster(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var fast, slow recorder
		first := h.follow(w, "fast", &fast)
		p := h.hurry("fast")
		first.Created(p) // the watch has not been read yet
		fast.want(t, "ADDED pod")
		second := h.track(w, "slow", &slow)
		p = h.leftover("slow")
		h.label("slow", "1")
		slow.want(t)
		second.Created(p) // older than what the watch has shown
		slow.want(t, "ADDED pod 1")
		h.relist() // brings every version again
		for _, r := range []*recorder{&fast, &slow} {
			for _, l := range r.heard() {
				if strings.Contains(l, "pod") {
					t.Errorf("a relist delivered %q again", l)
				}
			}
		}
		if w.Stats().Repeats == 0 {
			t.Error("no repetition was counted: the relist did not happen")
		}
	})
}

func TestAPodThatCameAndWentWhileTheWatchWasDownIsFoundGone(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		var r recorder
		tr := h.follow(w, "a", &r)
		h.whileDown(func() {
			tr.Created(h.create("a"))
			h.delete("a")
			h.cluster.Compact()
		})
		r.want(t, "ERROR Stale", "ADDED pod", "DELETED pod", "ERROR Fresh")
		if n := h.requests("get", "pods"); n != 1 {
			t.Errorf("%d live GETs, want one", n)
		}
		settle(time.Hour)
		r.want(t)
		if n := h.requests("get", "pods"); n != 1 {
			t.Errorf("%d live GETs an hour later, want one", n)
		}
	})
}

func TestAReplacementIsNotFollowedOnceThePodIsPinned(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var pinned recorder
		tr := h.track(w, "a", &pinned)
		p := h.create("a")
		tr.Created(p)
		pinned.want(t, "ADDED pod")
		h.delete("a")
		pinned.want(t, "MODIFIED pod", "DELETED pod")
		h.create("a")
		h.label("a", "another")
		tr.Created(p)
		pinned.want(t)
		if tr.Pod().UID != p.UID {
			t.Error("Pod speaks of another pod")
		}
	})
}

func TestAPodReplacedBeforeItWasEverSeenIsFoundGone(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		tr := h.follow(w, "a", &r)
		h.whileDown(func() {
			tr.Created(h.create("a"))
			h.delete("a")
			h.create("a")
			h.cluster.Compact()
		})
		r.want(t, "ERROR Stale", "ADDED pod", "DELETED pod", "ERROR Fresh")
	})
}

func TestAPodMadeAnewUnderTheNameIsFollowedAfterASecondCreated(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		tr := h.follow(w, "a", &r)
		tr.Created(h.create("a"))
		h.delete("a")
		r.want(t, "ADDED pod", "MODIFIED pod", "DELETED pod")
		tr.Created(h.create("a"))
		r.want(t, "ADDED pod") // taken, else the next version would replace it in the mailbox
		h.label("a", "second")
		r.want(t, "MODIFIED pod second")
	})
}

// An answer of Create that comes late is of a pod that is gone by then.
func TestCreatedOfAnOlderPodThanTheOneThatIsTrackedChangesNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		tr := h.track(w, "a", &r)
		old := h.leftover("a")
		h.delete("a")
		tr.Created(h.leftover("a"))
		r.want(t, "ADDED pod")
		tr.Created(old)
		h.label("a", "mine")
		r.want(t, "MODIFIED pod mine")
		h.delete("a")
		r.want(t, "MODIFIED pod mine", "DELETED pod mine")
		tr.Created(old)
		r.want(t)
	})
}

func TestADeletionCarriesTheLastStateAndNeedsNoLiveGet(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		var r recorder
		h.follow(w, "a", &r)
		p := h.create("a")
		r.want(t, "ADDED pod")
		h.delete("a")
		r.want(t, "MODIFIED pod", "DELETED pod")
		if got := r.last().Object.(*corev1.Pod); got.UID != p.UID || got.DeletionTimestamp == nil {
			t.Errorf("Deleted carries %v", got.ObjectMeta)
		}
		if n := h.requests("get", "pods"); n != 0 {
			t.Errorf("%d live GETs, want none", n)
		}
	})
}

func TestLeavingTheSelectorIsNotADeletion(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		var r recorder
		tr := h.follow(w, "a", &r)
		p := h.create("a")
		r.want(t, "ADDED pod")
		h.patch("a", `{"metadata":{"labels":{"app":"other"}}}`)
		r.want(t, "ERROR OutOfScope")
		s := r.last().Object.(*metav1.Status)
		if s.Details == nil || s.Details.UID != p.UID || s.Details.Name != "a" {
			t.Errorf("the status does not name the pod: %+v", s)
		}
		h.notices.want(t, "out-of-scope pods default/a")
		if n := h.requests("get", "pods"); n != 1 {
			t.Errorf("%d live GETs, want one", n)
		}
		h.patch("a", `{"metadata":{"labels":{"app":"ci","v":"back"}}}`)
		r.want(t, "MODIFIED pod back")
		h.delete("a")
		r.want(t, "MODIFIED pod back", "DELETED pod back")
		if life, err := tr.Confirm(t.Context()); life != podwatch.Gone || err != nil {
			t.Errorf("Confirm says %v, %v", life, err)
		}
		if got, want := w.Stats().Gets, uint64(h.requests("get", "pods")); got != want || got != 2 {
			t.Errorf("Stats counts %d live GETs, the API server %d; want 2", got, want)
		}
	})
}

// A pod that is being deleted has a deletionTimestamp too when it leaves the
// selector: its containers still run.
func TestLeavingTheSelectorWhileTerminatingIsNotADeletion(t *testing.T) {
	keep := map[string]func(*corev1.Pod) *corev1.Pod{
		"trimmed":          nil,
		"kept by the host": func(*corev1.Pod) *corev1.Pod { return &corev1.Pod{} },
	}
	for name, keep := range keep {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				w, _ := h.start(podwatch.Options{LabelSelector: "app=ci", Keep: keep})
				var r recorder
				h.follow(w, "a", &r)
				h.createScheduled("a")
				h.deleteGracefully("a")
				r.want(t, "ADDED pod", "MODIFIED pod")
				h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`)
				r.want(t, "ERROR OutOfScope")
				h.patch("a", `{"metadata":{"labels":{"app":"ci"}}}`)
				h.delete("a")
				r.want(t, "MODIFIED pod", "MODIFIED pod", "DELETED pod")
				if n := h.requests("get", "pods"); n != 1 {
					t.Errorf("%d live GETs, want one", n)
				}
			})
		})
	}
}

// createScheduled makes a pod on a node that nobody serves, so that it is not
// gone before somebody says that its containers are.
func (h *harness) createScheduled(name string) {
	h.t.Helper()
	p := pod(name)
	p.Spec.NodeName = "nobody"
	h.announce(h.make(p))
	synctest.Wait()
}

func (h *harness) deleteGracefully(name string) {
	h.t.Helper()
	if err := h.client.CoreV1().Pods(ns).Delete(h.t.Context(), name, metav1.DeleteOptions{}); err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
}

func TestAPodCreatedOutsideTheSelectorIsSaidToBeOutOfScopeAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "worker=me"})
		var r recorder
		tr := h.follow(w, "a", &r)
		tr.Created(h.create("a"))
		r.want(t, "ADDED pod", "ERROR OutOfScope")
	})
}

// A pod that is missing from a relist may have been deleted or may have left
// the selector; only the API server knows.
// What a pod does out of the scope nobody sees; who takes its name ends it.
func TestAPodThatEndsOutOfScopeEndsWhenAnotherTakesItsName(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		var r recorder
		tr := h.follow(w, "a", &r)
		h.create("a")
		h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`)
		r.want(t, "ADDED pod", "ERROR OutOfScope")
		h.delete("a")
		h.relist()
		for _, l := range r.heard() {
			if strings.Contains(l, "pod") {
				t.Errorf("heard %q of a pod out of scope", l)
			}
		}
		if life, err := tr.Confirm(t.Context()); life != podwatch.Gone || err != nil {
			t.Errorf("Confirm: %v, %v; want Gone", life, err)
		}
		h.create("a")
		r.want(t, "DELETED pod")
	})
}

func TestAPodMissingFromARelistIsAskedAboutOnce(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(h *harness)
		want      string
	}{
		"deleted":          {func(h *harness) { h.delete("a") }, "DELETED pod 1"},
		"replaced outside": {func(h *harness) { h.delete("a"); h.createOutside("a") }, "DELETED pod 1"},
		"left":             {func(h *harness) { h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`) }, "ERROR OutOfScope"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
				var r recorder
				h.follow(w, "a", &r)
				h.create("a")
				h.label("a", "1")
				r.want(t, "ADDED pod", "MODIFIED pod 1")
				h.whileDown(func() {
					c.meanwhile(h)
					h.cluster.Compact()
				})
				r.want(t, "ERROR Stale", c.want, "ERROR Fresh")
				if n := h.requests("get", "pods"); n != 1 {
					t.Errorf("%d live GETs, want one", n)
				}
			})
		})
	}
}

func (h *harness) createOutside(name string) {
	h.t.Helper()
	p := pod(name)
	p.Labels = nil
	h.make(p)
}

func TestALiveGetIsRepeatedUntilItIsAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		var r recorder
		h.follow(w, "a", &r)
		h.create("a")
		r.want(t, "ADDED pod")
		h.answer(isGet, testutil.Fault{Status: http.StatusInternalServerError, Reason: metav1.StatusReasonInternalError})
		h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`)
		settle(time.Hour)
		r.want(t)
		h.notices.want(t, "unconfirmed pods default/a")
		if n := h.requests("get", "pods"); n < 60 || n > 150 {
			t.Errorf("%d live GETs in an hour, want one in 30 s", n)
		}
		h.cluster.Fault(nil)
		settle(time.Minute)
		r.want(t, "ERROR OutOfScope")
	})
}

func TestWithoutThePermissionToGetTheWatchIsBelieved(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		var left, missed recorder
		h.follow(w, "left", &left)
		h.follow(w, "missed", &missed)
		h.create("left")
		h.create("missed")
		h.answer(isGet, testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden})
		h.patch("left", `{"metadata":{"labels":{"app":"x"}}}`)
		left.want(t, "ADDED pod", "ERROR OutOfScope")
		h.notices.want(t, "forbidden pods default/left", "out-of-scope pods default/left")
		h.whileDown(func() {
			h.patch("missed", `{"metadata":{"labels":{"app":"x"}}}`)
			h.cluster.Compact()
		})
		missed.want(t, "ADDED pod", "ERROR Stale", "DELETED pod", "ERROR Fresh")
		h.patch("missed", `{"metadata":{"labels":{"app":"ci"}}}`)
		missed.want(t) // its end was said, and stays so
	})
}

func TestConfirmIsOneLiveGetAndComparesTheUID(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, stop := h.start(podwatch.Options{})
		var r recorder
		tr := h.follow(w, "a", &r)
		confirm := func(want podwatch.Life) {
			t.Helper()
			if life, err := tr.Confirm(t.Context()); life != want || err != nil {
				t.Errorf("Confirm says %v, %v; want %v", life, err, want)
			}
		}
		confirm(podwatch.Gone)
		tr.Created(h.create("a"))
		confirm(podwatch.Alive)
		h.delete("a")
		confirm(podwatch.Gone)
		h.create("a")
		confirm(podwatch.Replaced)
		h.cluster.Fault(func(*http.Request) testutil.Fault {
			return testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden}
		})
		if life, err := tr.Confirm(t.Context()); life != podwatch.Unknown || !apierrors.IsForbidden(err) {
			t.Errorf("Confirm says %v, %v; want the API server's error", life, err)
		}
		if n := h.requests("get", "pods"); n != 5 {
			t.Errorf("%d live GETs, want 5", n)
		}
		h.cluster.Fault(nil)
		stop()
		confirm(podwatch.Replaced) // also after Run
	})
}

func TestCreatedWithAPodOfAnotherNameIsReportedAndIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		tr := h.follow(w, "a", &r)
		tr.Created(h.create("b"))
		tr.Created(nil)
		r.want(t)
		h.notices.want(t, "mismatch pods default/a")
		if tr.Pod() != nil {
			t.Error("Pod speaks of a pod of another name")
		}
	})
}
