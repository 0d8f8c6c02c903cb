package testutil

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Program is what a container of an image does. It runs in a goroutine of its
// own and returns the exit code; what it writes to out is its log. ctx ends on
// SIGTERM, with the cause [ErrTerminated]. A program that goes on beyond the
// pod's grace period is killed: what it still writes is lost, its exit code 137.
type Program func(ctx context.Context, args []string, out io.Writer) int

// ErrTerminated is the cause of a Program's context after SIGTERM.
var ErrTerminated = errors.New("testutil: the container was sent SIGTERM")

// Pause is the usual placeholder: it waits for SIGTERM and exits 0, as
// kubernetes v1.36.3 build/pause/linux/pause.c does.
func Pause(ctx context.Context, _ []string, _ io.Writer) int {
	<-ctx.Done()
	return 0
}

// container is one run of a slot, as the container runtime knows it.
type container struct {
	id, slot, image string
	restarts        int32
	log             *logFile
	terminate       context.CancelCauseFunc // SIGTERM
	dead            chan struct{}           // closed when it has exited

	mu       sync.Mutex
	started  time.Time // zero: its process could not be started
	finished time.Time
	exited   bool
	code     int32
	reason   string
	message  string
}

// exit records the end of the run, once: a program that returns after it was
// killed changes nothing.
func (c *container) exit(code int32, reason, message string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.exited {
		return
	}
	c.exited, c.finished = true, time.Now()
	c.code, c.reason, c.message = code, reason, message
	c.log.close()
	close(c.dead)
}

func (c *container) running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.exited
}

// state is the run as a container status shows it.
func (c *container) state() corev1.ContainerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	started := metav1.Time{Time: seconds(c.started)}
	if c.started.IsZero() {
		started.Time = time.Unix(0, 0) // containerd's StartError
	}
	if !c.exited {
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: started}}
	}
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: c.code, Reason: c.reason, Message: c.message, ContainerID: c.id,
		StartedAt: started, FinishedAt: metav1.Time{Time: seconds(c.finished)},
	}}
}

// launch starts the program. Its goroutine is joined by the kubelet.
func (k *kubelet) launch(ctx context.Context, c *container, program Program, args []string) {
	ctx, c.terminate = context.WithCancelCause(ctx)
	if program == nil {
		c.exit(128, "StartError", "failed to create containerd task: failed to create shim task: OCI runtime create failed: "+
			"runc create failed: unable to start container process: exec: executable file not found in $PATH: unknown")
		return
	}
	c.started = time.Now()
	k.group.Go(func() {
		code := int32(program(ctx, args, c.log))
		reason := "Completed"
		if code != 0 {
			reason = "Error"
		}
		c.exit(code, reason, "")
	})
}

// kill stops a run: SIGTERM, then SIGKILL when the grace is over. It blocks
// until the run has ended. The kubelet gives at least two seconds
// (kubernetes v1.36.3 pkg/kubelet/kuberuntime/kuberuntime_container.go:84).
func (c *container) kill(ctx context.Context, grace time.Duration) {
	c.terminate(ErrTerminated)
	timer := time.NewTimer(max(grace, 2*time.Second))
	defer timer.Stop()
	select {
	case <-c.dead:
	case <-timer.C:
		c.exit(137, "Error", "")
	case <-ctx.Done():
	}
}
