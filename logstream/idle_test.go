package logstream

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// quiet is an Opener of logs of one line that go on without another.
type quiet struct{ opened atomic.Int64 }

func (q *quiet) OpenLog(ctx context.Context, _, _ string, _ *corev1.PodLogOptions) (io.ReadCloser, error) {
	q.opened.Add(1)
	return &quietBody{text: strings.NewReader("2026-11-22T10:00:00.000000001Z ready\n"), ctx: ctx, q: q, closed: make(chan struct{})}, nil
}

type quietBody struct {
	text   *strings.Reader
	ctx    context.Context
	q      *quiet
	once   sync.Once
	closed chan struct{}
}

func (b *quietBody) Read(p []byte) (int, error) {
	if b.text.Len() > 0 {
		return b.text.Read(p)
	}
	select {
	case <-b.closed:
	case <-b.ctx.Done():
	}
	return 0, io.ErrUnexpectedEOF
}

func (b *quietBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

func TestTenThousandQuietRunsAreCheap(t *testing.T) {
	const runs = 10_000
	memory := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc + m.StackInuse)
	}
	q := &quiet{}
	s := New(q, Options{IdleProbe: -1})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	before := memory()
	captures := make([]*Capture, runs)
	for i := range captures {
		captures[i] = s.Pod("n", "p", nil)
		captures[i].Handle(newPod(corev1.RestartPolicyNever, "a").running("a", fmt.Sprint(i)))
	}
	for _, c := range captures {
		r := c.Reader(ctx, "a", ReadOptions{})
		if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	perRun := (memory() - before) / runs
	t.Logf("%d bytes a run, buffers included; %+v", perRun, s.Stats())
	if perRun > 20<<10 {
		t.Errorf("a quiet run takes %d bytes", perRun)
	}
	start := time.Now()
	for _, c := range captures {
		c.Close()
	}
	cancel()
	<-done
	t.Logf("closed in %v", time.Since(start))
}
