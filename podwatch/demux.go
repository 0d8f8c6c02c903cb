package podwatch

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// podHandler and eventHandler are the only handlers on their informers, however
// many pods are tracked. client-go calls each from one goroutine, one call at a
// time, and queues without bound: they only look up a map and fill mailboxes.
type (
	podHandler   struct{ w *Watcher }
	eventHandler struct{ w *Watcher }
)

func keyOf(p *corev1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// OnAdd hears of a pod that is new in the cache.
func (h podHandler) OnAdd(obj any, _ bool) { h.w.podSeen(obj) }

// OnUpdate hears of a newer version, or of another pod of the same name.
func (h podHandler) OnUpdate(_, obj any) { h.w.podSeen(obj) }

// OnDelete hears of a pod that is no longer in the cache.
func (h podHandler) OnDelete(obj any) {
	tomb, missed := obj.(cache.DeletedFinalStateUnknown)
	if missed {
		obj = tomb.Obj
	}
	if p, ok := obj.(*corev1.Pod); ok { // a host's transform may keep something else
		h.w.podGone(p, missed)
	}
}

func (w *Watcher) podSeen(obj any) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return
	}
	if w.observe(p) {
		w.offer(p)
	}
}

// observe records a version that the watch has shown and hands it on. It
// reports whether OnPod is to be asked about the pod.
func (w *Watcher) observe(p *corev1.Pod) (ask bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != running {
		return false
	}
	key := keyOf(p)
	k := w.known[key]
	// A relist brings every version again, also with no resync asked for (seen
	// with client-go v0.37).
	if k != nil && k.pod.UID == p.UID && repeats(k.pod, p) {
		w.stats.Repeats++
		return false
	}
	w.stats.PodUpdates++
	if k == nil || k.pod.UID != p.UID {
		if k != nil {
			w.part(key, k.pod)
		}
		k = &knownPod{}
		w.known[key] = k
	}
	k.pod = p
	for _, t := range slices.Clone(w.tracks[key]) { // a tracking may end here
		t.see(p)
		t.settle()
	}
	tracked, waiting := false, false
	for _, t := range w.tracks[key] {
		tracked = tracked || t.bound && t.uid == p.UID // else it is bound to another pod
		waiting = waiting || !t.bound                  // Created may yet name this one
	}
	ask = w.opts.OnPod != nil && !k.asked && !tracked && !waiting
	k.asked = k.asked || ask || tracked
	return ask
}

// part tells the trackings that wait for Created that the pod whose name another
// one has now is gone; those of that very pod see it by themselves.
func (w *Watcher) part(key types.NamespacedName, gone *corev1.Pod) {
	for _, t := range w.tracks[key] {
		if !t.bound {
			t.part(gone, true)
		}
	}
}

// offer asks OnPod about a pod that nobody tracks. It runs on the informer's
// goroutine, so that no newer version is handed on meanwhile.
func (w *Watcher) offer(p *corev1.Pod) {
	hs := slices.DeleteFunc(slices.Clone(w.opts.OnPod(p)), func(h Handler) bool { return h == nil })
	if len(hs) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == running {
		t := &Tracking{w: w, key: keyOf(p), handlers: hs, auto: true}
		w.add(t)
		t.bind(p)
	}
}

// podGone records that the watch no longer shows a pod; missed says that the
// deletion itself went by unseen.
func (w *Watcher) podGone(p *corev1.Pod, missed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != running {
		return
	}
	w.stats.PodUpdates++
	key := keyOf(p)
	if k := w.known[key]; k != nil && k.pod.UID == p.UID {
		delete(w.known, key)
	}
	for _, t := range slices.Clone(w.tracks[key]) {
		t.vanish(p, missed)
		t.settle()
	}
}

// eventLog is what is remembered of the Events about one pod, oldest first: an
// Event may come before its pod is seen, and a tracking may begin late.
type eventLog struct{ events []*corev1.Event }

func (l *eventLog) index(e *corev1.Event) int {
	return slices.IndexFunc(l.events, func(o *corev1.Event) bool {
		return o.UID == e.UID && o.Name == e.Name && o.Namespace == e.Namespace
	})
}

// OnAdd hears of a new Event.
func (h eventHandler) OnAdd(obj any, _ bool) { h.w.eventSeen(obj) }

// OnUpdate hears of a repetition: the same Event with a higher count.
func (h eventHandler) OnUpdate(_, obj any) { h.w.eventSeen(obj) }

// OnDelete hears that the API server forgot an Event, mostly for its age. That
// says nothing about the pod and is not handed on.
func (h eventHandler) OnDelete(obj any) {
	if tomb, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = tomb.Obj
	}
	e, ok := obj.(*corev1.Event)
	if !ok {
		return
	}
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.logs[e.InvolvedObject.UID]
	if l == nil {
		return
	}
	if i := l.index(e); i >= 0 {
		l.events = slices.Delete(l.events, i, i+1)
	}
	if len(l.events) == 0 {
		delete(w.logs, e.InvolvedObject.UID)
	}
}

// eventSeen remembers an Event under its pod's UID, and hands it to the
// trackings of that pod: never by name alone, or the Events of an earlier pod
// of the name would leak.
func (w *Watcher) eventSeen(obj any) {
	e, ok := obj.(*corev1.Event)
	if !ok || (e.InvolvedObject.Kind != "Pod" && e.InvolvedObject.Kind != "") {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase != running {
		return
	}
	typ, fresh := w.remember(e)
	if !fresh {
		w.stats.Repeats++
		return
	}
	w.stats.EventUpdates++
	for _, t := range w.tracks[aboutPod(e)] {
		t.event(typ, e)
	}
}

// aboutPod returns the name of the pod that e is about.
func aboutPod(e *corev1.Event) types.NamespacedName {
	o := &e.InvolvedObject
	return types.NamespacedName{Namespace: cmp.Or(o.Namespace, e.Namespace), Name: o.Name}
}

// remember adds an Event to its pod's log, or replaces its older version there.
func (w *Watcher) remember(e *corev1.Event) (typ watch.EventType, fresh bool) {
	l := w.logs[e.InvolvedObject.UID]
	if l == nil {
		l = &eventLog{}
		w.logs[e.InvolvedObject.UID] = l
	}
	if i := l.index(e); i >= 0 {
		if known := l.events[i]; known.ResourceVersion == e.ResourceVersion && e.ResourceVersion != "" && equality.Semantic.DeepEqual(known, e) {
			return "", false
		}
		l.events[i] = e
		return watch.Modified, true
	}
	if len(l.events) == maxEvents {
		l.events = slices.Delete(l.events, 0, 1)
	}
	l.events = append(l.events, e)
	return watch.Added, true
}
