package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// moment is what a pod's status says of a slot, apart from its image.
type moment struct {
	Generation, Observed int64
	State                string
	Restarts             int32
	ID                   string // "X" for the trace's first container ID, "Y" for any other
}

func (m moment) String() string {
	return fmt.Sprintf("gen=%d observed=%d restarts=%d %s %s", m.Generation, m.Observed, m.Restarts, m.State, m.ID)
}

// trace is what a watch showed of a slot, from the first container ID or failed
// pull on, repetitions left out.
type trace struct {
	moments []moment
	image   string // of the last status
}

// Someone who patches a pod's image before they know that its placeholder runs
// cannot tell a step that was never pulled from one that succeeded: the statuses
// are the same. This is why Swap waits for the placeholder.
func TestEarlyPatchLooksTheSameWhetherItsImageExistsOrNot(t *testing.T) {
	needCluster(t)
	good := traceOf(t, "good", func(pod *corev1.Pod) {
		patch(t, pod, *busyboxImage)
		if err := bind(t.Context(), pod); err != nil {
			t.Fatal(err)
		}
	})
	want := []moment{
		{Generation: 2, Observed: 2, State: "Running", ID: "X"},
		{Generation: 2, Observed: 2, State: "Terminated(0)", ID: "X"},
	}
	if diff := cmp.Diff(want, good.moments); diff != "" {
		t.Errorf("patched before it was scheduled, good image: statuses (-want +got):\n%s", diff)
	}
	if good.image != *busyboxImage {
		t.Errorf("with an image that exists, X ran %s, want the step's image", good.image)
	}
	lies := 0
	delays := []time.Duration{-1, 0, 60 * time.Millisecond, 150 * time.Millisecond}
	for try, delay := range slices.Concat(delays, delays) {
		if try == len(delays) && lies > 0 {
			break // Once is enough; a busy machine may need another round.
		}
		when := fmt.Sprintf("%s after the kubelet took it", delay)
		bad := traceOf(t, "bad", func(pod *corev1.Pod) {
			if delay < 0 {
				when = "at once after create"
			} else {
				awaitKubelet(t, pod)
				after(t, delay)
			}
			patch(t, pod, badImage(t))
		})
		t.Logf("bad image patched in %s (left), good image before the pod was scheduled (right):\n%s", when, sideBySide(bad, good))
		switch {
		case cmp.Equal(bad.moments, good.moments):
			lies++
			if bad.image != *pauseImage {
				t.Errorf("with an image that does not exist, X ran %s, want the placeholder's image", bad.image)
			}
		case bad.endedUnready(good): // The same lie, with another exit code.
		case bad.neverRan(): // The kubelet took the pod after the patch, and says so.
		case bad.moments[0].Observed == 1: // The status showed the placeholder before the kubelet had seen the patch.
		default:
			t.Errorf("bad image patched in %s: statuses (-want +got):\n%s", when, cmp.Diff(good.moments, bad.moments))
		}
	}
	if lies == 0 {
		t.Error("no pod with an image that does not exist looked like one that had succeeded")
	}
}

func (t trace) neverRan() bool { return len(t.moments) == 1 && t.moments[0].ID == "" }

// endedUnready reports whether t differs from other only in the exit code of a
// placeholder that was killed before its main: the kubelet does that some 5 ms
// after it started. SIGTERM to a PID 1 that has no handler yet is lost, SIGKILL
// follows; within Go's own start it is exit status 2.
func (t trace) endedUnready(other trace) bool {
	moments := slices.Clone(t.moments)
	for i, m := range moments {
		if m.State == "Terminated(137)" || m.State == "Terminated(2)" {
			moments[i].State = "Terminated(0)"
		}
	}
	return cmp.Equal(moments, other.moments)
}

func (t trace) said() string {
	if t.neverRan() {
		return "nothing ran"
	}
	return "X ran " + t.image
}

func patch(t *testing.T, pod *corev1.Pod, image string) {
	t.Helper()
	if _, err := setImage(t.Context(), pod, "step", image); err != nil {
		t.Fatal(err)
	}
}

// traceOf creates a pod with one slot, does what begin does, and records what a
// watch shows until the slot's run has ended. A "good" pod is created without a node.
func traceOf(t *testing.T, kind string, begin func(*corev1.Pod)) trace {
	t.Helper()
	pod := newPod("trace-"+kind, slot("step", "sleep", "1"))
	if kind == "good" {
		pod.Spec.NodeName = ""
	}
	w, err := world.client.CoreV1().Pods(pod.Namespace).Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + pod.Name})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	created := create(t, pod)
	begin(created)
	recorded := record(t, w)
	if kind == "bad" {
		t.Logf("the Warning: %s", warning(t, created, "Failed").Message)
	}
	return recorded
}

func record(t *testing.T, w watch.Interface) (recorded trace) {
	t.Helper()
	limit := time.NewTimer(30 * time.Second)
	defer limit.Stop()
	first := ""
	for {
		var event watch.Event
		select {
		case event = <-w.ResultChan():
		case <-limit.C:
			t.Fatalf("no end after 30 s; so far %v", recorded.moments)
		}
		pod, ok := event.Object.(*corev1.Pod)
		if !ok {
			t.Fatalf("the watch ended: %v", event)
		}
		if len(pod.Status.ContainerStatuses) == 0 {
			continue
		}
		status := pod.Status.ContainerStatuses[0]
		m, id := momentOf(pod, &status)
		if m.State == "" {
			continue
		}
		if first == "" {
			first = id
		}
		switch id {
		case "":
		case first:
			m.ID = "X"
		default:
			m.ID = "Y"
		}
		if n := len(recorded.moments); n == 0 || recorded.moments[n-1] != m {
			recorded.moments = append(recorded.moments, m)
		}
		recorded.image = status.Image
		if status.State.Terminated != nil || id == "" {
			return recorded
		}
	}
}

func momentOf(pod *corev1.Pod, status *corev1.ContainerStatus) (m moment, id string) {
	m = moment{Generation: pod.Generation, Observed: pod.Status.ObservedGeneration, Restarts: status.RestartCount}
	switch s := status.State; {
	case s.Running != nil:
		m.State, id = "Running", status.ContainerID
	case s.Terminated != nil:
		m.State, id = fmt.Sprintf("Terminated(%d)", s.Terminated.ExitCode), s.Terminated.ContainerID
	case s.Waiting != nil && s.Waiting.Reason == "ErrImagePull":
		m.State = "Waiting(ErrImagePull)"
	}
	return m, id
}

func sideBySide(left, right trace) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 4, ' ', 0)
	for i := range max(len(left.moments), len(right.moments)) {
		var columns [2]string
		for j, t := range []trace{left, right} {
			if i < len(t.moments) {
				columns[j] = t.moments[i].String()
			}
		}
		fmt.Fprintf(w, "%s\t%s\n", columns[0], columns[1])
	}
	fmt.Fprintf(w, "%s\t%s\n", left.said(), right.said())
	_ = w.Flush()
	return text.String()
}
