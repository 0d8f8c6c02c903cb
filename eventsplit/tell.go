package eventsplit

import (
	"time"
)

// say publishes one edge of a run.
func (s *slot) say(r *run, p Phase, at time.Time, synthesised bool) {
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

// sayStarted publishes the start of a run that nobody saw running.
func (s *slot) sayStarted(r *run) {
	if r.told >= toldStart || r.end == endNeverStarted || !s.maySpeakOf(r) {
		return
	}
	at := r.started
	if r.outcome != nil {
		at = r.outcome.Started
	}
	s.say(r, PhaseRunning, at, true)
}

// sayEnded publishes the end of a run that another one follows, and before it
// the start, if nobody saw that.
func (s *slot) sayEnded(r *run) {
	if r.told == toldEnd || !s.maySpeakOf(r) {
		return
	}
	s.sayStarted(r)
	s.say(r, PhaseEnded, r.finished(), true)
}

func (s *slot) maySpeakOf(r *run) bool {
	return s.failure == nil && s.find(r.id) >= s.from
}

// toldState notes what a State that was published told of the slot's newest run.
func (s *slot) toldState(st State) {
	r := s.work()
	switch {
	case r == nil:
	case st.Phase == PhaseRunning:
		r.told = max(r.told, toldStart)
	case st.Phase == PhaseEnded:
		r.told = toldEnd
	}
}
