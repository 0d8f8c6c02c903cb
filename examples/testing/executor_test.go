package executor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/logstream"
)

// bench is a step of which a test decides everything that happens to it.
type bench struct {
	*testing.T
	*pod
	*node
	build *Build
	out   strings.Builder

	cancel context.CancelFunc
	done   chan struct{} // closed when RunStep has returned
	result Result
	err    error
}

// inBubble runs RunStep beside script, in virtual time, and waits for it.
func inBubble(t *testing.T, patch func(*bench) func(context.Context) (*corev1.Pod, error), script func(*bench)) (b *bench) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b = &bench{T: t, pod: newPod(), node: newNode(), done: make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		logs := logstream.New(b.node, logstream.Options{})
		stopped := make(chan struct{})
		go func() { defer close(stopped); _ = logs.Run(ctx) }()

		b.build = &Build{Split: eventsplit.New("ci", "build-1", eventsplit.Options{Placeholder: func(string) bool { return true }})}
		b.build.Logs = logs.Pod("ci", "build-1", b.build.Split)
		b.handlers = append(b.handlers, b.build.Logs, b.build.Split)

		var stepCtx context.Context
		stepCtx, b.cancel = context.WithCancel(ctx)
		go func() {
			defer close(b.done)
			b.result, b.err = b.build.RunStep(stepCtx, "test", patch(b), &b.out)
		}()
		script(b)
		<-b.done
		b.cancel()
		b.build.Split.Close()
		b.build.Logs.Close()
		stop()
		<-stopped
	})
	b.T = t
	return b
}

// patched is the usual patch.
func patched(b *bench) func(context.Context) (*corev1.Pod, error) { return b.patch }

// starts brings the step to where its own image runs.
func (b *bench) starts() {
	b.exists()
	b.runs("containerd://placeholder")
	<-b.patched
	time.Sleep(600 * time.Millisecond)
	b.runs("containerd://step")
}

// returns waits until RunStep has returned, and says after how long.
func (b *bench) returns() time.Duration {
	begin := time.Now()
	<-b.done
	return time.Since(begin)
}

// failed is RunStep's error, which must be a Failure of that class.
func (b *bench) failed(class eventsplit.Class, words ...string) {
	b.Helper()
	var f *eventsplit.Failure
	if !errors.As(b.err, &f) || f.Class != class {
		b.Fatalf("got %+v, %v; want a failure of class %s", b.result, b.err, class)
	}
	for _, w := range words {
		if !strings.Contains(f.Error(), w) {
			b.Errorf("%q does not say %q", f.Error(), w)
		}
	}
}

// ended is RunStep's result, which must be this one.
func (b *bench) ended(want Result, log string) {
	b.Helper()
	if b.err != nil || b.result != want || b.out.String() != log {
		b.Errorf("got %+v, %v and the log %q; want %+v and %q", b.result, b.err, b.out.String(), want, log)
	}
}

func TestAStepEndsWithItsOwnExitCodeAndItsWholeLog(t *testing.T) {
	b := inBubble(t, patched, func(b *bench) {
		b.starts()
		b.prints("one", "two")
		b.exits()
		b.ends(3, "Error")
	})
	b.ended(Result{ExitCode: 3, WholeLog: true}, "one\ntwo\n")
}

// A container that lives for some milliseconds is never seen running.
func TestAStepThatWasNeverSeenRunningLosesNothing(t *testing.T) {
	b := inBubble(t, patched, func(b *bench) {
		b.exists()
		b.runs("containerd://placeholder")
		<-b.patched
		b.prints("quick")
		b.exits()
		b.container().ContainerID = "containerd://step"
		b.ends(0, "Completed")
	})
	b.ended(Result{WholeLog: true}, "quick\n")
}

func TestTheImageIsNotPatchedBeforeThePlaceholderRuns(t *testing.T) {
	inBubble(t, patched, func(b *bench) {
		b.exists()
		time.Sleep(time.Minute)
		select {
		case <-b.patched:
			b.Error("patched while the placeholder was not running")
		default:
		}
		b.cancel()
	})
}

// The pod's status claims that all went well: the placeholder ended with exit code
// 0. The Event tells the truth.
func TestAnImageThatCannotBePulledIsAFailureAndNotExitCode0(t *testing.T) {
	b := inBubble(t, patched, func(b *bench) {
		b.exists()
		b.runs("containerd://placeholder")
		<-b.patched
		b.warning("Failed", `Failed to pull image "golang": failed to resolve reference "golang": not found`)
		b.ends(0, "Completed")
	})
	b.failed(eventsplit.ClassImagePull, `"test"`, `"golang"`, "not found")
}

func TestARegistryThatDoesNotAnswerGetsSixMinutes(t *testing.T) {
	const reason = `failed to pull image "golang": dial tcp 10.0.0.7:443: i/o timeout`
	b := inBubble(t, patched, func(b *bench) {
		b.Spec.RestartPolicy = corev1.RestartPolicyAlways // then the kubelet goes on trying
		b.exists()
		b.runs("containerd://placeholder")
		<-b.patched
		b.container().LastTerminationState = ended("containerd://placeholder", 0, "Completed")
		b.waits("ErrImagePull", reason)
		b.waits("ImagePullBackOff", `Back-off pulling image "golang"`)
		if d := b.returns(); d != 6*time.Minute {
			b.Errorf("it was given up after %s", d)
		}
	})
	b.failed(eventsplit.ClassImagePull, "i/o timeout")
}

func TestAPatchThatIsDeniedIsAFailureInTheWebhooksWords(t *testing.T) {
	denied := apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, "build-1", nil)
	denied.ErrStatus.Message = `admission webhook "images.example.com" denied the request: only our own registry`
	b := inBubble(t, func(*bench) func(context.Context) (*corev1.Pod, error) {
		return func(context.Context) (*corev1.Pod, error) { return nil, denied }
	}, func(b *bench) {
		b.exists()
		b.runs("containerd://placeholder")
	})
	b.failed(eventsplit.ClassDenied, "only our own registry")
	if !apierrors.IsForbidden(b.err) {
		t.Error("the API server's error is not reachable")
	}
}

func TestAStepThatWasOutOfMemorySaysSo(t *testing.T) {
	b := inBubble(t, patched, func(b *bench) {
		b.starts()
		b.exits()
		b.ends(137, "OOMKilled")
	})
	b.ended(Result{ExitCode: 137, OOM: true, WholeLog: true}, "")
}

func TestAnEvictedPodIsAFailure(t *testing.T) {
	b := inBubble(t, patched, func(b *bench) {
		b.starts()
		b.prints("one")
		time.Sleep(time.Second)
		b.exits()
		b.evicted()
	})
	b.failed(eventsplit.ClassEvicted, "low on resource")
	if b.out.String() != "one\n" {
		t.Errorf("log %q", b.out.String())
	}
}

func TestALogWhoseStreamBreaksOffIsWholeAllTheSame(t *testing.T) {
	b := inBubble(t, patched, func(b *bench) {
		b.starts()
		b.prints("one")
		time.Sleep(time.Second)
		b.breaks()
		b.prints("two")
		time.Sleep(time.Minute)
		b.prints("three")
		b.exits()
		b.ends(0, "Completed")
	})
	b.ended(Result{WholeLog: true}, "one\ntwo\nthree\n")
}

func TestALogThatNobodyCouldVerifyIsNotCalledWhole(t *testing.T) {
	b := inBubble(t, patched, func(b *bench) {
		b.starts()
		b.prints("one")
		time.Sleep(time.Second)
		b.breaks() // the node is gone, and somebody deletes the pod
		b.container().State = ended("containerd://step", 0, "Completed")
		time.Sleep(time.Second)
		b.deleted()
	})
	b.ended(Result{WholeLog: false}, "one\n")
}

func TestACancelledStepReturnsAtOnce(t *testing.T) {
	b := inBubble(t, patched, func(b *bench) {
		b.starts()
		b.cancel()
		if d := b.returns(); d != 0 {
			b.Errorf("it took %s", d)
		}
	})
	if !errors.Is(b.err, context.Canceled) {
		t.Errorf("got %v", b.err)
	}
}
