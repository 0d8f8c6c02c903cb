package podwatch

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// podHandler and eventHandler are the only handlers on their informers, however
// many pods are tracked. client-go calls each from one goroutine, one call at a
// time, and queues without bound: they only look up a map and fill mailboxes.
type (
	podHandler   struct{ w *Watcher }
	eventHandler struct{ w *Watcher }
)

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
	if !w.observe(p) {
		return
	}
	// On the informer's goroutine, so that no newer version is handed on meanwhile.
	hs := slices.DeleteFunc(slices.Clone(w.core.opts.OnPod(p)), func(h Handler) bool { return h == nil })
	if len(hs) > 0 {
		w.trackFound(p, hs)
	}
}

// observe records a version that the watch has shown and hands it on. It
// reports whether OnPod is to be asked about the pod.
func (w *Watcher) observe(p *corev1.Pod) (ask bool) {
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	if w.core.phase != running {
		return false
	}
	key := keyOf(p)
	cached := w.cache.pods[key]
	// A relist brings every version again, also with no resync asked for (seen
	// with client-go v0.37).
	if cached != nil && cached.pod.UID == p.UID && repeats(cached.pod, p) {
		w.core.stats.Repeats++
		return false
	}
	w.core.stats.PodUpdates++
	if cached == nil || cached.pod.UID != p.UID {
		if cached != nil {
			for _, t := range w.trackings.of(key) {
				t.id.replaced(cached.pod)
			}
		}
		cached = &cachedPod{}
		w.cache.pods[key] = cached
	}
	cached.pod = p
	for _, t := range w.trackings.of(key) {
		t.id.shown(p)
		t.id.answered()
	}
	tracked, waiting := w.tracked(key, p.UID)
	ask = w.core.opts.OnPod != nil && !cached.asked && !tracked && !waiting
	cached.asked = cached.asked || ask || tracked
	return ask
}

// tracked reports whether a tracking is about that pod, and whether one of the name
// still waits for Created, which may name that pod.
func (w *Watcher) tracked(key types.NamespacedName, uid types.UID) (tracked, waiting bool) {
	for _, t := range w.trackings.byName[key] {
		tracked = tracked || t.id.bound && t.id.uid == uid
		waiting = waiting || !t.id.bound
	}
	return tracked, waiting
}

// podGone records that the watch no longer shows a pod; missed says that the
// deletion itself went by unseen.
func (w *Watcher) podGone(p *corev1.Pod, missed bool) {
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	if w.core.phase != running {
		return
	}
	w.core.stats.PodUpdates++
	key := keyOf(p)
	if cached := w.cache.pods[key]; cached != nil && cached.pod.UID == p.UID {
		delete(w.cache.pods, key)
	}
	for _, t := range w.trackings.of(key) {
		t.id.disappeared(p, missed)
		t.id.answered()
	}
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
	if e, ok := obj.(*corev1.Event); ok {
		h.w.core.mu.Lock()
		defer h.w.core.mu.Unlock()
		h.w.cache.forget(e)
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
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	if w.core.phase != running {
		return
	}
	typ, isNew := w.cache.remember(e)
	if !isNew {
		w.core.stats.Repeats++
		return
	}
	w.core.stats.EventUpdates++
	for _, t := range w.trackings.byName[aboutPod(e)] {
		t.id.event(typ, e)
	}
}
