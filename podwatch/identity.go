package podwatch

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
)

// identity is which pod a tracking speaks of, and what it has said of it. All
// of it is guarded by the watcher's mutex.
type identity struct {
	over    bool      // the tracking is closed: it learns no more
	current bool      // there is such a pod
	uid     types.UID // of that pod
	version string    // the last one handed on
	pinned  bool      // Created named the pod: no other is spoken of
	unseen  bool      // known from Created only, the watch has not shown it
	ended   bool      // its Deleted was said
	away    bool      // its OutOfScope was said
	ask     *ask      // the question that a live GET is to answer

	owesFresh bool // contact is there again, and not yet said so
}

// see takes a version that the watch shows under the tracking's name.
func (t *Tracking) see(p *corev1.Pod) {
	switch {
	case !t.current:
		t.adopt(p)
	case p.UID == t.uid && !t.ended:
		t.advance(p)
	case p.UID == t.uid && p.UID != "": // its end was said, and stays so
	case t.pinned || t.auto:
		t.other(p)
	default:
		if !t.ended {
			t.end(t.newest.Load())
		}
		t.adopt(p)
	}
}

// adopt makes p the pod that the tracking speaks of.
func (t *Tracking) adopt(p *corev1.Pod) {
	t.drop()
	t.current, t.uid, t.ended, t.away, t.unseen = true, p.UID, false, false, false
	t.push(watch.Added, p)
	if l := t.w.logs[p.UID]; l != nil {
		for _, e := range l.events {
			t.event(watch.Added, e)
		}
	}
}

// advance takes a version of the tracking's own pod.
func (t *Tracking) advance(p *corev1.Pod) {
	t.drop() // whatever was asked, the watch shows the pod
	if t.unseen {
		t.unseen = false
		// The watch may begin with the very version that Create returned, or
		// with one before what the host knew.
		if c, ok := compare(p.ResourceVersion, t.version); ok && c <= 0 {
			return
		}
	}
	if p.ResourceVersion != "" && p.ResourceVersion == t.version && !t.away {
		return
	}
	t.away = false
	t.push(watch.Modified, p)
}

// other takes a version of a pod that has the name but not the UID that the
// tracking is bound to.
func (t *Tracking) other(p *corev1.Pod) {
	if t.ended {
		return
	}
	if t.unseen {
		// Created's pod may be newer than what the watch shows: then p is the
		// stale pod that had the name before.
		if c, ok := compare(p.ResourceVersion, t.version); !ok || c < 0 {
			return
		}
	}
	t.end(t.newest.Load())
}

// vanish takes note that the watch no longer shows the pod.
func (t *Tracking) vanish(p *corev1.Pod, missed bool) {
	if !t.current || t.ended || p.UID != t.uid {
		return
	}
	// Where the scope cannot be left there is nothing to ask.
	if deleted(p) || t.w.owned && t.w.selector.Empty() {
		t.end(p)
		return
	}
	t.question(&ask{t: t, pod: p, missed: missed})
}

// deleted reports whether p, the last version that the watch showed, is that of
// a deletion. Leaving the selector shows the version before. A real deletion
// carries deletionTimestamp and a grace period of 0, to which it is shortened
// when the containers have ended; a pod that leaves while it is being deleted
// still has a longer one (seen on a real API server, v1.36.3).
func deleted(p *corev1.Pod) bool {
	grace := p.DeletionGracePeriodSeconds // nil: a host's informer does not keep it
	return p.DeletionTimestamp != nil && (grace == nil || *grace == 0)
}

// end says that the pod is gone. Of p and what is known the newer is the last
// state: a tombstone may be older than what Create returned.
func (t *Tracking) end(p *corev1.Pod) {
	if last := t.newest.Load(); last != nil && last.UID == p.UID {
		if c, ok := compare(p.ResourceVersion, last.ResourceVersion); ok && c < 0 {
			p = last
		}
	}
	t.drop()
	t.ended, t.unseen = true, false
	t.newest.Store(p)
	t.w.deliver(t, t.box.end(p))
	t.retire("the pod is gone")
}

// leave says that the pod is out of the scope.
func (t *Tracking) leave() {
	t.drop()
	t.away, t.unseen = true, false
	s := status(OutOfScope, "pod "+t.key.String()+" exists, but not in the scope of the watch")
	s.Details = &metav1.StatusDetails{Name: t.key.Name, Kind: podResource, UID: t.uid}
	t.w.notePod(NoticeOutOfScope, t.key, nil)
	t.w.deliver(t, t.box.left(t.uid, s))
	t.retire("the pod left the scope")
}

// retire closes a tracking that nobody else can close.
func (t *Tracking) retire(why string) {
	if t.auto {
		start := t.shut(why)
		t.w.deliver(t, start)
	}
}

func (t *Tracking) push(typ watch.EventType, p *corev1.Pod) {
	t.version = p.ResourceVersion
	t.newest.Store(p)
	start, replaced, first := t.box.pod(typ, p)
	if replaced {
		t.w.stats.Coalesced++
	}
	if first {
		t.w.notePod(NoticeCoalesced, t.key, nil)
	}
	t.w.deliver(t, start)
}

// event takes an Event that has the tracking's name; it is handed on when it is
// about the tracking's pod.
func (t *Tracking) event(typ watch.EventType, e *corev1.Event) {
	// Fake clientsets give all pods the same UID: none.
	if !t.current || e.InvolvedObject.UID != t.uid || aboutPod(e) != t.key {
		return
	}
	start, dropped, first := t.box.event(typ, e)
	if dropped {
		t.w.stats.Dropped++
	}
	if first {
		t.w.notePod(NoticeDropped, t.key, nil)
	}
	t.w.deliver(t, start)
}

// Created tells the tracking what Create returned. From then on it speaks of
// that very pod: an older one of the same name, still in the cache, answers
// nothing, and a later one is not followed. Handlers hear of the pod at once,
// as Added, when the watch has not shown it yet. A pod that came and went while
// the watch was down is found missing: when the cache has reached its
// resourceVersion without it, one live GET is made, and handlers hear Deleted
// with the pod that was created.
//
// Calling it again, for a pod made anew under the name, ends the earlier one.
// A nil pod changes nothing, nor does one of another name ([NoticeMismatch]), nor
// any once the tracking is closed.
// The pod is not changed and not kept.
func (t *Tracking) Created(p *corev1.Pod) {
	if p == nil {
		return
	}
	w := t.w
	kept := p.DeepCopy()
	if w.owned {
		kept = w.opts.keepPod(kept)
	}
	w.mu.Lock()
	defer w.unlock()
	if keyOf(p) != t.key {
		w.notePod(NoticeMismatch, t.key, nil)
		return
	}
	if w.phase == stopped || t.over {
		return
	}
	t.pinned = true
	if t.current && t.uid == p.UID && !t.ended {
		return // the watch was faster
	}
	if t.current && t.uid == p.UID && p.UID != "" {
		return // and has seen its end
	}
	if t.current && !t.ended {
		t.end(t.newest.Load()) // the name was free, so that pod is gone
	}
	k := w.known[t.key]
	if k != nil && k.pod.UID == p.UID {
		t.adopt(k.pod) // shown while the tracking spoke of another pod
		return
	}
	t.adopt(kept)
	t.unseen = true
	if k != nil {
		t.other(k.pod)
	}
	if !t.unseen {
		return
	}
	if w.owned && !w.selector.Matches(labels.Set(p.Labels)) {
		t.leave()
		return
	}
	t.question(&ask{t: t, pod: kept, unseen: true})
}

// compare orders two resourceVersions of one resource; ok is false where they
// have no order (fake clientsets, foreign servers).
func compare(a, b string) (c int, ok bool) {
	c, err := resourceversion.CompareResourceVersion(a, b)
	return c, err == nil
}
