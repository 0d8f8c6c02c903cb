package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

const (
	drainTime  = 30 * time.Second // for what has ended to be read to its end
	removeTime = 30 * time.Second // for the pod to be gone, and for a create that nobody waits for
)

// build is one run of a pipeline: one pod, and what the library knows of it.
type build struct {
	pipeline *Pipeline
	pod      *corev1.Pod
	pods     corev1client.PodInterface
	out      *printer

	watch *podwatch.Watcher
	track *podwatch.Tracking
	split *eventsplit.Splitter
	logs  *logstream.Capture

	maybe  bool                    // the pod was created, or may have been
	giveUp context.CancelCauseFunc // ends the steps, not the clean-up

	printing sync.WaitGroup                     // of the logs
	stopRead map[string]context.CancelCauseFunc // by step: what is captured by then is printed
}

// newBuild wires the three packages for one pod. An executor of many builds
// makes the watcher and the streamer once and the rest for each pod.
func newBuild(cfg *rest.Config, pod *corev1.Pod, p *Pipeline, out *printer) (*build, *logstream.Streamer, error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, nil, err
	}
	opener, err := logstream.FromConfig(cfg)
	if err != nil {
		return nil, nil, err
	}
	b := &build{pipeline: p, pod: pod, pods: client.CoreV1().Pods(pod.Namespace), out: out}
	b.watch, err = podwatch.New(client, podwatch.Options{Namespace: pod.Namespace, Name: pod.Name, Notify: b.notice})
	if err != nil {
		return nil, nil, err
	}
	streams := logstream.New(opener, logstream.Options{Notify: b.logNotice})
	b.split = eventsplit.New(pod.Namespace, pod.Name, eventsplit.Options{Placeholder: func(string) bool { return true }})
	b.logs = streams.Pod(pod.Namespace, pod.Name, b.split)
	b.track, err = b.watch.Track(pod.Namespace, pod.Name, b.logs, b.split)
	return b, streams, err
}

// execute runs the pipeline and returns how each step ended. The error says, in
// one sentence, why not every step succeeded. When ctx ends, the step that runs
// is given up, and the pod is drained and deleted all the same.
func execute(ctx context.Context, cfg *rest.Config, pod *corev1.Pod, p *Pipeline, out *printer) ([]StepResult, error) {
	results := make([]StepResult, len(p.Steps))
	for i, s := range p.Steps {
		results[i] = StepResult{Name: s.Name, Image: s.Image, Outcome: "skipped", Log: "none"}
	}
	b, streams, err := newBuild(cfg, pod, p, out)
	if err != nil {
		results[0].fail(err)
		return results, err
	}
	ctx, b.giveUp = context.WithCancelCause(ctx)
	defer b.giveUp(nil)
	// The watch and the streams outlive ctx: when theirs ends the tracking is closed
	// and every wait and reader with it, and draining needs them.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var work errgroup.Group
	work.Go(func() error { return b.watch.Run(background) })
	work.Go(func() error { return streams.Run(background) })
	work.Go(func() error { b.printEvents(background); return nil })
	b.stopRead = map[string]context.CancelCauseFunc{}

	err = b.run(ctx, background, results)
	err = inOneSentence(err, b.finish(background, results))
	stop()
	_ = work.Wait() // the cause is our own stop
	return results, err
}

// run creates the pod and runs the steps until one does not succeed. What it prints
// may go on until finish ends it.
func (b *build) run(ctx, printing context.Context, results []StepResult) error {
	if err := b.create(ctx); err != nil {
		results[0].fail(err)
		return fmt.Errorf("the pod of pipeline %q could not be created: %w", b.pipeline.Name, err)
	}
	for i, s := range b.pipeline.Steps {
		r := &results[i]
		printed := b.print(printing, s.Name, r)
		state, err := b.step(ctx, s, printed)
		if state.Outcome != nil {
			r.ExitCode = &state.Outcome.ExitCode
		}
		switch {
		case err != nil:
			r.fail(err)
			return fmt.Errorf("step %q (image %s) %s: %w", s.Name, s.Image, verb(err), err)
		case state.Outcome.ExitCode != 0:
			r.Outcome = "failed"
			return fmt.Errorf("step %q (image %s) failed: exit code %d (%s)",
				s.Name, s.Image, state.Outcome.ExitCode, state.Outcome.Reason)
		default:
			r.Outcome = "succeeded"
		}
	}
	return nil
}

// create does not end with ctx: of a request that was cut off nobody knows
// whether the pod comes into being, and then it could come after its deletion.
func (b *build) create(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTime)
	defer cancel()
	created, err := b.pods.Create(limited, b.pod, metav1.CreateOptions{})
	if err != nil {
		f := eventsplit.ClassifyAPIError(err)
		// An answer that is not a plain no may be wrong: the pod is there, perhaps.
		b.maybe = f.Class == eventsplit.ClassUncertain
		return f
	}
	b.maybe = true
	b.track.Created(created)
	b.out.sayHeld()
	return nil
}

// verb tells a step that Kubernetes could not run from one that we gave up.
func verb(err error) string {
	if f := (*eventsplit.Failure)(nil); errors.As(err, &f) {
		return "could not run"
	}
	return "was given up"
}

// print has the step's log printed as it comes. It returns at once, and misses
// nothing: the step is not swapped in yet. The channel is closed at the log's end.
func (b *build) print(ctx context.Context, step string, r *StepResult) <-chan struct{} {
	ctx, b.stopRead[step] = context.WithCancelCause(ctx)
	printed := make(chan struct{})
	b.printing.Go(func() {
		defer close(printed)
		r.printed, r.Gaps = b.printLog(ctx, step)
	})
	return printed
}

// step swaps the step's image in and waits for its end. It returns when the log is
// printed, unless ctx ends or the capture takes longer than drainTime.
func (b *build) step(ctx context.Context, s Step, printed <-chan struct{}) (state eventsplit.State, err error) {
	shown, hide := context.WithCancel(ctx)
	var progress sync.WaitGroup
	progress.Go(func() { b.showProgress(shown, s) })
	defer progress.Wait()
	defer hide()

	if err = b.split.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) {
		return b.pods.Patch(ctx, b.pod.Name, types.StrategicMergePatchType,
			fmt.Appendf(nil, `{"spec":{"containers":[{"name":%q,"image":%q}]}}`, s.Name, s.Image), metav1.PatchOptions{})
	}, s.Name); err == nil {
		state, err = b.split.Wait(ctx, s.Name, eventsplit.Ended)
	}
	drain, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	certificates, derr := b.logs.Drain(drain, b.track.Pod())
	if derr == nil && captured(certificates, s.Name) { // only the printing may take its time
		select {
		case <-printed:
		case <-ctx.Done():
		}
	}
	return state, err
}

// captured reports whether the step has run and its log is final.
func captured(certificates []logstream.Certificate, step string) bool {
	return slices.ContainsFunc(certificates, func(c logstream.Certificate) bool {
		return c.Slot == step && c.Proof != logstream.Live
	})
}

// finish drains the logs, deletes the pod and waits until it is gone.
func (b *build) finish(ctx context.Context, results []StepResult) error {
	shown, hide := context.WithCancel(ctx)
	var progress errgroup.Group
	progress.Go(func() error { b.tick(shown, "pod", func() string { return "cleaning up" }); return nil })
	drain, cancel := context.WithTimeoutCause(ctx, drainTime, errors.New("the logs took too long to drain"))
	defer cancel()
	certificates, derr := b.logs.Drain(drain, b.track.Pod())
	for step, stop := range b.stopRead {
		if !captured(certificates, step) {
			stop(errors.New("the log was given up before its end"))
		}
	}
	for _, c := range certificates {
		for i := range results {
			if results[i].Name == c.Slot {
				results[i].logged(c)
			}
		}
	}
	err := b.remove(ctx)
	b.printing.Wait()
	for i := range results {
		r := &results[i]
		r.Lines = max(r.Lines, r.printed) // what is not final may have grown
	}
	b.track.Close()
	<-b.track.Done() // what the timelines have not been handed yet
	b.split.Close()
	hide()
	_ = progress.Wait()
	return inOneSentence(derr, err, b.logs.Close())
}

// remove deletes the pod and waits until it is gone: with its own grace at
// first, then without any. It asks again until the answer is plain.
func (b *build) remove(ctx context.Context) error {
	if !b.maybe {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, removeTime)
	defer cancel()
	impatient := time.Now().Add(2 * terminationGrace * time.Second)
	var last error
	err := wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		var o metav1.DeleteOptions
		if time.Now().After(impatient) {
			o.GracePeriodSeconds = new(int64)
		}
		err := b.pods.Delete(ctx, b.pod.Name, o)
		switch {
		case apierrors.IsNotFound(err): // nor is a namespace that is gone a fault
			return true, nil
		case err == nil || eventsplit.ClassifyAPIError(err).MayRecover:
			if ctx.Err() == nil {
				last = err
			}
			return false, nil
		}
		return false, err
	})
	if err != nil {
		if wait.Interrupted(err) {
			err = cmp.Or(last, errors.New("it does not go away"))
		}
		return fmt.Errorf("pod %s/%s may be left behind: %w", b.pod.Namespace, b.pod.Name, err)
	}
	return nil
}

// inOneSentence joins what went wrong, in this order; nil if nothing did.
func inOneSentence(errs ...error) (all error) {
	for _, err := range errs {
		switch {
		case err == nil:
		case all == nil:
			all = err
		default:
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

// terminationGrace is what a container that ignores SIGTERM costs, in seconds:
// at every swap, if the placeholder does.
const terminationGrace = 5

// PodOptions are the choices that the command line leaves to the user.
type PodOptions struct {
	Namespace, NodeName string
	HostNetwork         bool
}

// newPod is a container a step, all of them waiting on the placeholder.
func newPod(p *Pipeline, o PodOptions) *corev1.Pod {
	grace, off := int64(terminationGrace), false
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: p.Name + "-" + rand.String(5)},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			NodeName:                      o.NodeName,
			HostNetwork:                   o.HostNetwork,
			TerminationGracePeriodSeconds: &grace,
			AutomountServiceAccountToken:  &off,
			EnableServiceLinks:            &off,
		},
	}
	for _, s := range p.Steps {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
			Name: s.Name, Image: p.Placeholder, Args: s.Commands, ImagePullPolicy: corev1.PullIfNotPresent,
		})
	}
	return pod
}
