package eventsplit

import (
	"context"
	"slices"
)

// State returns what is known of a slot, from memory. Slot "" is the pod, as in Wait. The
// State of a slot that the pod's spec lacks has a Failure once the spec is known.
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

// Wait blocks until the predicate until holds for a slot, and returns the State for which
// it held: at once when it holds already, else as soon as it does, be it only for the State
// of a run that nobody saw. Slot "" is the pod: a caller that has a container's name from
// elsewhere must refuse an empty one, or is answered for the pod.
//
// The error says whether anything is wrong: it is the State's Failure, whether until holds
// or not. A step that was evicted has an Outcome, perhaps with exit code 0, and a Failure;
// Wait returns both. Call until with the State to learn whether it held. A nil error means
// that it held and that nothing is wrong. Once a slot has a Failure, Wait returns the slot's
// last State, so that the answer does not depend on when Wait was called.
//
// Wait ends as soon as until can never hold: with the *Failure of a slot that does not exist
// or will not run, and with one of ClassEnded when the slot has ended for good. A container
// that its restartPolicy restarts (Always, which is the default, and OnFailure after a
// failure) does not end for good as long as the pod lives. Wait ends with a *WaitError when
// ctx ends first, with ErrClosed when the Splitter is closed, and with a *Failure of
// ClassForbidden or ClassUnauthorized while the API server refuses the watch.
//
// Wait calls until in the caller's goroutine, with no lock held. until must not block.
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
		switch over := held >= 0 || silence != nil || settled(last); { // settled: no other State comes
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

// Pulled reports whether the slot's image is on the node: the slot has run, or it waits with
// a trouble that comes after the pull.
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

// Started reports whether the slot's process was started. It stays true after the process
// has ended.
func Started(s State) bool {
	switch s.Phase {
	case PhaseRunning:
		return true
	case PhaseEnded:
		return s.Failure == nil || s.Failure.Class != ClassStart
	}
	return s.Last != nil
}

// Ready reports whether the slot runs and is ready. A slot without a readiness probe is
// ready when it runs.
func Ready(s State) bool { return s.Phase == PhaseRunning && s.Ready }

// Ended reports whether the slot's run has ended and its Outcome is known. A run that was
// lost has no Outcome: Wait returns its Failure.
func Ended(s State) bool { return s.Phase == PhaseEnded && s.Outcome != nil }
