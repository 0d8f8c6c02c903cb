package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/util/retry"
)

// script returns a container that runs a script.
func script(name, script string) corev1.Container {
	c := slot(name, "sh", "-c", script)
	c.Image = *busyboxImage
	return c
}

// everything is a pod that has every kind of container, and one that is restarted.
// The first line of each run is its container's name.
func everything() *corev1.Pod {
	always := corev1.ContainerRestartPolicyAlways
	pod := newPod("tail", script("crash", "echo crash; seq 200; exit 1"), script("long", "echo long; head -c 40000 /dev/zero | tr '\\0' x; echo; exec sleep 600"))
	pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
	pod.Spec.InitContainers = []corev1.Container{script("init", "echo init; seq 300"), script("sidecar", "echo sidecar; exec sleep 600")}
	pod.Spec.InitContainers[1].RestartPolicy = &always
	return pod
}

// debug adds an ephemeral container to a pod that runs.
func debug(t *testing.T, pod *corev1.Pod, c corev1.Container) {
	t.Helper()
	pods := world.client.CoreV1().Pods(pod.Namespace)
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error { // the kubelet writes statuses
		now, err := pods.Get(t.Context(), pod.Name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		now.Spec.EphemeralContainers = append(now.Spec.EphemeralContainers, corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon{
			Name: c.Name, Image: c.Image, Args: c.Args, ImagePullPolicy: c.ImagePullPolicy,
		}})
		_, err = pods.UpdateEphemeralContainers(t.Context(), pod.Name, now, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// tailed are the lines that the tail example prints as JSON, by container and run.
func tailed(t *testing.T, stdout string) map[string][]string {
	t.Helper()
	all := map[string][]string{}
	for line := range strings.Lines(stdout) {
		if !strings.HasSuffix(line, "\n") {
			break // being written
		}
		var l struct {
			ContainerName, Timestamp, Message string
			Run                               int
			Gap                               json.RawMessage
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if l.Gap != nil {
			continue
		}
		key := fmt.Sprintf("%s#%d", l.ContainerName, l.Run)
		all[key] = append(all[key], l.Timestamp+" "+l.Message)
	}
	return all
}

// raw is a container's log as kubectl logs --timestamps shows it.
func raw(t *testing.T, pod *corev1.Pod, container string) []string {
	t.Helper()
	text, err := world.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, Timestamps: true}).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i, line := range lines { // the kubelet's times have nine digits always
		stamp, words, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, stamp)
		if err != nil {
			t.Fatalf("%s: %v", container, err)
		}
		lines[i] = at.UTC().Format(time.RFC3339Nano) + " " + words
	}
	return lines
}

func TestTailExamplePrintsWhatEveryRunPrinted(t *testing.T) {
	needCluster(t)
	pod := everything()
	var stdout, stderr output
	cmd := exec.CommandContext(t.Context(), buildExample(t, "tail"),
		"-kubeconfig", writeKubeconfig(t, t.TempDir()), "-namespace", namespace, "-l", buildLabel+"="+pod.Name, "-o", "json")
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	create(t, pod)
	awaitLines := func(want map[string]int) {
		t.Helper()
		err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
			got := tailed(t, stdout.String())
			for run, n := range want {
				if len(got[run]) < n {
					return false, nil
				}
			}
			return true, nil
		})
		if err != nil {
			t.Fatalf("waiting for lines %v: %v; stderr:\n%s", want, err, stderr.String())
		}
	}
	awaitLines(map[string]int{"init#0": 301, "sidecar#0": 1, "long#0": 2, "crash#0": 201})
	debug(t, pod, script("debug", "echo debug; seq 100"))
	awaitLines(map[string]int{"debug#0": 101, "crash#1": 201, "crash#2": 201}) // the second restart takes 10 s

	want := map[string][]string{}
	for _, container := range []string{"init", "sidecar", "long", "debug"} {
		want[container+"#0"] = raw(t, pod, container)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("after an interrupt: %v", err)
	}
	got := tailed(t, stdout.String())
	for _, run := range []string{"crash#0", "crash#1", "crash#2"} { // the node keeps two of them
		checkCrash(t, run, got[run])
		delete(got, run)
	}
	delete(got, "crash#3") // on a slow machine
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-raw +tail):\n%s", diff)
	}
	for _, words := range []string{
		" init#0: Verified, 301 lines", " debug#0: Verified, 101 lines",
		" crash#1: Verified, 201 lines", " sidecar#0: Unverified, 1 lines", "again and again",
	} {
		if !strings.Contains(stderr.String(), words) {
			t.Errorf("stderr does not say %q:\n%s", words, stderr.String())
		}
	}
	// The kubelet restarts the first run at once, and keeps one dead container: the second run
	// may be dead, too, before the first one's log was read once more.
	verified := strings.Contains(stderr.String(), " crash#0: Verified, 201 lines") && strings.Contains(stderr.String(), " 0 incomplete")
	removed := strings.Contains(stderr.String(), " crash#0: Incomplete, 201 lines: the container was removed from its node before the log was verified") &&
		strings.Contains(stderr.String(), " 1 incomplete")
	if !verified && !removed {
		t.Errorf("stderr says of crash#0 neither that it is Verified nor that the node removed it too soon:\n%s", stderr.String())
	}
}

// checkCrash checks what a run of the container that crashes printed.
func checkCrash(t *testing.T, run string, lines []string) {
	t.Helper()
	want := []string{"crash"}
	for i := range 200 {
		want = append(want, fmt.Sprint(i+1))
	}
	var got []string
	for _, line := range lines {
		_, words, _ := strings.Cut(line, " ")
		got = append(got, words)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", run, diff)
	}
}
