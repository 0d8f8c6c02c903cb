package executor

import (
	"context"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// node is a logstream.Opener: the node on which the step runs. As a kubelet does, it
// streams a log to whoever follows it until the container has exited, and shows what
// there is to whoever reads it.
type node struct {
	mu      sync.Mutex
	log     []byte
	exited  bool
	broken  int           // streams, counted up by breaks
	changed chan struct{} // closed and replaced
}

func newNode() *node { return &node{changed: make(chan struct{})} }

// prints: the step prints lines. The runtime puts its time before each.
func (n *node) prints(lines ...string) {
	n.change(func() {
		for _, line := range lines {
			n.log = append(n.log, time.Now().UTC().Format("2006-01-02T15:04:05.000000000Z")+" "+line+"\n"...)
		}
	})
}

// exits: the step's process has ended, and so do the streams.
func (n *node) exits() { n.change(func() { n.exited = true }) }

// breaks: the kubelet is restarted. Streams end as if the step had.
func (n *node) breaks() { n.change(func() { n.broken++ }) }

func (n *node) change(how func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	how()
	close(n.changed)
	n.changed = make(chan struct{})
}

// OpenLog opens the log of the container that runs, or ran last.
func (n *node) OpenLog(ctx context.Context, _, _ string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return &stream{n: n, ctx: ctx, follow: o.Follow, broken: n.broken}, nil
}

type stream struct {
	n      *node
	ctx    context.Context // of the request
	follow bool
	broken int
	read   int
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		s.n.mu.Lock()
		k := copy(p, s.n.log[s.read:])
		over := !s.follow || s.n.exited || s.n.broken > s.broken
		changed := s.n.changed
		s.n.mu.Unlock()
		s.read += k
		switch {
		case k > 0:
			return k, nil
		case over:
			return 0, io.EOF
		}
		select {
		case <-changed:
		case <-s.ctx.Done():
			return 0, context.Cause(s.ctx)
		}
	}
}

func (s *stream) Close() error { return nil }
