package testutil

import (
	"cmp"
	"context"
	"time"

	"github.com/go-vela/podlife/internal/testutil/nodelog"
)

// LogRotation is how the kubelet rotates the logs of containers. The zero value
// is a kubelet's defaults (kubernetes v1.36.3
// pkg/kubelet/apis/config/v1beta1/defaults.go:258-268).
type LogRotation struct {
	Every    time.Duration // containerLogMonitorInterval; 0: 10 s
	MaxSize  int64         // containerLogMaxSize, in bytes; 0: 10Mi
	MaxFiles int           // containerLogMaxFiles; 0: 5

	// Reopen, if set, is asked at every rotation of a container's log: how long the
	// runtime takes to make the new file, how long it goes on to write to the old
	// one after that, and why it cannot make one. nil: 2 ms, 200 µs, it can.
	Reopen func(containerID string) (makes, turns time.Duration, err error)
}

func (r LogRotation) withDefaults() LogRotation {
	r.Every = cmp.Or(r.Every, 10*time.Second)
	r.MaxSize = cmp.Or(r.MaxSize, 10<<20)
	r.MaxFiles = cmp.Or(r.MaxFiles, 5)
	if r.Reopen == nil {
		r.Reopen = func(string) (time.Duration, time.Duration, error) { return reopenTakes, turnTakes, nil }
	}
	return r
}

// rotateLogs looks at the logs of all running containers, one after the other,
// every so often; nobody else writes to a log that may be rotated
// (pkg/kubelet/logs/container_log_manager.go:193-275).
func (k *kubelet) rotateLogs(ctx context.Context) {
	o := k.cluster.options.Logs.withDefaults()
	tick := time.NewTicker(o.Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		for _, c := range k.runtime.running() {
			c.rotate(ctx, o)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// rotate has a log that is too large rotated. A kubelet that dies meanwhile leaves the
// rest to the next one (container_log_manager.go:236-247).
func (c *container) rotate(ctx context.Context, o LogRotation) {
	size, found := c.log.Size()
	if !c.log.Running() || found && size < o.MaxSize {
		return
	}
	renamed := c.log.Rename(o.MaxFiles)
	makes, turns, err := o.Reopen(c.status.id)
	switch {
	case wait(ctx, makes) != nil:
	case err == nil && c.log.Reopen():
		_ = wait(context.WithoutCancel(ctx), turns) // of the runtime
		c.log.Turn()
	case renamed:
		c.log.RenameBack()
	}
}

// LogFile is one file of a container's log on its node.
type LogFile = nodelog.File

// LogFiles returns the files of a container's log, the current one last; it may
// not be there for a moment. Of a container that was removed there are none.
func (c *Cluster) LogFiles(containerID string) []LogFile {
	it := c.node.runtime.named(containerID)
	if it == nil {
		return nil
	}
	return it.log.Files()
}
