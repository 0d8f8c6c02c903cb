package main

import (
	"context"
	"iter"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// drainAll is how long, at the end, the capture may take, and then stdout to take
// anything of what is captured.
const drainAll = 10 * time.Second

// A line longer than 64 KiB comes in pieces. It is printed as one, up to longest.
const longest = 1 << 20

// mostTold is how many troubles and gaps of a pod are known to have been said.
const mostTold = 1000

// tailer prints the logs of every pod that its watch finds.
type tailer struct {
	out      *printer
	pods     *podwatch.Watcher
	logs     *logstream.Streamer
	health   *health
	draining sync.WaitGroup // the pods that are
	printed  sync.Map       // container ID to *tally

	mu      sync.Mutex
	left    []*tally                // of runs whose pods left the selector; the newest
	follows map[types.UID]*follower // the newest of each pod
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
	t := &tailer{out: out, health: newHealth(out), follows: map[types.UID]*follower{}}
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
	capturing, stop := context.WithCancel(context.WithoutCancel(ctx))
	printing, printed := context.WithCancel(context.WithoutCancel(ctx))
	ctx, giveUp := context.WithCancel(ctx)
	context.AfterFunc(t.out.ctx, giveUp) //nolint:contextcheck // it outlives ctx
	var work sync.WaitGroup
	work.Go(func() { _ = t.logs.Run(capturing) })
	work.Go(func() { t.health.run(printing) })
	work.Go(func() {
		if err := t.pods.WaitForSync(ctx); err != nil && ctx.Err() == nil {
			refused = err
			giveUp()
		}
	})
	_ = t.pods.Run(ctx) // once it returns, every follower has been told Closed
	giveUp()
	late := time.AfterFunc(drainAll, stop) // then every run is final, and its readers end
	defer late.Stop()
	work.Go(func() { t.out.watch(printing) })
	t.draining.Wait()
	stop()
	printed()
	work.Wait()
	if refused != nil {
		t.out.say("tail: %s", cli.OneLine(refused))
		return exitFailed
	}
	t.out.summary()
	if t.out.ctx.Err() != nil {
		t.out.say("tail: stdout: %v", context.Cause(t.out.ctx)) //nolint:contextcheck // as above
		return exitFailed
	}
	return 0
}

// onPod follows a pod that the watch has found.
func (t *tailer) onPod(p *corev1.Pod) []podwatch.Handler {
	f := &follower{
		t: t, namespace: p.Namespace, name: p.Name, uid: p.UID,
		logs: t.logs.Pod(p.Namespace, p.Name, nil), // every run is work
		split: eventsplit.New(p.Namespace, p.Name, eventsplit.Options{
			// A tail gives nothing up: Kubernetes goes on trying, and so the image may come yet.
			Policy: func(*eventsplit.Failure) (time.Duration, bool) { return 0, false },
		}),
		slots: map[string]bool{}, told: map[any]bool{},
		tallies: map[string]*tally{}, done: make(chan struct{}),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if was := t.follows[f.uid]; was != nil {
		f.before = was.done
	}
	t.follows[f.uid] = f
	return []podwatch.Handler{f}
}

// follower prints the logs of one pod. It is the pod's handler.
type follower struct {
	t               *tailer
	namespace, name string
	uid             types.UID
	logs            *logstream.Capture
	split           *eventsplit.Splitter
	slots           map[string]bool // those that are being printed; Handle's own
	deleted         bool            // the pod is; Handle's own, then finish's
	printing        sync.WaitGroup
	before          <-chan struct{} // done of the follower that the pod had before; nil: there is none
	done            chan struct{}   // closed when nothing more will be printed

	mu      sync.Mutex
	told    map[any]bool      // the troubles and gaps that were said
	tallies map[string]*tally // by container ID
}

// Handle implements podwatch.Handler.
func (f *follower) Handle(ev watch.Event) {
	if p, ok := ev.Object.(*corev1.Pod); ok {
		f.print(p)
		f.deleted = f.deleted || ev.Type == watch.Deleted
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

// printLog prints every run of a container, and what is missing.
func (f *follower) printLog(slot string) {
	r := f.logs.Reader(f.t.out.ctx, slot, logstream.ReadOptions{})
	defer r.Close()
	f.printLines(slot, r.Lines())
}

func (f *follower) printLines(slot string, lines iter.Seq2[logstream.Line, error]) {
	var of *tally
	var at time.Time
	var text []byte
	var run int
	flush := func(whole bool) {
		if !of.skips(at) {
			if !f.t.out.line(f.source(slot, run), at, text) {
				return
			}
			of.last = at
		}
		if text = text[:0]; whole {
			of.lines.Add(1)
		}
	}
	for line, err := range lines {
		if err != nil {
			break // stdout has failed, or lines are missing: the gaps say which
		}
		if line.Gap != nil {
			f.gap(slot, *line.Gap)
			continue
		}
		if len(text) > 0 && !line.Time.IsZero() {
			flush(true) // the rest of that line was dropped
		}
		if of == nil || of.id != line.ContainerID {
			run = line.Run
			of = f.begin(line.ContainerID, line.Time)
		}
		if text = append(text, line.Text...); !line.Time.IsZero() {
			at = line.Time // not of a line's later pieces
		}
		if !line.More || len(text) > longest {
			flush(!line.More)
		}
	}
	if len(text) > 0 {
		flush(true)
	}
}

// gap tells of a gap, once.
func (f *follower) gap(slot string, g logstream.Gap) {
	type gapOf struct {
		slot string
		gap  logstream.Gap
	}
	if f.first(gapOf{slot, g}) {
		f.t.out.gap(f.source(slot, g.Run), g)
	}
}

// printTroubles says why a container waits, will not run, or was lost: once.
func (f *follower) printTroubles(slot string) {
	for e, err := range f.split.Entries(f.t.out.ctx, slot) {
		if err != nil || e.State == nil {
			continue
		}
		for _, trouble := range []*eventsplit.Failure{e.State.Waiting, e.State.Failure} {
			// What troubles the pod troubles each of its containers, in the same words.
			if trouble != nil && trouble.Class != eventsplit.ClassProgress && f.first(string(trouble.Class)+trouble.Message) {
				f.t.out.say("%s/%s: %s", f.namespace, f.name, trouble)
			}
		}
	}
}

// first says whether a trouble or a gap is news.
func (f *follower) first(what any) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	was := f.told[what]
	if len(f.told) == mostTold { // a trouble's words may be new every time
		clear(f.told)
	}
	f.told[what] = true
	return !was
}

// finish prints what is left of a pod that is gone, or of every pod at the end,
// and frees what it held.
func (f *follower) finish() {
	// All that could be known was heard, so the end of the Streamer is the latest end.
	_, _ = f.logs.Drain(context.Background(), nil)
	go func() {
		f.printing.Wait() // every run is final: the readers come to their ends
		close(f.done)
	}()
	select {
	case <-f.done:
	case <-f.t.out.ctx.Done(): // a write may never return
	}
	certificates, _ := f.logs.Drain(context.Background(), nil) // with what was dropped meanwhile
	_ = f.logs.Close()
	for _, c := range certificates {
		for _, g := range c.Gaps { // those that no reader has come to
			f.gap(c.Slot, g)
		}
		of := f.tally(c.ContainerID)
		f.t.out.keep(f.source(c.Slot, c.Run), c, of.lines.Load())
		f.t.leave(of, f.deleted)
	}
	f.t.mu.Lock()
	defer f.t.mu.Unlock()
	if f.t.follows[f.uid] == f {
		delete(f.t.follows, f.uid)
	}
}

func (f *follower) source(slot string, run int) source {
	return source{f.namespace, f.name, slot, run}
}
