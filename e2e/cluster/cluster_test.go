package cluster

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// bringUp brings a cluster up and takes it down with the test.
func bringUp(t *testing.T, progress *lines) *Cluster {
	t.Helper()
	skipUnlessWanted(t)
	dir, err := os.MkdirTemp("", "podlife-e2e-") // t.TempDir's path is too long for sockets.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := Down(ctx, dir, nil); err != nil {
			t.Errorf("taking it down: %v", err)
		}
	})
	c, err := Up(t.Context(), Config{State: dir, Progress: progress})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func skipUnlessWanted(t *testing.T) {
	t.Helper()
	if testing.Short() || os.Getenv("KUBECONFIG") != "" {
		t.Skip("-short, or a cluster is given by KUBECONFIG: brings up none of its own")
	}
}

// lines collects progress.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
	each func(string)
}

func (l *lines) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.each != nil {
		l.each(string(text))
	}
	return l.text.Write(text)
}

// Two clusters side by side; one is taken down, parts of the other killed and
// restarted; then it is taken down half dead.
func TestClusterEndsExactlyWhatIsItsOwn(t *testing.T) {
	first, second := bringUp(t, &lines{}), bringUp(t, &lines{})
	runPod(t, first, "one")
	runPod(t, second, "two")
	if n := len(first.containers()); n != 2 {
		t.Errorf("the first cluster has %d containers, want a pod's sandbox and its container", n)
	}
	if err := first.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, first)
	serves(t, second)

	for _, name := range []string{Kubelet, APIServer, Containerd} {
		for _, kill := range []bool{false, true} {
			restart(t, second, name, kill)
		}
	}
	serves(t, second)
	runPod(t, second, "three")
	if pod := getPod(t, second, "two"); pod.Status.ContainerStatuses[0].RestartCount != 0 {
		t.Error("restarts of the cluster's parts restarted a container")
	}

	ids := second.containers()
	for _, name := range []string{APIServer, Containerd} {
		if err := second.Stop(t.Context(), name, true); err != nil {
			t.Error(err)
		}
	}
	if err := second.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, second)
	for _, id := range ids {
		if left := cgroups(id); len(left) > 0 {
			t.Errorf("cgroups left of a container: %v", left)
		}
	}
	if err := second.Down(t.Context()); err != nil {
		t.Errorf("taking it down again: %v", err)
	}
}

func restart(t *testing.T, c *Cluster, name string, kill bool) {
	t.Helper()
	if err := c.Stop(t.Context(), name, kill); err != nil {
		t.Fatalf("stopping %s: %v", name, err)
	}
	all, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if (s.Component == name) == s.Running {
			t.Errorf("%s was stopped, but status says that %s runs: %t", name, s.Component, s.Running)
		}
	}
	if err := c.Start(t.Context(), name); err != nil {
		t.Fatalf("starting %s: %v", name, err)
	}
}

func TestUpThatIsInterruptedLeavesNothing(t *testing.T) {
	skipUnlessWanted(t)
	dir, err := os.MkdirTemp("", "podlife-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	ctx, interrupt := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	c := &Cluster{dir: dir}
	progress := &lines{each: func(line string) {
		if strings.HasPrefix(line, Containerd) {
			if err := c.load(); err != nil {
				t.Error(err)
			}
			interrupt(enough)
		}
	}}
	if _, err := Up(ctx, Config{State: dir, Progress: progress}); !errors.Is(err, enough) {
		t.Errorf("got %v, want the cause of the interruption", err)
	}
	nothingLeft(t, c)
}

// nothingLeft checks that a cluster is gone: its processes, what it mounted, its files.
func nothingLeft(t *testing.T, c *Cluster) {
	t.Helper()
	if c.state.ID == "" {
		t.Fatal("there was no cluster")
	}
	for _, pid := range c.members() {
		exe, _ := os.Readlink(procPath(pid, "exe"))
		t.Errorf("process left: %d, %s", pid, exe)
	}
	for _, p := range c.state.Processes {
		if p.alive() {
			t.Errorf("process left: %d", p.PID)
		}
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(info, []byte(c.dir+"/")) {
		t.Errorf("mounts left below %s:\n%s", c.dir, info)
	}
	if _, err := os.Stat(c.dir); !os.IsNotExist(err) {
		t.Errorf("its directory: %v, want it gone", err)
	}
}

func serves(t *testing.T, c *Cluster) {
	t.Helper()
	all, err := c.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if !s.Running || s.Err != nil {
			t.Errorf("%s: runs: %t, %v", s.Component, s.Running, s.Err)
		}
	}
}

// runPod runs a pod until it is told to stop, and reads its log.
func runPod(t *testing.T, c *Cluster, name string) {
	t.Helper()
	client, err := c.client()
	if err != nil {
		t.Fatal(err)
	}
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	_, err = pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			NodeName: NodeName, HostNetwork: true,
			Containers: []corev1.Container{{Name: "shell", Image: BusyboxImage, Args: []string{"sh", "-c", "echo I am " + name + "; sleep 600"}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var log []byte
	err = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		if pod, err := pods.Get(ctx, name, metav1.GetOptions{}); err != nil || pod.Status.Phase != corev1.PodRunning {
			return false, err
		}
		log, err = pods.GetLogs(name, &corev1.PodLogOptions{}).DoRaw(ctx)
		return len(log) > 0, err
	})
	if err != nil || string(log) != "I am "+name+"\n" {
		t.Fatalf("pod %s: log %q, %v", name, log, err)
	}
}

func getPod(t *testing.T, c *Cluster, name string) *corev1.Pod {
	t.Helper()
	client, err := c.client()
	if err != nil {
		t.Fatal(err)
	}
	pod, err := client.CoreV1().Pods(metav1.NamespaceDefault).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return pod
}
