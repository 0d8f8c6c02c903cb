package e2e

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// news keeps what a watch last said of a pod.
type news struct {
	mu      sync.Mutex
	pod     *corev1.Pod
	runs    map[string]int32 // attempts, by container ID
	changed chan struct{}
	gone    chan struct{} // closed when the pod is
}

func newNews() *news {
	return &news{pod: &corev1.Pod{}, runs: map[string]int32{}, changed: make(chan struct{}), gone: make(chan struct{})}
}

func (n *news) Handle(ev watch.Event) {
	pod, ok := ev.Object.(*corev1.Pod)
	if !ok {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.pod = pod; ev.Type == watch.Deleted {
		close(n.gone)
	}
	for i := range pod.Status.ContainerStatuses {
		maps.Insert(n.runs, runsOf(&pod.Status.ContainerStatuses[i]))
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

// runsOf yields the container IDs that a status shows, and which run of its slot
// each is, from 0.
func runsOf(c *corev1.ContainerStatus) iter.Seq2[string, int32] {
	return func(yield func(string, int32) bool) {
		last := c.RestartCount
		switch {
		case c.State.Running != nil && !yield(c.ContainerID, last):
			return
		case c.State.Terminated != nil && !yield(c.State.Terminated.ContainerID, last):
			return
		case c.State.Waiting == nil:
			last--
		}
		if t := c.LastTerminationState.Terminated; t != nil {
			yield(t.ContainerID, last)
		}
	}
}

// attempt returns which run of its slot the container is, as the node counts.
func (n *news) attempt(id string) int32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.runs[id]
}

// await waits until so holds for the pod, and returns it.
func (n *news) await(ctx context.Context, so func(*corev1.Pod) bool) (*corev1.Pod, error) {
	for {
		n.mu.Lock()
		pod, changed := n.pod, n.changed
		n.mu.Unlock()
		if so(pod) {
			return pod, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the pod, whose status is %+v: %w", pod.Status, context.Cause(ctx))
		}
	}
}
