package logstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// crowd is an Opener of many runs, a pod each, that flood all at once.
type crowd struct {
	runs, lines int
	mu          sync.Mutex
	first       map[int]*crowdBody // stream of a run
	exit        chan struct{}      // the containers end
	all         chan struct{}      // every run has its stream
	over        sync.WaitGroup
}

const crowdLine = "2026-11-22T10:00:00.000000000Z 0000 000000 "

// lineOf returns the first line of a run, of a thousand bytes; setLine makes another
// one of it.
func lineOf(run int) []byte {
	line := fmt.Appendf(nil, "%s%s\n", crowdLine, strings.Repeat("z", 999-len(crowdLine)))
	digits(line[31:35], run)
	return line
}

func setLine(line []byte, i int) {
	digits(line[20:29], i)
	digits(line[36:42], i)
}

func digits(to []byte, v int) {
	for i := len(to) - 1; i >= 0; v, i = v/10, i-1 {
		to[i] = '0' + byte(v%10)
	}
}

func (c *crowd) OpenLog(_ context.Context, _, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	run, err := strconv.Atoi(pod)
	b := &crowdBody{c: c, run: run, follow: o.Follow, line: lineOf(run)}
	if o.Follow {
		c.mu.Lock()
		if c.first[run] == nil {
			c.first[run] = b
			if len(c.first) == c.runs {
				close(c.all)
			}
		}
		c.mu.Unlock()
	}
	return b, err
}

type crowdBody struct {
	c      *crowd
	run, i int
	follow bool
	rest   []byte
	line   []byte
}

func (b *crowdBody) Close() error { return nil }

func (b *crowdBody) Read(p []byte) (n int, err error) {
	if b.follow {
		<-b.c.all
	}
	for n < len(p) {
		if len(b.rest) == 0 {
			if b.i == b.c.lines {
				break
			}
			setLine(b.line, b.i)
			b.rest, b.i = b.line, b.i+1
		}
		k := copy(p[n:], b.rest)
		b.rest, n = b.rest[k:], n+k
	}
	if n == 0 {
		b.c.mu.Lock()
		first := b.c.first[b.run] == b
		b.c.mu.Unlock()
		if first {
			b.c.over.Done()
			<-b.c.exit
		}
		return 0, io.EOF
	}
	return n, nil
}

func TestAThousandRunsThatFloodStayWithinTheBudget(t *testing.T) {
	const runs, memory = 1000, 16 << 20
	for name, disk := range map[string]int64{"with a disk": 1 << 30, "without": -1} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			start := time.Now()
			c := &crowd{runs: runs, lines: 400 / min(slowed, 4), all: make(chan struct{}), first: map[int]*crowdBody{}, exit: make(chan struct{})}
			c.over.Add(runs)
			s := New(c, Options{Memory: memory, Disk: disk})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = s.Run(ctx) }()
			defer func() { cancel(); <-done }()
			most := watchPeaks(s)
			captures, pods := make([]*Capture, runs), make([]*podScript, runs)
			var readers sync.WaitGroup
			for i := range captures {
				captures[i], pods[i] = s.Pod("n", fmt.Sprint(i), nil), newPod(corev1.RestartPolicyNever, "a")
				pods[i].pod.Name = fmt.Sprint(i)
				if i%20 == 0 {
					r := captures[i].Reader(ctx, "a", ReadOptions{})
					readers.Go(func() { checkCrowd(t, c, i, r, disk > 0) })
				}
				captures[i].Handle(pods[i].running("a", fmt.Sprint("a", i)))
			}
			c.over.Wait()
			for i := range captures {
				captures[i].Handle(pods[i].ended("a", fmt.Sprint("a", i)))
			}
			close(c.exit)
			proofs := map[Proof]int{}
			for i := range captures {
				certs, err := captures[i].Drain(ctx, pods[i].pod)
				if err != nil || int(certs[0].Lines) != c.lines {
					t.Fatal(err, certs)
				}
				proofs[certs[0].Proof]++
			}
			readers.Wait()
			most.end()
			// Stated by the package's docs: the chunk that a run writes to, one more while
			// a line lies across both, and a third for a moment, which is a long one on a busy
			// machine; of the heap, the stream's buffer, too.
			const open, streams = 3 * runs * chunkSize, runs * chunkSize
			t.Logf("%d runs of %d bytes in %v, %v; budget %d + at most %d open + %d of streams; seen: memory %d, disk %d, heap %d",
				runs, c.lines*1000, time.Since(start), proofs, memory, open, streams, most.memory, most.disk, most.heap)
			if most.memory > memory+open || most.disk > max(0, disk) || most.heap > 2*(memory+open+streams) {
				t.Errorf("memory %d, disk %d, heap %d", most.memory, most.disk, most.heap)
			}
			if disk > 0 && proofs[Verified] != runs {
				t.Errorf("proofs %v", proofs)
			}
			for _, k := range captures {
				k.Close()
			}
			if st := s.Stats(); st.Memory != 0 || st.Disk != 0 {
				t.Errorf("after Close: %+v", st)
			}
		})
	}
}

// checkCrowd reads a run's log: all of it, or the ends that are kept.
func checkCrowd(t *testing.T, c *crowd, run int, r *Reader, whole bool) {
	next := 0
	line := lineOf(run)
	for l, err := range r.Lines() {
		var inc *IncompleteError
		if err != nil {
			if whole || !errors.As(err, &inc) {
				t.Error(err)
			}
			return
		}
		if l.Gap != nil {
			continue
		}
		i, err := strconv.Atoi(string(l.Text[5:11]))
		if err != nil || i < next || i > next && whole {
			t.Errorf("line %.50q after %d lines", l.Text, next)
			return
		}
		setLine(line, i)
		if want := strings.TrimSuffix(string(line[stamp.UTC:]), "\n"); string(l.Text) != want {
			t.Errorf("line %.50q, want %.50q", l.Text, want)
		}
		next = i + 1
	}
	if next != c.lines {
		t.Errorf("run %d ends after %d lines", run, next)
	}
}
