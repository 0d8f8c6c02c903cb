package podwatch

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Watcher keeps one watch of Pods and one of Events, and hands what they bring
// to the trackings of single pods. Make one for a process with [New] or
// [FromInformers] and run it with [Watcher.Run]. All methods may be called from
// many goroutines.
type Watcher struct {
	core      *core
	first     *firstLists
	cache     *podCache
	gets      *liveGets
	trackings *trackings

	pods   cache.SharedIndexInformer
	events cache.SharedIndexInformer // nil: none
}

// New returns a Watcher with informers of its own, which [Watcher.Run] runs. It
// starts nothing and asks nothing of the API server.
//
// The client needs list and watch on pods and events, and get on pods. Its
// rate limit does not matter much here (watches are exempt); its timeout must
// be zero, else every watch ends with it.
func New(c kubernetes.Interface, o Options) (*Watcher, error) {
	w, err := newWatcher(c, o)
	if err != nil {
		return nil, err
	}
	w.core.owned = true
	if w.pods, err = w.podInformer(c); err != nil {
		return nil, fmt.Errorf("podwatch: %w", err)
	}
	if o.Events == EventsOff {
		return w, nil
	}
	if w.events, err = w.eventInformer(c); err != nil {
		return nil, fmt.Errorf("podwatch: %w", err)
	}
	return w, nil
}

// podInformer makes the informer of the scope's pods.
func (w *Watcher) podInformer(c kubernetes.Interface) (cache.SharedIndexInformer, error) {
	o, pods := w.core.opts, c.CoreV1().Pods(w.core.opts.Namespace)
	f := &feed{core: w.core, first: w.first, trackings: w.trackings, resource: podResource, labels: o.LabelSelector}
	if o.Name != "" {
		f.fields = fields.OneTermEqualSelector("metadata.name", o.Name).String()
	}
	f.list = func(ctx context.Context, lo metav1.ListOptions) (runtime.Object, error) { return pods.List(ctx, lo) }
	f.watch = func(ctx context.Context, lo metav1.ListOptions) (watch.Interface, error) { return pods.Watch(ctx, lo) }
	return f.informer(&corev1.Pod{})
}

// eventInformer makes the informer of the Events about the scope's pods.
func (w *Watcher) eventInformer(c kubernetes.Interface) (cache.SharedIndexInformer, error) {
	o, events := w.core.opts, c.CoreV1().Events(w.core.opts.Namespace)
	about := fields.Set{"involvedObject.kind": "Pod"}
	if o.Name != "" {
		about["involvedObject.name"] = o.Name
	}
	f := &feed{core: w.core, first: w.first, resource: eventResource, fields: about.String(), pauseDenied: true}
	f.list = func(ctx context.Context, lo metav1.ListOptions) (runtime.Object, error) { return events.List(ctx, lo) }
	f.watch = func(ctx context.Context, lo metav1.ListOptions) (watch.Interface, error) {
		return events.Watch(ctx, lo)
	}
	return f.informer(&corev1.Event{})
}

// FromInformers returns a Watcher over informers that the host owns and runs,
// started or not; events may be nil. The watcher only adds a handler to each,
// during [Watcher.Run], and removes it at the end.
//
// The scope is the informers': Namespace, LabelSelector, Name and Keep of the
// options must be zero. So is the trouble: Stale, Fresh, refusals and their notices
// need informers of [New]. The client is used for live GETs.
func FromInformers(c kubernetes.Interface, pods, events cache.SharedIndexInformer, o Options) (*Watcher, error) {
	switch {
	case pods == nil:
		return nil, errors.New("podwatch: FromInformers needs a pod informer")
	case o.Namespace != "" || o.LabelSelector != "" || o.Name != "":
		return nil, errors.New("podwatch: the scope of FromInformers is that of its informers: Namespace, LabelSelector and Name must be empty")
	case o.Keep != nil:
		return nil, errors.New("podwatch: FromInformers keeps what the host's informer keeps: Keep must be nil (use SetTransform with podwatch.Trim)")
	case o.Events == EventsRequired && events == nil:
		return nil, errors.New("podwatch: EventsRequired needs an event informer")
	}
	w, err := newWatcher(c, o)
	if err != nil {
		return nil, err
	}
	w.pods = pods
	if o.Events != EventsOff {
		w.events = events
	}
	return w, nil
}

func newWatcher(c kubernetes.Interface, o Options) (*Watcher, error) {
	if c == nil {
		return nil, errors.New("podwatch: the client is nil")
	}
	selector, err := o.validate()
	if err != nil {
		return nil, err
	}
	w := &Watcher{core: &core{opts: o, selector: selector}, first: newFirstLists(), cache: newCache()}
	w.gets = newLiveGets(w.core, c)
	w.gets.reached = func() string { return w.pods.LastSyncResourceVersion() }
	w.trackings = &trackings{core: w.core, cache: w.cache, byName: map[types.NamespacedName][]*Tracking{}}
	return w, nil
}

// Track is for a pod that the host is about to create. The handlers, called in
// the order given, hear nothing of any pod of that name (no version, no deletion,
// no Event) until [Tracking.Created] says which pod it is: one that is there
// already, or that comes before Created's, is a leftover of an earlier build. What
// the watch says of itself ([Stale], [Fresh], a refusal, [Closed]) they hear from
// the start. For a pod that exists use [Watcher.TrackPod].
//
// A host that never calls Created hears of no pod; [NoticeUnclaimed] tells when a
// pod of the name has been there for 30 seconds.
//
// Track may be called before Run and during it, and any number of times for one
// name: each tracking is on its own. It does not block. Close the tracking when the
// pod is of no more interest; the pod's end does not close it. Track returns
// [ErrStopped] when Run has ended, and an error for a pod outside of the watcher's
// scope.
func (w *Watcher) Track(namespace, name string, hs ...Handler) (*Tracking, error) {
	t, err := w.tracking(types.NamespacedName{Namespace: namespace, Name: name}, hs)
	if err != nil {
		return nil, err
	}
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	if w.core.phase == stopped {
		return nil, ErrStopped
	}
	w.trackings.add(t)
	if cached := w.cache.pods[t.id.key]; cached != nil {
		t.id.shown(cached.pod)
	}
	return t, nil
}

// TrackPod is for a pod that exists, as the API server returned it: from a list, a
// get or another watch. The tracking speaks of the pod of that UID alone, as one
// of Track does after Created: the handlers hear at once of its newest known
// version, as Added, and of the Events about it that the cache holds; then of what
// happens to it. Of a pod that is gone by now they hear Added and Deleted.
//
// It returns an error for a nil pod, and is else as [Watcher.Track]. The pod is not
// changed and not kept.
func (w *Watcher) TrackPod(p *corev1.Pod, hs ...Handler) (*Tracking, error) {
	if p == nil {
		return nil, errors.New("podwatch: TrackPod: the pod is nil")
	}
	t, err := w.tracking(keyOf(p), hs)
	if err != nil {
		return nil, err
	}
	kept := w.core.kept(p.DeepCopy())
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	if w.core.phase == stopped {
		return nil, ErrStopped
	}
	w.trackings.add(t)
	t.id.bind(kept)
	return t, nil
}

func (w *Watcher) tracking(key types.NamespacedName, hs []Handler) (*Tracking, error) {
	o := &w.core.opts
	switch {
	case key.Namespace == "" || key.Name == "":
		return nil, errors.New("podwatch: a tracking needs a namespace and a name")
	case o.Namespace != "" && key.Namespace != o.Namespace:
		return nil, fmt.Errorf("podwatch: the watch is of namespace %q, not of %q", o.Namespace, key.Namespace)
	case o.Name != "" && key.Name != o.Name:
		return nil, fmt.Errorf("podwatch: the watch is of pod %q, not of %q", o.Name, key.Name)
	case slices.Contains(hs, nil):
		return nil, errors.New("podwatch: a handler is nil")
	}
	return newTracking(w.core, w.cache, w.gets, key, hs), nil
}

// trackFound tracks a pod that OnPod has handlers for, until it is gone or out of
// the scope: nobody else can close such a tracking.
func (w *Watcher) trackFound(p *corev1.Pod, hs []Handler) {
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	if w.core.phase != running {
		return
	}
	t := newTracking(w.core, w.cache, w.gets, keyOf(p), hs)
	t.id.lapsed = t.shut
	w.trackings.add(t)
	t.id.bind(p)
}

// Stats returns the counters. It may be called at any time.
func (w *Watcher) Stats() Stats {
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	s := w.core.stats
	s.Tracked, s.Stale = len(w.trackings.all()), w.trackings.contact != contactFresh
	s.Pods, s.Events = len(w.cache.pods), w.cache.countEvents()
	s.Delivered, s.Gets = w.core.delivered.Load(), w.core.gets.Load()
	return s
}
