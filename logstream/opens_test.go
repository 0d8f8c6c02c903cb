package logstream

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
)

// stuckOpener never answers; it counts who waits.
type stuckOpener struct{ waiting atomic.Int64 }

func (o *stuckOpener) OpenLog(ctx context.Context, _, _ string, _ *corev1.PodLogOptions) (io.ReadCloser, error) {
	o.waiting.Add(1)
	defer o.waiting.Add(-1)
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func TestARunsFirstRequestDoesNotQueueBehindTheProofsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &stuckOpener{}
		s := New(o, Options{Opens: 8})
		ctx, cancel := context.WithCancel(t.Context())
		open := func(n int, first bool) {
			for range n {
				go func() { _, _ = s.open(ctx, "n", "p", &corev1.PodLogOptions{}, first) }()
			}
			synctest.Wait()
		}
		open(10, false)
		if got := o.waiting.Load(); got != 2 {
			t.Errorf("%d later requests are under way, want a quarter of the places", got)
		}
		open(10, true)
		if got := o.waiting.Load(); got != 8 {
			t.Errorf("%d requests are under way, want all places taken", got)
		}
		cancel()
		synctest.Wait()
		if len(s.opens) != 0 || len(s.later) != 0 {
			t.Errorf("%d and %d places were not given back", len(s.opens), len(s.later))
		}
	})
}
