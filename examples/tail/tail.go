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

// A line longer than 64 KiB comes in pieces. It is printed as one, up to longest.
const longest = 1 << 20

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
	t := &tailer{out: out, health: &health{out: out}}
	t.logs = logstream.New(opener, logstream.Options{Notify: t.health.ofLog})
	t.pods, err = podwatch.New(client, podwatch.Options{
		Namespace: o.namespace, LabelSelector: o.selector, OnPod: t.onPod, Notify: t.health.ofWatch,
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
	work.Go(func() { t.health.run(background) })
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
		slots: map[string]bool{}, told: map[string]bool{},
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
	told map[string]bool // what was said of the pod's troubles
}

// Handle implements podwatch.Handler.
func (f *follower) Handle(ev watch.Event) {
	if p, ok := ev.Object.(*corev1.Pod); ok {
		f.print(p)
	}
	f.logs.Handle(ev)
	f.split.Handle(ev)
	if s, ok := ev.Object.(*metav1.Status); ok && s.Reason == podwatch.Closed {
		f.t.draining.Go(f.finish)
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
		f.t.out.gap(f.source(slot, g.Run), g)
		return ""
	}})
	defer r.Close()
	var at time.Time
	var text []byte
	for line, err := range r.Lines() {
		if err != nil {
			return // given up while draining: the certificate says so
		}
		if text = append(text, line.Text...); !line.Time.IsZero() {
			at = line.Time // not of a line's later pieces
		}
		if !line.More || len(text) > longest {
			f.t.out.line(f.source(slot, line.Run), at, text)
			text = text[:0]
		}
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
	for _, c := range certificates {
		f.t.health.forget(c.ContainerID)
		f.t.out.keep(f.source(c.Slot, c.Run), c)
	}
}

func (f *follower) source(slot string, run int) source {
	return source{f.namespace, f.name, slot, run}
}
