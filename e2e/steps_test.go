package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// build is one pod that runs steps, as an executor has it.
type build struct {
	pod   *corev1.Pod
	split *eventsplit.Splitter
	logs  *logstream.Capture
	track *podwatch.Tracking
}

// newBuild creates the pod, watched from before its creation, and ends all with the test.
func newBuild(t *testing.T, pod *corev1.Pod) *build {
	t.Helper()
	w, err := podwatch.New(world.client, podwatch.Options{
		Namespace: pod.Namespace, LabelSelector: buildLabel + "=" + pod.Labels[buildLabel], Events: podwatch.EventsRequired,
	})
	if err != nil {
		t.Fatal(err)
	}
	open, err := logstream.FromConfig(world.config)
	if err != nil {
		t.Fatal(err)
	}
	all := logstream.New(open, logstream.Options{})
	runUntilCleanup(t, w.Run, all.Run)
	b := &build{
		split: eventsplit.New(pod.Namespace, pod.Name, eventsplit.Options{Placeholder: func(string) bool { return true }}),
	}
	b.logs = all.Pod(pod.Namespace, pod.Name, b.split)
	if b.track, err = w.Track(pod.Namespace, pod.Name, b.logs, b.split); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		b.track.Close()
		b.split.Close()
		if err := b.logs.Close(); err != nil {
			t.Errorf("closing the capture: %v", err)
		}
	})
	if err := w.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.pod = create(t, pod)
	b.track.Created(b.pod)
	return b
}

// runUntilCleanup runs what blocks until its context ends, and joins it.
func runUntilCleanup(t *testing.T, blocking ...func(context.Context) error) {
	t.Helper()
	over := errors.New("the test is over")
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	ended := make(chan error)
	for _, run := range blocking {
		go func() { ended <- run(ctx) }()
	}
	t.Cleanup(func() {
		cancel(over)
		for range blocking {
			if err := <-ended; err != nil && !errors.Is(err, over) {
				t.Errorf("Run ended with %v, want nil or the cause of its context's end", err)
			}
		}
	})
}

// swap starts a step.
func (b *build) swap(ctx context.Context, slot, image string) error {
	return b.split.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) {
		return setImage(ctx, b.pod, slot, image)
	}, slot)
}

// log is what a reader brought.
type log struct {
	text []byte
	err  error
}

// read reads a slot's log to its end. It returns at once.
func (b *build) read(ctx context.Context, slot string) <-chan log {
	done := make(chan log, 1)
	r := b.logs.Reader(ctx, slot, logstream.ReadOptions{})
	go func() {
		text, err := io.ReadAll(r)
		done <- log{text, errors.Join(err, r.Close())}
	}()
	return done
}

// Four steps in one pod: one gone in milliseconds, one that prints much, one that
// fails, one never run.
func TestStepsEndWithTheirOwnExitCodesAndEveryLine(t *testing.T) {
	needCluster(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	steps := []struct {
		slot, script, truth string
		code                int32
	}{
		{"quick", "echo quick", "quick\n", 0},
		// It lingers: on a busy machine containerd 1.6 drops what is still in the
		// pipe of a process that has exited, and the node's own file ends in the
		// middle of a line (seen: the last 306 lines of 5,000). No reader can help that.
		{"much", "i=0; while [ $i -lt 5000 ]; do echo line $i of 5000; i=$((i+1)); done; sleep 0.5", numbered(5000), 0},
		{"fails", "echo now it fails; exit 3", "now it fails\n", 3},
	}
	slots := []corev1.Container{slot("never", "echo", "never")}
	for _, s := range steps {
		slots = append(slots, slot(s.slot, "sh", "-c", s.script))
	}
	b := newBuild(t, newPod("steps", slots...))
	never := b.read(ctx, "never")
	for _, s := range steps {
		before := b.read(ctx, s.slot)
		if err := b.swap(ctx, s.slot, *busyboxImage); err != nil {
			t.Fatalf("%s: swap: %v", s.slot, err)
		}
		during := b.read(ctx, s.slot)
		state, err := b.split.Wait(ctx, s.slot, eventsplit.Ended)
		if err != nil {
			t.Fatalf("%s: wait: %v", s.slot, err)
		}
		if state.Outcome == nil || state.Outcome.ExitCode != s.code || state.Failure != nil {
			t.Errorf("%s: outcome %+v, failure %v, want exit code %d", s.slot, state.Outcome, state.Failure, s.code)
		}
		for name, reader := range map[string]<-chan log{"before the swap": before, "during the step": during, "after its end": b.read(ctx, s.slot)} {
			checkLog(t, s.slot+", read from "+name, <-reader, s.truth)
		}
		text, err := world.client.CoreV1().Pods(b.pod.Namespace).GetLogs(b.pod.Name, &corev1.PodLogOptions{Container: s.slot}).DoRaw(ctx)
		checkLog(t, s.slot+", as kubectl logs has it", log{text, err}, s.truth)
	}
	certificates, err := b.logs.Drain(ctx, b.track.Pod())
	if err != nil {
		t.Errorf("drain: %v", err)
	}
	proofs := map[string]logstream.Proof{}
	for _, c := range certificates {
		proofs[c.Slot] = c.Proof
	}
	want := map[string]logstream.Proof{"quick": logstream.Verified, "much": logstream.Verified, "fails": logstream.Verified}
	if diff := cmp.Diff(want, proofs); diff != "" {
		t.Errorf("proofs (-want +got):\n%s", diff)
	}
	if state := b.split.State("never"); state.Phase != eventsplit.PhaseNotRun || state.Outcome != nil || state.Failure != nil {
		t.Errorf("the step that was never run: %+v", state)
	}
	b.track.Close()
	if l := <-never; len(l.text) > 0 {
		t.Errorf("the log of the step that was never run: %q", l.text)
	}
}

func numbered(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "line %d of %d\n", i, n)
	}
	return text.String()
}

func checkLog(t *testing.T, name string, got log, truth string) {
	t.Helper()
	if got.err != nil {
		t.Errorf("%s: %v", name, got.err)
	}
	if bytes.Equal(got.text, []byte(truth)) {
		return
	}
	diff := cmp.Diff(strings.Split(truth, "\n"), strings.Split(string(got.text), "\n"))
	t.Errorf("%s: %d bytes instead of %d (-truth +log):\n%.2000s", name, len(got.text), len(truth), diff)
}

func TestImageThatCannotBePulledIsAFailureNotAnExitCode(t *testing.T) {
	needCluster(t)
	for name, slots := range map[string][]corev1.Container{
		"as a middle step": {slot("first", "echo", "first"), slot("bad"), slot("last", "echo", "last")},
		"as the only step": {slot("bad")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			b := newBuild(t, newPod("pull", slots...))
			for _, s := range slots {
				if s.Name == "bad" {
					b.checkFailedPull(t)
					continue
				}
				if err := b.swap(ctx, s.Name, *busyboxImage); err != nil {
					t.Fatalf("%s: swap: %v", s.Name, err)
				}
				state, err := b.split.Wait(ctx, s.Name, eventsplit.Ended)
				if err != nil || state.Outcome == nil || state.Outcome.ExitCode != 0 {
					t.Errorf("%s: %+v, %v, want it to succeed", s.Name, state, err)
				}
				checkLog(t, s.Name, <-b.read(ctx, s.Name), s.Name+"\n")
			}
		})
	}
}

// checkFailedPull swaps in an image that cannot be pulled, at once.
func (b *build) checkFailedPull(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	image := badImage(t)
	reader := b.read(ctx, "bad")
	if err := b.swap(ctx, "bad", image); err != nil {
		t.Fatalf("swap: %v", err)
	}
	warned := warning(t, b.pod, "Failed")
	begin := time.Now()
	_, err := b.split.Wait(ctx, "bad", eventsplit.Ended)
	if late := time.Since(begin); late > 10*time.Second {
		t.Errorf("the failure was known %s after the Warning, want 10 s at most", late)
	}
	log := <-reader
	for name, err := range map[string]error{"Wait": err, "State": b.split.State("bad").Failure, "the log's reader": log.err} {
		var failure *eventsplit.Failure
		if !errors.As(err, &failure) || failure == nil {
			t.Errorf("%s: got %v, want a Failure", name, err)
			continue
		}
		if failure.Class != eventsplit.ClassImagePull || failure.Cause != eventsplit.CauseNetwork || failure.Slot != "bad" || failure.Image != image {
			t.Errorf("%s: class %s, cause %s, slot %s, image %s; want ImagePull, Network, bad, %s",
				name, failure.Class, failure.Cause, failure.Slot, failure.Image, image)
		}
		if text := failure.Error(); !strings.Contains(text, image) || !strings.Contains(text, "connection refused") {
			t.Errorf("%s: %q does not name the image and the registry's words", name, text)
		}
	}
	if len(log.text) > 0 {
		t.Errorf("a log of an image that was never there: %q", log.text)
	}
	if outcome := b.split.State("bad").Outcome; outcome != nil {
		t.Errorf("an image that was never there has the outcome %+v", outcome)
	}
	t.Logf("the Warning: %s\nthe Failure: %v", warned.Message, err)
}
