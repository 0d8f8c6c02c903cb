package podwatch_test

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/podwatch"
)

const ns = "default"

// harness is a simulated API server (no kubelet: pods are what the test makes of
// them) and a client, inside a synctest bubble.
type harness struct {
	t       testing.TB
	cluster *testutil.Cluster
	client  kubernetes.Interface
	notices *notices
	fault   func(*http.Request) testutil.Fault
	follows map[string][]*podwatch.Tracking // those that create tells
}

func inBubble(t *testing.T, f func(t *testing.T, h *harness)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := testutil.New(testutil.Options{Namespaces: []string{"other"}})
		f(t, &harness{t: t, cluster: c, client: c.Client(), notices: &notices{}})
	})
}

func (h *harness) watcher(o podwatch.Options) *podwatch.Watcher {
	h.t.Helper()
	o.Notify = h.notices.take
	w, err := podwatch.New(h.client, o)
	if err != nil {
		h.t.Fatal(err)
	}
	return w
}

// run runs w until stop is called (the end of the test calls it too), and checks
// that Run returns nil.
func (h *harness) run(w *podwatch.Watcher) (stop func()) {
	// The test's own context ends before its cleanups run.
	ctx, cancel := context.WithCancel(context.WithoutCancel(h.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Errorf("Run returned %v, want nil: its context ended", err)
		}
	})
	h.t.Cleanup(stop)
	return stop
}

// start makes a watcher, runs it and waits for its first list.
func (h *harness) start(o podwatch.Options) (w *podwatch.Watcher, stop func()) {
	h.t.Helper()
	w = h.watcher(o)
	stop = h.run(w)
	h.sync(w)
	return w, stop
}

func (h *harness) sync(w *podwatch.Watcher) {
	h.t.Helper()
	if err := w.WaitForSync(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harness) track(w *podwatch.Watcher, name string, hs ...podwatch.Handler) *podwatch.Tracking {
	h.t.Helper()
	tr, err := w.Track(ns, name, hs...)
	if err != nil {
		h.t.Fatal(err)
	}
	return tr
}

// follow is track for a pod that create is about to make, which tells the
// tracking so.
func (h *harness) follow(w *podwatch.Watcher, name string, hs ...podwatch.Handler) *podwatch.Tracking {
	h.t.Helper()
	tr := h.track(w, name, hs...)
	if h.follows == nil {
		h.follows = map[string][]*podwatch.Tracking{}
	}
	h.follows[name] = append(h.follows[name], tr)
	return tr
}

func (h *harness) trackPod(w *podwatch.Watcher, p *corev1.Pod, hs ...podwatch.Handler) *podwatch.Tracking {
	h.t.Helper()
	tr, err := w.TrackPod(p, hs...)
	if err != nil {
		h.t.Fatal(err)
	}
	return tr
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: ns, Labels: map[string]string{"app": "ci"}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "step", Image: "pause:1", Env: []corev1.EnvVar{{Name: "A", Value: "b"}}}},
		},
	}
}

// create makes a pod, announces it to those who follow it, and waits until the watch has
// shown it, as patch and delete do; hurry does not wait, and leftover tells nobody.
func (h *harness) create(name string) *corev1.Pod {
	h.t.Helper()
	p := h.hurry(name)
	synctest.Wait()
	return p
}

func (h *harness) hurry(name string) *corev1.Pod {
	h.t.Helper()
	return h.announce(h.make(pod(name)))
}

func (h *harness) leftover(name string) *corev1.Pod {
	h.t.Helper()
	p := h.make(pod(name))
	synctest.Wait()
	return p
}

func (h *harness) make(p *corev1.Pod) *corev1.Pod {
	h.t.Helper()
	p, err := h.client.CoreV1().Pods(ns).Create(h.t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

func (h *harness) announce(p *corev1.Pod) *corev1.Pod {
	for _, tr := range h.follows[p.Name] {
		tr.Created(p)
	}
	delete(h.follows, p.Name)
	return p
}

func (h *harness) patch(name, patch string) *corev1.Pod {
	h.t.Helper()
	p := h.patchOnly(name, patch)
	synctest.Wait()
	return p
}

func (h *harness) patchOnly(name, patch string) *corev1.Pod {
	h.t.Helper()
	p, err := h.client.CoreV1().Pods(ns).Patch(h.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return p
}

// label sets the label "v", which is how a test makes a version of its own.
func (h *harness) label(name, v string) *corev1.Pod {
	h.t.Helper()
	return h.patch(name, fmt.Sprintf(`{"metadata":{"labels":{"v":%q}}}`, v))
}

func (h *harness) delete(name string) {
	h.t.Helper()
	err := h.client.CoreV1().Pods(ns).Delete(h.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if err != nil {
		h.t.Fatal(err)
	}
	synctest.Wait()
}

func (h *harness) event(p *corev1.Pod, name, reason string) *corev1.Event {
	h.t.Helper()
	e, err := h.client.CoreV1().Events(ns).Create(h.t.Context(), &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: name, Namespace: ns},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: ns, Name: p.Name, UID: p.UID},
		Reason:         reason, Count: 1, Type: corev1.EventTypeNormal,
	}, metav1.CreateOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return e
}

// requests counts the requests so far that match: "list pods", "get pods".
func (h *harness) requests(verb, resource string) (n int) {
	for _, r := range h.cluster.Requests() {
		if r.Verb == verb && r.Resource == resource {
			n++
		}
	}
	return n
}

// whileDown breaks the watches, refuses new ones for a minute while f runs, and
// waits until the watcher has come back.
func (h *harness) whileDown(f func()) {
	h.answer(isListOrWatch, testutil.Fault{Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}})
	h.cluster.DropWatches(io.ErrUnexpectedEOF)
	settle(time.Second)
	f()
	settle(time.Minute)
	h.answer(isListOrWatch, testutil.Fault{})
	settle(time.Minute)
}

func isListOrWatch(r *http.Request) bool {
	return r.Method == http.MethodGet && (strings.HasSuffix(r.URL.Path, "/pods") || strings.HasSuffix(r.URL.Path, "/events"))
}

// answer has requests that match fail in that way from now on; what answer said
// of other requests before still holds.
func (h *harness) answer(match func(*http.Request) bool, f testutil.Fault) {
	before := h.fault
	h.fault = func(r *http.Request) testutil.Fault {
		switch {
		case match(r):
			return f
		case before != nil:
			return before(r)
		}
		return testutil.Fault{}
	}
	h.cluster.Fault(h.fault)
}

// relist makes the watches expire.
func (h *harness) relist() {
	h.event(&corev1.Pod{}, fmt.Sprintf("e%d", time.Now().UnixNano()), "Unrelated") // history moves on
	synctest.Wait()
	h.event(&corev1.Pod{}, fmt.Sprintf("f%d", time.Now().UnixNano()), "Unrelated")
	h.cluster.Compact()
	h.cluster.DropWatches(nil)
	settle(time.Minute)
}

// settle lets d go by, and then everything that is under way come to rest.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// recorder is a Handler that writes down what it hears, one line a call:
// "ADDED pod v=1", "ADDED event Pulled x1", "ERROR Stale".
type recorder struct {
	mu     sync.Mutex
	lines  []string
	events []watch.Event
	inside int
	before func(watch.Event) // called first, without a lock
}

func (r *recorder) Handle(ev watch.Event) {
	r.mu.Lock()
	r.inside++
	if r.inside > 1 {
		r.lines = append(r.lines, "TWO CALLS AT A TIME")
	}
	before := r.before
	r.mu.Unlock()
	if before != nil {
		before(ev)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	r.lines = append(r.lines, line(ev))
	r.events = append(r.events, ev)
}

func line(ev watch.Event) string {
	switch o := ev.Object.(type) {
	case *corev1.Pod:
		return strings.TrimSpace(fmt.Sprintf("%s pod %s", ev.Type, o.Labels["v"]))
	case *corev1.Event:
		return fmt.Sprintf("%s event %s x%d", ev.Type, o.Reason, o.Count)
	case *metav1.Status:
		return fmt.Sprintf("%s %s", ev.Type, o.Reason)
	}
	return fmt.Sprintf("%s %T", ev.Type, ev.Object)
}

// heard returns the lines since the last call.
func (r *recorder) heard() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lines
	r.lines = nil
	return l
}

func (r *recorder) want(t testing.TB, lines ...string) {
	t.Helper()
	synctest.Wait()
	if d := cmp.Diff(lines, r.heard()); d != "" {
		t.Errorf("the handler heard (-want +got):\n%s", d)
	}
}

func (r *recorder) last() watch.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[len(r.events)-1]
}

// notices collects what Notify says: "relist pods", "coalesced pods default/a".
type notices struct {
	mu   sync.Mutex
	all  []podwatch.Notice
	text []string
}

func (n *notices) take(x podwatch.Notice) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s := fmt.Sprintf("%s %s", x.Kind, x.Resource)
	if x.Name != "" {
		s += " " + x.Namespace + "/" + x.Name
	}
	n.all, n.text = append(n.all, x), append(n.text, s)
}

func (n *notices) want(t testing.TB, lines ...string) {
	t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	if d := cmp.Diff(lines, n.text); d != "" {
		t.Errorf("notices (-want +got):\n%s", d)
	}
	n.text = nil
}

// without forgets the notices of a kind.
func (n *notices) without(kind podwatch.NoticeKind) {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.text = slices.DeleteFunc(n.text, func(s string) bool { return strings.HasPrefix(s, string(kind)+" ") })
}

// closes is the notice that ends another.
var closes = map[podwatch.NoticeKind]podwatch.NoticeKind{
	podwatch.NoticeStale:       podwatch.NoticeFresh,
	podwatch.NoticeForbidden:   podwatch.NoticeGranted,
	podwatch.NoticeCoalesced:   podwatch.NoticeCaughtUp,
	podwatch.NoticeDropped:     podwatch.NoticeCaughtUp,
	podwatch.NoticeUnclaimed:   podwatch.NoticeSettled,
	podwatch.NoticeOutOfScope:  podwatch.NoticeSettled,
	podwatch.NoticeUnconfirmed: podwatch.NoticeSettled,
}

// balanced checks, where a pod has one tracking, that what was opened was closed
// before it was opened again, and is closed now.
func (n *notices) balanced(t testing.TB) {
	t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	type subject struct {
		closing                   podwatch.NoticeKind
		resource, namespace, name string
	}
	open := map[subject]map[podwatch.NoticeKind]bool{}
	for i, x := range n.all {
		if closing := closes[x.Kind]; closing != "" {
			s := subject{closing, x.Resource, x.Namespace, x.Name}
			if open[s] == nil {
				open[s] = map[podwatch.NoticeKind]bool{}
			}
			if open[s][x.Kind] {
				t.Errorf("notice %d, %s of %s: it was said before, and not closed", i, x.Kind, x.Name)
			}
			open[s][x.Kind] = true
			continue
		}
		s := subject{x.Kind, x.Resource, x.Namespace, x.Name}
		if isClosing := slices.Contains(slices.Collect(maps.Values(closes)), x.Kind); isClosing && len(open[s]) == 0 {
			t.Errorf("notice %d, %s of %s: there was nothing to close", i, x.Kind, x.Name)
		}
		delete(open, s)
	}
	for s, kinds := range open {
		t.Errorf("%v of %s %s was never closed", slices.Collect(maps.Keys(kinds)), s.resource, s.name)
	}
}

func (n *notices) lastError() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.all[len(n.all)-1].Err
}
