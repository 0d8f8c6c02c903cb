package main

import (
	"sync/atomic"
	"time"
)

// remembered is how many runs of pods that left the selector are: the newest.
const remembered = 1000

// tally is what a follower has printed of a run.
type tally struct {
	id          string        // the container's
	lines       atomic.Uint64 // those printed before the pod came back included
	first, last time.Time     // the times of the first line, and of the last one printed

	skip  uint64    // so many lines were printed before the pod came back;
	until time.Time // or, should the node have rotated the log since, those up to this time
}

// skips says whether the next line, of time at, was printed before.
func (a *tally) skips(at time.Time) bool {
	return a.lines.Load() < a.skip || !a.until.IsZero() && !at.After(a.until)
}

// tally returns that of a run.
func (f *follower) tally(id string) *tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tallies[id] == nil {
		f.tallies[id] = &tally{id: id}
	}
	return f.tallies[id]
}

// begin begins to print a run, whose first line has the time first. Some of it may be
// printed: the pod has left the selector and is back. The follower that it had ends
// first; it is older, so nobody waits for one that waits for him.
func (f *follower) begin(id string, first time.Time) *tally {
	now := f.tally(id)
	now.first = first
	if f.before != nil {
		select {
		case <-f.before:
		case <-f.t.out.ctx.Done():
			return now
		}
	}
	if v, back := f.t.printed.Swap(id, now); back {
		was := v.(*tally)
		if now.last = was.last; was.first.Equal(first) {
			now.skip = was.lines.Load()
		} else {
			now.until = was.last
		}
	}
	return now
}

// leave forgets a run whose pod is deleted, and in time one whose pod left.
func (t *tailer) leave(of *tally, deleted bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !deleted {
		if t.left = append(t.left, of); len(t.left) <= remembered {
			return
		}
		of, t.left = t.left[0], t.left[1:]
	}
	t.printed.CompareAndDelete(of.id, of) // else it is back
}
