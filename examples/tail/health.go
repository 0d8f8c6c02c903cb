package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

const (
	// together is how long logs in the same trouble are counted before they are told:
	// a kubelet's death breaks them all.
	together = time.Second
	// mostNotes is how many sentences wait for a stderr that is slow.
	mostNotes = 100
	// another is after how long logs that cannot be read are told of once more.
	another = 5 * time.Minute
)

// health tells a person when the API server or a kubelet does not answer, and when
// it does again. The library goes on by itself, and does not wait: what it notifies
// of is noted, and said by run.
type health struct {
	out  *printer
	news chan struct{} // has one place

	mu      sync.Mutex
	notes   []string        // to be told
	untold  int             // notes that there was no place for
	failing map[string]bool // container IDs of the runs whose logs cannot be read
	failed  time.Time       // when that was last told
	resumed int             // logs that are read again, to be told
	polled  int             // logs that are read in intervals, to be told
}

func newHealth(out *printer) *health {
	return &health{out: out, news: make(chan struct{}, 1), failing: map[string]bool{}}
}

// ofWatch notes what troubles the watch.
func (h *health) ofWatch(n podwatch.Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch n.Kind {
	case podwatch.NoticeStale:
		h.note("watch of %s: lost contact with the API server, trying again: %v", n.Resource, n.Err)
	case podwatch.NoticeFresh:
		h.note("watch of %s: contact again", n.Resource)
	case podwatch.NoticeForbidden:
		h.note("watch of %s: refused: %v", n.Resource, n.Err)
	case podwatch.NoticeGranted:
		h.note("watch of %s: granted again", n.Resource)
	}
}

// ofLog notes what troubles the logs, and not of each what troubles many.
func (h *health) ofLog(n logstream.Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch n.Kind {
	case logstream.NoticeFailed:
		// A run that nobody could read to its end fails for as long as its pod is there.
		if now := time.Now(); len(h.failing) == 0 || now.Sub(h.failed) >= another {
			h.failed = now
			h.note("logs cannot be read, trying again: %s/%s %s: %s", n.Namespace, n.Name, n.Slot, cli.OneLine(n.Err))
		}
		h.failing[n.ContainerID] = true
	case logstream.NoticeResumed:
		delete(h.failing, n.ContainerID)
		h.resumed++
	case logstream.NoticeFinal:
		delete(h.failing, n.ContainerID)
	case logstream.NoticePolling:
		h.polled++
	case logstream.NoticeStreaming: // how a log is read is no trouble
	default: // output that was dropped, a disk that fails or works again
		h.note("%s", n)
	}
}

// note needs mu.
func (h *health) note(format string, args ...any) {
	if len(h.notes) == mostNotes {
		h.untold++
		return
	}
	h.notes = append(h.notes, fmt.Sprintf(format, args...))
	select {
	case h.news <- struct{}{}:
	default:
	}
}

// run tells what was noted, and how many logs are read otherwise than before: until
// ctx ends, and then what is left.
func (h *health) run(ctx context.Context) {
	tick := time.NewTicker(together)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-h.news:
		case <-tick.C:
		case <-ctx.Done():
		}
		h.tell()
	}
	h.tell()
}

// tell holds no lock while it writes.
func (h *health) tell() {
	h.mu.Lock()
	notes := h.notes
	if h.untold > 0 {
		notes = append(notes, fmt.Sprintf("%d more such notices", h.untold))
	}
	if h.resumed > 0 {
		notes = append(notes, fmt.Sprintf("logs that are read again after a break: %d", h.resumed))
	}
	if h.polled > 0 {
		notes = append(notes, fmt.Sprintf("logs that are read in intervals, for streams of them do not work: %d", h.polled))
	}
	h.notes, h.untold, h.resumed, h.polled = nil, 0, 0, 0
	h.mu.Unlock()
	for _, text := range notes {
		h.out.say("%s", text)
	}
}
