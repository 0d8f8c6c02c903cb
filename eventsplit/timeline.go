package eventsplit

import (
	"time"
)

const (
	defaultBuffer = 1024
	// maxPending bounds the States that wait for a waiter whose predicate blocks.
	maxPending = 1024
)

// timeline records what happened to one slot or to the pod, oldest entry first: a ring of
// entries, the current State, and everyone who waits for the next one. The Splitter's lock
// guards it.
type timeline struct {
	max  int
	ring []Entry
	head int    // index of the oldest entry
	next uint64 // sequence number of the entry to come; the first is 1

	cur     *State // immutable: replaced, never changed; never nil
	waiters map[*waiter]struct{}
	wake    chan struct{} // closed at the next change; nil while nobody waits for one
}

// waiter collects every State that is published while its Wait looks away, so that the predicate
// of Wait sees each of them, however small the ring is.
type waiter struct {
	pending []*State
	signal  chan struct{} // buffer of one
}

func (t *timeline) init(buffer int, st State) {
	t.max, t.next, t.cur = buffer, 1, &st
}

func (t *timeline) append(e Entry) {
	e.Seq = t.next
	t.next++
	if len(t.ring) < t.max {
		t.ring = append(t.ring, e)
	} else {
		t.ring[t.head] = e
		t.head = (t.head + 1) % len(t.ring)
	}
	t.broadcast()
}

// since returns the entries from sequence number seq on, and how many of them
// have left the ring.
func (t *timeline) since(seq uint64) (entries []Entry, dropped uint64) {
	oldest := t.next - uint64(len(t.ring))
	if len(t.ring) == 0 || seq >= t.next {
		return nil, 0
	}
	if seq < oldest {
		dropped, seq = oldest-seq, oldest
	}
	entries = make([]Entry, 0, t.next-seq)
	for i := seq - oldest; i < uint64(len(t.ring)); i++ {
		entries = append(entries, t.ring[(uint64(t.head)+i)%uint64(len(t.ring))])
	}
	return entries, dropped
}

// publish makes st the current State and adds an entry, unless st is the current State already.
// at is when it came about, zero for now.
func (t *timeline) publish(st State, at time.Time, synthesised bool) {
	if *t.cur == st {
		return
	}
	cp := st // st itself stays on the stack when nothing changed
	t.cur = &cp
	if at.IsZero() {
		at = time.Now()
	}
	for w := range t.waiters {
		if len(w.pending) >= maxPending {
			w.pending = w.pending[1:]
		}
		w.pending = append(w.pending, t.cur)
		w.notify()
	}
	t.append(Entry{Time: at, Synthesised: synthesised, State: t.cur})
}

// setStale publishes the current State with another Stale.
func (t *timeline) setStale(stale bool) {
	st := *t.cur
	st.Stale = stale
	t.publish(st, time.Time{}, false)
}

// settled reports whether no other State follows s.
func settled(s State) bool { return s.Final && s.Phase != PhaseRunning }

// changed returns a channel that is closed at the next change.
func (t *timeline) changed() <-chan struct{} {
	if t.wake == nil {
		t.wake = make(chan struct{})
	}
	return t.wake
}

func (t *timeline) broadcast() {
	if t.wake != nil {
		close(t.wake)
		t.wake = nil
	}
}

// release wakes everyone who waits, because no change may follow.
func (t *timeline) release() {
	t.broadcast()
	for w := range t.waiters {
		w.notify()
	}
}

func (w *waiter) notify() {
	select {
	case w.signal <- struct{}{}:
	default:
	}
}
