package main

import (
	"cmp"
	"context"
	"errors"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// fail records that the step could not run, or was given up.
func (r *StepResult) fail(err error) {
	r.Outcome = "error"
	r.Failure = &Problem{Class: "Interrupted", Reason: "Interrupted", Message: err.Error()}
	var f *eventsplit.Failure
	switch {
	case errors.As(err, &f):
		r.Failure = &Problem{Class: string(f.Class), Reason: f.Reason, Message: cmp.Or(f.Message, f.Error())}
	case errors.Is(err, errTimeout):
		r.Failure.Class, r.Failure.Reason = "Timeout", "Timeout"
	}
}

// logged records what the step's log is worth.
func (r *StepResult) logged(c logstream.Certificate) {
	r.Lines += c.Lines
	switch c.Proof {
	case logstream.Verified:
		r.Log = "verified"
	case logstream.Unverified:
		r.Log = "unverified"
	default: // Incomplete, or Live: the step was given up while it ran
		r.Log = "incomplete"
	}
}

// printLog prints the step's log, from its first line to its end, and every gap in
// its place; when ctx ends, all that is captured by then, and that there is more. It
// returns the number of both.
func (b *build) printLog(ctx context.Context, step string) (lines uint64, gaps int) {
	r := b.logs.Reader(ctx, step, logstream.ReadOptions{})
	defer r.Close()
	gap := func(g logstream.Gap) { gaps++; b.out.gap(step, g) }
	for line, err := range r.Lines() {
		switch {
		case err == nil && line.Gap != nil:
			gap(*line.Gap)
		case err == nil:
			b.out.log(step, string(line.Text))
			if !line.More {
				lines++
			}
		case ctx.Err() != nil && b.split.State(step).ContainerID != "":
			gap(logstream.Gap{Why: context.Cause(ctx).Error(), AfterLine: lines})
		}
	}
	return lines, gaps
}

// printEvents prints the Events of the pod and of each step until ctx ends.
func (b *build) printEvents(ctx context.Context) {
	var g errgroup.Group
	follow := func(slot string) {
		g.Go(func() error {
			for e, err := range b.split.Entries(ctx, slot) {
				if err != nil {
					return err
				}
				if e.Event != nil {
					b.out.event(slot, e.Event.Reason, e.Event.Message, e.Event.Type == corev1.EventTypeWarning)
				}
			}
			return nil
		})
	}
	follow("") // the pod's own
	for _, s := range b.pipeline.Steps {
		follow(s.Name)
	}
	_ = g.Wait() // ctx ended, or the splitter was closed
}

// notice tells a person what troubles the watch. Without a watch of its pod a
// pipeline would wait for ever; without one of the Events it only knows less.
func (b *build) notice(n podwatch.Notice) {
	switch {
	case n.Kind == podwatch.NoticeForbidden && n.Resource == "pods" && n.Name == "":
		b.giveUp(eventsplit.ClassifyAPIError(n.Err))
	case n.Kind == podwatch.NoticeStale && apierrors.IsForbidden(n.Err): // said already
	case n.Kind == podwatch.NoticeForbidden, n.Kind == podwatch.NoticeStale:
		b.out.remark("watching %s: %s: %s", n.Resource, n.Kind, cli.OneLine(n.Err))
	case n.Kind == podwatch.NoticeFresh:
		b.out.remark("watching %s: contact again", n.Resource)
	}
}

// logNotice tells a person what costs output; how a log is read is of no interest.
func (b *build) logNotice(n logstream.Notice) {
	switch n.Kind {
	case logstream.NoticeDropped, logstream.NoticeDiskFailed, logstream.NoticeDiskResumed:
		b.out.remark("%s", cli.OneLine(errors.New(n.String())))
	}
}

// waitsFor says what a step waits for; "" once it runs.
func waitsFor(s Step, state eventsplit.State) string {
	switch w := state.Waiting; {
	case eventsplit.Started(state):
		return ""
	case w == nil:
		return "starting"
	case w.Reason == "Pulling":
		return "pulling " + s.Image
	case w.Reason == "Swapping":
		return "swapping in " + s.Image
	default:
		return "waiting: " + w.Reason
	}
}

// showProgress says what the step waits for, until it runs.
func (b *build) showProgress(ctx context.Context, s Step) {
	b.tick(ctx, s.Name, func() string { return waitsFor(s, b.split.State(s.Name)) })
}

// tick shows on a terminal what is waited for, every second until ctx ends or
// there is nothing to wait for.
func (b *build) tick(ctx context.Context, who string, what func() string) {
	if !b.out.terminal {
		return
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for begin := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		now := what()
		b.out.progress(who, now, time.Since(begin))
		if now == "" {
			return
		}
	}
}
