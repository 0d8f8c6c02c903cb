package podwatch_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/podwatch"
)

// makeLeftover makes a pod of the name that somebody else left behind, with an
// Event, and brings it into one of the states that a leftover may be found in.
func (h *harness) makeLeftover(name, state string) {
	h.t.Helper()
	p := pod(name)
	p.Labels["v"] = "leftover"
	p.Spec.NodeName = "nobody"
	p = h.make(p)
	h.event(p, "of-leftover", "OfTheLeftover")
	switch state {
	case "ended":
		p.Status.Phase = corev1.PodFailed
	case "running":
		p.Status.Phase = corev1.PodRunning
	case "being deleted":
		h.deleteGracefully(name)
		return
	}
	if _, err := h.client.CoreV1().Pods(ns).UpdateStatus(h.t.Context(), p, metav1.UpdateOptions{}); err != nil {
		h.t.Fatal(err)
	}
}

// overInformers is a watcher over informers of a host, which run.
func (h *harness) overInformers(t *testing.T) *podwatch.Watcher {
	t.Helper()
	f := informers.NewSharedInformerFactory(h.client, 0)
	w, err := podwatch.FromInformers(h.client, f.Core().V1().Pods().Informer(), f.Core().V1().Events().Informer(),
		podwatch.Options{Notify: h.notices.take})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	f.Start(done)
	t.Cleanup(func() {
		close(done)
		f.Shutdown()
	})
	h.run(w)
	h.sync(w)
	return w
}

// ofPods returns what the handler heard of pods and Events, and leaves out what the
// watch said of itself.
func (r *recorder) ofPods() []string {
	return slices.DeleteFunc(r.heard(), func(l string) bool { return strings.HasPrefix(l, "ERROR ") })
}

// checkLife checks that a handler heard of the life of its own pod, from Added to
// the Deleted of its last state, of the Event about it, and of nothing else but the
// watch itself.
func (r *recorder) checkLife(t *testing.T) {
	t.Helper()
	heard := r.ofPods()
	pods := slices.DeleteFunc(slices.Clone(heard), func(l string) bool { return strings.Contains(l, " event ") })
	count := func(prefix string) (n int) {
		for _, l := range heard {
			if strings.HasPrefix(l, prefix) {
				n++
			}
		}
		return n
	}
	switch {
	case strings.Contains(strings.ToLower(strings.Join(heard, "\n")), "leftover"):
		t.Errorf("the handler heard of the leftover: %q", heard)
	case len(pods) < 2 || !strings.HasPrefix(heard[0], "ADDED pod") || pods[len(pods)-1] != "DELETED pod last":
		t.Errorf("the handler heard %q; want Added first and the Deleted of the last state at the end", heard)
	case count("ADDED pod") != 1 || count("DELETED pod") != 1 || count("ADDED event Mine") != 1:
		t.Errorf("the handler heard %q; want one Added, one Deleted and one Event", heard)
	}
}

func TestNothingOfALeftoverReachesTheHandlersAndAllOfTheirOwnPodDoes(t *testing.T) {
	type script struct {
		source, state, track, link, created string
	}
	var scripts []script
	for _, source := range []string{"own informers", "a host's informers"} {
		for _, state := range []string{"ended", "running", "being deleted"} {
			for _, track := range []string{"before the leftover", "after the leftover", "before Run"} {
				for _, link := range []string{"watched", "watch resumes", "watch lists again"} {
					for _, created := range []string{"at once", "when the watch has shown all", "when the pod has changed", "when the pod is gone"} {
						if track != "before Run" || source == "own informers" {
							scripts = append(scripts, script{source, state, track, link, created})
						}
					}
				}
			}
		}
	}
	for _, c := range scripts {
		t.Run(fmt.Sprintf("%s/%s/tracked %s/%s/created %s", c.source, c.state, c.track, c.link, c.created), func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				var w *podwatch.Watcher
				var r recorder
				var tr *podwatch.Tracking
				switch {
				case c.track == "before Run":
					w = h.watcher(podwatch.Options{LabelSelector: "app=ci"})
					tr = h.track(w, "a", &r)
					h.run(w)
				case c.source == "own informers":
					w, _ = h.start(podwatch.Options{LabelSelector: "app=ci"})
				default:
					w = h.overInformers(t)
				}
				settle(2 * time.Second) // client-go complains of watches that end at once
				if c.track == "before the leftover" {
					tr = h.track(w, "a", &r)
				}
				replace := func() (mine *corev1.Pod) {
					h.delete("a")
					mine = h.make(pod("a"))
					if c.created == "at once" {
						tr.Created(mine)
					}
					h.event(mine, "of-mine", "Mine")
					return mine
				}
				var mine *corev1.Pod
				begin := func() {
					h.makeLeftover("a", c.state)
					settle(time.Second)
					if c.track == "after the leftover" {
						tr = h.track(w, "a", &r)
					}
				}
				if c.link == "watched" {
					begin()
					settle(time.Minute)
					if tr.Pod() != nil {
						t.Error("Pod speaks of the leftover")
					}
					mine = replace()
				} else {
					if c.track == "after the leftover" {
						begin() // it is in the cache
					}
					h.whileDown(func() {
						if c.track != "after the leftover" {
							begin() // it comes after Created's answer, or never
						}
						mine = replace()
						if c.link == "watch lists again" {
							h.cluster.Compact()
						}
					})
					settle(time.Minute) // a host's informers come back late
				}
				settle(time.Second)
				if c.created == "when the watch has shown all" {
					tr.Created(mine)
				}
				h.label("a", "last")
				settle(time.Second)
				if c.created == "when the pod has changed" {
					tr.Created(mine)
				}
				if c.created != "when the pod is gone" && (tr.Pod() == nil || tr.Pod().Labels["v"] != "last") {
					t.Error("Pod is not the newest version of the created one")
				}
				h.delete("a")
				settle(time.Minute)
				if c.created == "when the pod is gone" {
					tr.Created(mine)
				}
				settle(time.Minute)
				if tr.Pod() == nil || tr.Pod().UID != mine.UID {
					t.Error("Pod is not the last state of the created one")
				}
				r.checkLife(t)
				if n := h.requests("get", "pods"); n != 0 {
					t.Errorf("%d live GETs, want none: the watch told all", n)
				}
			})
		})
	}
}

// While a watch is down a pod may come and go, or leave the selector, before
// Created names it.
func TestCreatedOfAPodThatIsNoLongerThereTellsItsEnd(t *testing.T) {
	missed := func(do func(h *harness)) func(h *harness) {
		return func(h *harness) {
			h.whileDown(func() {
				do(h)
				h.cluster.Compact()
			})
		}
	}
	remove := func(h *harness) { h.delete("a") }
	replace := func(h *harness) { h.delete("a"); h.leftover("a") }
	leave := func(h *harness) { h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`) }
	for name, c := range map[string]struct {
		meanwhile func(h *harness)
		want      []string
		gets      int
	}{
		"deleted":                         {remove, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"deleted unseen":                  {missed(remove), []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 1},
		"replaced":                        {replace, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"replaced unseen":                 {missed(replace), []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"replaced again and again":        {func(h *harness) { replace(h); replace(h); replace(h) }, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"out of the selector":             {leave, []string{"ADDED pod 1", "ADDED event Mine x1", "ERROR OutOfScope"}, 1},
		"out of the selector, unseen":     {missed(leave), []string{"ADDED pod 1", "ADDED event Mine x1", "ERROR OutOfScope"}, 1},
		"out of the selector, back, gone": {func(h *harness) { leave(h); h.patch("a", `{"metadata":{"labels":{"app":"ci"}}}`); remove(h) }, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"deleted, after many others of it": {func(h *harness) {
			remove(h)
			for range 20 {
				h.leftover("a")
				h.delete("a")
			}
		}, []string{"ADDED pod", "ADDED event Mine x1", "DELETED pod"}, 1},
		"out of the selector, and replaced": {func(h *harness) { leave(h); h.delete("a"); h.leftover("a") }, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
				var r recorder
				tr := h.track(w, "a", &r)
				mine := h.leftover("a")
				h.event(mine, "of-mine", "Mine")
				h.label("a", "1")
				c.meanwhile(h)
				for _, l := range r.heard() {
					if l != "ERROR Stale" && l != "ERROR Fresh" {
						t.Errorf("the handler heard %q before Created", l)
					}
				}
				tr.Created(mine)
				h.leftover("other") // the cache moves on
				settle(time.Minute)
				r.want(t, c.want...)
				if n := h.requests("get", "pods"); n != c.gets {
					t.Errorf("%d live GETs, want %d", n, c.gets)
				}
			})
		})
	}
}

func TestOfTheVersionsThatCreatedAndTheWatchKnowTheNewestComesAndNoneTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var older, same, newer recorder
		trOlder, trSame, trNewer := h.track(w, "a", &older), h.track(w, "a", &same), h.track(w, "a", &newer)
		first := h.leftover("a")
		second := h.label("a", "2")
		trOlder.Created(first)
		trSame.Created(second)
		h.whileDown(func() {
			trNewer.Created(h.label("a", "4")) // a patch's answer, say
			if got := trNewer.Pod().Labels["v"]; got != "4" {
				t.Errorf("Pod is at %q, want what Created knows", got)
			}
		})
		h.label("a", "5")
		older.want(t, "ADDED pod 2", "ERROR Stale", "MODIFIED pod 4", "ERROR Fresh", "MODIFIED pod 5")
		same.want(t, "ADDED pod 2", "ERROR Stale", "MODIFIED pod 4", "ERROR Fresh", "MODIFIED pod 5")
		newer.want(t, "ERROR Stale", "ADDED pod 4", "ERROR Fresh", "MODIFIED pod 5")
	})
}

func TestAPodWhoseNameTheServerMakesUpIsTrackedByWhatCreateReturned(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		p := pod("")
		p.GenerateName = "build-"
		p = h.make(p)
		var r recorder
		tr := h.trackPod(w, p, &r)
		r.want(t, "ADDED pod")
		h.label(p.Name, "1")
		r.want(t, "MODIFIED pod 1")
		h.delete(p.Name)
		r.want(t, "MODIFIED pod 1", "DELETED pod 1")
		if tr.Pod().UID != p.UID {
			t.Error("Pod speaks of another pod")
		}
	})
}

func TestTrackPodSpeaksOfThatPodAlone(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(h *harness, p *corev1.Pod)
		want      []string
	}{
		"it is there":          {func(*harness, *corev1.Pod) {}, []string{"ADDED pod"}},
		"it has changed":       {func(h *harness, _ *corev1.Pod) { h.label("a", "1") }, []string{"ADDED pod 1"}},
		"it is gone":           {func(h *harness, _ *corev1.Pod) { h.delete("a") }, []string{"ADDED pod", "DELETED pod"}},
		"it has been replaced": {func(h *harness, _ *corev1.Pod) { h.delete("a"); h.leftover("a") }, []string{"ADDED pod", "DELETED pod"}},
		"it has left":          {func(h *harness, _ *corev1.Pod) { h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`) }, []string{"ADDED pod", "ERROR OutOfScope"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
				p := h.leftover("a")
				c.meanwhile(h, p)
				var r recorder
				h.trackPod(w, p, &r)
				h.leftover("other") // the cache moves on
				settle(time.Minute)
				r.want(t, c.want...)
			})
		})
	}
}

func TestTwoTrackingsOfANameEachSpeakOfTheirOwnPod(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		old := h.leftover("a")
		var first, second recorder
		h.trackPod(w, old, &first)
		next := h.track(w, "a", &second)
		h.delete("a")
		next.Created(h.leftover("a"))
		first.want(t, "ADDED pod", "MODIFIED pod", "DELETED pod")
		second.want(t, "ADDED pod")
	})
}

func TestAPodThatNobodyClaimsIsToldOf(t *testing.T) {
	for name, c := range map[string]struct {
		then func(h *harness, tr *podwatch.Tracking, p *corev1.Pod)
		want []string
	}{
		"nothing follows": {func(*harness, *podwatch.Tracking, *corev1.Pod) { settle(time.Hour) }, nil},
		"it is claimed":   {func(_ *harness, tr *podwatch.Tracking, p *corev1.Pod) { tr.Created(p) }, []string{"settled pods default/a"}},
		"it is deleted":   {func(h *harness, _ *podwatch.Tracking, _ *corev1.Pod) { h.delete("a") }, []string{"settled pods default/a"}},
		"another comes": {
			func(h *harness, _ *podwatch.Tracking, _ *corev1.Pod) {
				h.delete("a")
				h.leftover("a")
				settle(time.Hour)
			},
			[]string{"settled pods default/a", "unclaimed pods default/a"},
		},
		"nobody cares": {func(_ *harness, tr *podwatch.Tracking, _ *corev1.Pod) { tr.Close() }, []string{"settled pods default/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				w, _ := h.start(podwatch.Options{})
				tr := h.track(w, "a")
				settle(time.Hour)
				h.notices.want(t) // there is nothing to claim
				p := h.leftover("a")
				settle(29 * time.Second)
				h.label("a", "1")
				h.notices.want(t)
				settle(2 * time.Second)
				h.notices.want(t, "unclaimed pods default/a")
				if err := h.notices.lastError(); err == nil || !strings.Contains(err.Error(), string(p.UID)) {
					t.Errorf("the notice says %v, want the pod's UID", err)
				}
				c.then(h, tr, p)
				h.notices.want(t, c.want...)
			})
		})
	}
}

func TestAPodThatIsClaimedInTimeIsNotToldOf(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		tr := h.track(w, "a")
		p := h.leftover("a")
		settle(20 * time.Second)
		tr.Created(p)
		closed := h.track(w, "a")
		settle(20 * time.Second)
		closed.Close()
		settle(time.Hour)
		h.notices.want(t)
	})
}

func TestConfirmBeforeCreatedTakesNoPodForTheOneThatIsMeant(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		tr := h.track(w, "a")
		if life, err := tr.Confirm(t.Context()); life != podwatch.Gone || err != nil {
			t.Errorf("no pod has the name: Confirm says %v, %v; want Gone", life, err)
		}
		p := h.leftover("a")
		if life, err := tr.Confirm(t.Context()); life != podwatch.Unknown || err == nil || !strings.Contains(err.Error(), string(p.UID)) {
			t.Errorf("some pod has the name: Confirm says %v, %v; want Unknown and which pod it is", life, err)
		}
		tr.Created(p)
		if life, err := tr.Confirm(t.Context()); life != podwatch.Alive || err != nil {
			t.Errorf("Created named the pod: Confirm says %v, %v; want Alive", life, err)
		}
	})
}

// A host may track the builds that it creates and have OnPod find the others.
func TestOnPodIsNotAskedAboutAPodThatATrackingMayYetClaim(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		var asked []string
		var found recorder
		w, _ := h.start(podwatch.Options{OnPod: func(p *corev1.Pod) []podwatch.Handler {
			asked = append(asked, p.Name+p.Labels["v"])
			return []podwatch.Handler{&found}
		}})
		var r recorder
		tr := h.track(w, "a", &r)
		h.leftover("a")
		h.delete("a")
		tr.Created(h.leftover("a"))
		r.want(t, "ADDED pod")
		h.label("a", "1")
		r.want(t, "MODIFIED pod 1")
		abandoned := h.track(w, "b")
		h.leftover("b")
		abandoned.Close()
		h.label("b", "2")
		found.want(t, "ADDED pod 2")
		if !slices.Equal(asked, []string{"b2"}) {
			t.Errorf("OnPod was asked about %q, want the pod that nobody claimed, at its next version", asked)
		}
	})
}

func TestATrackingOfOnPodHearsOfThatPodAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		heard := map[string]*recorder{}
		w, _ := h.start(podwatch.Options{OnPod: func(p *corev1.Pod) []podwatch.Handler {
			r := &recorder{}
			heard[string(p.UID)] = r
			return []podwatch.Handler{r}
		}})
		first := h.leftover("a")
		second := func() (p *corev1.Pod) {
			h.whileDown(func() {
				h.delete("a")
				p = h.make(pod("a"))
				h.cluster.Compact()
			})
			return p
		}()
		h.label("a", "1")
		if l := heard[string(first.UID)].ofPods(); !slices.Equal(l, []string{"ADDED pod", "DELETED pod"}) {
			t.Errorf("the first pod's handler heard %q", l)
		}
		if r := heard[string(second.UID)]; r == nil {
			t.Error("OnPod was not asked about the second pod")
		} else if l := r.ofPods(); !slices.Equal(l, []string{"ADDED pod", "MODIFIED pod 1"}) {
			t.Errorf("the second pod's handler heard %q", l)
		}
		if n := w.Stats().Tracked; n != 1 {
			t.Errorf("%d trackings, want one", n)
		}
	})
}

func TestTheUnclaimedPodsDoNotPileUp(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		var r recorder
		tr := h.track(w, "a", &r)
		var pods []*corev1.Pod
		for i := range 100 {
			pods = append(pods, h.leftover("a"))
			h.label("a", fmt.Sprint(i))
			h.delete("a")
		}
		tr.Created(pods[99])
		r.want(t, "ADDED pod 99", "DELETED pod 99")
		tr = h.track(w, "a", &r)
		for range 100 {
			pods = append(pods, h.leftover("a"))
			h.delete("a")
		}
		tr.Created(pods[100]) // forgotten: the API server is asked
		h.leftover("other")
		settle(time.Minute)
		r.want(t, "ADDED pod", "DELETED pod")
	})
}

func TestARefusedLiveGetIsSaidOnceUntilOneSucceeds(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		tr := h.trackPod(w, h.leftover("a"))
		h.answer(isGet, testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden})
		for range 3 {
			if _, err := tr.Confirm(t.Context()); !apierrors.IsForbidden(err) {
				t.Errorf("Confirm: %v", err)
			}
		}
		h.notices.want(t, "forbidden pods default/a")
		h.cluster.Fault(nil)
		for range 3 {
			if _, err := tr.Confirm(t.Context()); err != nil {
				t.Error(err)
			}
		}
		h.notices.want(t, "granted pods default/a")
	})
}
