package eventsplit

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// derive returns the State of a judged slot, and when it came about; zero is now. It changes
// nothing. The lock is held.
func (s *Splitter) derive(sl *slot) (State, time.Time) {
	st := sl.base()
	st.Stale, st.Failure, st.Final = s.stale, sl.failure, sl.failure != nil
	r := sl.stepRun()
	if r == nil {
		st.Waiting = sl.waiting
		if sl.failure == nil && (!sl.declared || sl.swapped()) {
			st.Phase = PhaseWaiting
		}
		return st, time.Time{}
	}
	st.Restarts, st.Last = sl.restarts(r), sl.last(r)
	if sl.status == statusWaiting && sl.failure == nil && (!r.ended() || !s.over()) {
		st.Phase, st.Last, st.Waiting = PhaseWaiting, r.outcome, sl.waiting
		return st, time.Time{}
	}
	st.ContainerID, st.Image, st.ImageID = r.containerID(), r.image, r.imageID
	if !r.ended() {
		st.Phase, st.Ready = PhaseRunning, sl.ready
		st.Final = st.Final || s.over()
		return st, r.started
	}
	st.Phase, st.Outcome = PhaseEnded, r.outcome
	st.Final = st.Final || s.over() || !s.wouldRestart(sl, r) && !podstatus.RestartsAll(sl.pod)
	return st, r.finished()
}

// podState returns the State of the pod. It changes nothing. The lock is held.
func (s *Splitter) podState() State {
	w := &s.record
	st := State{Kind: KindPod, Phase: PhaseNotRun, Stale: s.stale, Failure: w.cause, Waiting: w.waiting}
	if s.pod != nil {
		st.Phase = PhaseWaiting
		if s.pod.Status.Phase == corev1.PodRunning || s.pod.Status.Phase == corev1.PodUnknown {
			st.Phase = PhaseRunning
		}
		c := condition(s.pod, corev1.PodReady)
		st.Ready = c != nil && c.Status == corev1.ConditionTrue && !s.over()
	}
	if w.ended || w.gone {
		st.Phase, st.Final, st.Waiting = PhaseEnded, true, nil
	}
	if w.ended && w.cause == nil {
		st.Outcome, st.Failure = w.outcome, w.endFailure
		st.Final = w.outcome != nil || w.endFailure != nil // else a container is not decided yet
	}
	return st
}

// stateOf returns the State of a slot, which the spec may lack. The lock is held.
func (s *Splitter) stateOf(sl *slot) State {
	st := *sl.timeline.cur
	if f := s.impossible(sl); f != nil && st.Failure == nil {
		st.Failure, st.Final, st.Stale = f, true, s.stale
	}
	return st
}

// impossible returns why a slot will not run: its own Failure, or that the pod has no such
// container; nil when it may run. The lock is held.
func (s *Splitter) impossible(sl *slot) *Failure {
	switch {
	case sl.failure != nil:
		return sl.failure
	case sl.spec != nil:
		return nil
	case s.specKnown:
		return unknownSlot(sl.name)
	case s.pod != nil && s.over():
		return s.podFailure(sl)
	case s.record.cause != nil:
		f := *s.record.cause
		f.Slot = sl.name
		return &f
	}
	return nil
}
