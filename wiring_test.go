package podlife_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// README: the wiring
func runStep(ctx context.Context, cfg *rest.Config, pod *corev1.Pod, step, image string) error {
	// With Always, which is Kubernetes' default, a step that ends is started again, and its log has no end.
	if policy := cmp.Or(pod.Spec.RestartPolicy, corev1.RestartPolicyAlways); policy != corev1.RestartPolicyNever {
		return fmt.Errorf("pod %s/%s has restartPolicy %s, which may start a step again when it ends: it has to be Never", pod.Namespace, pod.Name, policy)
	}
	for _, c := range pod.Spec.Containers { // A container's own policy wins over the pod's.
		if c.RestartPolicy != nil || len(c.RestartPolicyRules) > 0 {
			return fmt.Errorf("container %q of pod %s/%s has a restartPolicy of its own, which may start a step again when it ends", c.Name, pod.Namespace, pod.Name)
		}
	}

	// Once a process: one watch and one streamer for every pod.
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return err
	}
	watcher, err := podwatch.New(client, podwatch.Options{Namespace: pod.Namespace, LabelSelector: "app=ci"}) // the pod has to carry that label
	if err != nil {
		return err
	}
	opener, err := logstream.FromConfig(cfg)
	if err != nil {
		return err
	}
	streamer := logstream.New(opener, logstream.Options{})
	// They outlive every build: when their context ends, all that is tracked and read ends.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go watcher.Run(life) // both block until life ends
	go streamer.Run(life)

	// Once a pod, before it exists: who did what, every byte of it, and the watch that feeds both.
	split := eventsplit.New(pod.Namespace, pod.Name, eventsplit.Options{Placeholder: func(string) bool { return true }})
	logs := streamer.Pod(pod.Namespace, pod.Name, split)
	defer logs.Close()
	defer split.Close()
	track, err := watcher.Track(pod.Namespace, pod.Name, logs, split)
	if err != nil {
		return err
	}
	defer track.Close()
	pods := client.CoreV1().Pods(pod.Namespace)
	created, err := pods.Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return eventsplit.ClassifyAPIError(err) // denied, over quota, forbidden ...
	}
	track.Created(created) // nothing was heard until now: a pod of that name was a leftover

	// Once a step: the reader may be opened before the swap, and misses nothing.
	reader := logs.Reader(ctx, step, logstream.ReadOptions{Gap: logstream.Gap.String}) // a gap is a line in its place
	err = split.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) {
		patch := fmt.Appendf(nil, `{"spec":{"containers":[{"name":%q,"image":%q}]}}`, step, image)
		return pods.Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	}, step)
	if err != nil {
		return err
	}
	if _, err = io.Copy(os.Stdout, reader); err != nil { // live, to the log's end; an image that cannot be pulled is a *Failure
		return err
	}
	state, err := split.Wait(ctx, step, eventsplit.Ended) // from memory, or the same *Failure: also of a step that was evicted
	if err != nil {
		return err
	}
	fmt.Println("exit code", state.Outcome.ExitCode)

	// Before the pod is deleted: nothing that it wrote is left behind.
	certificates, err := logs.Drain(ctx, track.Pod())
	for _, c := range certificates {
		fmt.Println(c.Slot, c.Proof, c.Lines, "lines")
	}
	return err
}

// README: end

func Example() {
	cluster := testutil.New(testutil.Options{Images: map[string]testutil.Program{
		"pause": testutil.Pause,
		"greet": func(_ context.Context, args []string, out io.Writer) int {
			fmt.Fprintln(out, "hello", strings.Join(args, " "))
			return 3
		},
	}})
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go cluster.Run(ctx)

	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "build-1", Labels: map[string]string{"app": "ci"}},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "step", Image: "pause", Args: []string{"world"}}},
		},
	}
	if err := runStep(ctx, cluster.Config(), pod, "step", "greet"); err != nil {
		fmt.Println(err)
	}
	// Output:
	// hello world
	// exit code 3
	// step Verified 1 lines
}

// A step of a pod that restarts its containers has no end to wait for.
func TestReadmesProgramRefusesAPodThatRestartsItsStepsBeforeAnythingRuns(t *testing.T) {
	always, never := corev1.ContainerRestartPolicyAlways, corev1.ContainerRestartPolicyNever
	for name, spec := range map[string]corev1.PodSpec{
		"none, which is Always":   {Containers: []corev1.Container{{}}},
		"Always":                  {RestartPolicy: corev1.RestartPolicyAlways, Containers: []corev1.Container{{}}},
		"OnFailure":               {RestartPolicy: corev1.RestartPolicyOnFailure, Containers: []corev1.Container{{}}},
		"the container's, Always": {RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{RestartPolicy: &always}}},
		"rules of the container": {RestartPolicy: corev1.RestartPolicyNever, Containers: []corev1.Container{{
			RestartPolicy: &never, RestartPolicyRules: []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart}},
		}}},
	} {
		cluster := testutil.New(testutil.Options{})
		requests := 0
		cluster.Fault(func(*http.Request) testutil.Fault { requests++; return testutil.Fault{} })
		spec.Containers[0].Name, spec.Containers[0].Image = "step", "pause"
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "build-1"}, Spec: spec}
		err := runStep(t.Context(), cluster.Config(), pod, "step", "greet")
		if err == nil || !strings.Contains(err.Error(), "restartPolicy") || requests > 0 {
			t.Errorf("%s: %v after %d requests, want a refusal that names it and no request", name, err, requests)
		}
	}
}

// The README shows code that compiles and ran, not a copy that drifted.
func TestReadmeShowsTheWiringThatCompiles(t *testing.T) {
	source, err := os.ReadFile("wiring_test.go")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(source), "\n// README: the wiring\n")
	code, _, _ = strings.Cut(code, "\n// README: end\n")
	if !strings.Contains(string(readme), "```go\n"+code+"```\n") {
		t.Error("the Go block of README.md is not the function runStep of wiring_test.go")
	}
}
