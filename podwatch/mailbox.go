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
	itemLeft                    // OutOfScope: undone when the pod comes back before it was taken
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

// mailbox holds what waits to be handled for one tracking. At most one
// goroutine at a time takes from it, and only while there is something to take.
type mailbox struct {
	mu      sync.Mutex
	queue   []item
	events  int     // Events in queue
	open    bool    // deliveries may start
	busy    bool    // somebody takes
	closed  bool    // itemClosed is in queue, or was
	told    contact // the last one taken
	lossy   bool    // versions were coalesced, and that the handlers caught up was not said yet
	dropped bool    // Events were dropped since then
}

// start reports whether the caller must now see to a delivery. It must be
// called with mu held.
func (b *mailbox) start() bool {
	if !b.open || b.busy || len(b.queue) == 0 {
		return false
	}
	b.busy = true
	return true
}

// unlatch lets deliveries begin.
func (b *mailbox) unlatch() (start bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open = true
	return b.start()
}

// pod adds a version of a pod, in the place of one that waits. It reports
// whether it replaced one, and whether it was the first since the mailbox was
// empty.
func (b *mailbox) pod(t watch.EventType, p *corev1.Pod) (start, replaced, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false, false, false
	}
	// A pod that left the scope and came back before anybody was told never left.
	b.remove(itemLeft, p.UID)
	if i := b.find(itemVersion, p.UID); i >= 0 {
		b.queue[i].ev.Object = p
		first, b.lossy = !b.lossy, true
		return b.start(), true, first
	}
	b.queue = append(b.queue, item{kind: itemVersion, uid: p.UID, ev: watch.Event{Type: t, Object: p}})
	return b.start(), false, false
}

// end adds a pod's end. Nothing replaces or drops it.
func (b *mailbox) end(p *corev1.Pod) (start bool) {
	return b.append(item{kind: itemEnd, uid: p.UID, ev: watch.Event{Type: watch.Deleted, Object: p}})
}

// left adds the notice that a pod left the scope.
func (b *mailbox) left(uid types.UID, s *metav1.Status) (start bool) {
	return b.append(item{kind: itemLeft, uid: uid, ev: watch.Event{Type: watch.Error, Object: s}})
}

func (b *mailbox) append(it item) (start bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.queue = append(b.queue, it)
	return b.start()
}

// event adds a version of an Event, in the place of one that waits. When too
// many wait the oldest is dropped; first is true for the first one dropped
// since the mailbox was empty.
func (b *mailbox) event(t watch.EventType, e *corev1.Event) (start, dropped, first bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false, false, false
	}
	if e.UID != "" {
		if i := b.find(itemEvent, e.UID); i >= 0 {
			b.queue[i].ev.Object = e
			return b.start(), false, false
		}
	}
	if b.events == maxEvents {
		i := slices.IndexFunc(b.queue, func(it item) bool { return it.kind == itemEvent })
		b.queue = slices.Delete(b.queue, i, i+1)
		b.events--
		dropped, first, b.dropped = true, !b.dropped, true
	}
	b.events++
	b.queue = append(b.queue, item{kind: itemEvent, uid: e.UID, ev: watch.Event{Type: t, Object: e}})
	return b.start(), dropped, first
}

// contact adds how contact with the API server is. What nobody took yet is
// replaced, and said no more when it is as the handlers last heard.
func (b *mailbox) contact(c contact, s *metav1.Status) (start bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.remove(itemContact, "")
	if c == b.told {
		return b.start()
	}
	b.queue = append(b.queue, item{kind: itemContact, contact: c, ev: watch.Event{Type: watch.Error, Object: s}})
	return b.start()
}

// close adds the last item; nothing is accepted after it. Deliveries may start
// now even where they could not before: there is an end to wait for.
func (b *mailbox) close(s *metav1.Status) (start bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.closed, b.open = true, true
	b.queue = append(b.queue, item{kind: itemClosed, ev: watch.Event{Type: watch.Error, Object: s}})
	return b.start()
}

// next takes the oldest item. When there is none the taker must stop, for the
// next item starts another one; but if behind is true it must first say that the
// handlers caught up, and come again.
func (b *mailbox) next() (it item, ok, behind bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		if b.lossy || b.dropped {
			return item{}, false, true
		}
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
		b.told = it.contact
	}
	b.queue = slices.Delete(b.queue, 0, 1)
	return it, true, false
}

// forgive forgets that the handlers were slow, if they have taken all there is.
// It reports whether they were, and have.
func (b *mailbox) forgive() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) > 0 || !b.lossy && !b.dropped {
		return false
	}
	b.lossy, b.dropped = false, false
	return true
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
