package vela

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

const (
	placeholder = "kubernetes/pause:latest"
	drainTime   = 30 * time.Second
)

// Engine is the runtime of one build.
type Engine struct {
	worker *Worker
	pod    *corev1.Pod

	split *eventsplit.Splitter
	logs  *logstream.Capture
	track *podwatch.Tracking

	finished bool
}

// Engine returns the runtime of one build.
func (w *Worker) Engine(b *Build) *Engine {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: b.ID, Labels: map[string]string{workerLabel: w.host}},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever},
	}
	for _, s := range b.Steps {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
			Name: s.ID, Image: placeholder, Args: s.Commands, ImagePullPolicy: corev1.PullIfNotPresent,
		})
	}
	return &Engine{worker: w, pod: pod}
}

func (e *Engine) pods() corev1client.PodInterface {
	return e.worker.client.CoreV1().Pods(e.pod.Namespace)
}

// StreamBuild has nothing to do: the worker's watch runs already.
func (e *Engine) StreamBuild(context.Context, *Build) error { return nil }

// AssembleBuild creates the pod, watched and captured from before it exists.
func (e *Engine) AssembleBuild(ctx context.Context, _ *Build) (err error) {
	ns, name := e.pod.Namespace, e.pod.Name
	e.split = eventsplit.New(ns, name, eventsplit.Options{Placeholder: func(string) bool { return true }})
	e.logs = e.worker.logs.Pod(ns, name, e.split)
	if e.track, err = e.worker.watch.Track(ns, name, e.logs, e.split); err != nil {
		return err
	}
	p, err := e.pods().Create(ctx, e.pod, metav1.CreateOptions{})
	if err != nil {
		return eventsplit.ClassifyAPIError(err)
	}
	e.track.Created(p)
	return nil
}

// valid refuses a step without an ID: the empty slot is the pod, whose end is not
// the step's.
func (c *Container) valid() error {
	if c.ID == "" {
		return errors.New("the step has no container ID")
	}
	return nil
}

// RunContainer swaps the step's image in and returns once it runs or has run.
// What keeps it from running, such as an image that cannot be pulled, is the
// error, in words for the person who reads the step.
func (e *Engine) RunContainer(ctx context.Context, c *Container, _ *Build) error {
	err := c.valid()
	if err != nil {
		return err
	}
	err = e.split.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) {
		return e.pods().Patch(ctx, e.pod.Name, types.StrategicMergePatchType,
			fmt.Appendf(nil, `{"spec":{"containers":[{"name":%q,"image":%q}]}}`, c.ID, c.Image), metav1.PatchOptions{})
	}, c.ID)
	if err == nil {
		_, err = e.split.Wait(ctx, c.ID, eventsplit.Started)
	}
	return err
}

// TailContainer is the same call before the swap, during the step and after its
// end: the whole log, from its first byte.
func (e *Engine) TailContainer(ctx context.Context, c *Container) (io.ReadCloser, error) {
	if err := c.valid(); err != nil {
		return nil, err
	}
	return e.logs.Reader(ctx, c.ID, logstream.ReadOptions{
		Gap: func(g logstream.Gap) string { return "[log gap: " + g.Why + "]\n" },
	}), nil
}

// WaitContainer returns when the step has ended, or never will.
func (e *Engine) WaitContainer(ctx context.Context, c *Container) error {
	if err := c.valid(); err != nil {
		return err
	}
	_, err := e.split.Wait(ctx, c.ID, eventsplit.Ended)
	return err
}

// InspectContainer answers from memory. A step that runs, or never ran, leaves
// the exit code alone; one that could not be started, or was evicted, may have an
// exit code beside the error.
func (e *Engine) InspectContainer(_ context.Context, c *Container) error {
	if err := c.valid(); err != nil {
		return err
	}
	s := e.split.State(c.ID)
	if s.Outcome != nil {
		c.ExitCode = s.Outcome.ExitCode
	}
	if s.Failure != nil {
		return s.Failure
	}
	return nil
}

// RemoveBuild drains the logs, ends every reader and deletes the pod. It may be
// called again, to delete a pod that could not be, and before AssembleBuild.
func (e *Engine) RemoveBuild(ctx context.Context, _ *Build) error {
	if e.track == nil {
		return nil
	}
	err := e.finish(ctx)
	derr := e.pods().Delete(ctx, e.pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if apierrors.IsNotFound(derr) {
		derr = nil // removed before, never created, or somebody else deleted it
	}
	return errors.Join(err, derr)
}

// finish ends what the library does for the build, once. That comes before the
// pod is deleted, so that the readers of steps that never ran end cleanly, and
// not with the news that their pod is gone.
func (e *Engine) finish(ctx context.Context) error {
	if e.finished {
		return nil
	}
	e.finished = true
	ctx, cancel := context.WithTimeout(ctx, drainTime)
	defer cancel()
	_, err := e.logs.Drain(ctx, e.track.Pod())
	e.track.Close()
	e.split.Close()
	return errors.Join(err, e.logs.Close())
}
