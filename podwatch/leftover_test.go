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
func (b *bench) makeLeftover(name, state string) {
	b.t.Helper()
	p := pod(name)
	p.Labels["v"] = "leftover"
	p.Spec.NodeName = "nobody"
	p = b.make(p)
	b.event(p, "of-leftover", "OfTheLeftover")
	switch state {
	case "ended":
		p.Status.Phase = corev1.PodFailed
	case "running":
		p.Status.Phase = corev1.PodRunning
	case "being deleted":
		b.deleteGracefully(name)
		return
	}
	if _, err := b.client.CoreV1().Pods(ns).UpdateStatus(b.t.Context(), p, metav1.UpdateOptions{}); err != nil {
		b.t.Fatal(err)
	}
}

// overInformers is a watcher over informers of a host, which run.
func (b *bench) overInformers(t *testing.T) *podwatch.Watcher {
	t.Helper()
	f := informers.NewSharedInformerFactory(b.client, 0)
	w, err := podwatch.FromInformers(b.client, f.Core().V1().Pods().Informer(), f.Core().V1().Events().Informer(),
		podwatch.Options{Notify: b.notices.take})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	f.Start(done)
	t.Cleanup(func() {
		close(done)
		f.Shutdown()
	})
	b.run(w)
	b.sync(w)
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
			inBubble(t, func(t *testing.T, b *bench) {
				var w *podwatch.Watcher
				var r recorder
				var tr *podwatch.Tracking
				switch {
				case c.track == "before Run":
					w = b.watcher(podwatch.Options{LabelSelector: "app=ci"})
					tr = b.track(w, "a", &r)
					b.run(w)
				case c.source == "own informers":
					w, _ = b.start(podwatch.Options{LabelSelector: "app=ci"})
				default:
					w = b.overInformers(t)
				}
				settle(2 * time.Second) // client-go complains of watches that end at once
				if c.track == "before the leftover" {
					tr = b.track(w, "a", &r)
				}
				replace := func() (mine *corev1.Pod) {
					b.delete("a")
					mine = b.make(pod("a"))
					if c.created == "at once" {
						tr.Created(mine)
					}
					b.event(mine, "of-mine", "Mine")
					return mine
				}
				var mine *corev1.Pod
				begin := func() {
					b.makeLeftover("a", c.state)
					settle(time.Second)
					if c.track == "after the leftover" {
						tr = b.track(w, "a", &r)
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
					b.whileDown(func() {
						if c.track != "after the leftover" {
							begin() // it comes after Created's answer, or never
						}
						mine = replace()
						if c.link == "watch lists again" {
							b.cluster.Compact()
						}
					})
					settle(time.Minute) // a host's informers come back late
				}
				settle(time.Second)
				if c.created == "when the watch has shown all" {
					tr.Created(mine)
				}
				b.label("a", "last")
				settle(time.Second)
				if c.created == "when the pod has changed" {
					tr.Created(mine)
				}
				if c.created != "when the pod is gone" && (tr.Pod() == nil || tr.Pod().Labels["v"] != "last") {
					t.Error("Pod is not the newest version of the created one")
				}
				b.delete("a")
				settle(time.Minute)
				if c.created == "when the pod is gone" {
					tr.Created(mine)
				}
				settle(time.Minute)
				if tr.Pod() == nil || tr.Pod().UID != mine.UID {
					t.Error("Pod is not the last state of the created one")
				}
				r.checkLife(t)
				if n := b.requests("get", "pods"); n != 0 {
					t.Errorf("%d live GETs, want none: the watch told all", n)
				}
			})
		})
	}
}

// While a watch is down a pod may come and go, or leave the selector, before
// Created names it.
func TestCreatedOfAPodThatIsNoLongerThereTellsItsEnd(t *testing.T) {
	missed := func(do func(b *bench)) func(b *bench) {
		return func(b *bench) {
			b.whileDown(func() {
				do(b)
				b.cluster.Compact()
			})
		}
	}
	remove := func(b *bench) { b.delete("a") }
	replace := func(b *bench) { b.delete("a"); b.leftover("a") }
	leave := func(b *bench) { b.patch("a", `{"metadata":{"labels":{"app":"x"}}}`) }
	for name, c := range map[string]struct {
		meanwhile func(b *bench)
		want      []string
		gets      int
	}{
		"deleted":                         {remove, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"deleted unseen":                  {missed(remove), []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 1},
		"replaced":                        {replace, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"replaced unseen":                 {missed(replace), []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"replaced again and again":        {func(b *bench) { replace(b); replace(b); replace(b) }, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"out of the selector":             {leave, []string{"ADDED pod 1", "ADDED event Mine x1", "ERROR OutOfScope"}, 1},
		"out of the selector, unseen":     {missed(leave), []string{"ADDED pod 1", "ADDED event Mine x1", "ERROR OutOfScope"}, 1},
		"out of the selector, back, gone": {func(b *bench) { leave(b); b.patch("a", `{"metadata":{"labels":{"app":"ci"}}}`); remove(b) }, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
		"deleted, after many others of it": {func(b *bench) {
			remove(b)
			for range 20 {
				b.leftover("a")
				b.delete("a")
			}
		}, []string{"ADDED pod", "ADDED event Mine x1", "DELETED pod"}, 1},
		"out of the selector, and replaced": {func(b *bench) { leave(b); b.delete("a"); b.leftover("a") }, []string{"ADDED pod 1", "ADDED event Mine x1", "DELETED pod 1"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				w, _ := b.start(podwatch.Options{LabelSelector: "app=ci"})
				var r recorder
				tr := b.track(w, "a", &r)
				mine := b.leftover("a")
				b.event(mine, "of-mine", "Mine")
				b.label("a", "1")
				c.meanwhile(b)
				for _, l := range r.heard() {
					if l != "ERROR Stale" && l != "ERROR Fresh" {
						t.Errorf("the handler heard %q before Created", l)
					}
				}
				tr.Created(mine)
				b.leftover("other") // the cache moves on
				settle(time.Minute)
				r.want(t, c.want...)
				if n := b.requests("get", "pods"); n != c.gets {
					t.Errorf("%d live GETs, want %d", n, c.gets)
				}
			})
		})
	}
}

func TestOfTheVersionsThatCreatedAndTheWatchKnowTheNewestComesAndNoneTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{})
		var older, same, newer recorder
		trOlder, trSame, trNewer := b.track(w, "a", &older), b.track(w, "a", &same), b.track(w, "a", &newer)
		first := b.leftover("a")
		second := b.label("a", "2")
		trOlder.Created(first)
		trSame.Created(second)
		b.whileDown(func() {
			trNewer.Created(b.label("a", "4")) // a patch's answer, say
			if got := trNewer.Pod().Labels["v"]; got != "4" {
				t.Errorf("Pod is at %q, want what Created knows", got)
			}
		})
		b.label("a", "5")
		older.want(t, "ADDED pod 2", "ERROR Stale", "MODIFIED pod 4", "ERROR Fresh", "MODIFIED pod 5")
		same.want(t, "ADDED pod 2", "ERROR Stale", "MODIFIED pod 4", "ERROR Fresh", "MODIFIED pod 5")
		newer.want(t, "ERROR Stale", "ADDED pod 4", "ERROR Fresh", "MODIFIED pod 5")
	})
}

func TestAPodWhoseNameTheServerMakesUpIsTrackedByWhatCreateReturned(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{})
		p := pod("")
		p.GenerateName = "build-"
		p = b.make(p)
		var r recorder
		tr := b.trackPod(w, p, &r)
		r.want(t, "ADDED pod")
		b.label(p.Name, "1")
		r.want(t, "MODIFIED pod 1")
		b.delete(p.Name)
		r.want(t, "MODIFIED pod 1", "DELETED pod 1")
		if tr.Pod().UID != p.UID {
			t.Error("Pod speaks of another pod")
		}
	})
}

func TestTrackPodSpeaksOfThatPodAlone(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(b *bench, p *corev1.Pod)
		want      []string
	}{
		"it is there":          {func(*bench, *corev1.Pod) {}, []string{"ADDED pod"}},
		"it has changed":       {func(b *bench, _ *corev1.Pod) { b.label("a", "1") }, []string{"ADDED pod 1"}},
		"it is gone":           {func(b *bench, _ *corev1.Pod) { b.delete("a") }, []string{"ADDED pod", "DELETED pod"}},
		"it has been replaced": {func(b *bench, _ *corev1.Pod) { b.delete("a"); b.leftover("a") }, []string{"ADDED pod", "DELETED pod"}},
		"it has left":          {func(b *bench, _ *corev1.Pod) { b.patch("a", `{"metadata":{"labels":{"app":"x"}}}`) }, []string{"ADDED pod", "ERROR OutOfScope"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				w, _ := b.start(podwatch.Options{LabelSelector: "app=ci"})
				p := b.leftover("a")
				c.meanwhile(b, p)
				var r recorder
				b.trackPod(w, p, &r)
				b.leftover("other") // the cache moves on
				settle(time.Minute)
				r.want(t, c.want...)
			})
		})
	}
}

func TestTwoTrackingsOfANameEachSpeakOfTheirOwnPod(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{})
		old := b.leftover("a")
		var first, second recorder
		b.trackPod(w, old, &first)
		next := b.track(w, "a", &second)
		b.delete("a")
		next.Created(b.leftover("a"))
		first.want(t, "ADDED pod", "MODIFIED pod", "DELETED pod")
		second.want(t, "ADDED pod")
	})
}

func TestAPodThatNobodyClaimsIsToldOf(t *testing.T) {
	for name, c := range map[string]struct {
		then func(b *bench, tr *podwatch.Tracking, p *corev1.Pod)
		want []string
	}{
		"nothing follows": {func(*bench, *podwatch.Tracking, *corev1.Pod) { settle(time.Hour) }, nil},
		"it is claimed":   {func(_ *bench, tr *podwatch.Tracking, p *corev1.Pod) { tr.Created(p) }, []string{"settled pods default/a"}},
		"it is deleted":   {func(b *bench, _ *podwatch.Tracking, _ *corev1.Pod) { b.delete("a") }, []string{"settled pods default/a"}},
		"another comes": {
			func(b *bench, _ *podwatch.Tracking, _ *corev1.Pod) { b.delete("a"); b.leftover("a"); settle(time.Hour) },
			[]string{"settled pods default/a", "unclaimed pods default/a"},
		},
		"nobody cares": {func(_ *bench, tr *podwatch.Tracking, _ *corev1.Pod) { tr.Close() }, []string{"settled pods default/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, b *bench) {
				w, _ := b.start(podwatch.Options{})
				tr := b.track(w, "a")
				settle(time.Hour)
				b.notices.want(t) // there is nothing to claim
				p := b.leftover("a")
				settle(29 * time.Second)
				b.label("a", "1")
				b.notices.want(t)
				settle(2 * time.Second)
				b.notices.want(t, "unclaimed pods default/a")
				if err := b.notices.lastError(); err == nil || !strings.Contains(err.Error(), string(p.UID)) {
					t.Errorf("the notice says %v, want the pod's UID", err)
				}
				c.then(b, tr, p)
				b.notices.want(t, c.want...)
			})
		})
	}
}

func TestAPodThatIsClaimedInTimeIsNotToldOf(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{})
		tr := b.track(w, "a")
		p := b.leftover("a")
		settle(20 * time.Second)
		tr.Created(p)
		closed := b.track(w, "a")
		settle(20 * time.Second)
		closed.Close()
		settle(time.Hour)
		b.notices.want(t)
	})
}

func TestConfirmBeforeCreatedTakesNoPodForTheOneThatIsMeant(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{})
		tr := b.track(w, "a")
		if life, err := tr.Confirm(t.Context()); life != podwatch.Gone || err != nil {
			t.Errorf("no pod has the name: Confirm says %v, %v; want Gone", life, err)
		}
		p := b.leftover("a")
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
	inBubble(t, func(t *testing.T, b *bench) {
		var asked []string
		var found recorder
		w, _ := b.start(podwatch.Options{OnPod: func(p *corev1.Pod) []podwatch.Handler {
			asked = append(asked, p.Name+p.Labels["v"])
			return []podwatch.Handler{&found}
		}})
		var r recorder
		tr := b.track(w, "a", &r)
		b.leftover("a")
		b.delete("a")
		tr.Created(b.leftover("a"))
		r.want(t, "ADDED pod")
		b.label("a", "1")
		r.want(t, "MODIFIED pod 1")
		abandoned := b.track(w, "b")
		b.leftover("b")
		abandoned.Close()
		b.label("b", "2")
		found.want(t, "ADDED pod 2")
		if !slices.Equal(asked, []string{"b2"}) {
			t.Errorf("OnPod was asked about %q, want the pod that nobody claimed, at its next version", asked)
		}
	})
}

func TestATrackingOfOnPodHearsOfThatPodAlone(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		heard := map[string]*recorder{}
		w, _ := b.start(podwatch.Options{OnPod: func(p *corev1.Pod) []podwatch.Handler {
			r := &recorder{}
			heard[string(p.UID)] = r
			return []podwatch.Handler{r}
		}})
		first := b.leftover("a")
		second := func() (p *corev1.Pod) {
			b.whileDown(func() {
				b.delete("a")
				p = b.make(pod("a"))
				b.cluster.Compact()
			})
			return p
		}()
		b.label("a", "1")
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
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{})
		var r recorder
		tr := b.track(w, "a", &r)
		var pods []*corev1.Pod
		for i := range 100 {
			pods = append(pods, b.leftover("a"))
			b.label("a", fmt.Sprint(i))
			b.delete("a")
		}
		tr.Created(pods[99])
		r.want(t, "ADDED pod 99", "DELETED pod 99")
		tr = b.track(w, "a", &r)
		for range 100 {
			pods = append(pods, b.leftover("a"))
			b.delete("a")
		}
		tr.Created(pods[100]) // forgotten: the API server is asked
		b.leftover("other")
		settle(time.Minute)
		r.want(t, "ADDED pod", "DELETED pod")
	})
}

func TestARefusedLiveGetIsSaidOnceUntilOneSucceeds(t *testing.T) {
	inBubble(t, func(t *testing.T, b *bench) {
		w, _ := b.start(podwatch.Options{})
		tr := b.trackPod(w, b.leftover("a"))
		b.answer(isGet, testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden})
		for range 3 {
			if _, err := tr.Confirm(t.Context()); !apierrors.IsForbidden(err) {
				t.Errorf("Confirm: %v", err)
			}
		}
		b.notices.want(t, "forbidden pods default/a")
		b.cluster.Fault(nil)
		for range 3 {
			if _, err := tr.Confirm(t.Context()); err != nil {
				t.Error(err)
			}
		}
		b.notices.want(t, "granted pods default/a")
	})
}
