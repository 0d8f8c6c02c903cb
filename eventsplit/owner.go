package eventsplit

import (
	"github.com/go-vela/podlife/internal/podstatus"
)

// ownerOf decides whether a new run of a slot that has a placeholder is the placeholder's
// or a step's. A Splitter that saw the slot before the slot's first run, or that saw the
// patch, knows. A Splitter that was made later has only the status. The table in doc.go
// has all cases.
func (s *slot) ownerOf(r *run) runOwner {
	prev := s.current()
	switch {
	case prev == nil && r.specImage == "": // only lastState shows it
		return ownerPlaceholder
	case prev == nil && (s.seenBeforeRuns || r.restarts == 0):
		return ownerPlaceholder
	case prev == nil:
		return stepUnless(s.mayBeRestart(nil, r))
	case s.swap != nil && s.swap.from == prev && (r.specImage == "" || r.specImage != prev.specImage):
		return stepUnless(s.mayBeSameImage(prev, r))
	case prev.specImage != "" && r.specImage != prev.specImage: // this Splitter saw the patch
		return stepUnless(s.mayBeSameImage(prev, r))
	case prev.owner == ownerStep && !prev.unattributed():
		return ownerStep
	case prev.unattributed() && s.seenBeforeRuns:
		return stepUnless(s.mayBeSameImage(prev, r))
	case s.seenBeforeRuns: // it was restarted before anyone patched the image
		return prev.owner
	case !s.mayBeRestart(prev, r), otherImage(prev, r):
		return ownerStep
	case s.waitingSwaps > 0: // who waits to swap the slot knows that nobody has done so yet
		return ownerPlaceholder
	}
	return ownerUnknown
}

func stepUnless(unknown bool) runOwner {
	if unknown {
		return ownerUnknown
	}
	return ownerStep
}

// mayBeSameImage reports whether r, which a status shows after a patch, may be a restart
// of prev: the kubelet may start prev again from the old image after the patch was stored
// (v1.37: 25 of 36 placeholders that ended by themselves within a second of the patch).
// Another imageID rules that out; another name of the image does not.
func (s *slot) mayBeSameImage(prev, r *run) bool {
	return r.imageID != "" && r.imageID == prev.imageID && s.mayBeRestart(prev, r)
}

func otherImage(prev, r *run) bool {
	return r.imageID != "" && prev.imageID != "" && r.imageID != prev.imageID
}

// mayBeRestart reports whether the kubelet may have started r after prev, or after a run
// that nobody saw, although nobody patched the slot's image. The kubelet starts a
// container that is gone from its node again, whatever the restart policy is.
func (s *slot) mayBeRestart(prev, r *run) bool {
	switch {
	case podstatus.RestartsAll(s.pod), r.afterLost, prev != nil && prev.lost():
		return true
	case prev != nil && prev.outcome != nil:
		return podstatus.Restarts(s.pod, s.name, prev.outcome.ExitCode)
	}
	return podstatus.MayRestart(s.pod, s.name)
}

// mayBePatched reports whether the slot's image may have been patched before this Splitter
// saw the slot.
func (s *slot) mayBePatched() bool { return s.declared && !s.seenBeforeRuns && !s.swapped() }
