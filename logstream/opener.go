package logstream

import (
	"fmt"

	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
)

// FromConfig returns an Opener on the cluster of cfg, which it copies. It has
// connections of its own, so that floods of logs and the loss of a connection do
// not touch the caller's watches: one for every 90 streams where the server speaks
// HTTP/2. It has no client-side rate limit and no timeout. A cfg that brings its
// own Transport keeps it, and its connections.
func FromConfig(cfg *rest.Config) (Opener, error) {
	o, err := kubelog.NewOpener(cfg)
	if err != nil {
		return nil, fmt.Errorf("logstream: %w", err)
	}
	return o, nil
}
