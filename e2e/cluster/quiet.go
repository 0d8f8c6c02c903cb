package cluster

import (
	"context"
	"path/filepath"
	"syscall"
)

// Quiet waits until no cluster with this cache (empty: the default one) is being
// brought up, and no part of one started, and lets none until release is called: for a
// test that takes away what a part needs to start, such as inotify instances.
func Quiet(ctx context.Context, cache string) (release func(), err error) {
	if cache, err = absolute(cache, "bin"); err != nil {
		return nil, err
	}
	return flock(ctx, filepath.Join(cache, "starting"), syscall.LOCK_EX)
}

// starting holds back whoever waits for quiet.
func (c *Cluster) starting(ctx context.Context) (release func(), err error) {
	return flock(ctx, filepath.Join(filepath.Dir(c.state.Programs), "starting"), syscall.LOCK_SH)
}
