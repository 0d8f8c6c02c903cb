package logstream_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/logstream"
)

// logs is an Opener written by hand: what each container has printed.
type logs map[string]string

func (l logs) OpenLog(_ context.Context, _, _ string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	text, ok := l[o.Container]
	if !ok {
		return nil, errors.New("no such container")
	}
	return io.NopCloser(strings.NewReader(text)), nil
}

// pod is a pod of which one container has ended.
func pod(container, id string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ci", Name: "build-7", UID: "1"}}
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: container, ContainerID: id, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ContainerID: id, FinishedAt: metav1.Now()},
	}}}
	return p
}

func run(s *logstream.Streamer) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Run(ctx) }()
	return func() { cancel(); <-done }
}

// The whole life of a Capture: made before the pod, told of the pod, read, drained
// before the pod is deleted. In a program the Opener is FromConfig's, and Handle is
// called by a watch.
func Example_wholeLogOfAStep() {
	s := logstream.New(logs{"clone": "2026-11-22T10:00:00.000000001Z Cloning into '.'...\n2026-11-22T10:00:01.000000001Z done\n"}, logstream.Options{})
	defer run(s)()
	c := s.Pod("ci", "build-7", nil)
	defer c.Close()

	log := c.Reader(context.Background(), "clone", logstream.ReadOptions{}) // before the step starts
	defer log.Close()

	p := pod("clone", "containerd://1")
	c.Handle(watch.Event{Type: watch.Modified, Object: p})

	_, err := io.Copy(os.Stdout, log)
	fmt.Println(err)

	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	certs, err := c.Drain(ctx, p) // now the pod can be deleted
	for _, cert := range certs {
		fmt.Println(cert.Slot, cert.Proof, cert.Lines, "lines", err)
	}
	// Output:
	// Cloning into '.'...
	// done
	// <nil>
	// clone Verified 2 lines <nil>
}

// A log of which something is missing ends in an error; a host that would throw
// the log away then asks for text in its place.
func ExampleReadOptions_logThatLacksItsEnd() {
	s := logstream.New(logs{"build": "2026-11-22T10:00:00.000000001Z compiling\n"}, logstream.Options{})
	defer run(s)()
	c := s.Pod("ci", "build-7", nil)
	defer c.Close()
	// The pod is deleted before anybody could read the log.
	c.Handle(watch.Event{Type: watch.Deleted, Object: pod("build", "containerd://1")})

	_, err := io.Copy(os.Stdout, c.Reader(context.Background(), "build", logstream.ReadOptions{}))
	var incomplete *logstream.IncompleteError
	fmt.Println(errors.As(err, &incomplete), err)

	_, err = io.Copy(os.Stdout, c.Reader(context.Background(), "build", logstream.ReadOptions{
		Gap: func(g logstream.Gap) string { return "[log gap: " + g.Why + "]\n" },
	}))
	fmt.Println(err)
	// Output:
	// true logstream: the log of container "build" is incomplete after 0 lines: the pod was deleted before the log was verified
	// [log gap: the pod was deleted before the log was verified]
	// <nil>
}

// Every line with its time and the step's name.
func ExampleReader_Lines_prefixEveryLine() {
	s := logstream.New(logs{"test": "2026-11-22T10:00:00.500000000Z ok\n2026-11-22T10:00:01.250000000Z FAIL"}, logstream.Options{})
	defer run(s)()
	c := s.Pod("ci", "build-7", nil)
	defer c.Close()
	c.Handle(watch.Event{Type: watch.Modified, Object: pod("test", "containerd://1")})

	for line, err := range c.Reader(context.Background(), "test", logstream.ReadOptions{}).Lines() {
		if err != nil {
			fmt.Println(err)
			break
		}
		fmt.Printf("%s test | %s\n", line.Time.Format("15:04:05.00"), line.Text)
	}
	// Output:
	// 10:00:00.50 test | ok
	// 10:00:01.25 test | FAIL
}

// Logs have connections of their own: a flood of them does not slow the watch.
func ExampleFromConfig_ownConnections() {
	open, err := logstream.FromConfig(&rest.Config{Host: "https://127.0.0.1:6443"})
	if err != nil {
		fmt.Println(err)
		return
	}
	s := logstream.New(open, logstream.Options{Memory: 32 << 20, Disk: 1 << 30})
	fmt.Println(s.Stats().Live)
	// Output: 0
}
