package testutil

import (
	"cmp"
	"context"
	"slices"
	"time"
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
			c.log.rotate(ctx, c, o)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// rotate gives a log that is too large another name and has the runtime make a
// new file. Until there is one, the log cannot be read. A kubelet that dies
// meanwhile leaves that to the next one (container_log_manager.go:236-247).
func (l *containerLog) rotate(ctx context.Context, c *container, o LogRotation) {
	l.mu.Lock()
	rename := l.current != nil
	if l.closed || rename && l.current.size < o.MaxSize {
		l.mu.Unlock()
		return
	}
	if rename {
		l.rename(c, o)
	}
	l.mu.Unlock()
	makes, turns, err := o.Reopen(c.status.id)
	if wait(ctx, makes) != nil || !l.reopen(rename, err) {
		return
	}
	// containerd makes the new file before it turns to it, and writes what it has of
	// a line to the old one (internal/cri/server/container_log_reopen.go:39-50). A
	// follower that opened the new file never sees what is written until then.
	_ = wait(context.WithoutCancel(ctx), turns)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	l.out = l.current
}

// reopen makes the new file. Where the runtime cannot, or the container is dead
// by now, the old one gets its name back (container_log_manager.go:424-433).
func (l *containerLog) reopen(renamed bool, err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.rotated) - 1
	switch {
	case err == nil && !l.closed:
		l.current = &logFile{}
	case renamed:
		l.current, l.rotated = l.rotated[last].logFile, l.rotated[:last]
	default:
		return false
	}
	l.tell(fileRecreated)
	return l.current != l.out
}

// rename makes room for one more rotated file, compresses the older ones and
// gives the current file another name: of five files that are kept one is the
// current one, one was rotated last, and three are compressed
// (container_log_manager.go:277-371, 416-422). Called with the lock held.
func (l *containerLog) rename(c *container, o LogRotation) {
	if excess := len(l.rotated) - max(o.MaxFiles-2, 0); excess > 0 {
		l.rotated = slices.Delete(l.rotated, 0, excess)
	}
	for i := range l.rotated {
		if f := &l.rotated[i]; !f.gzip {
			f.name, f.gzip = f.name+".gz", true
		}
	}
	name := c.logName() + "." + time.Now().Format("20060102-150405")
	l.rotated = append(l.rotated, rotatedFile{logFile: l.current, name: name})
	l.current = nil
	l.tell(fileWritten)
}
