package podwatch

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
)

// identity is which pod a tracking speaks of, and what it has said of it. All
// of it is guarded by the watcher's mutex.
type identity struct {
	over    bool       // the tracking is closed: it learns no more
	bound   bool       // Created, TrackPod or OnPod said which pod; before, nothing is said of any
	uid     types.UID  // of that pod
	version string     // the last one handed on
	unseen  bool       // the watch has not shown that version yet, nor a newer one
	ended   bool       // its Deleted was said
	away    bool       // its OutOfScope was said
	ask     *ask       // the question that a live GET is to answer
	open    NoticeKind // what was raised about the pod and is not settled; "": nothing

	claim claim // until bound

	owesFresh bool // contact is there again, and not yet said so
}

// see takes a version that the watch shows under the tracking's name.
func (t *Tracking) see(p *corev1.Pod) {
	switch {
	case !t.bound:
		t.meet(p)
	case p.UID != t.uid:
		t.other(p)
	case !t.ended: // else its end was said, and stays so
		t.advance(p)
	}
}

// bind makes p's UID the one that the tracking speaks of. p is some version of
// that pod: Create's answer, or what a host knows of it.
func (t *Tracking) bind(p *corev1.Pod) {
	end, came := t.claim.end(p.UID)
	t.abandon()
	t.bound, t.uid, t.ended, t.away, t.unseen = true, p.UID, false, false, false
	k := t.w.known[t.key]
	switch {
	case k != nil && k.pod.UID == p.UID:
		k.asked = true
		t.begin(newer(k.pod, p))
		t.unseen = t.version != k.pod.ResourceVersion // p is ahead of the watch
		return
	case came:
		t.begin(newer(end.pod, p))
		if k != nil {
			t.end(end.pod) // its name has another pod
		} else {
			t.vanish(end.pod, end.missed)
		}
		return
	}
	t.begin(p)
	t.unseen = true
	if k != nil {
		t.other(k.pod)
	}
	switch {
	case t.ended:
	case t.w.owned && !t.w.selector.Matches(labels.Set(p.Labels)):
		t.leave()
	default:
		t.question(&ask{t: t, pod: p, unseen: true})
	}
}

// begin hands on the first version of the tracking's pod, and the Events about
// it that are known.
func (t *Tracking) begin(p *corev1.Pod) {
	t.push(watch.Added, p)
	if l := t.w.logs[p.UID]; l != nil {
		for _, e := range l.events {
			t.event(watch.Added, e)
		}
	}
}

// newer returns the newer of two versions of a pod: that of the watch where they
// have no order.
func newer(shown, p *corev1.Pod) *corev1.Pod {
	if c, ok := compare(shown.ResourceVersion, p.ResourceVersion); ok && c < 0 {
		return p
	}
	return shown
}

// advance takes a version of the tracking's own pod.
func (t *Tracking) advance(p *corev1.Pod) {
	t.drop() // whatever was asked, the watch shows the pod
	if t.unseen {
		// The watch may begin with the very version that Create returned, or
		// with those before what the host knew.
		if c, ok := compare(p.ResourceVersion, t.version); ok && c < 0 {
			return
		}
		t.unseen = false
	}
	if !t.away && repeats(t.newest.Load(), p) {
		return
	}
	t.away = false
	t.push(watch.Modified, p)
}

// olderPod reports whether p, of another UID than the pod of its name that had that
// version, is known to have had the name before it.
func olderPod(p *corev1.Pod, version string) bool {
	c, ok := compare(p.ResourceVersion, version)
	return ok && c < 0
}

// other takes a version of a pod that has the name but not the UID that the
// tracking is bound to. An older one had the name before; what the watch shows
// of it says nothing about the tracking's pod. Any other ended that pod.
func (t *Tracking) other(p *corev1.Pod) {
	_, ok := compare(p.ResourceVersion, t.version)
	if t.ended || olderPod(p, t.version) || !ok && t.unseen {
		return
	}
	t.end(t.newest.Load())
}

// vanish takes note that the watch no longer shows the pod.
func (t *Tracking) vanish(p *corev1.Pod, missed bool) {
	if !t.bound {
		t.part(p, missed)
		return
	}
	if t.ended || p.UID != t.uid {
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
		p = newer(p, last)
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
	t.raise(NoticeOutOfScope, nil)
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
	if !t.bound || e.InvolvedObject.UID != t.uid || aboutPod(e) != t.key {
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

// Created tells the tracking what Create returned. Until then nothing of any pod
// of the name reaches the handlers; from then on they hear of the pod of that UID
// alone: at once as Added, with the newest version that is known, then the Events
// about it that came meanwhile, then its end if it came and went. An older pod of
// the name, whenever the watch shows it, answers nothing, and a later one is not
// followed. A pod that came and went while the watch was down is found missing:
// when the cache has reached its resourceVersion without it, one live GET is
// made, and handlers hear Deleted with the pod that was created.
//
// Call it with the answer of Create, or, where that was lost, with the pod that a
// GET shows to be the one that was asked for; the newest version known is best,
// any will do. Calling it again with that pod changes nothing; with a pod made
// anew under the name it ends the earlier one: handlers hear Deleted, then Added of
// the new one. An eventsplit.Splitter is of one pod for good, so a build that is tried
// again wants a tracking and handlers of its own. A pod that had the name before the
// tracking's changes nothing.
// A nil pod changes nothing, nor does one of another name ([NoticeMismatch]), nor
// any once the tracking is closed.
// It does not block. The pod is not changed and not kept.
func (t *Tracking) Created(p *corev1.Pod) {
	if p == nil {
		return
	}
	w := t.w
	kept := w.keep(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case keyOf(p) != t.key:
		w.notePod(NoticeMismatch, t.key, nil)
		return
	case w.phase == stopped || t.over:
		return
	case t.bound && t.uid == p.UID && (p.UID != "" || !t.ended):
		return // said before
	case t.bound && olderPod(p, t.version):
		return
	case t.bound && !t.ended:
		t.end(t.newest.Load()) // the name was free, so that pod is gone
	}
	t.bind(kept)
}

// keep returns a copy of a host's pod, with what is kept of those of the watch.
func (w *Watcher) keep(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	if w.owned {
		p = w.opts.keepPod(p)
	}
	return p
}

// repeats reports whether p is the version of its pod that is known already. An API
// server names each content by a version of its own; a fake one may have one name for
// all, or none. What a transform leaves out of a pod makes no other content.
func repeats(known, p *corev1.Pod) bool {
	if p.ResourceVersion == "" || p.ResourceVersion != known.ResourceVersion {
		return false
	}
	a, b := Trim(known), Trim(p)
	a.TypeMeta = b.TypeMeta
	return equality.Semantic.DeepEqual(a, b)
}

// compare orders two resourceVersions of one resource; ok is false where they
// have no order (fake clientsets, foreign servers).
func compare(a, b string) (c int, ok bool) {
	c, err := resourceversion.CompareResourceVersion(a, b)
	return c, err == nil
}
