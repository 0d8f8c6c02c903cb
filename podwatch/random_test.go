package podwatch_test

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/podwatch"
)

var seedFlag = flag.Uint64("seed", 0, "the random trial of this seed alone; 0: some fixed ones, and one by the clock")

func seeds() []uint64 {
	if *seedFlag != 0 {
		return []uint64{*seedFlag}
	}
	return []uint64{0, 1, 2, 3, 4, rand.Uint64()}
}

// auditor is a Handler that checks what every handler is promised.
type auditor struct {
	t     *testing.T
	pause func() time.Duration

	mu       sync.Mutex
	allowed  map[types.UID]bool // those that Created named
	current  types.UID          // Added and not Deleted
	v        string             // label of the newest version
	ended    map[types.UID]bool
	versions map[string]bool
	stale    bool
	closed   bool
}

func (a *auditor) allow(uid types.UID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.allowed[uid] = true
}

func (a *auditor) Handle(ev watch.Event) {
	time.Sleep(a.pause())
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		a.t.Errorf("%s after Closed", line(ev))
	}
	switch o := ev.Object.(type) {
	case *metav1.Status:
		switch o.Reason {
		case podwatch.Closed:
			a.closed = true
		case podwatch.Stale, podwatch.Fresh:
			if a.stale == (o.Reason == podwatch.Stale) {
				a.t.Errorf("%s twice", o.Reason)
			}
			a.stale = !a.stale
		default:
			a.t.Errorf("unexpected %s", line(ev))
		}
	case *corev1.Pod:
		a.pod(ev.Type, o)
	}
}

func (a *auditor) pod(typ watch.EventType, p *corev1.Pod) {
	switch {
	case !a.allowed[p.UID]:
		a.t.Errorf("%s of %s, which Created has not named", typ, p.UID)
	case typ == watch.Deleted && p.UID != a.current:
		a.t.Errorf("Deleted %s while %s is the pod", p.UID, a.current)
	case typ == watch.Deleted:
		a.ended[p.UID], a.current = true, ""
		return
	case a.ended[p.UID]:
		a.t.Errorf("%s of a pod that had ended", typ)
	case typ == watch.Added && a.current != "":
		a.t.Errorf("Added %s before the end of %s", p.UID, a.current)
	case typ == watch.Modified && p.UID != a.current:
		a.t.Errorf("Modified %s before Added", p.UID)
	case a.versions[p.ResourceVersion]:
		a.t.Errorf("version %s twice", p.ResourceVersion)
	}
	a.current, a.v = p.UID, p.Labels["v"]
	a.versions[p.ResourceVersion] = true
}

// chaos makes, changes, deletes and replaces pods at random while watches break,
// expire and are refused, and handlers are slow. Of some pods it says Created, at
// once or later, when they may be gone; the others are leftovers. It returns the
// last pod said of each name.
func chaos(t *testing.T, h *harness, rnd *rand.Rand, names []string, trackings map[string]*podwatch.Tracking, auditors map[string]*auditor) map[string]*corev1.Pod {
	living, unsaid, said := map[string]bool{}, map[string]*corev1.Pod{}, map[string]*corev1.Pod{}
	created := func(name string) {
		if p := unsaid[name]; p != nil {
			auditors[name].allow(p.UID)
			trackings[name].Created(p)
			said[name], unsaid[name] = p, nil
		}
	}
	for step := range 400 {
		name := names[rnd.IntN(len(names))]
		switch n := rnd.IntN(22); {
		case n < 4 && living[name]:
			if err := h.client.CoreV1().Pods(ns).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
				t.Fatal(err)
			}
			living[name] = false
		case n < 14 && living[name]:
			h.patchOnly(name, fmt.Sprintf(`{"metadata":{"labels":{"v":"%d"}}}`, step))
		case n < 14:
			unsaid[name] = h.hurry(name)
			living[name] = true
			if rnd.IntN(2) == 0 {
				created(name)
			}
		case n < 16:
			created(name)
		case n < 18:
			h.cluster.DropWatches(io.ErrUnexpectedEOF)
		case n < 19:
			h.cluster.Compact()
			h.cluster.DropWatches(nil)
		case n < 20:
			down := time.Now().Add(time.Duration(rnd.Int64N(int64(20 * time.Second))))
			h.cluster.Fault(func(r *http.Request) testutil.Fault {
				if r.Method == http.MethodGet && time.Now().Before(down) {
					return testutil.Fault{Err: io.ErrUnexpectedEOF}
				}
				return testutil.Fault{}
			})
			h.cluster.DropWatches(io.ErrUnexpectedEOF)
		default:
			time.Sleep(time.Duration(rnd.Int64N(int64(3 * time.Second))))
		}
	}
	h.cluster.Fault(nil)
	return said
}

func TestWhateverHappensEveryHandlerHearsOfItsPodsLastStateAndOneEndAndOfNoOther(t *testing.T) {
	for _, seed := range seeds() {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				rnd := rand.New(rand.NewPCG(seed, 0))
				w, stop := h.start(podwatch.Options{LabelSelector: "app=ci"})
				names := []string{"a", "b", "c", "d", "e"}
				auditors, trackings := map[string]*auditor{}, map[string]*podwatch.Tracking{}
				for i, n := range names {
					slow := time.Duration(i) * 400 * time.Millisecond
					auditors[n] = &auditor{
						t: t, allowed: map[types.UID]bool{}, ended: map[types.UID]bool{}, versions: map[string]bool{},
						pause: func() time.Duration { return slow },
					}
					trackings[n] = h.track(w, n, auditors[n])
				}
				said := chaos(t, h, rnd, names, trackings, auditors)
				settle(10 * time.Minute)
				truth, err := h.client.CoreV1().Pods(ns).List(t.Context(), metav1.ListOptions{})
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range names {
					a, mine := auditors[n], said[n]
					a.mu.Lock()
					i := slices.IndexFunc(truth.Items, func(p corev1.Pod) bool { return mine != nil && p.UID == mine.UID })
					switch {
					case mine == nil && trackings[n].Pod() != nil:
						t.Errorf("%s: Pod speaks of one that nobody named", n)
					case mine != nil && trackings[n].Pod().UID != mine.UID:
						t.Errorf("%s: Pod speaks of %s, want %s", n, trackings[n].Pod().UID, mine.UID)
					case mine != nil && i < 0 && (a.current != "" || !a.ended[mine.UID]):
						t.Errorf("%s is gone, its handler has not heard", n)
					case i >= 0 && (a.current != mine.UID || a.v != truth.Items[i].Labels["v"]):
						t.Errorf("%s is at v=%s, its handler heard of %s v=%s", n, truth.Items[i].Labels["v"], a.current, a.v)
					case a.stale:
						t.Errorf("%s is still stale", n)
					}
					a.mu.Unlock()
				}
				stop()
				for _, n := range names {
					if !auditors[n].closed {
						t.Errorf("%s has not heard Closed", n)
					}
				}
				h.notices.balanced(t)
			})
		})
	}
}

func TestTwoHundredPodsInAMinuteEachHaveOneEndWithTheLastState(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		rs := make([]recorder, 200)
		var wg sync.WaitGroup
		for i := range rs {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 300 * time.Millisecond)
				name := fmt.Sprintf("p%d", i)
				tr, err := w.Track(ns, name, &rs[i])
				if err != nil {
					t.Error(err)
					return
				}
				tr.Created(h.hurry(name))
				time.Sleep(time.Second)
				h.patchOnly(name, `{"metadata":{"labels":{"v":"last"}}}`)
				time.Sleep(time.Second)
				if err := h.client.CoreV1().Pods(ns).Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		for i := range rs {
			rs[i].want(t, "ADDED pod", "MODIFIED pod last", "MODIFIED pod last", "DELETED pod last")
		}
		if n := h.requests("get", "pods") + h.requests("list", "pods") + h.requests("watch", "pods"); n != 2 {
			t.Errorf("%d requests for pods, want one list and one watch", n)
		}
		if s := w.Stats(); s.Pods != 0 {
			t.Errorf("%d pods remain in the cache", s.Pods)
		}
	})
}

// Hosts test with client-go's fake clientset: no UIDs, no resourceVersions.
func TestOverTheFakeClientsetIdentityGoesByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, client: fake.NewClientset(), notices: &notices{}}
		w, stop := h.start(podwatch.Options{Namespace: ns})
		var r recorder
		tr := h.track(w, "a", &r)
		tr.Created(h.create("a"))
		r.want(t, "ADDED pod")
		h.patch("a", `{"metadata":{"labels":{"v":"1"}}}`)
		h.delete("a")
		tr.Created(h.create("a"))
		r.want(t, "MODIFIED pod 1", "DELETED pod 1", "ADDED pod")
		stop()
	})
}

// A host's fake may give every version the same name: what differs is news all the same.
func TestVersionsOfOneNameThatDifferAreAllHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := fake.NewClientset()
		version := func(action clienttesting.Action) (bool, runtime.Object, error) {
			var object runtime.Object
			if a, ok := action.(clienttesting.CreateAction); ok { // an update is one, too
				object = a.GetObject()
			}
			m, err := meta.Accessor(object)
			if err == nil {
				m.SetResourceVersion("1")
			}
			return false, nil, err
		}
		c.PrependReactor("create", "*", version)
		c.PrependReactor("update", "*", version)
		h := &harness{t: t, client: c, notices: &notices{}}
		w, stop := h.start(podwatch.Options{Namespace: ns})
		var r recorder
		tr := h.track(w, "a", &r)
		p := h.create("a")
		tr.Created(p)
		r.want(t, "ADDED pod")
		p.Status.Phase = corev1.PodRunning
		for range 2 { // the second one is the same again
			if _, err := c.CoreV1().Pods(ns).UpdateStatus(t.Context(), p, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		r.want(t, "MODIFIED pod")
		if got := tr.Pod(); got.ResourceVersion != "1" || got.Status.Phase != corev1.PodRunning {
			t.Errorf("the pod is %s, version %q", got.Status.Phase, got.ResourceVersion)
		}
		e := h.event(p, "e", "Pulling")
		r.want(t, "ADDED event Pulling x1")
		e.Count = 2
		if _, err := c.CoreV1().Events(ns).Update(t.Context(), e, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		r.want(t, "MODIFIED event Pulling x2")
		stop()
	})
}

func TestOverTheFakeClientsetEventsGoByName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, client: fake.NewClientset(), notices: &notices{}}
		w, stop := h.start(podwatch.Options{Namespace: ns})
		var early, late recorder
		tr := h.track(w, "a", &early)
		mine, other := h.create("a"), h.create("b")
		tr.Created(mine)
		h.event(other, "e1", "Other")
		h.event(mine, "e2", "Mine")
		early.want(t, "ADDED pod", "ADDED event Mine x1")
		h.trackPod(w, mine, &late)
		late.want(t, "ADDED pod", "ADDED event Mine x1")
		stop()
	})
}

// Builds that follow each other under one name, faster than the watch tells, are each
// other's leftovers.
func TestBuildsThatFollowEachOtherUnderOneNameEachHearOfTheirOwnPodAlone(t *testing.T) {
	for _, seed := range seeds() {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				lags := make([]time.Duration, 40)
				for i := range lags {
					lags[i] = time.Duration(rnd.Int64N(int64(8 * time.Second)))
				}
				var watches atomic.Int64
				h.cluster.Fault(func(r *http.Request) testutil.Fault {
					if !isListOrWatch(r) {
						return testutil.Fault{}
					}
					return testutil.Fault{Lag: lags[int(watches.Add(1))%len(lags)]}
				})
				w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
				var builds sync.WaitGroup
				for name := range 6 {
					rnd := rand.New(rand.NewPCG(seed, uint64(name)+2))
					builds.Go(func() {
						for i := range 12 {
							h.build(w, fmt.Sprintf("build-%d", name), fmt.Sprint(i), rnd)
						}
					})
				}
				for range 20 {
					settle(time.Duration(rnd.Int64N(int64(20 * time.Second))))
					h.cluster.DropWatches(io.ErrUnexpectedEOF)
				}
				builds.Wait()
				h.notices.balanced(t)
			})
		})
	}
}

// build is one build: a pod that it tracks, creates, names, changes and deletes, with
// pauses of any length in between.
func (h *harness) build(w *podwatch.Watcher, name, v string, rnd *rand.Rand) {
	pause := func(most time.Duration) { time.Sleep(time.Duration(rnd.Int64N(int64(most)))) }
	pods := h.client.CoreV1().Pods(ns)
	var r recorder
	tr, err := w.Track(ns, name, &r)
	if err != nil {
		h.t.Error(err)
		return
	}
	pause(5 * time.Second)
	p, err := pods.Create(h.t.Context(), pod(name), metav1.CreateOptions{})
	if err != nil {
		h.t.Error(err)
		return
	}
	h.event(p, string(p.UID), "Mine")
	named := rnd.IntN(8) > 0
	late := named && rnd.IntN(2) == 0
	if named && !late {
		tr.Created(p)
	}
	pause(10 * time.Second)
	if _, err := pods.Patch(h.t.Context(), name, types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"v":%q}}}`, v), metav1.PatchOptions{}); err != nil {
		h.t.Error(err)
	}
	pause(10 * time.Second)
	if err := pods.Delete(h.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		h.t.Error(err)
	}
	if late {
		pause(10 * time.Second)
		tr.Created(p)
	}
	patient := rnd.IntN(2) == 0
	if patient {
		time.Sleep(2 * time.Minute) // whatever the watch is behind, it has told by then
	}
	tr.Close()
	<-tr.Done()
	r.mu.Lock()
	defer r.mu.Unlock()
	ends := 0
	for _, ev := range r.events {
		switch o := ev.Object.(type) {
		case *corev1.Pod:
			if o.UID != p.UID || !named {
				h.t.Errorf("%s: %s of pod %s; the build's is %s, named: %v", name, ev.Type, o.UID, p.UID, named)
			}
			if ev.Type != watch.Deleted {
				continue
			}
			if ends++; o.Labels["v"] != v {
				h.t.Errorf("%s: the last state has v=%q, want %q: %q", name, o.Labels["v"], v, r.lines)
			}
		case *corev1.Event:
			if o.InvolvedObject.UID != p.UID || !named {
				h.t.Errorf("%s: an Event of pod %s; the build's is %s, named: %v", name, o.InvolvedObject.UID, p.UID, named)
			}
		}
	}
	if last := r.lines[len(r.lines)-1]; last != "ERROR Closed" || ends > 1 || patient && named && ends != 1 {
		h.t.Errorf("%s: %d ends, patient: %v, named: %v: %q", name, ends, patient, named, r.lines)
	}
}

// late has a fake clientset's watch of pods tell everything ten seconds late.
func late(c *fake.Clientset) {
	c.PrependWatchReactor("pods", func(clienttesting.Action) (bool, watch.Interface, error) {
		in, err := c.Tracker().Watch(corev1.SchemeGroupVersion.WithResource("pods"), ns)
		if err != nil {
			return true, nil, err
		}
		events := make(chan watch.Event)
		out := watch.NewProxyWatcher(events)
		go func() {
			defer in.Stop()
			for {
				select {
				case ev := <-in.ResultChan():
					time.Sleep(10 * time.Second)
					select {
					case events <- ev:
					case <-out.StopChan():
						return
					}
				case <-out.StopChan():
					return
				}
			}
		}()
		return true, out, nil
	})
}

// A host's fake, or a foreign API server, may give versions that have no order.
func TestALeftoverAnswersNothingWhateverTheVersionsAreNamed(t *testing.T) {
	n := 0
	for name, version := range map[string]func() string{
		"all the same":  func() string { return "1" },
		"no numbers":    func() string { n++; return fmt.Sprintf("v%d", n) },
		"the same word": func() string { return "v" },
		"none":          func() string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := fake.NewClientset()
				late(c)
				uids := 0
				c.PrependReactor("create", "pods", func(action clienttesting.Action) (bool, runtime.Object, error) {
					m, err := meta.Accessor(action.(clienttesting.CreateAction).GetObject())
					if err == nil {
						uids++
						m.SetUID(types.UID(fmt.Sprint("uid-", uids)))
						m.SetResourceVersion(version())
					}
					return false, nil, err
				})
				h := &harness{t: t, client: c, notices: &notices{}}
				w, stop := h.start(podwatch.Options{Namespace: ns})
				var early, late recorder
				before := h.track(w, "a", &early)
				h.leftover("a")
				settle(time.Minute)
				after := h.track(w, "a", &late)
				h.delete("a")
				mine := h.make(pod("a"))
				before.Created(mine) // the watch has not shown it yet, nor the leftover's end
				after.Created(mine)
				settle(time.Minute)
				for _, tr := range []*podwatch.Tracking{before, after} {
					if tr.Pod() == nil || tr.Pod().UID != mine.UID {
						t.Errorf("Pod speaks of %v", tr.Pod())
					}
				}
				for _, r := range []*recorder{&early, &late} {
					if lines := r.heard(); len(lines) == 0 || lines[0] != "ADDED pod" || slices.Contains(lines, "DELETED pod") {
						t.Errorf("the handler heard %q while its pod was there", lines)
					}
				}
				h.delete("a")
				settle(time.Minute)
				early.want(t, "DELETED pod")
				late.want(t, "DELETED pod")
				stop()
			})
		})
	}
}
