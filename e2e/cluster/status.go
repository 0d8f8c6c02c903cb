package cluster

import (
	"context"
	"time"
)

// Status says how one component does.
type Status struct {
	Component string
	PID       int    // 0: it was never started
	Running   bool   // its process has not ended
	Address   string // where it listens, on loopback
	Err       error  // why it does not serve; nil: it does
}

// Status returns how the cluster's components do, asking each that runs.
func (c *Cluster) Status(ctx context.Context) ([]Status, error) {
	if err := c.load(); err != nil {
		return nil, err
	}
	var all []Status
	for _, comp := range components() {
		p := c.state.Processes[comp.name]
		s := Status{Component: comp.name, PID: p.PID, Running: p.alive(), Address: comp.address(c)}
		if s.Running {
			asking, cancel := context.WithTimeout(ctx, 5*time.Second)
			s.Err = comp.ready(asking, c)
			cancel()
		}
		all = append(all, s)
	}
	return all, ctx.Err()
}
