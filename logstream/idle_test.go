package logstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// quiet is an Opener of logs of one line that go on without another.
type quiet struct{}

func (q *quiet) OpenLog(ctx context.Context, _, _ string, _ *corev1.PodLogOptions) (io.ReadCloser, error) {
	return &quietBody{text: strings.NewReader("2026-11-22T10:00:00.000000001Z ready\n"), ctx: ctx, closed: make(chan struct{})}, nil
}

type quietBody struct {
	text   *strings.Reader
	ctx    context.Context
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

const quietRuns = 10_000

// memory is what the heap and the stacks take.
func memory() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// captureQuiet captures quiet runs, each of a pod of its own, until stop.
func captureQuiet(tb testing.TB) (s *Streamer, stop func()) {
	s = New(&quiet{}, Options{IdleProbe: -1})
	ctx, cancel := context.WithCancel(tb.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	captures := make([]*Capture, quietRuns)
	for i := range captures {
		captures[i] = s.Pod("n", "p", nil)
		captures[i].Handle(newPod(corev1.RestartPolicyNever, "a").running("a", fmt.Sprint(i)))
	}
	for _, c := range captures {
		r := c.Reader(ctx, "a", ReadOptions{})
		if _, err := io.ReadFull(r, make([]byte, 6)); err != nil {
			tb.Fatal(err)
		}
		r.Close()
	}
	return s, func() {
		for _, c := range captures {
			c.Close()
		}
		cancel()
		<-done
	}
}

// copyQuiet reads each with a goroutine and a bufio.Reader, as most tailers do.
func copyQuiet(tb testing.TB) (stop func()) {
	ctx, cancel := context.WithCancel(tb.Context())
	var read, ended sync.WaitGroup
	read.Add(quietRuns)
	for range quietRuns {
		body, err := (&quiet{}).OpenLog(ctx, "n", "p", nil)
		if err != nil {
			tb.Fatal(err)
		}
		ended.Go(func() {
			defer body.Close()
			r := bufio.NewReader(body)
			_, err := r.ReadBytes('\n')
			for read.Done(); err == nil; {
				_, err = r.ReadBytes('\n')
			}
		})
	}
	read.Wait()
	return func() { cancel(); ended.Wait() }
}

func TestTenThousandQuietRunsAreCheap(t *testing.T) {
	before := memory()
	s, stop := captureQuiet(t)
	perRun := (memory() - before) / quietRuns
	t.Logf("%d bytes a run, buffers included; %+v", perRun, s.Stats())
	if perRun > 20<<10 {
		t.Errorf("a quiet run takes %d bytes", perRun)
	}
	start := time.Now()
	stop()
	t.Logf("closed in %v", time.Since(start))
}

// BenchmarkQuietRuns is what a run costs that has printed a line and goes on: bytes of
// heap and stack, and goroutines, beside those of the least that a tailer does.
func BenchmarkQuietRuns(b *testing.B) {
	for name, begin := range map[string]func(testing.TB) func(){
		"capture":      func(tb testing.TB) func() { _, stop := captureQuiet(tb); return stop },
		"bufio.Reader": copyQuiet,
	} {
		b.Run(name, func(b *testing.B) {
			var bytes, goroutines int64
			for b.Loop() {
				b.StopTimer()
				bytes, goroutines = bytes-memory(), goroutines-int64(runtime.NumGoroutine())
				b.StartTimer()
				stop := begin(b)
				b.StopTimer()
				bytes, goroutines = bytes+memory(), goroutines+int64(runtime.NumGoroutine())
				stop()
				b.StartTimer()
			}
			per := float64(b.N) * quietRuns
			b.ReportMetric(float64(bytes)/per, "B/run")
			b.ReportMetric(float64(goroutines)/per, "goroutines/run")
		})
	}
}
