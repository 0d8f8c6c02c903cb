package podlife_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// life is one pod, from before its creation until after its deletion, and what was
// seen of it.
type life struct {
	plan
	cluster *testutil.Cluster
	pods    kubernetes.Interface
	track   *podwatch.Tracking
	split   *eventsplit.Splitter
	logs    *logstream.Capture
	readers sync.WaitGroup

	mu         sync.Mutex
	printed    map[string][]*printed   // by slot: of each run of its program
	shown      map[string]*shown       // by containerID: the runs that a status showed
	rotations  map[string][]rotation   // by containerID
	asked      map[string]int          // log requests, by kind
	deleted    bool                    // the pod, as the watch tells
	removed    time.Time               // when its deletion was asked for
	lastStatus time.Time               // was delivered then
	lastFault  time.Time               // of a log request
	reads      []*reading              // what readers saw
	states     []eventsplit.State      // in the order of the timelines
	waited     map[string]waited       // by slot
	certs      []logstream.Certificate // in the end
	live       map[string]bool         // containerIDs that went on when the pod was drained
	story      []string                // what happened, for the reader of a failed test
	wrong      []string                // each with a word that is its kind
}

// printed is what a run of a step's program printed: the truth.
type printed struct {
	lines []string
	times []time.Time
	ended time.Time // zero: it has not
	code  int
}

// shown is when a status first showed a run, and which one it is.
type shown struct {
	slot string
	run  int // restartCount
	at   time.Time
}

type rotation struct {
	at    time.Time     // of the rename
	until time.Duration // the runtime writes to the old file
	fails bool
}

type waited struct {
	state eventsplit.State
	err   error
}

// reading is what one reader of a slot saw.
type reading struct {
	kind, slot string
	lines      []readLine
	err        error
}

type readLine struct {
	id, text string
	at       time.Time
}

// note adds to the story.
func (l *life) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked(format, args...)
}

func (l *life) noteLocked(format string, args ...any) {
	l.story = append(l.story, time.Now().Format("04:05.000 ")+fmt.Sprintf(format, args...))
}

// short is a containerID as it is written in a story.
func short(id string) string { return fmt.Sprintf("%.6s", strings.TrimPrefix(id, "containerd://")) }

// kind is the first word of the first thing that was wrong, "" if nothing was.
func (l *life) kind() string {
	if len(l.wrong) == 0 {
		return ""
	}
	kind, _, _ := strings.Cut(l.wrong[0], ":")
	return kind
}

func (l *life) blame(kind, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.wrong) < 20 {
		l.wrong = append(l.wrong, kind+": "+fmt.Sprintf(format, args...))
	}
}

// live plays a life, and finds what was wrong with it.
func live(t *testing.T, p plan, sum *tally) (l *life) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l = &life{
			plan: p, printed: map[string][]*printed{}, shown: map[string]*shown{}, rotations: map[string][]rotation{},
			asked: map[string]int{}, waited: map[string]waited{}, live: map[string]bool{},
		}
		l.cluster = testutil.New(testutil.Options{
			Images: map[string]testutil.Program{"placeholder": placeholder, "step": l.step},
			Logs:   testutil.LogRotation{Every: p.looksAt, MaxSize: p.logSize, Reopen: l.reopen},
			Status: l.statusTakes,
		})
		l.cluster.Fault(l.fault)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var running sync.WaitGroup
		defer running.Wait()
		running.Go(func() { _ = l.cluster.Run(ctx) })
		if p.dropWatch > 0 {
			running.Go(func() {
				for n := 0; pause(ctx, l.upTo(p.dropWatch, "drop", n)+time.Second); n++ {
					l.cluster.DropWatches(io.ErrUnexpectedEOF)
				}
			})
		}
		if err := l.host(ctx, &running); err != nil {
			l.blame("host", "%v", err)
		}
		l.check(sum)
		cancel()
	})
	return l
}

// chance is a source of randomness for one purpose: what is drawn from it does not
// depend on what else is going on.
func (l *life) chance(purpose string, n int) *rand.Rand {
	h := fnv.New64()
	_, _ = io.WriteString(h, purpose)
	return rand.New(rand.NewPCG(l.seed<<16+uint64(n), h.Sum64()))
}

func (l *life) upTo(d time.Duration, purpose string, n int) time.Duration {
	return time.Duration(l.chance(purpose, n).Int64N(int64(d) + 1))
}

// count counts what happened of a kind before.
func (l *life) count(kind string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked[kind]++
	return l.asked[kind] - 1
}

func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// The host: it wires the library as README does.

func (l *life) host(ctx context.Context, running *sync.WaitGroup) error {
	cfg := l.cluster.Config()
	l.pods = l.cluster.Client()
	watcher, err := podwatch.New(l.pods, podwatch.Options{Namespace: "default", LabelSelector: "app=ci"})
	if err != nil {
		return err
	}
	opener, err := logstream.FromConfig(cfg)
	if err != nil {
		return err
	}
	streamer := logstream.New(opener, logstream.Options{RotateSize: l.logSize / 2})
	running.Go(func() { _ = watcher.Run(ctx) })
	running.Go(func() { _ = streamer.Run(ctx) })

	l.split = eventsplit.New("default", "p", eventsplit.Options{Placeholder: func(slot string) bool { return l.slot(slot).swapped }})
	l.logs = streamer.Pod("default", "p", l.split)
	defer l.readers.Wait()
	defer l.logs.Close()
	defer l.split.Close()
	if l.track, err = watcher.Track("default", "p", l.logs, l.split, spy{l}); err != nil {
		return err
	}
	defer l.track.Close()
	created, err := l.pods.CoreV1().Pods("default").Create(ctx, l.pod(), metav1.CreateOptions{})
	if err != nil {
		return err
	}
	l.track.Created(created)

	var steps sync.WaitGroup
	for _, s := range l.slots {
		l.read(ctx, "live", s.name, 0)
		steps.Go(func() { l.runStep(ctx, s) })
	}
	l.readers.Go(func() { l.watchStates(ctx) })
	steps.Wait()
	l.drain(ctx)
	for _, s := range l.slots {
		if !s.service && l.policy != corev1.RestartPolicyAlways {
			l.read(ctx, "late", s.name, 0)
		}
	}
	return l.remove(ctx)
}

func (l *life) slot(name string) slotPlan {
	for _, s := range l.slots {
		if s.name == name {
			return s
		}
	}
	return slotPlan{}
}

func (l *life) pod() *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default", Labels: map[string]string{"app": "ci"}}}
	p.Spec.RestartPolicy = l.policy
	for _, s := range l.slots {
		c := corev1.Container{Name: s.name, Image: s.image(), Args: []string{s.name}}
		if s.swapped {
			c.Image = placeholderImage
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

func (s slotPlan) image() string {
	if s.missing {
		return "nope:1"
	}
	return stepImage
}

// runStep swaps a step in and waits for its end.
func (l *life) runStep(ctx context.Context, s slotPlan) {
	if s.swapped {
		pause(ctx, s.after)
		err := l.split.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) {
			patch := fmt.Appendf(nil, `{"spec":{"containers":[{"name":%q,"image":%q}]}}`, s.name, s.image())
			return l.pods.CoreV1().Pods("default").Patch(ctx, "p", types.StrategicMergePatchType, patch, metav1.PatchOptions{})
		}, s.name)
		if err != nil {
			l.blame("swap", "%s: %v", s.name, err)
			return
		}
	}
	rng := l.chance("readers", len(s.name))
	l.read(ctx, "slow", s.name, time.Duration(rng.Int64N(int64(20*time.Millisecond))))
	short, release := context.WithTimeout(ctx, time.Duration(rng.Int64N(int64(30*time.Second))))
	defer release()
	l.read(short, "cancelled", s.name, 0)
	if s.service {
		return
	}
	if l.policy == corev1.RestartPolicyAlways {
		pause(ctx, l.lasts)
		return
	}
	limited, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	state, err := l.split.Wait(limited, s.name, func(st eventsplit.State) bool {
		return eventsplit.Ended(st) && (st.Final || l.policy == corev1.RestartPolicyNever)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waited[s.name] = waited{state, err}
}

// read reads a slot to its end; it takes so long for each line.
func (l *life) read(ctx context.Context, kind, slot string, each time.Duration) {
	r := l.logs.Reader(ctx, slot, logstream.ReadOptions{Gap: func(logstream.Gap) string { return "" }})
	seen := &reading{kind: kind, slot: slot}
	l.mu.Lock()
	l.reads = append(l.reads, seen)
	l.mu.Unlock()
	l.readers.Go(func() {
		for line, err := range r.Lines() {
			if err != nil {
				seen.err = err
				break
			}
			seen.lines = append(seen.lines, readLine{line.ContainerID, string(line.Text), time.Now()})
			if each > 0 {
				time.Sleep(each)
			}
		}
	})
}

// watchStates notes every state that the timelines of the slots have.
func (l *life) watchStates(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, s := range l.slots {
		all.Go(func() {
			for e, err := range l.split.Entries(ctx, s.name) {
				if err != nil {
					return
				}
				if e.State != nil {
					l.mu.Lock()
					l.states = append(l.states, *e.State)
					l.mu.Unlock()
				}
			}
		})
	}
}

// drain drains the pod as it is known to the API server.
func (l *life) drain(ctx context.Context) {
	newest, err := l.pods.CoreV1().Pods("default").Get(ctx, "p", metav1.GetOptions{})
	if err != nil {
		l.blame("host", "%v", err)
		return
	}
	spy{l}.Handle(watch.Event{Type: watch.Modified, Object: newest})
	limited, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	l.note("drain")
	began := time.Now()
	certs, err := l.logs.Drain(limited, newest)
	l.mu.Lock()
	since := began
	for _, at := range []time.Time{l.lastStatus, l.lastFault} {
		if at.After(since) {
			since = at
		}
	}
	for _, c := range certs {
		if c.Proof == logstream.Live {
			l.live[c.ContainerID] = true
		}
	}
	l.mu.Unlock()
	l.note("drained")
	if took := time.Since(since); took > settled && l.slowLink == 0 || err != nil {
		l.blame("drain", "it took %s after the last status, %v: %+v", took, err, certs)
	}
}

func (l *life) isThere() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.deleted
}

// remove deletes the pod, waits until it is gone and reads what it said last.
func (l *life) remove(ctx context.Context) error {
	l.note("the pod is deleted")
	l.removed = time.Now()
	pods := l.pods.CoreV1().Pods("default")
	if err := pods.Delete(ctx, "p", metav1.DeleteOptions{}); err != nil {
		return err
	}
	for l.isThere() {
		if !pause(ctx, 100*time.Millisecond) {
			return errors.New("the pod is not deleted")
		}
	}
	limited, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	certs, err := l.logs.Drain(limited, nil)
	l.certs = certs
	pause(ctx, 2*time.Minute) // for slow readers
	return err
}
