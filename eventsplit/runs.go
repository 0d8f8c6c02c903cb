package eventsplit

import (
	"context"
	"io"

	"github.com/go-vela/podlife/internal/podstatus"
)

// IsPlaceholder tells whether a run of a slot, by its containerID, is a
// placeholder's. It answers from memory, and the same before and after Handle took
// in the pod that first shows the run: of a slot that Options.Placeholder declares
// and of which no run is known, the first one asked about is the placeholder. (That is
// taken back where the pod then shows that it cannot be: see the package's table.) A
// run of which it is not known whether it is a placeholder's is none.
func (s *Splitter) IsPlaceholder(slot, containerID string) bool {
	if slot == "" || containerID == "" {
		return false
	}
	sl := s.slot(slot)
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := sl.find(containerID); i >= 0 {
		return sl.runs[i].owner == ownerPlaceholder
	}
	if !sl.declared {
		return false
	}
	rep := sl.replaced()
	switch {
	case len(sl.runs) == 0:
		if sl.presumed == "" {
			sl.presumed = containerID
		}
		return sl.presumed == containerID
	case rep == nil || rep.owner != ownerPlaceholder || sl.swapped() || sl.mayBePatched() && sl.waitingSwaps == 0:
		return false
	}
	// Not swapped: either it was restarted, or someone else patched the image.
	return sl.spec != nil && podstatus.MayRestart(sl.pod, sl.name)
}

// NextRun returns the containerID of the run of a slot that follows the run after
// ("": of its first one), placeholders left out. It blocks until there is one, and
// returns runs of the past too, so that one reader after another can walk through
// them. It ends with io.EOF when none will follow or the Splitter is closed, with
// a *Failure when the slot will not run at all or the API server refuses the watch, and
// with a *WaitError when ctx ends first. None is known to be the last of a container
// that its restartPolicy restarts (Always, which is the default) while the pod lives.
func (s *Splitter) NextRun(ctx context.Context, slot, after string) (id string, err error) {
	if slot == "" {
		return "", unnamedSlot() // the pod has no runs
	}
	sl := s.slot(slot)
	for {
		s.mu.Lock()
		id, known, err := s.nextRun(sl, after)
		changed, st := sl.timeline.changed(), s.stateOf(sl)
		s.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return "", gaveUp(ctx, "waiting for the next run of", st)
		case known:
			return id, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// nextRun tells whether the next run, or that there is none, is known.
func (s *Splitter) nextRun(sl *slot, after string) (id string, known bool, err error) {
	i := sl.find(after)
	if i >= 0 || after == "" || len(sl.runs) >= maxRuns {
		for _, r := range sl.runs[i+1:] {
			if r.owner != ownerPlaceholder && !r.anonymous {
				return r.id, true, nil
			}
		}
	}
	if f := s.impossible(sl); f != nil && sl.stepRun() == nil {
		return "", true, f
	}
	if s.closed || sl.timeline.cur.Final || s.impossible(sl) != nil {
		return "", true, io.EOF
	}
	if s.refused != nil {
		return "", true, s.refused
	}
	return "", false, nil
}
