package eventsplit

import (
	"context"
	"iter"
)

// Entries yields a slot's timeline from its oldest entry kept, and follows it;
// slot "" is the pod's. Any number of readers may do so, at any time. A reader
// slower than the ring is long gets an Entry with Dropped in place of what it
// missed; it slows nobody.
//
// The sequence ends when the slot has come to its end (State.Final) and all of its
// entries were yielded; with a *Failure for a slot that there is not, with a
// *WaitError when ctx ends first, and after the entries kept with ErrClosed when the
// Splitter is closed before the slot's end, and with a *Failure while the API server
// refuses the watch. A container that its restartPolicy
// restarts (Always, which is the default) does not come to its end while the pod
// lives.
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
			case len(entries) > 0: // look again: yield may have taken its time
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

func (s *Splitter) slotOrPod(name string) *slot {
	if name == "" {
		return nil
	}
	return s.slot(name)
}

// endOfEntries tells whether no entry will follow, and how that is said.
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
