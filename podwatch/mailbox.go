package podwatch

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// maxEvents bounds the Events that wait in one mailbox, and those remembered of
// one pod. The kubelet sends at most 25 of each type for a pod, then one in
// five minutes (client-go tools/record/events_cache.go:47), so that a handler
// must be slow for hours to lose one.
const maxEvents = 256

type itemKind uint8

const (
	itemVersion itemKind = iota // Added or Modified pod: a newer version may replace it
	itemEnd                     // Deleted pod: never dropped
	itemLeft                    // OutOfScope: removed when the pod comes back before it is taken
	itemEvent                   // Kubernetes Event: bounded
	itemContact                 // Stale, Fresh or a refusal: at most one waits
	itemClosed                  // the last
)

type item struct {
	kind    itemKind
	contact contact   // of itemContact
	uid     types.UID // of the pod, or of the Event
	ev      watch.Event
}

// mailbox holds what waits to be handled for one tracking. At most one goroutine at
// a time takes from it, and only while there is something to take. What is put in
// is put in under the core's mutex, which comes before the mailbox's own.
type mailbox struct {
	// wake is called when something waits and no goroutine takes: it must start one
	// that calls take until ok is false.
	wake func()
	// lost is called when an item is given up for a newer one, with NoticeCoalesced
	// for a version and NoticeDropped for an Event; first is true for the first such
	// item since the handlers last caught up.
	lost func(k NoticeKind, first bool)
	// caughtUp is called by the taker when nothing waits any more and items had been
	// given up; it must call forgive, under the core's mutex.
	caughtUp func()

	mu      sync.Mutex
	queue   []item
	events  int     // Events in queue
	open    bool    // items may be taken
	busy    bool    // a goroutine takes
	closed  bool    // itemClosed is in queue, or was
	contact contact // the last one taken
	lossy   bool    // versions were replaced since the handlers last caught up
	dropped bool    // Events were dropped since the handlers last caught up
}

// unlatch lets the taking begin.
func (b *mailbox) unlatch() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = true
	b.start()
}

// putVersion adds a version of a pod, in the place of one that waits.
func (b *mailbox) putVersion(t watch.EventType, p *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	// A pod that left the scope and came back before anybody was told never left.
	b.remove(itemLeft, p.UID)
	if i := b.find(itemVersion, p.UID); i >= 0 {
		b.queue[i].ev.Object = p
		first := !b.lossy
		b.lossy = true
		b.lost(NoticeCoalesced, first)
		return
	}
	b.append(item{kind: itemVersion, uid: p.UID, ev: watch.Event{Type: t, Object: p}})
}

// putEnd adds a pod's end. Nothing replaces or drops it.
func (b *mailbox) putEnd(p *corev1.Pod) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.append(item{kind: itemEnd, uid: p.UID, ev: watch.Event{Type: watch.Deleted, Object: p}})
	}
}

// putLeft adds that a pod left the scope.
func (b *mailbox) putLeft(uid types.UID, s *metav1.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.append(item{kind: itemLeft, uid: uid, ev: watch.Event{Type: watch.Error, Object: s}})
	}
}

// putEvent adds a version of an Event, in the place of one that waits. When too
// many wait the oldest is dropped.
func (b *mailbox) putEvent(t watch.EventType, e *corev1.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if e.UID != "" {
		if i := b.find(itemEvent, e.UID); i >= 0 {
			b.queue[i].ev.Object = e
			return
		}
	}
	if b.events == maxEvents {
		i := slices.IndexFunc(b.queue, func(it item) bool { return it.kind == itemEvent })
		b.queue = slices.Delete(b.queue, i, i+1)
		b.events--
		first := !b.dropped
		b.dropped = true
		b.lost(NoticeDropped, first)
	}
	b.events++
	b.append(item{kind: itemEvent, uid: e.UID, ev: watch.Event{Type: t, Object: e}})
}

// putContact adds whether there is contact with the API server, in the place of
// what waits; nothing, when the handlers last heard the same.
func (b *mailbox) putContact(c contact, s *metav1.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.remove(itemContact, "")
	if c != b.contact {
		b.append(item{kind: itemContact, contact: c, ev: watch.Event{Type: watch.Error, Object: s}})
	}
}

// close adds the last item; nothing is accepted after it. The taking may begin
// even where it could not before: there is an end to wait for.
func (b *mailbox) close(s *metav1.Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed, b.open = true, true
	b.append(item{kind: itemClosed, ev: watch.Event{Type: watch.Error, Object: s}})
}

// take returns the oldest item. When ok is false there is none, and the caller must
// stop: the next item wakes another taker.
func (b *mailbox) take() (it item, ok bool) {
	for {
		it, ok, behind := b.next()
		if !behind {
			return it, ok
		}
		b.caughtUp()
	}
}

// next takes the oldest item. behind is true when nothing waits and the handlers,
// which were slow, have now caught up: that must be said before the taker stops.
func (b *mailbox) next() (it item, ok, behind bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case len(b.queue) > 0:
	case b.lossy || b.dropped:
		return item{}, false, true
	default:
		b.busy = false
		if cap(b.queue) > 4 {
			b.queue = nil // an idle mailbox costs nothing
		}
		return item{}, false, false
	}
	it = b.queue[0]
	switch it.kind {
	case itemEvent:
		b.events--
	case itemContact:
		b.contact = it.contact
	}
	b.queue = slices.Delete(b.queue, 0, 1)
	return it, true, false
}

// forgive forgets that the handlers were slow, if nothing waits any more. It
// reports whether it did.
func (b *mailbox) forgive() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 || !b.lossy && !b.dropped {
		return false
	}
	b.lossy, b.dropped = false, false
	return true
}

// append and those below need mu held.
func (b *mailbox) append(it item) {
	b.queue = append(b.queue, it)
	b.start()
}

// start has a goroutine take, if something waits and none does.
func (b *mailbox) start() {
	if b.open && !b.busy && len(b.queue) > 0 {
		b.busy = true
		b.wake()
	}
}

// find returns the index of the newest such item that waits, or -1. It does not
// look past the end of that pod: fake clientsets give every pod the same UID.
func (b *mailbox) find(k itemKind, uid types.UID) int {
	for i, it := range slices.Backward(b.queue) {
		switch {
		case it.uid != uid:
		case it.kind == k:
			return i
		case it.kind == itemEnd:
			return -1
		}
	}
	return -1
}

func (b *mailbox) remove(k itemKind, uid types.UID) {
	if i := b.find(k, uid); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
}
