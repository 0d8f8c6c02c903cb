package main

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// How long draining may take: of a pod that is gone, and of all at the end.
const (
	drainPod = 30 * time.Second
	drainAll = 10 * time.Second
)

// A line longer than 64 KiB comes in pieces, the first ones longer than piece. It is
// printed as one, up to longest.
const (
	piece   = 32 << 10
	longest = 1 << 20
)

// tailer prints the logs of every pod that its watch finds.
type tailer struct {
	out      *printer
	pods     *podwatch.Watcher
	logs     *logstream.Streamer
	health   *health
	ctx      context.Context // Run's, but for its end: draining comes after that
	draining sync.WaitGroup  // the pods that are
}

func newTailer(cfg *rest.Config, o options, out *printer) (*tailer, error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	opener, err := logstream.FromConfig(cfg)
	if err != nil {
		return nil, err
	}
	t := &tailer{out: out, health: &health{Opener: opener, out: out}}
	t.logs = logstream.New(t.health, logstream.Options{})
	t.pods, err = podwatch.New(client, podwatch.Options{
		Namespace: o.namespace, LabelSelector: o.selector, OnPod: t.onPod, Notify: t.health.notice,
	})
	return t, err
}

// run prints until ctx ends, then what is left to drain, then what it is all
// worth. It returns the exit status.
func (t *tailer) run(ctx context.Context) int {
	var refused error
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	t.ctx = background
	ctx, giveUp := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { _ = t.logs.Run(background) })
	work.Go(func() { t.health.watch(background, t.logs) })
	work.Go(func() {
		if err := t.pods.WaitForSync(ctx); err != nil && ctx.Err() == nil {
			refused = err
			giveUp()
		}
	})
	_ = t.pods.Run(ctx) // once it returns, every follower has been told Closed
	giveUp()
	late := time.AfterFunc(drainAll, stop)
	defer late.Stop()
	t.draining.Wait()
	stop()
	work.Wait()
	if refused != nil {
		t.out.say("tail: %s", cli.OneLine(refused))
		return exitFailed
	}
	t.out.summary()
	return 0
}

// onPod follows a pod that the watch has found.
func (t *tailer) onPod(p *corev1.Pod) []podwatch.Handler {
	return []podwatch.Handler{&follower{
		t: t, namespace: p.Namespace, name: p.Name,
		logs: t.logs.Pod(p.Namespace, p.Name, nil), // every run is work
		split: eventsplit.New(p.Namespace, p.Name, eventsplit.Options{
			// A tail gives nothing up: Kubernetes goes on trying, and so the image may come yet.
			Policy: func(*eventsplit.Failure) (time.Duration, bool) { return 0, false },
		}),
		slots: map[string]bool{}, runs: map[string]int{}, told: map[string]bool{},
	}}
}

// follower prints the logs of one pod. It is the pod's handler.
type follower struct {
	t               *tailer
	namespace, name string
	logs            *logstream.Capture
	split           *eventsplit.Splitter
	slots           map[string]bool // those that are being printed; Handle's own
	printing        sync.WaitGroup

	mu   sync.Mutex
	runs map[string]int  // the number of a run, by container ID
	told map[string]bool // what was said of the pod's troubles
}

// Handle numbers the runs before anything of them can be read.
func (f *follower) Handle(ev watch.Event) {
	if p, ok := ev.Object.(*corev1.Pod); ok {
		f.number(p.Status.InitContainerStatuses)
		f.number(p.Status.ContainerStatuses)
		f.number(p.Status.EphemeralContainerStatuses)
		f.print(p)
	}
	f.logs.Handle(ev)
	f.split.Handle(ev)
	if s, ok := ev.Object.(*metav1.Status); ok && s.Reason == podwatch.Closed {
		f.t.draining.Go(f.finish)
	}
}

// number notes which run of its container each container ID is: its restart count.
func (f *follower) number(statuses []corev1.ContainerStatus) {
	f.mu.Lock()
	defer f.mu.Unlock()
	note := func(id string, n int) {
		if _, known := f.runs[id]; !known {
			f.runs[id] = n
		}
	}
	for _, s := range statuses {
		n := int(s.RestartCount)
		switch {
		case s.State.Running != nil:
			note(s.ContainerID, n)
			n--
		case s.State.Terminated != nil:
			note(s.State.Terminated.ContainerID, n)
			n--
		}
		if last := s.LastTerminationState.Terminated; last != nil { // while it waits, the newest run
			note(last.ContainerID, n)
		}
	}
}

// print begins with the containers that are new: ephemeral ones come late.
func (f *follower) print(p *corev1.Pod) {
	begin := func(slot string, do ...func(string)) {
		if f.slots[slot] {
			return
		}
		f.slots[slot] = true
		for _, do := range do {
			f.printing.Go(func() { do(slot) })
		}
	}
	begin("", f.printTroubles) // the pod's own
	for _, c := range p.Spec.InitContainers {
		begin(c.Name, f.printLog, f.printTroubles)
	}
	for _, c := range p.Spec.Containers {
		begin(c.Name, f.printLog, f.printTroubles)
	}
	for _, c := range p.Spec.EphemeralContainers {
		begin(c.Name, f.printLog, f.printTroubles)
	}
}

// printLog prints every run of a container, and to stderr what is missing.
func (f *follower) printLog(slot string) {
	r := f.logs.Reader(f.t.ctx, slot, logstream.ReadOptions{Gap: func(g logstream.Gap) string {
		f.t.out.gap(f.source(slot, g.ContainerID), g)
		return ""
	}})
	defer r.Close()
	var at time.Time
	var from source
	var text []byte
	flush := func() { f.t.out.line(from, at, text); text = nil }
	for line, err := range r.Lines() {
		if err != nil {
			break // given up while draining: the certificate says so
		}
		if !line.Time.IsZero() { // else it may be the next piece of a long line
			if text != nil {
				flush()
			}
			at = line.Time
		}
		from, text = f.source(slot, line.ContainerID), append(text, line.Text...)
		if !line.Partial || len(line.Text) < piece || len(text) > longest {
			flush()
		}
	}
	if text != nil {
		flush()
	}
}

// printTroubles says why a container waits, will not run, or was lost: once.
func (f *follower) printTroubles(slot string) {
	for e, err := range f.split.Entries(f.t.ctx, slot) {
		if err != nil || e.State == nil {
			continue
		}
		for _, trouble := range []*eventsplit.Failure{e.State.Waiting, e.State.Failure} {
			if trouble != nil && trouble.Class != eventsplit.ClassProgress && f.first(trouble) {
				f.t.out.say("%s/%s: %s", f.namespace, f.name, trouble)
			}
		}
	}
}

// first says whether a trouble is news. What troubles the pod troubles each of its
// containers, in the same words.
func (f *follower) first(trouble *eventsplit.Failure) bool {
	key := string(trouble.Class) + trouble.Message
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.told[key]
	f.told[key] = true
	return !was
}

// finish prints what is left of a pod that is gone, or of every pod at the end,
// and frees what it held.
func (f *follower) finish() {
	ctx, cancel := context.WithTimeout(f.t.ctx, drainPod)
	defer cancel()
	certificates, err := f.logs.Drain(ctx, nil)
	if err == nil {
		f.printing.Wait() // every run is final: the readers come to their ends
	}
	_ = f.logs.Close() // else this ends them; it never fails
	f.printing.Wait()
	f.t.health.forget(f.namespace, f.name)
	for _, c := range certificates {
		f.t.out.keep(f.source(c.Slot, c.ContainerID), c)
	}
}

func (f *follower) source(slot, containerID string) source {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, known := f.runs[containerID]
	if !known {
		n = -1
	}
	return source{f.namespace, f.name, slot, n}
}
