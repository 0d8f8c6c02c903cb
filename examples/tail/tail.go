package main

import (
	"context"
	"iter"
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

// drainTime is how long, after an interrupt, the capture may take, and how long
// stdout may then take nothing of what is captured.
const drainTime = 10 * time.Second

// The library passes a line longer than 64 KiB on in pieces. It is printed as one, up
// to longest.
const longest = 1 << 20

// tailer prints the logs of every pod that its watch finds.
type tailer struct {
	out       *printer
	pods      *podwatch.Watcher
	logs      *logstream.Streamer
	finishing sync.WaitGroup // the followers whose pods are gone, or the watch is
}

func newTailer(cfg *rest.Config, namespace, selector string, out *printer) (*tailer, error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	opener, err := logstream.FromConfig(cfg)
	if err != nil {
		return nil, err
	}
	t := &tailer{out: out, logs: logstream.New(opener, logstream.Options{Notify: out.logNotice})}
	t.pods, err = podwatch.New(client, podwatch.Options{
		Namespace: namespace, LabelSelector: selector, OnPod: t.follow, Notify: out.watchNotice,
	})
	return t, err
}

// run prints until ctx ends or stdout fails, then what is left to drain, then what it
// is all worth. It returns the exit status.
func (t *tailer) run(ctx context.Context) int {
	capturing, stop := context.WithCancel(context.WithoutCancel(ctx)) // outlives the watch: it drains
	ctx, end := context.WithCancel(ctx)
	context.AfterFunc(t.out.ctx, end) //nolint:contextcheck // stdout's life, not ctx's
	var refused error
	var work sync.WaitGroup
	work.Go(func() { _ = t.logs.Run(capturing) })
	work.Go(func() {
		if err := t.pods.WaitForSync(ctx); err != nil && ctx.Err() == nil {
			refused = err
			end()
		}
	})
	_ = t.pods.Run(ctx) // when it returns, every follower has been told Closed
	end()
	late := time.AfterFunc(drainTime, stop) // then every run is final, and its readers end
	defer late.Stop()
	work.Go(func() { t.out.expectProgress(capturing) })
	t.finishing.Wait()
	stop()
	work.Wait()
	if refused != nil {
		t.out.say("tail: %s", cli.OneLine(refused))
		return cli.Failed
	}
	return t.out.summary()
}

// follow returns the handlers of a pod that the watch has found.
func (t *tailer) follow(p *corev1.Pod) []podwatch.Handler {
	f := &follower{
		t: t, namespace: p.Namespace, name: p.Name, slots: map[string]bool{},
		logs: t.logs.Pod(p.Namespace, p.Name, nil), // nil: there are no placeholders, every run counts
		split: eventsplit.New(p.Namespace, p.Name, eventsplit.Options{
			// A tail gives nothing up: Kubernetes goes on trying, and so the image may come yet.
			Policy: func(*eventsplit.Failure) (time.Duration, bool) { return 0, false },
		}),
	}
	return []podwatch.Handler{f.logs, f.split, f}
}

// follower prints the logs of one pod. It is the last of the pod's handlers.
type follower struct {
	t               *tailer
	namespace, name string
	logs            *logstream.Capture
	split           *eventsplit.Splitter
	slots           map[string]bool // those that are being printed; Handle's own
	printing        sync.WaitGroup
}

// Handle implements podwatch.Handler.
func (f *follower) Handle(ev watch.Event) {
	switch o := ev.Object.(type) {
	case *corev1.Pod:
		for _, slot := range slotsOf(o) { // ephemeral containers come late
			if !f.slots[slot] {
				f.slots[slot] = true
				f.printing.Go(func() { f.printLog(slot) })
				f.printing.Go(func() { f.printTroubles(slot) })
			}
		}
	case *metav1.Status:
		if o.Reason == podwatch.Closed {
			f.t.finishing.Go(f.finish)
		}
	}
}

func slotsOf(p *corev1.Pod) (names []string) {
	for _, c := range p.Spec.InitContainers { // sidecars are among them
		names = append(names, c.Name)
	}
	for _, c := range p.Spec.Containers {
		names = append(names, c.Name)
	}
	for _, c := range p.Spec.EphemeralContainers {
		names = append(names, c.Name)
	}
	return names
}

// printLog prints every run of a container, and in their places the gaps.
func (f *follower) printLog(slot string) {
	r := f.logs.Reader(f.t.out.ctx, slot, logstream.ReadOptions{})
	defer r.Close()
	f.printLines(slot, r.Lines())
}

func (f *follower) printLines(slot string, lines iter.Seq2[logstream.Line, error]) {
	var long logstream.Line // the pieces of a line so far
	print := func(ended bool) {
		f.t.out.line(f.source(slot, long.Run), long, ended)
		long.Text = long.Text[:0]
	}
	for line, err := range lines {
		if err != nil {
			break // stdout has failed, or lines are missing: the gaps say which
		}
		goesOn := long.More && line.Gap == nil && line.Time.IsZero()
		if long.More && !goesOn {
			print(true) // the rest of that line was dropped
		}
		long.More = line.More
		switch {
		case line.Gap != nil:
			f.t.out.gap(f.source(slot, line.Gap.Run), *line.Gap)
			continue
		case !goesOn:
			long.Time, long.Run = line.Time, line.Run
		}
		if long.Text = append(long.Text, line.Text...); !line.More || len(long.Text) > longest {
			print(!line.More)
		}
	}
	if long.More {
		print(true)
	}
}

// printTroubles says why a container waits, will not run, or was lost: once.
func (f *follower) printTroubles(slot string) {
	said := ""
	for e, err := range f.split.Entries(f.t.out.ctx, slot) {
		if err != nil || e.State == nil {
			continue
		}
		for _, trouble := range []*eventsplit.Failure{e.State.Waiting, e.State.Failure} {
			if trouble == nil || trouble.Class == eventsplit.ClassProgress || trouble.Error() == said {
				continue
			}
			said = trouble.Error()
			f.t.out.say("%s/%s: %s", f.namespace, f.name, said)
		}
	}
}

// finish prints what is left of a pod that is gone, or of every pod at the end, says
// what it is worth, and frees what it held.
func (f *follower) finish() {
	// All that could be known was heard: the end of the Streamer is the latest end.
	certificates, _ := f.logs.Drain(context.Background(), nil)
	printed := make(chan struct{})
	go func() { defer close(printed); f.printing.Wait() }() // every run is final: the readers come to their ends
	select {
	case <-printed:
	case <-f.t.out.ctx.Done(): // a write may never return
	}
	_ = f.logs.Close()
	for _, c := range certificates {
		f.t.out.certificate(f.source(c.Slot, c.Run), c)
	}
}

func (f *follower) source(slot string, run int) source {
	return source{f.namespace, f.name, slot, run}
}
