package eventsplit

import (
	"context"
	"io"

	"github.com/go-vela/podlife/internal/podstatus"
)

// IsPlaceholder reports whether a run of a slot, by its containerID, is a placeholder's. It
// answers from memory, and the same before and after Handle is given the pod that first
// shows the run: in a slot that Options.Placeholder declares and of which no run is known,
// the first run asked about is the placeholder. (The answer changes where the pod then shows
// that this run cannot be the placeholder: see the table in the package's documentation.) It
// is false for a run that may be the step's.
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
	// The slot was not swapped: the placeholder was restarted, or someone else patched the
	// image.
	return sl.spec != nil && podstatus.MayRestart(sl.pod, sl.name)
}

// NextRun returns the containerID of the run of a slot that follows the run after, or of
// its first run when after is "". Placeholders are left out. It blocks until there is such a
// run, and also returns runs of the past, so that readers can walk through them one by one.
// It returns io.EOF when no run will follow or the Splitter is closed, a *Failure when the
// slot will not run at all or the API server refuses the watch, and a *WaitError when ctx
// ends first. While the pod lives, no run is known to be the last one of a container that
// its restartPolicy restarts (Always, which is the default).
func (s *Splitter) NextRun(ctx context.Context, slot, after string) (id string, err error) {
	if slot == "" {
		return "", unnamedSlot() // "" is the pod, which has no runs
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

// nextRun returns the run after after, if it is known which one that is, or that there is none.
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
