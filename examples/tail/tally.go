package main

import (
	"sync/atomic"
	"time"
)

// remembered is how many runs of pods that left the selector are: the newest.
const remembered = 1000

// tally is what a follower has printed of a run.
type tally struct {
	id    string // the container's
	done  <-chan struct{}
	lines atomic.Uint64 // those printed before the pod came back included
	last  time.Time     // the time of the last one
}

// tally returns that of a run.
func (f *follower) tally(id string) *tally {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.tallies[id] == nil {
		f.tallies[id] = &tally{id: id, done: f.done}
	}
	return f.tallies[id]
}

// begin begins to print a run, of which the lines up to a time may be printed: the
// pod has left the selector and is back. The follower that it had ends first.
func (f *follower) begin(id string) (now *tally, until time.Time) {
	now = f.tally(id)
	if was, back := f.t.printed.Swap(id, now); back {
		select {
		case <-was.(*tally).done:
			now.last = was.(*tally).last
		case <-f.t.out.ctx.Done():
		}
	}
	return now, now.last
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
