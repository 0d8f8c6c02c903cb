package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
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
	proofs    map[logstream.Proof]int
	whys      map[string]int
	lines     int
	ends      int // runs whose last word was captured
	lost      int // lines known to be missing
	unwritten int // of them, those in none of the node's files
	gaps      int
	certain   int
	rotations int
	brief     int // runs whose logs were not there for long enough: not counted otherwise
	plain     int // plain follows of the same logs, the lines that they lost, and the last words that they got
	plainLost int
	plainEnds int
	lives     []time.Duration // as the containers measured them
	reads     []time.Duration // from the status that showed a run to the first read of its log
	delays    []time.Duration // the same, from its first line where that is later
	asks      []time.Duration // from the status that showed a slot's first run to the first request for its log,
	answers   []time.Duration // from there to the first byte that the cluster sent,
	ours      []time.Duration // and from there to the first read
}

// add counts a run. shown is when its ID was in a status first.
func (s *tally) add(a *account, c *logstream.Certificate, n *onNode, shown time.Time) {
	if s.proofs == nil {
		s.proofs, s.whys = map[logstream.Proof]int{}, map[string]int{}
	}
	s.proofs[c.Proof]++
	if c.Why != "" {
		s.whys[c.Why]++
	}
	s.lines += int(a.lines)
	if a.ended {
		s.ends++
		s.lives = append(s.lives, a.life)
	}
	if a.lines > 0 {
		s.reads = append(s.reads, a.read.Sub(shown))
		s.delays = append(s.delays, min(a.read.Sub(shown), a.read.Sub(a.begin)))
	}
	all, unwritten := a.lost(n)
	s.lost, s.unwritten = s.lost+all, s.unwritten+unwritten
	s.gaps += len(c.Gaps)
	for _, g := range c.Gaps {
		if g.Certain {
			s.certain++
		}
	}
	if n != nil {
		s.rotations += len(n.seams)
	}
}

// addRequest counts the first request for a slot's log. Of its run are the time when a
// status showed it, and that of the first read.
func (s *tally) addRequest(q *request, shown, read time.Time) {
	if q == nil {
		return
	}
	if begun, _, _ := q.lived(); !begun.IsZero() {
		s.asks, s.answers, s.ours = append(s.asks, q.asked.Sub(shown)), append(s.answers, begun.Sub(q.asked)), append(s.ours, read.Sub(begun))
	}
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

// wantAll checks that besides the runtime wrote all that they printed, and that it
// was captured to the last word.
func (s *tally) wantAll(t *testing.T, runs int) {
	t.Helper()
	s.wantVerified(t, runs)
	if s.ends != runs || s.lost > 0 {
		t.Errorf("%s: want all lines, and %d ends", s, runs)
	}
}

func (s *tally) String() string {
	text := fmt.Sprintf("runs %v, %d ends, %d lines; %d lines lost, %d of them never written; %d gaps (%d certain), %d rotations",
		s.proofs, s.ends, s.lines, s.lost, s.unwritten, s.gaps, s.certain, s.rotations)
	if s.brief > 0 {
		text += fmt.Sprintf("; %d other runs were removed from the node before they could be read", s.brief)
	}
	if len(s.whys) > 0 {
		text += fmt.Sprintf(", because %v", s.whys)
	}
	return text
}

// spread is the median of some durations, and how far they go.
func spread(all []time.Duration) string {
	n := len(all)
	if n == 0 {
		return "none"
	}
	all = slices.Sorted(slices.Values(all))
	unit := time.Millisecond / 10
	return fmt.Sprintf("median %s, 95%% %s, last %s of %d", all[n/2].Round(unit), all[n*95/100].Round(unit), all[n-1].Round(unit), n)
}

// stopwatch notes when a status first showed a run, and when the next one ended: the
// node keeps one dead run a container. It is a pod's first handler.
type stopwatch struct {
	mu       sync.Mutex
	shown    map[string]time.Time // by container ID
	finished map[string]time.Time // by container ID, on the node's clock, to the second
	runs     map[string]string    // container IDs by pod/slot#run
}

func newStopwatch() *stopwatch {
	return &stopwatch{shown: map[string]time.Time{}, finished: map[string]time.Time{}, runs: map[string]string{}}
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
		st := &pod.Status.ContainerStatuses[i]
		for id, run := range runsOf(st) {
			s.runs[runKey(pod.Name, st.Name, int(run))] = id
			if s.shown[id].IsZero() {
				s.shown[id] = now
			}
		}
		for _, t := range []*corev1.ContainerStateTerminated{st.State.Terminated, st.LastTerminationState.Terminated} {
			if t != nil {
				s.finished[t.ContainerID] = t.FinishedAt.Time
			}
		}
	}
}

func (s *stopwatch) shownAt(id string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shown[id]
}

func runKey(pod, slot string, run int) string { return fmt.Sprintf("%s/%s#%d", pod, slot, run) }

// wasBrief says whether the log of a run, which ends unproved, was on the node for less
// than enough once its status had come: the node was as slow as that.
func (s *stopwatch) wasBrief(pod string, c *logstream.Certificate) bool {
	const enough = 3 * time.Second // two reads
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.finished[s.runs[runKey(pod, c.Slot, c.Run+1)]]
	return c.Proof == logstream.Incomplete && !next.IsZero() && next.Sub(s.shown[c.ContainerID]) < enough
}

// outOfWatchers is what a kubelet writes into the log of one whom it cannot let follow.
const outOfWatchers = "failed to create fsnotify watcher: too many open files"

// listener is an Opener that counts how often the kubelet refused to follow, and notes
// what became of the requests.
type listener struct {
	logstream.Opener
	refused atomic.Int64

	mu     sync.Mutex
	asks   map[string][]*request // by pod/slot
	last   map[string]time.Time  // when the last bytes of a pod's logs came
	silent map[string][][2]time.Time
}

// came notes that bytes of a pod's logs came.
func (l *listener) came(pod string) {
	const short = 100 * time.Millisecond
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := l.last[pod]; now.Sub(last) > short {
		l.silent[pod] = append(l.silent[pod], [2]time.Time{last, now})
	}
	l.last[pod] = now
}

// silence returns for how long no bytes of a pod's logs came between two instants, but
// for short pauses.
func (l *listener) silence(pod string, from, to time.Time) (all time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range append(l.silent[pod], [2]time.Time{l.last[pod], to}) {
		begin, end := s[0], s[1]
		if begin.Before(from) {
			begin = from
		}
		if end.After(to) {
			end = to
		}
		all += max(0, end.Sub(begin))
	}
	return all
}

// request is one for a log.
type request struct {
	asked   time.Time
	options string

	mu           sync.Mutex
	begun, ended time.Time // of its body; zero: it has not
	bytes        int64
	end          error // nil: it was closed before it came to its end
}

func (q *request) String() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	text := fmt.Sprintf("%s: %s: %d bytes", stamp(q.asked), q.options, q.bytes)
	if !q.begun.IsZero() {
		text += fmt.Sprintf(", from %s later", q.begun.Sub(q.asked).Round(time.Millisecond))
	}
	switch {
	case q.ended.IsZero():
		return text + ", goes on"
	case q.end == nil:
		return text + fmt.Sprintf(", closed after %s", q.ended.Sub(q.asked).Round(time.Millisecond))
	}
	return text + fmt.Sprintf(", %v after %s", q.end, q.ended.Sub(q.asked).Round(time.Millisecond))
}

// read notes what a read of the body brought.
func (q *request) read(n int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n > 0 && q.begun.IsZero() {
		q.begun = time.Now()
	}
	q.bytes += int64(n)
	if err != nil && q.ended.IsZero() {
		q.ended, q.end = time.Now(), err
	}
}

func (q *request) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended.IsZero() {
		q.ended = time.Now()
	}
}

// lived returns when its body began and ended, and whether it was the cluster that
// ended it; a zero end is none.
func (q *request) lived() (begun, ended time.Time, byCluster bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.begun, q.ended, q.end != nil && !errors.Is(q.end, context.Canceled)
}

func (l *listener) OpenLog(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	q := &request{asked: time.Now(), options: spell(o)}
	l.mu.Lock()
	l.asks[pod+"/"+o.Container] = append(l.asks[pod+"/"+o.Container], q)
	l.mu.Unlock()
	body, err := l.Opener.OpenLog(ctx, namespace, pod, o)
	if err != nil {
		q.read(0, err)
		return nil, err
	}
	h := &heard{ReadCloser: body, request: q, came: func() { l.came(pod) }}
	if o.Follow {
		h.refused = &l.refused
	}
	return h, nil
}

// spell says what is asked of a log.
func spell(o *corev1.PodLogOptions) (text string) {
	text = "read"
	if o.Follow {
		text = "follow"
	}
	if o.Previous {
		text += " previous"
	}
	if o.SinceTime != nil {
		text += " since " + stamp(o.SinceTime.Time)
	}
	if o.TailLines != nil {
		text += fmt.Sprintf(" tail %d", *o.TailLines)
	}
	if o.LimitBytes != nil {
		text += fmt.Sprintf(" limit %d", *o.LimitBytes)
	}
	return text
}

// requests are those for a slot's log, in order.
func (l *listener) requests(pod, slot string) []*request {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.asks[pod+"/"+slot])
}

// first is the first request for a slot's log; nil: there was none.
func (l *listener) first(pod, slot string) *request {
	if all := l.requests(pod, slot); len(all) > 0 {
		return all[0]
	}
	return nil
}

// heard is a body whose first byte and last words are listened to.
type heard struct {
	io.ReadCloser
	request *request
	came    func()
	refused *atomic.Int64 // nil: it is no stream
	end     []byte
}

func (h *heard) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if h.request.read(n, err); n > 0 {
		h.came()
	}
	if h.refused == nil {
		return n, err
	}
	h.end = append(h.end, p[max(0, n-len(outOfWatchers)):n]...)
	h.end = h.end[max(0, len(h.end)-len(outOfWatchers)):]
	if err != nil && bytes.Equal(h.end, []byte(outOfWatchers)) {
		h.refused.Add(1)
	}
	return n, err
}

func (h *heard) Close() error {
	h.request.close()
	return h.ReadCloser.Close()
}

// report logs the figures of a test, and fails it when the first reads came grossly
// late.
func (l *lab) report(t *testing.T, what string, s tally) {
	t.Helper()
	q := l.logs.Stats()
	t.Logf("%s: %s; first read after the status: %s; after the status and the line: %s; of it until the request: %s; until the cluster's first byte: %s; until the read: %s; lives: %s; %s",
		what, &s, spread(s.reads), spread(s.delays), spread(s.asks), spread(s.answers), spread(s.ours), spread(s.lives), fmt.Sprintf("requests: %d follows (%d resumed, %d refused), %d reads, %d probes, %d failed; %d bytes",
			q.Follows, q.Resumed, l.words.refused.Load(), q.Reads, q.Probes, q.Failed, q.Bytes))
	if s.plain > 0 {
		t.Logf("%s: %d plain follows lost %d lines, and got %d ends", what, s.plain, s.plainLost, s.plainEnds)
	}
	// 50 ms are promised; a machine that does much else is not to fail.
	if n := len(s.delays); n > 0 && slices.Sorted(slices.Values(s.delays))[n/2] > 5*time.Second {
		t.Errorf("the median of the first reads came more than 5 s after status and line")
	}
}
