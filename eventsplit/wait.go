package eventsplit

import (
	"context"
	"slices"
)

// State returns what is known of a slot, from memory; slot "" is the pod, as in Wait.
// Of a slot that the pod's spec does not have it has a Failure, once the spec is known.
func (s *Splitter) State(name string) State {
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == "" {
		return *s.record.timeline.cur
	}
	sl := s.slots[name]
	if sl == nil {
		sl = &slot{name: name}
		sl.timeline.init(0, State{Slot: name, Phase: PhaseNotRun, Stale: s.stale})
	}
	return s.stateOf(sl)
}

// Wait blocks until until holds for a slot, and returns the State for which it
// did: at once when it holds already, else at the very edge, the ones nobody saw
// included. Slot "" is the pod: whoever has the name of a container from elsewhere must
// refuse an empty one, or is answered for the pod.
//
// The error is the verdict: it is the State's Failure, whether until holds or not.
// A step that was evicted has an Outcome, perhaps with exit code 0, and a Failure;
// Wait returns both. until(state) tells whether it held; a nil error means that it
// did and that nothing is wrong besides. Once the slot has a Failure, Wait returns
// its last State, so that it says the same whether it was called before or after.
//
// Wait ends as soon as until can never hold: with the *Failure of a slot that does
// not exist or will not run, and with one of ClassEnded when the slot has ended for
// good. It never does of a container that its restartPolicy restarts: Always, which
// is the default, and OnFailure after a failure have no end for good as long as the
// pod lives. Wait ends with a *WaitError when ctx ends first, with ErrClosed when the
// Splitter is closed, and with a *Failure of ClassForbidden or ClassUnauthorized while
// the API server refuses the watch.
//
// until is called in the caller's goroutine, with no lock held; it must not block.
func (s *Splitter) Wait(ctx context.Context, name string, until func(State) bool) (State, error) {
	t := &s.record.timeline
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
		states, silence := w.pending, s.silence()
		w.pending = nil
		last := *t.cur
		if sl != nil {
			last = s.stateOf(sl)
		}
		s.mu.Unlock()
		if ctx.Err() != nil {
			return last, gaveUp(ctx, "", last)
		}
		held := slices.IndexFunc(append(states, &last), func(st *State) bool { return until(*st) })
		switch over := held >= 0 || silence != nil || settled(last); { // settled: no other edge comes
		case over && last.Failure != nil:
			return last, last.Failure
		case held == len(states):
			return last, nil
		case held >= 0:
			return *states[held], nil
		case settled(last):
			return last, endedFailure(last)
		case silence != nil:
			return last, silence
		}
		select {
		case <-w.signal:
		case <-ctx.Done():
		}
		s.mu.Lock()
	}
}

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
