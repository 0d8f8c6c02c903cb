package eventsplit

import "github.com/go-vela/podlife/internal/podstatus"

// attribute decides whether a new run of a slot that has a placeholder is the
// placeholder's or a step's; unsure: it is not known, and then the run is told as a
// step's that has no outcome. A Splitter that saw the slot before its first run, or
// the patch, knows. One that was made later has the status alone. doc.go has the table.
func (s *slot) attribute(r *run) (placeholder, unsure bool) {
	prev := s.current()
	switch {
	case prev == nil && r.specImage == "": // of lastState
		return true, false
	case prev == nil && (s.watched || r.restarts == 0):
		return true, false
	case prev == nil:
		return false, s.mayBeRestarted(nil, r)
	case s.swap != nil && s.swap.from == prev && (r.specImage == "" || r.specImage != prev.specImage):
		return false, s.mayBeOf(prev, r)
	case prev.specImage != "" && r.specImage != prev.specImage: // patched under our eyes
		return false, s.mayBeOf(prev, r)
	case !prev.placeholder && !prev.unsure:
		return false, false // a step's, like the one before
	case prev.unsure && s.watched:
		return false, s.mayBeOf(prev, r)
	case s.watched:
		return prev.placeholder, false // restarted before anyone patched
	case !s.mayBeRestarted(prev, r) || r.imageID != "" && prev.imageID != "" && r.imageID != prev.imageID:
		return false, false
	}
	// Who is waiting to swap it says that nobody has yet.
	return s.wanted > 0, s.wanted == 0
}

// mayBeOf tells whether r, which shows after a patch, may yet be a restart of prev: the
// kubelet may start prev again from the old image after the patch was stored (v1.37: 25
// of 36 that ended by themselves within a second of it). Another imageID says that it is
// not; another image's name does not.
func (s *slot) mayBeOf(prev, r *run) bool {
	return r.imageID != "" && r.imageID == prev.imageID && s.mayBeRestarted(prev, r)
}

// mayBeRestarted tells whether the kubelet may have started r after prev, or after a
// run that nobody saw, without a patch of the slot's image. A container that is gone
// from its node it starts again whatever the policy.
func (s *slot) mayBeRestarted(prev, r *run) bool {
	switch {
	case podstatus.RestartsAll(s.pod), r.afterLost, prev != nil && prev.lost:
		return true
	case prev != nil && prev.outcome != nil:
		return podstatus.Restarts(s.pod, s.name, prev.outcome.ExitCode)
	}
	return podstatus.MayRestart(s.pod, s.name)
}

// inherited tells whether the image of the slot may have been patched before this
// Splitter saw it.
func (s *slot) inherited() bool { return s.declared && !s.watched && !s.swapped() }
