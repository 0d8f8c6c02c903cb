package logstream

import (
	"context"
	"fmt"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// nextRun is Runs.NextRun, or what stands in for a nil one: the runs in the order
// in which they were found.
func (c *Capture) nextRun(ctx context.Context, slot, after string) (string, error) {
	if c.runs != nil {
		return c.runs.NextRun(ctx, slot, after)
	}
	return c.nextFound(ctx, slot, after)
}

// nextFound is nextRun by the order in which the runs were found.
func (c *Capture) nextFound(ctx context.Context, slot, after string) (string, error) {
	for {
		c.mu.Lock()
		wake := c.wake
		id, final := c.firstAfter(slot, after)
		absent, refused := after == "" && c.done && c.slots[slot] == nil, c.refused
		c.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return "", context.Cause(ctx)
		case id != "":
			return id, nil
		case absent:
			return "", fmt.Errorf("logstream: pod %s/%s had no container %q", c.namespace, c.name, slot)
		case final:
			return "", io.EOF
		case refused != nil:
			return "", fmt.Errorf("logstream: the watch of pod %s/%s is refused: %w", c.namespace, c.name, &apierrors.StatusError{ErrStatus: *refused})
		}
		select {
		case <-wake:
		case <-ctx.Done():
		}
	}
}

func (c *Capture) firstAfter(name, after string) (id string, final bool) {
	seen, final := after == "", c.over
	for _, r := range c.order {
		if r.slot != name || r.id == "" {
			continue
		}
		if seen {
			return r.id, false
		}
		seen = r.id == after
	}
	if sl := c.slots[name]; sl != nil {
		final = final || sl.final
	}
	return "", final
}

// nameless returns the i-th run of slot that has no ID; nil: there is none.
func (c *Capture) nameless(slot string, i int) *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.order {
		if r.slot != slot || r.id != "" {
			continue
		}
		if i--; i < 0 {
			return r
		}
	}
	return nil
}

// isLast says whether no run of slot was found after id.
func (c *Capture) isLast(slot, id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, _ := c.firstAfter(slot, id)
	return next == ""
}

// find waits until the run is known; nil when it never will be.
func (c *Capture) find(ctx context.Context, name, id string) (*run, error) {
	for {
		c.mu.Lock()
		wake, over := c.wake, c.over
		for _, r := range c.order {
			if r.slot == name && r.id == id {
				c.mu.Unlock()
				return r, nil
			}
		}
		c.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case over:
			return nil, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
		}
	}
}
