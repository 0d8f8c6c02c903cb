package podwatch

import (
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/internal/podstatus"
)

// identity decides which pod a tracking is about, and puts into the mailbox what its
// handlers are to hear of that pod. The core's mutex guards it, and is held by the
// callers of its methods, but for newest.
type identity struct {
	core   *core
	cache  *podCache
	gets   *liveGets
	key    types.NamespacedName
	box    *mailbox
	lapsed func(why string) // called when the watch shows no more of the pod; nil: the tracking goes on

	newest atomic.Pointer[corev1.Pod] // the newest version known, after its end the last one

	over    bool       // the tracking is closed: it learns no more
	bound   bool       // Created, TrackPod or OnPod said which pod; before, nothing is said of any
	uid     types.UID  // of that pod
	version string     // the last one handed on
	unseen  bool       // the watch has not shown that version yet, nor a newer one
	ended   bool       // Deleted was said
	away    bool       // OutOfScope was said
	query   *question  // what a live GET is to answer
	raised  NoticeKind // what was raised about the pod and is not settled; "": nothing

	claim claim // until bound

	freshDue bool // contact is there again, and Fresh not said yet
}

// shown takes a version that the watch shows under the tracking's name.
func (id *identity) shown(p *corev1.Pod) {
	switch {
	case !id.bound:
		id.wonder(p)
	case p.UID != id.uid:
		id.other(p)
	case !id.ended: // else Deleted was said, and that is final
		id.advance(p)
	}
}

// disappeared takes note that the watch no longer shows a pod of the name; missed
// says that the deletion, if it was one, went by unseen.
func (id *identity) disappeared(p *corev1.Pod, missed bool) {
	switch {
	case !id.bound:
		id.claim.disappeared(p, missed)
		if id.claim.waitsFor(p.UID) {
			id.stopWaiting()
		}
	case id.ended || p.UID != id.uid:
	case deleted(p) || id.core.unlimited():
		id.end(p)
	default:
		id.ask(&question{pod: p, missed: missed})
	}
}

// replaced takes note that another pod has the name of p. Where the tracking is
// bound to p, shown sees that by itself.
func (id *identity) replaced(p *corev1.Pod) {
	if !id.bound {
		id.disappeared(p, true)
	}
}

// wonder takes note that a pod has the name, which may be the tracking's or a
// leftover.
func (id *identity) wonder(p *corev1.Pod) {
	id.claim.appeared(p.UID)
	if id.claim.waitsFor(p.UID) {
		return
	}
	id.stopWaiting()
	id.claim.wait(p.UID, func() {
		id.raise(NoticeUnclaimed, fmt.Errorf("podwatch: pod %s, UID %s, has been there for %s, and Created has not said whether it is the one that is tracked",
			id.key, p.UID, unclaimedAfter))
	})
}

func (id *identity) stopWaiting() {
	id.claim.stop()
	id.settled()
}

// unbind withdraws what was asked, and forgets the pods of the name that are not
// the tracking's.
func (id *identity) unbind() {
	id.withdraw()
	id.stopWaiting()
	id.claim.ends = nil
}

// created takes what Create returned, or what the host knows of a pod.
func (id *identity) created(p *corev1.Pod) {
	switch {
	case id.over:
		return
	case id.bound && id.uid == p.UID && (p.UID != "" || !id.ended):
		return // said before
	case id.bound && older(p.ResourceVersion, id.version):
		return
	case id.bound && !id.ended:
		id.end(id.newest.Load()) // the name was free, so that pod is gone
	}
	id.bind(p)
}

// bind makes p's UID the one that the tracking is about. p is some version of that
// pod: Create's answer, or what a host knows of it.
func (id *identity) bind(p *corev1.Pod) {
	end, came := id.claim.endOf(p.UID)
	id.unbind()
	id.bound, id.uid, id.ended, id.away, id.unseen = true, p.UID, false, false, false
	cached := id.cache.pods[id.key]
	switch {
	case cached != nil && cached.pod.UID == p.UID:
		cached.asked = true
		id.begin(newer(cached.pod, p))
		id.unseen = id.version != cached.pod.ResourceVersion // p is ahead of the watch
		return
	case came:
		id.begin(newer(end.pod, p))
		if cached != nil {
			id.end(end.pod) // its name has another pod
		} else {
			id.disappeared(end.pod, end.missed)
		}
		return
	}
	id.begin(p)
	id.unseen = true
	if cached != nil {
		id.other(cached.pod)
	}
	switch {
	case id.ended:
	case id.core.outOfScope(p):
		id.leave()
	default:
		id.ask(&question{pod: p, unseen: true})
	}
}

// begin hands on the first version of the tracking's pod, and the Events about it
// that are known.
func (id *identity) begin(p *corev1.Pod) {
	id.push(watch.Added, p)
	for _, e := range id.cache.about(p.UID) {
		id.event(watch.Added, e)
	}
}

// advance takes a version of the tracking's own pod.
func (id *identity) advance(p *corev1.Pod) {
	id.withdraw() // whatever was asked, the watch shows the pod
	if id.unseen {
		// The watch may begin with the very version that Create returned, or
		// with those before what the host knew.
		if older(p.ResourceVersion, id.version) {
			return
		}
		id.unseen = false
	}
	if !id.away && repeats(id.newest.Load(), p) {
		return
	}
	id.away = false
	id.push(watch.Modified, p)
}

// other takes a version of a pod that has the name but not the UID of the
// tracking's. An older pod had the name before, and says nothing about the tracking's
// pod; a newer one shows that the tracking's pod has ended. Where the versions do not
// tell, a pod that comes before the watch has shown the tracking's is older. Equal
// versions of two pods do not tell either: an API server gives each version once.
func (id *identity) other(p *corev1.Pod) {
	c, ordered := podstatus.CompareVersions(p.ResourceVersion, id.version)
	isNewer := ordered && c > 0
	isOlder := ordered && c < 0
	if id.ended || isOlder || !isNewer && id.unseen {
		return
	}
	id.end(id.newest.Load())
}

// end says that the pod is gone. Of p and what is known the newer is the last
// state: a tombstone may be older than what Create returned.
func (id *identity) end(p *corev1.Pod) {
	if last := id.newest.Load(); last != nil && last.UID == p.UID {
		p = newer(p, last)
	}
	id.withdraw()
	id.ended, id.unseen = true, false
	id.newest.Store(p)
	id.box.putEnd(p)
	id.lapse("the pod is gone")
}

// leave says that the pod is out of the scope.
func (id *identity) leave() {
	id.withdraw()
	id.away, id.unseen = true, false
	s := status(OutOfScope, "pod "+id.key.String()+" exists, but not in the scope of the watch")
	s.Details = &metav1.StatusDetails{Name: id.key.Name, Kind: podResource, UID: id.uid}
	id.raise(NoticeOutOfScope, nil)
	id.box.putLeft(id.uid, s)
	id.lapse("the pod left the scope")
}

func (id *identity) lapse(why string) {
	if id.lapsed != nil {
		id.lapsed(why)
	}
}

func (id *identity) push(typ watch.EventType, p *corev1.Pod) {
	id.version = p.ResourceVersion
	id.newest.Store(p)
	id.box.putVersion(typ, p)
}

// event takes an Event that has the tracking's name; it is handed on when it is
// about the tracking's pod.
func (id *identity) event(typ watch.EventType, e *corev1.Event) {
	// Fake clientsets give all pods the same UID: none.
	if id.bound && e.InvolvedObject.UID == id.uid && aboutPod(e) == id.key {
		id.box.putEvent(typ, e)
	}
}

// close ends what the tracking learns and asks.
func (id *identity) close() {
	id.unbind()
	id.over = true
}

// contact takes note that contact with the API server is lost, or refused.
func (id *identity) contact(c contact, s *metav1.Status) {
	id.freshDue = false
	id.box.putContact(c, s)
}

// answered says Fresh if that is due and nothing is left to find out. It is called
// after everything that the watch or a live GET brings for the tracking.
func (id *identity) answered() {
	if id.freshDue && id.query == nil {
		id.freshDue = false
		id.box.putContact(contactFresh, freshStatus())
	}
}

// ask has a live GET find out whether the pod exists.
func (id *identity) ask(q *question) {
	id.withdraw()
	q.asker, q.key = id, id.key
	id.query = q
	id.gets.ask(q)
}

// withdraw withdraws what was asked, and what was raised about the pod.
func (id *identity) withdraw() {
	id.settled()
	if id.query != nil {
		id.gets.withdraw(id.query)
		id.query = nil
	}
}

// gone, exists, outside and unanswered are the answers to what was asked.
func (id *identity) gone(last *corev1.Pod) { id.end(last) }

func (id *identity) exists(p *corev1.Pod) {
	if !id.core.inScope(p) {
		id.leave()
		return
	}
	// The watch is about to show it. Were it deleted unseen, the cache would reach
	// this version without it; then ask again.
	id.ask(&question{pod: id.core.kept(p), unseen: true})
}

func (id *identity) outside() { id.leave() }

func (id *identity) unanswered(err error) {
	id.raise(NoticeUnconfirmed, fmt.Errorf("podwatch: pod %s: %w", id.key, err))
}

// raise raises a notice about the pod, which [NoticeSettled] will close.
func (id *identity) raise(k NoticeKind, err error) {
	id.settled()
	id.raised = k
	id.core.notePod(k, id.key, err)
}

// settled says that what was raised about the pod no longer holds.
func (id *identity) settled() {
	if id.raised != "" {
		id.raised = ""
		id.core.notePod(NoticeSettled, id.key, nil)
	}
}
