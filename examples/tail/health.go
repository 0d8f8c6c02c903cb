package main

import (
	"context"
	"sync"
	"time"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// together is how long logs in the same trouble are counted before they are told: a
// kubelet's death breaks them all.
const together = time.Second

// health tells a person when the API server or a kubelet does not answer, and when
// it does again. The library goes on by itself.
type health struct {
	out *printer

	mu      sync.Mutex
	failing map[string]bool // container IDs of the runs whose logs cannot be read
	resumed int             // logs that are read again, to be told
	polled  int             // logs that are read in intervals, to be told
}

// ofWatch tells what troubles the watch.
func (h *health) ofWatch(n podwatch.Notice) {
	switch n.Kind {
	case podwatch.NoticeStale:
		h.out.say("watch of %s: lost contact with the API server, trying again: %v", n.Resource, n.Err)
	case podwatch.NoticeFresh:
		h.out.say("watch of %s: contact again", n.Resource)
	case podwatch.NoticeForbidden:
		h.out.say("watch of %s: refused: %v", n.Resource, n.Err)
	}
}

// ofLog tells what troubles the logs, and not of each what troubles many.
func (h *health) ofLog(n logstream.Notice) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch n.Kind {
	case logstream.NoticeFailed:
		if len(h.failing) == 0 {
			h.failing = map[string]bool{}
			h.out.say("logs cannot be read, trying again: %s/%s %s: %s", n.Namespace, n.Name, n.Slot, cli.OneLine(n.Err))
		}
		h.failing[n.ContainerID] = true
	case logstream.NoticeResumed:
		delete(h.failing, n.ContainerID)
		h.resumed++
	case logstream.NoticePolling:
		h.polled++
	}
}

// forget the log of a run whose capture has ended.
func (h *health) forget(containerID string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.failing, containerID)
}

// run tells, until ctx ends, how many logs are read otherwise than before.
func (h *health) run(ctx context.Context) {
	tick := time.NewTicker(together)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		h.mu.Lock()
		if h.resumed > 0 {
			h.out.say("logs that are read again after a break: %d", h.resumed)
			h.resumed = 0
		}
		if h.polled > 0 {
			h.out.say("logs that are read in intervals, for their node is out of inotify instances: %d", h.polled)
			h.polled = 0
		}
		h.mu.Unlock()
	}
}
