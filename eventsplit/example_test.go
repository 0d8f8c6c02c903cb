package eventsplit_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/eventsplit"
)

// buildPod is what the watch shows of a pod with one container named clone.
func buildPod(version, image string, state corev1.ContainerState) *corev1.Pod {
	id := ""
	if state.Running != nil {
		id = "containerd://pause"
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ci", Name: "build-1", UID: "6e4f", ResourceVersion: version},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "clone", Image: image}},
		},
		Status: corev1.PodStatus{
			Phase:             corev1.PodRunning,
			ContainerStatuses: []corev1.ContainerStatus{{Name: "clone", ContainerID: id, State: state}},
		},
	}
}

func running() corev1.ContainerState {
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
}

func terminated(id string, code int32) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: id, ExitCode: code}}
}

func changed(p *corev1.Pod) watch.Event { return watch.Event{Type: watch.Modified, Object: p} }

// A step's image cannot be pulled. The kubelet says of the container that it
// ended with exit code 0: that was the placeholder.
func ExampleSplitter_Swap_imageThatCannotBePulled() {
	ctx := context.Background()
	split := eventsplit.New("ci", "build-1", eventsplit.Options{
		Placeholder: func(string) bool { return true },
	})
	defer split.Close()

	// The watch tells that the placeholder runs.
	split.Handle(changed(buildPod("1", "pause", running())))

	err := split.Swap(ctx, func(context.Context) (*corev1.Pod, error) {
		// Here the executor patches the image: client.CoreV1().Pods(ns).Patch(...).
		return buildPod("2", "git:nope", running()), nil
	}, "clone")
	fmt.Println("swap:", err)

	// The watch tells the rest.
	split.Handle(watch.Event{Type: watch.Added, Object: &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{UID: "e1"},
		InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: "ci", Name: "build-1", UID: "6e4f", FieldPath: "spec.containers{clone}"},
		Type:           corev1.EventTypeWarning, Reason: "Failed",
		Message: `Failed to pull image "git:nope": rpc error: code = NotFound desc = docker.io/library/git:nope: not found`,
	}})
	split.Handle(changed(buildPod("3", "git:nope", terminated("containerd://pause", 0))))

	_, err = split.Wait(ctx, "clone", eventsplit.Ended)
	var failure *eventsplit.Failure
	if errors.As(err, &failure) {
		fmt.Println(failure.Class, failure.Cause)
		fmt.Println(failure)
	}
	// Output:
	// swap: <nil>
	// ImagePull NotFound
	// container "clone": image "git:nope" was not found: docker.io/library/git:nope: not found (check the image's name and tag)
}

// A step is over before anyone saw it run.
func ExampleSplitter_Wait_exitCodeOfAStep() {
	ctx := context.Background()
	split := eventsplit.New("ci", "build-1", eventsplit.Options{})
	defer split.Close()
	split.Handle(changed(buildPod("1", "git:2", terminated("containerd://step", 3))))

	state, err := split.Wait(ctx, "clone", eventsplit.Ended)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("exit code", state.Outcome.ExitCode)
	// Output: exit code 3
}

// A status view of a step: what happened, from the first to the last.
func ExampleSplitter_Entries_whatHappenedToAStep() {
	split := eventsplit.New("ci", "build-1", eventsplit.Options{})
	defer split.Close()
	split.Handle(changed(buildPod("1", "git:2", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}})))
	split.Handle(changed(buildPod("2", "git:2", terminated("containerd://step", 0))))

	for entry, err := range split.Entries(context.Background(), "clone") {
		if err != nil {
			fmt.Println(err)
			return
		}
		if entry.State != nil {
			fmt.Println(entry.State.Phase, "synthesised:", entry.Synthesised)
		}
	}
	// Output:
	// Waiting synthesised: false
	// Running synthesised: true
	// Ended synthesised: false
}

// Why does my pod not run?
func ExampleClassify_whyDoesMyPodNotRun() {
	pod := buildPod("1", "git:2", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason: "CreateContainerConfigError", Message: `secret "deploy-key" not found`,
	}})
	for _, failure := range eventsplit.Classify(pod, nil) {
		fmt.Println(failure)
	}
	// Output: container "clone": it cannot be set up as the pod asks (image "git:2"): secret "deploy-key" not found (create what is missing, or correct its name in the pod)
}

// The API server refuses the pod: who did, and in which words?
func ExampleClassifyAPIError_deniedByAWebhook() {
	err := error(&apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: 403, Reason: metav1.StatusReasonForbidden,
		Message: `admission webhook "images.example" denied the request: use our registry`,
	}})
	failure := eventsplit.ClassifyAPIError(err)
	fmt.Println(failure.Class, failure.Cause, failure.MayRecover)
	fmt.Println(apierrors.IsForbidden(failure))
	// Output:
	// Denied Webhook false
	// true
}

// A team with a slow registry gives every pull ten minutes, even of an image that
// is not found: another job pushes it meanwhile.
func ExampleOptions_waitForAnImageThatIsStillPushed() {
	policy := func(f *eventsplit.Failure) (time.Duration, bool) {
		if f.Class == eventsplit.ClassImagePull {
			return 10 * time.Minute, true
		}
		return eventsplit.DefaultPolicy(f)
	}
	split := eventsplit.New("ci", "build-1", eventsplit.Options{Policy: policy})
	defer split.Close()
	split.Handle(changed(buildPod("1", "app:new", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{
		Reason: "ErrImagePull", Message: "app:new: not found",
	}})))
	state := split.State("clone")
	fmt.Println(state.Phase, "since", state.Waiting.Class, "failure:", state.Failure)
	// Output: Waiting since ImagePull failure: <nil>
}
