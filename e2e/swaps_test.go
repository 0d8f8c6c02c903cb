package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/eventsplit"
)

// swapAll patches the images of slots, all in one.
func (b *build) swapAll(ctx context.Context, images map[string]string) error {
	var names, parts []string
	for name, image := range images {
		names = append(names, name)
		parts = append(parts, fmt.Sprintf(`{"name":%q,"image":%q}`, name, image))
	}
	patch := []byte(`{"spec":{"containers":[` + strings.Join(parts, ",") + `]}}`)
	return b.split.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) {
		return world.client.CoreV1().Pods(b.pod.Namespace).Patch(ctx, b.pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	}, names...)
}

// verdict says in a word what became of a slot: its exit code, or its failure.
func (b *build) verdict(ctx context.Context, slot string) string {
	st, err := b.split.Wait(ctx, slot, eventsplit.Ended)
	var f *eventsplit.Failure
	switch {
	case errors.As(err, &f):
		return classOf(f)
	case err != nil:
		return err.Error()
	case st.Failure != nil:
		return fmt.Sprintf("exit %d, %s", st.Outcome.ExitCode, classOf(st.Failure))
	}
	return fmt.Sprintf("exit %d", st.Outcome.ExitCode)
}

func classOf(f *eventsplit.Failure) string {
	if f.Cause == "" {
		return string(f.Class)
	}
	return string(f.Class) + "/" + string(f.Cause)
}

func TestSwapsEndAsPromised(t *testing.T) {
	needCluster(t)
	restarted := slot("step", "true")
	never := corev1.ContainerRestartPolicyNever
	restarted.RestartPolicy = &never
	restarted.RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action: corev1.ContainerRestartRuleActionRestart,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{
			// What a placeholder exits with on SIGTERM, early or late.
			Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{0, 137, 143},
		},
	}}
	bad := badImage(t)
	for _, c := range []struct {
		name   string
		policy corev1.RestartPolicy
		slot   corev1.Container
		image  string
		want   string
	}{
		{"exit code", "", slot("step", "sh", "-c", "exit 3"), *busyboxImage, "exit 3"},
		{"gone in milliseconds", "", slot("step", "true"), *busyboxImage, "exit 0"},
		{"no such registry", "", slot("step"), bad, "ImagePull/Network"},
		{"no such registry, OnFailure", corev1.RestartPolicyOnFailure, slot("step"), bad, "ImagePull/Network"},
		{"no image's name", "", slot("step"), "UPPER//case", "ImagePull/InvalidName"},
		{"no such command", "", slot("step", "/no/such/command"), *busyboxImage, "exit 128, Start"},
		// The kubelet retries: it waits, and the default policy gives it minutes.
		{"no such registry, Always", corev1.RestartPolicyAlways, slot("step"), bad, "waits: ImagePull/Network"},
		{"no such registry, restarted by a rule", "", restarted, bad, "waits: ImagePull/Network"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			pod := newPod("swap", c.slot, slot("other"))
			if c.policy != "" {
				pod.Spec.RestartPolicy = c.policy
			}
			b := newBuild(t, pod)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := b.swapAll(ctx, map[string]string{"step": c.image}); err != nil {
				t.Fatal(err)
			}
			var got string
			if _, waits := strings.CutPrefix(c.want, "waits: "); waits {
				st, err := b.split.Wait(ctx, "step", func(s eventsplit.State) bool {
					return s.Waiting != nil && s.Waiting.Reason == "ImagePullBackOff"
				})
				if err != nil {
					t.Fatal(err)
				}
				got = "waits: " + classOf(st.Waiting)
			} else {
				got = b.verdict(ctx, "step")
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestThreeSlotsInOnePatchGoTheirOwnWays(t *testing.T) {
	needCluster(t)
	b := newBuild(t, newPod("three", slot("a", "sh", "-c", "exit 1"), slot("b"), slot("c", "sh", "-c", "exit 2")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.swapAll(ctx, map[string]string{"a": *busyboxImage, "b": badImage(t), "c": *busyboxImage}); err != nil {
		t.Fatal(err)
	}
	for slot, want := range map[string]string{"a": "exit 1", "b": "ImagePull/Network", "c": "exit 2"} {
		if got := b.verdict(ctx, slot); got != want {
			t.Errorf("%s: got %q, want %q", slot, got, want)
		}
	}
}

func TestASwapToTheSameImageIsAnError(t *testing.T) {
	needCluster(t)
	b := newBuild(t, newPod("same", slot("step")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var f *eventsplit.Failure
	if err := b.swapAll(ctx, map[string]string{"step": *pauseImage}); !errors.As(err, &f) || f.Class != eventsplit.ClassUnchanged {
		t.Errorf("got %v", err)
	}
}

// Another tag of the placeholder's image is the same image to the runtime, which
// goes on naming it by the old tag: only the containerID tells the step.
func TestASwapToAnotherTagOfThePlaceholderStarts(t *testing.T) {
	needCluster(t)
	if *pauseImage != cluster.PauseImage {
		t.Skip("the placeholder's image has no other tag")
	}
	b := newBuild(t, newPod("retag", slot("step"), slot("other")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.swapAll(ctx, map[string]string{"step": cluster.PauseImageRetagged}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.split.Wait(ctx, "step", eventsplit.Started); err != nil {
		t.Error(err)
	}
}

func TestAStepReplacedWhileItRunsGivesWayToTheNext(t *testing.T) {
	needCluster(t)
	b := newBuild(t, newPod("twice", slot("step", "sh", "-c", "exit 5"), slot("other")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if *pauseImage != cluster.PauseImage {
		t.Skip("the placeholder's image has no other tag")
	}
	for _, image := range []string{cluster.PauseImageRetagged, *busyboxImage} {
		if err := b.swapAll(ctx, map[string]string{"step": image}); err != nil {
			t.Fatal(err)
		}
		if _, err := b.split.Wait(ctx, "step", eventsplit.Started); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := b.verdict(ctx, "step"), "exit 5"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	first, err := b.split.NextRun(ctx, "step", "")
	if err != nil {
		t.Fatal(err)
	}
	if second, err := b.split.NextRun(ctx, "step", first); err != nil || second != b.split.State("step").ContainerID {
		t.Errorf("the run after the first is %q, %v; want %q", second, err, b.split.State("step").ContainerID)
	}
}

func TestADeletionReleasesWhoeverWaits(t *testing.T) {
	needCluster(t)
	b := newBuild(t, newPod("deleted", slot("step", "sleep", "100"), slot("never")))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := b.swapAll(ctx, map[string]string{"step": *busyboxImage}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.split.Wait(ctx, "step", eventsplit.Started); err != nil {
		t.Fatal(err)
	}
	if err := world.client.CoreV1().Pods(b.pod.Namespace).Delete(ctx, b.pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got, want := b.verdict(ctx, "never"), "Deleted"; got != want {
		t.Errorf("never: got %q, want %q", got, want)
	}
	if got := b.verdict(ctx, "step"); !strings.HasSuffix(got, ", Deleted") {
		t.Errorf("step: got %q, want an exit code and Deleted", got)
	}
}
