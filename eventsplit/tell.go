package eventsplit

import (
	"time"
)

// tell publishes the start or the end of a run that no State told of in time.
func (s *slot) tell(r *run, p Phase, at time.Time, synthesised bool) {
	st := s.base()
	st.Phase, st.ContainerID, st.Image, st.ImageID = p, r.containerID(), r.image, r.imageID
	st.Restarts, st.Last = s.restarts(r), s.last(r)
	switch p {
	case PhaseRunning:
		r.told = toldStart
		st.Ready = !synthesised && s.ready
	case PhaseEnded:
		r.told = toldEnd
		st.Outcome = r.outcome
	}
	s.timeline.publish(st, at, synthesised)
}

// tellStarted publishes the start of a run that no status showed running, unless it was told
// before.
func (s *slot) tellStarted(r *run) {
	if r.told >= toldStart || r.end == endNeverStarted || !s.mayTell(r) {
		return
	}
	at := r.started
	if r.outcome != nil {
		at = r.outcome.Started
	}
	s.tell(r, PhaseRunning, at, true)
}

// tellEnded publishes the end of a run that another run follows, and the start before it if need
// be.
func (s *slot) tellEnded(r *run) {
	if r.told == toldEnd || !s.mayTell(r) {
		return
	}
	s.tellStarted(r)
	s.tell(r, PhaseEnded, r.finished(), true)
}

// mayTell reports whether State may tell of a run now.
func (s *slot) mayTell(r *run) bool {
	return s.failure == nil && s.find(r.id) >= s.from
}

// noteTold notes what a published State told of the slot's newest run.
func (s *slot) noteTold(st State) {
	r := s.stepRun()
	switch {
	case r == nil:
	case st.Phase == PhaseRunning:
		r.told = max(r.told, toldStart)
	case st.Phase == PhaseEnded:
		r.told = toldEnd
	}
}
