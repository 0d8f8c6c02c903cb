package e2e

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/logstream"
)

// tally adds up what became of runs.
type tally struct {
	proofs      map[logstream.Proof]int
	whys        map[string]int
	lines, lost int
	gaps        int
	certain     int
	took        []time.Duration // from a run's first line to its last
}

func (s *tally) add(a *account, c *logstream.Certificate) {
	one := tally{proofs: map[logstream.Proof]int{c.Proof: 1}, lines: int(a.lines), lost: a.lost(), gaps: len(c.Gaps)}
	if a.lines > 0 {
		one.took = []time.Duration{a.last.Sub(a.begin)}
	}
	if c.Why != "" {
		one.whys = map[string]int{c.Why: 1}
	}
	for _, g := range c.Gaps {
		if g.Certain {
			one.certain++
		}
	}
	s.plus(one)
}

func (s *tally) plus(o tally) {
	if s.proofs == nil {
		s.proofs, s.whys = map[logstream.Proof]int{}, map[string]int{}
	}
	for p, n := range o.proofs {
		s.proofs[p] += n
	}
	for w, n := range o.whys {
		s.whys[w] += n
	}
	s.lines, s.lost, s.gaps, s.certain = s.lines+o.lines, s.lost+o.lost, s.gaps+o.gaps, s.certain+o.certain
	s.took = append(s.took, o.took...)
}

func (s *tally) runs() (n int) {
	for _, m := range s.proofs {
		n += m
	}
	return n
}

// wantVerified checks that runs runs were captured, and all are Verified: what
// disturbed them left their files whole.
func (s *tally) wantVerified(t *testing.T, runs int) {
	t.Helper()
	if s.runs() != runs || s.proofs[logstream.Verified] != runs {
		t.Errorf("%s: want %d, all Verified", s, runs)
	}
}

func (s *tally) String() string {
	text := fmt.Sprintf("runs %v, %d lines captured, %d known to be lost, %d gaps (%d certain)", s.proofs, s.lines, s.lost, s.gaps, s.certain)
	if n := len(s.took); n > 0 {
		took := slices.Sorted(slices.Values(s.took))
		text += fmt.Sprintf(", printed in %s (median; the slowest %s)", took[n/2].Round(time.Millisecond), took[n-1].Round(time.Millisecond))
	}
	if len(s.whys) > 0 {
		text += fmt.Sprintf(", because %v", s.whys)
	}
	return text
}

// stopwatch measures the time from the status that showed a slot's first run to
// the first bytes of its log. It is a pod's first handler, and the Opener.
type stopwatch struct {
	logstream.Opener
	mu    sync.Mutex
	shown map[string]time.Time
	took  map[string]time.Duration

	// follows holds a place for every stream that may be open; nil: no limit.
	follows chan struct{}
	refused atomic.Int64
}

func newStopwatch(o logstream.Opener) *stopwatch {
	return &stopwatch{Opener: o, shown: map[string]time.Time{}, took: map[string]time.Duration{}}
}

func (s *stopwatch) Handle(ev watch.Event) {
	now := time.Now()
	pod, ok := ev.Object.(*corev1.Pod)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range pod.Status.ContainerStatuses {
		c := &pod.Status.ContainerStatuses[i]
		name := pod.Name + "/" + c.Name
		if _, known := s.shown[name]; !known && (c.State.Running != nil || c.State.Terminated != nil) {
			s.shown[name] = now
		}
	}
}

func (s *stopwatch) OpenLog(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	release := func() {}
	if o.Follow && s.follows != nil {
		select {
		case s.follows <- struct{}{}:
			release = func() { <-s.follows }
		default:
			s.refused.Add(1)
			return io.NopCloser(strings.NewReader("failed to create fsnotify watcher: too many open files")), nil
		}
	}
	body, err := s.Opener.OpenLog(ctx, namespace, pod, o)
	if err != nil {
		release()
		return nil, err
	}
	return &timed{ReadCloser: body, name: pod + "/" + o.Container, watch: s, release: sync.OnceFunc(release)}, nil
}

func (s *stopwatch) stop(name string) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.took[name]; !known {
		s.took[name] = now.Sub(s.shown[name])
	}
}

// timed is a log that says when it brings its first bytes.
type timed struct {
	io.ReadCloser
	name  string
	watch *stopwatch
	once  sync.Once

	release func()
}

func (b *timed) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}

func (b *timed) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.once.Do(func() { b.watch.stop(b.name) })
	}
	return n, err
}

// report logs the figures of a test, and fails it when the first bytes came
// grossly late.
func (l *lab) report(t *testing.T, what string, sum tally) {
	t.Helper()
	l.latency.mu.Lock()
	var took []time.Duration
	for _, d := range l.latency.took {
		took = append(took, d)
	}
	l.latency.mu.Unlock()
	slices.Sort(took)
	var text strings.Builder
	fmt.Fprintf(&text, "%s: %s", what, &sum)
	if n := len(took); n > 0 {
		fmt.Fprintf(&text, "; first bytes after the status: median %s, 95%% %s, last %s, of %d",
			took[n/2].Round(time.Millisecond), took[n*95/100].Round(time.Millisecond), took[n-1].Round(time.Millisecond), n)
		// 50 ms are promised; a machine that does much else is not to fail.
		if took[n/2] > 5*time.Second {
			t.Errorf("the median of the first bytes came %s after the status", took[n/2])
		}
	}
	s := l.logs.Stats()
	fmt.Fprintf(&text, "; requests: %d follows (%d resumed), %d reads, %d probes, %d failed; %d bytes", s.Follows, s.Resumed, s.Reads, s.Probes, s.Failed, s.Bytes)
	t.Log(text.String())
}
