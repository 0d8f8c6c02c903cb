package logstream

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// empties is an Opener of lines without text, one a nanosecond. Its stream waits
// for the reader.
type empties struct {
	lines int64
	read  atomic.Int64
	done  chan struct{}
}

func (e *empties) OpenLog(ctx context.Context, _, _ string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return &emptiesBody{e: e, ctx: ctx, o: o}, nil
}

type emptiesBody struct {
	e    *empties
	ctx  context.Context
	o    *corev1.PodLogOptions
	line int64
}

func (b *emptiesBody) Close() error { return nil }

func (b *emptiesBody) Read(p []byte) (n int, err error) {
	const ahead = 4096
	for b.o.Follow && b.line > b.e.read.Load()+ahead && b.ctx.Err() == nil {
		runtime.Gosched()
	}
	for ; n+stamp.UTC+1 <= len(p) && b.line < b.e.lines; b.line++ {
		copy(p[n:], "2026-11-22T10:00:00.000000000Z \n")
		for v, i := b.line, n+28; v > 0; v, i = v/10, i-1 {
			p[i] += byte(v % 10)
		}
		n += stamp.UTC + 1
	}
	if n == 0 && len(p) > stamp.UTC {
		return 0, io.EOF
	}
	return n, nil
}

func TestAFloodOfEmptyLinesAllocatesNothingALine(t *testing.T) {
	e := &empties{lines: 4_000_000 / slowed, done: make(chan struct{})}
	const memory = 1 << 20
	s := New(e, Options{Memory: memory, Disk: -1})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	defer func() { cancel(); <-done }()
	c := s.Pod("n", "p", nil)
	defer c.Close()
	p := newPod(corev1.RestartPolicyNever, "a")
	r := c.Reader(ctx, "a", ReadOptions{Gap: func(Gap) string { return "gap" }})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start, most := time.Now(), watchPeaks(s)
	c.Handle(p.running("a", "a1"))
	buf, lines := make([]byte, 1<<16), int64(0)
	for lines < e.lines {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range buf[:n] {
			if b != '\n' {
				t.Fatalf("read %q", b)
			}
		}
		lines += int64(n)
		e.read.Store(lines)
	}
	most.end()
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	p.ended("a", "a1")
	certs, err := c.Drain(ctx, p.pod)
	if err != nil || int64(certs[0].Lines) != e.lines || certs[0].Bytes != e.lines {
		t.Errorf("%v, certificates %+v", err, certs)
	}
	perLine := float64(after.Mallocs-before.Mallocs) / float64(e.lines)
	t.Logf("%d lines: %v a line, %.4f allocations a line, memory %d", e.lines, took/time.Duration(e.lines), perLine, most.memory)
	if perLine > 0.05 || most.memory > memory+overheadLive {
		t.Errorf("%.4f allocations a line, memory %d", perLine, most.memory)
	}
}

func TestGapsPastTheBoundAreOneThatGrows(t *testing.T) {
	const gaps = mostGaps + 500
	m := newModel(t, Options{})
	at := func(i int) int64 { return int64(1e18) + int64(i)*1000 }
	stop := make(chan struct{})
	var wg sync.WaitGroup
	told := 0
	r := m.c.Reader(t.Context(), "a", ReadOptions{Gap: func(Gap) string { told++; return "" }})
	wg.Go(func() { // while they grow
		for {
			select {
			case <-stop:
				_, _ = io.ReadAll(r)
				return
			default:
				m.r.certificate()
				_, _ = io.ReadAll(m.c.Reader(t.Context(), "a", ReadOptions{Snapshot: true, Gap: gapText}))
			}
		}
	})
	start := time.Now()
	for i := range gaps {
		if i%100 == 0 {
			m.write("x\n")
		}
		m.r.sp.gap("rotated", at(i), at(i+1), m.r.sp.lineAt, i == gaps-7)
	}
	took := time.Since(start)
	m.finish()
	close(stop)
	wg.Wait()
	cert := m.r.certificate()
	last := cert.Gaps[len(cert.Gaps)-1]
	t.Logf("%v a gap", took/gaps)
	if len(cert.Gaps) != mostGaps || told != mostGaps || !last.Certain || last.From.UnixNano() != at(mostGaps-1) || last.To.UnixNano() != at(gaps) {
		t.Errorf("%d gaps, %d told, the last %+v", len(cert.Gaps), told, last)
	}
	m.r.sp.gap("before all, and without end", 5, 0, 0, false)
	if g := m.r.log.gaps[mostGaps-1].Gap; g.From.UnixNano() != 5 || !g.To.IsZero() {
		t.Errorf("the last gap is %+v", g)
	}
}

// A crash loop of days, and a pod of very many containers.
func TestThousandsOfRunsAndOfSlotsAreAllCaptured(t *testing.T) {
	const many = 2000 / min(slowed, 8)
	for name, c := range map[string]struct{ slots, runs int }{
		"runs":  {1, many},
		"slots": {many, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var run atomic.Int64
			o := bodies(func(ctx context.Context, _ *corev1.PodLogOptions) (io.ReadCloser, error) {
				at := time.Unix(1e9, run.Load()).UTC().Format("2006-01-02T15:04:05.000000000Z07:00")
				return &trickle{ctx: ctx, text: fmt.Appendf(nil, "%s run %d\n", at, run.Load())}, nil
			})
			withOpener(t, o, Options{}, func(b *bench) {
				var names []string
				for i := range c.slots {
					names = append(names, fmt.Sprint("s", i))
				}
				b.p = newPod(corev1.RestartPolicyAlways, names...)
				for i := range c.runs {
					run.Store(int64(i))
					for k := range b.p.pod.Status.ContainerStatuses {
						st := &b.p.pod.Status.ContainerStatuses[k]
						st.ContainerID = fmt.Sprint(st.Name, "-", i)
						st.State.Terminated = &corev1.ContainerStateTerminated{
							ContainerID: st.ContainerID, StartedAt: metav1.Unix(1e9, 0), FinishedAt: metav1.Unix(1e9+1, 0),
						}
						st.RestartCount = int32(i)
					}
					b.c.Handle(b.p.event(watch.Modified))
					time.Sleep(10 * time.Second)
				}
				certs := b.drain()
				for _, cert := range certs {
					if cert.Proof != Verified || cert.Lines != 1 {
						t.Fatalf("certificate %+v", cert)
					}
				}
				if n := int64(len(certs)); n != many || b.s.Stats().Memory > n*chunkFirst {
					t.Errorf("%d certificates, %+v", n, b.s.Stats())
				}
			})
		})
	}
}
