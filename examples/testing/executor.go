// Package executor is the heart of a CI executor, and an example of how one is
// tested: without a cluster, without a fake clientset, in virtual time.
//
// What an executor decides, it decides by the pods and Events that a watch brings
// and by what the node says of a log. Tests make both by hand: a pod is handed to
// Handle, and a logstream.Opener is one method. Copy the _test files: pods_test.go
// is the pod of a test and its life, node_test.go the node that has the logs.
package executor

import (
	"context"
	"errors"
	"io"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/logstream"
)

// Build is a pod whose containers wait on a placeholder image, each for its step.
type Build struct {
	Split *eventsplit.Splitter
	Logs  *logstream.Capture
}

// Result is how a step ended.
type Result struct {
	ExitCode int32
	OOM      bool
	WholeLog bool // nothing is missing from what was written
}

// RunStep swaps the step's image in by patch, writes its log to out as it comes and
// waits for its end. The error is an *eventsplit.Failure when the step could not run.
func (b *Build) RunStep(ctx context.Context, step string, patch func(context.Context) (*corev1.Pod, error), out io.Writer) (Result, error) {
	log := b.Logs.Reader(ctx, step, logstream.ReadOptions{}) // misses nothing: it is there before the step is
	defer log.Close()
	written := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, log)
		written <- err
	}()
	err := b.Split.Swap(ctx, patch, step)
	if err == nil {
		_, err = b.Split.Wait(ctx, step, eventsplit.Ended)
	}
	state := b.Split.State(step)
	if err != nil && state.ContainerID == "" {
		log.Close() // nothing ran, nothing to read
	}
	missing := <-written
	if err != nil {
		return Result{}, err
	}
	if lacks := (*logstream.IncompleteError)(nil); missing != nil && !errors.As(missing, &lacks) {
		return Result{}, missing // out failed, or ctx ended
	}
	return Result{ExitCode: state.Outcome.ExitCode, OOM: state.Outcome.OOM, WholeLog: missing == nil}, nil
}
