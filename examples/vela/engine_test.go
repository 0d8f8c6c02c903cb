package vela

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/internal/testutil"
)

// images are what the simulated node can pull.
func images() map[string]testutil.Program {
	return map[string]testutil.Program{
		placeholder: testutil.Pause,
		"hello": func(_ context.Context, args []string, out io.Writer) int {
			fmt.Fprintln(out, "hello", strings.Join(args, " "))
			return 0
		},
		"slow": func(_ context.Context, _ []string, out io.Writer) int {
			for i := range 20 {
				fmt.Fprintln(out, "line", i)
				time.Sleep(500 * time.Millisecond)
			}
			return 3
		},
	}
}

// worker runs a Worker on a simulated cluster for the length of the test.
func worker(t *testing.T) *Worker {
	t.Helper()
	cluster := testutil.New(testutil.Options{Images: images()})
	w, err := NewWorker(cluster.Config(), "default", "host-1")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{}, 2)
	go func() { _ = cluster.Run(ctx); ended <- struct{}{} }()
	go func() { _ = w.Run(ctx); ended <- struct{}{} }()
	t.Cleanup(func() { stop(); <-ended; <-ended })
	return w
}

// tail reads a step's log as Vela's executor does, to its end.
func tail(t *testing.T, e *Engine, c *Container) <-chan string {
	t.Helper()
	rc, err := e.TailContainer(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 1)
	go func() {
		defer rc.Close()
		b, err := io.ReadAll(rc)
		if err != nil {
			b = fmt.Appendf(b, "!%v", err)
		}
		got <- string(b)
	}()
	return got
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func slowLog() string {
	var b strings.Builder
	for i := range 20 {
		fmt.Fprintln(&b, "line", i)
	}
	return b.String()
}

func TestTwoBuildsShareAWorkerAndKeepTheirLogsAndExitCodesApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := worker(t)
		done := make(chan struct{})
		for _, id := range []string{"build-1", "build-2"} {
			go func() {
				defer func() { done <- struct{}{} }()
				playBuild(t, w, id)
			}()
		}
		<-done
		<-done
	})
}

// playBuild runs a quick step and one that fails after ten seconds, tailing each
// before it runs and again after its end.
func playBuild(t *testing.T, w *Worker, id string) {
	ctx := t.Context()
	quick := &Container{ID: "quick", Image: "hello", Commands: []string{"from", id}}
	slow := &Container{ID: "slow", Image: "slow"}
	b := &Build{ID: id, Steps: []*Container{quick, slow}}
	e := w.Engine(b)
	if err := e.AssembleBuild(ctx, b); err != nil {
		t.Error(err)
		return
	}
	for _, step := range []struct {
		*Container
		log  string
		code int32
	}{{quick, "hello from " + id + "\n", 0}, {slow, slowLog(), 3}} {
		before := tail(t, e, step.Container)
		if err := errors.Join(e.RunContainer(ctx, step.Container, b), e.WaitContainer(ctx, step.Container), e.InspectContainer(ctx, step.Container)); err != nil {
			t.Errorf("%s/%s: %v", id, step.ID, err)
		}
		if got := <-before; got != step.log {
			t.Errorf("%s/%s: the tail opened before the run read %q, want %q", id, step.ID, got, step.log)
		}
		if got := <-tail(t, e, step.Container); got != step.log {
			t.Errorf("%s/%s: the tail opened after the end read %q, want %q", id, step.ID, got, step.log)
		}
		if step.ExitCode != step.code {
			t.Errorf("%s/%s: exit code %d, want %d", id, step.ID, step.ExitCode, step.code)
		}
	}
	for range 2 {
		if err := e.RemoveBuild(ctx, b); err != nil {
			t.Errorf("%s: RemoveBuild: %v", id, err)
		}
	}
}

func TestAnImageThatCannotBePulledIsTheStepsErrorAndNeverAnExitCode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, ctx := worker(t), t.Context()
		bad, never := &Container{ID: "bad", Image: "no/such/image:1", ExitCode: -1}, &Container{ID: "never", Image: "hello", ExitCode: -1}
		b := &Build{ID: "build-1", Steps: []*Container{bad, never}}
		e := w.Engine(b)
		check(t, e.AssembleBuild(ctx, b))
		badLog, neverLog := tail(t, e, bad), tail(t, e, never)

		err := e.RunContainer(ctx, bad, b)
		var f *eventsplit.Failure
		if !errors.As(err, &f) || f.Class != eventsplit.ClassImagePull || f.Event == nil || f.Event.Type != corev1.EventTypeWarning {
			t.Fatalf("RunContainer: %v (%+v), want a pull Failure with its Warning", err, f)
		}
		for _, word := range []string{"bad", bad.Image} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("RunContainer: %q does not name %q", err, word)
			}
		}
		if err := e.WaitContainer(ctx, bad); !errors.As(err, &f) {
			t.Errorf("WaitContainer: %v, want the Failure", err)
		}
		if err := e.InspectContainer(ctx, bad); !errors.As(err, &f) || bad.ExitCode != -1 {
			t.Errorf("InspectContainer: %v, exit code %d; want the Failure and no exit code", err, bad.ExitCode)
		}
		if err := e.InspectContainer(ctx, never); err != nil || never.ExitCode != -1 {
			t.Errorf("InspectContainer of a step never run: %v, exit code %d", err, never.ExitCode)
		}
		if got := <-badLog; !strings.HasPrefix(got, "!") || !strings.Contains(got, bad.Image) {
			t.Errorf("the log of the step that cannot run read %q, want no bytes and its Failure", got)
		}
		check(t, e.RemoveBuild(ctx, b))
		check(t, e.RemoveBuild(ctx, b))
		if got := <-neverLog; got != "" {
			t.Errorf("the log of the step never run read %q, want its end without a byte", got)
		}
	})
}

// The empty slot is the pod: a step without an ID must not get the pod's end.
func TestAStepWithoutAnIDIsRefused(t *testing.T) {
	e, c := &Engine{}, &Container{Image: "hello", ExitCode: 42}
	_, terr := e.TailContainer(t.Context(), c)
	for call, err := range map[string]error{
		"run": e.RunContainer(t.Context(), c, nil), "tail": terr,
		"wait": e.WaitContainer(t.Context(), c), "inspect": e.InspectContainer(t.Context(), c),
	} {
		if err == nil || c.ExitCode != 42 {
			t.Errorf("%s: no error, exit code %d", call, c.ExitCode)
		}
	}
}

func TestRemoveBuildBeforeAssembleBuildDoesNothing(t *testing.T) {
	if err := (&Engine{}).RemoveBuild(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}
