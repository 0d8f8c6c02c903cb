package eventsplit

import "context"

// State returns what is known of a slot, from memory; slot "" is the pod. Of a
// slot that the pod's spec does not have it has a Failure, once the spec is known.
func (s *Splitter) State(name string) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" {
		return *s.whole.cur
	}
	sl := s.slots[name]
	if sl == nil {
		sl = &slot{name: name}
		sl.init(0, State{Slot: name, Phase: PhaseNotRun, Stale: s.stale})
	}
	return s.stateOf(sl)
}

func (s *Splitter) stateOf(sl *slot) State {
	st := *sl.cur
	if f := s.impossible(sl); f != nil && st.Failure == nil {
		st.Failure, st.Final, st.Stale = f, true, s.stale
	}
	return st
}

// impossible tells why a slot will not run: its own failure, or that there is no
// such slot. The lock is held.
func (s *Splitter) impossible(sl *slot) *Failure {
	switch {
	case sl.failure != nil:
		return sl.failure
	case sl.spec != nil:
		return nil
	case s.pod != nil:
		return unknownSlot(sl.name)
	case s.whole.cause != nil:
		f := *s.whole.cause
		f.Slot = sl.name
		return &f
	}
	return nil
}

// Wait returns the first State of a slot for which until holds: at once when it
// does already, else at the very edge, the ones nobody saw included. Slot "" is
// the pod. It ends with a *Failure as soon as until can never hold: the slot does
// not exist, will not run, or has ended for good. It ends with the cause of ctx
// when that ends first, and with ErrClosed when the Splitter is closed.
//
// until is called in the caller's goroutine, with no lock held; it must not block.
func (s *Splitter) Wait(ctx context.Context, name string, until func(State) bool) (State, error) {
	t := &s.whole.timeline
	var sl *slot
	if name != "" {
		sl = s.slot(name)
		t = &sl.timeline
	}
	w := &waiter{signal: make(chan struct{}, 1)}
	s.mu.Lock()
	if t.waiters == nil {
		t.waiters = map[*waiter]struct{}{}
	}
	t.waiters[w] = struct{}{}
	defer func() {
		s.mu.Lock()
		delete(t.waiters, w)
		s.mu.Unlock()
	}()
	for {
		states, closed, refusal := w.pending, s.closed, s.refusal(name)
		w.pending = nil
		last := *t.cur
		if sl != nil {
			last = s.stateOf(sl)
		}
		s.mu.Unlock()
		if ctx.Err() != nil {
			return last, context.Cause(ctx)
		}
		for _, st := range append(states, &last) {
			if until(*st) {
				return *st, nil
			}
		}
		if settled(last) { // no other edge comes
			if last.Failure != nil {
				return last, last.Failure
			}
			return last, endedFailure(last)
		}
		if closed {
			return last, ErrClosed
		}
		if refusal != nil {
			return last, refusal
		}
		select {
		case <-w.signal:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
}

// settled tells whether a State is the last one.
func settled(s State) bool { return s.Final && s.Phase != PhaseRunning }

// Pulled holds once the slot's image is on the node: it has run, or the trouble it
// waits with comes after the pull.
func Pulled(s State) bool {
	if Started(s) || s.ContainerID != "" {
		return true
	}
	for _, f := range []*Failure{s.Waiting, s.Failure} {
		if f == nil || s.Phase != PhaseWaiting && f != s.Failure {
			continue
		}
		switch f.Class {
		case ClassConfig, ClassCreate, ClassStart, ClassCrashLoop:
			return true
		}
	}
	return false
}

// Started holds once the slot's process was started, and stays true after its end.
func Started(s State) bool {
	switch s.Phase {
	case PhaseRunning:
		return true
	case PhaseEnded:
		return s.Failure == nil || s.Failure.Class != ClassStart
	}
	return s.Last != nil
}

// Ready holds while the slot runs and is ready; a slot without a readiness probe
// is ready when it runs.
func Ready(s State) bool { return s.Phase == PhaseRunning && s.Ready }

// Ended holds when the slot's run has ended and how is known. A run that was lost
// has no Outcome: Wait returns its Failure.
func Ended(s State) bool { return s.Phase == PhaseEnded && s.Outcome != nil }
