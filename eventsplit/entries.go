package eventsplit

import (
	"context"
	"iter"
)

// Entries yields a slot's timeline from the oldest entry that is kept, and follows it.
// Slot "" is the pod. Any number of readers may do so, at any time. A reader slower than the
// ring is long gets an Entry with Dropped in place of what it missed; it slows nobody.
//
// The sequence ends after the last entry of a slot that has ended for good (State.Final).
// It ends with an error in these cases: a *Failure when there is no such slot, and while
// the API server refuses the watch; a *WaitError when ctx ends first; ErrClosed, after the
// entries that are kept, when the Splitter is closed before the slot's end. A container that
// its restartPolicy restarts (Always, which is the default) does not end for good while the
// pod lives.
func (s *Splitter) Entries(ctx context.Context, slot string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		t := &s.record.timeline
		sl := s.slotOrPod(slot)
		if sl != nil {
			t = &sl.timeline
		}
		seq := uint64(1)
		for {
			s.mu.Lock()
			entries, dropped := t.since(seq)
			end, err := s.endOfEntries(sl, t)
			changed, st := t.changed(), *t.cur
			s.mu.Unlock()
			if ctx.Err() != nil {
				yield(Entry{}, gaveUp(ctx, "waiting for more of", st))
				return
			}
			if dropped > 0 && !yield(Entry{Seq: seq, Time: entries[0].Time, Dropped: dropped}, nil) {
				return
			}
			for _, e := range entries {
				if !yield(e, nil) {
					return
				}
				seq = e.Seq + 1
			}
			switch {
			case len(entries) > 0: // look again: others may have come during yield
				continue
			case end:
				if err != nil {
					yield(Entry{}, err)
				}
				return
			}
			select {
			case <-changed:
			case <-ctx.Done():
			}
		}
	}
}

// slotOrPod returns the slot of that name, nil for the pod.
func (s *Splitter) slotOrPod(name string) *slot {
	if name == "" {
		return nil
	}
	return s.slot(name)
}

// endOfEntries reports whether no entry will follow, and the error with which the sequence ends.
func (s *Splitter) endOfEntries(sl *slot, t *timeline) (bool, error) {
	if settled(*t.cur) {
		return true, nil
	}
	if sl != nil {
		if f := s.impossible(sl); f != nil {
			return true, f
		}
	}
	err := s.silence()
	return err != nil, err
}
