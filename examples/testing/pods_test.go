package executor

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// pod is the pod of a test and its life: it has one container, "test", which waits
// on a placeholder. Each method is what a watch brings when that happens; the
// sequences are those of real kubelets.
type pod struct {
	*corev1.Pod
	handlers []interface{ Handle(watch.Event) } // in the order in which podwatch would call them
	versions int
	patched  chan struct{} // closed by patch
}

func newPod() *pod {
	return &pod{patched: make(chan struct{}), Pod: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ci", Name: "build-1", UID: "4711", Generation: 1},
		Spec: corev1.PodSpec{
			RestartPolicy: corev1.RestartPolicyNever,
			Containers:    []corev1.Container{{Name: "test", Image: "pause"}},
		},
		Status: corev1.PodStatus{
			Phase:             corev1.PodPending,
			ContainerStatuses: []corev1.ContainerStatus{{Name: "test", Image: "pause", State: waiting("ContainerCreating", "")}},
		},
	}}
}

// changed hands the pod's next version to the handlers: a copy, as they keep it.
func (p *pod) changed(how watch.EventType) {
	p.versions++
	p.ResourceVersion = fmt.Sprint(p.versions)
	for _, h := range p.handlers {
		h.Handle(watch.Event{Type: how, Object: p.DeepCopy()})
	}
}

func (p *pod) container() *corev1.ContainerStatus { return &p.Status.ContainerStatuses[0] }

// exists: the pod was created, and nothing runs yet.
func (p *pod) exists() { p.changed(watch.Added) }

// runs: a container started in the place of the one that was there.
func (p *pod) runs(id string) {
	c := p.container()
	if c.ContainerID != "" {
		c.RestartCount++
		c.LastTerminationState = ended(c.ContainerID, 0, "Completed")
	}
	c.ContainerID, c.Image = id, p.Spec.Containers[0].Image
	c.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now()}}
	p.Status.Phase = corev1.PodRunning
	p.changed(watch.Modified)
}

// ends: the container that runs has ended.
func (p *pod) ends(code int32, reason string) {
	c := p.container()
	c.State = ended(c.ContainerID, code, reason)
	p.Status.Phase = corev1.PodSucceeded
	if code != 0 {
		p.Status.Phase = corev1.PodFailed
	}
	p.changed(watch.Modified)
}

// waits: the container does not run, for a reason.
func (p *pod) waits(reason, message string) {
	p.container().State = waiting(reason, message)
	p.changed(watch.Modified)
}

// evicted: the node ran out of something.
func (p *pod) evicted() {
	p.Status.Phase, p.Status.Reason = corev1.PodFailed, "Evicted"
	p.Status.Message = "The node was low on resource: memory."
	p.changed(watch.Modified)
}

// deleted: the pod is gone.
func (p *pod) deleted() {
	t := now()
	p.DeletionTimestamp = &t
	p.changed(watch.Deleted)
}

// warning: an Event about the container.
func (p *pod) warning(reason, message string) {
	p.versions++
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: fmt.Sprint("event-", p.versions), ResourceVersion: fmt.Sprint(p.versions)},
		InvolvedObject: corev1.ObjectReference{
			Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID, FieldPath: "spec.containers{test}",
		},
		Type: corev1.EventTypeWarning, Reason: reason, Message: message, Count: 1, LastTimestamp: now(),
	}
	e.UID = "event-" + p.UID
	for _, h := range p.handlers {
		h.Handle(watch.Event{Type: watch.Added, Object: e})
	}
}

// patch is what the executor swaps the image with.
func (p *pod) patch(context.Context) (*corev1.Pod, error) {
	defer close(p.patched)
	p.Spec.Containers[0].Image = "golang"
	p.Generation++
	p.versions++
	p.ResourceVersion = fmt.Sprint(p.versions)
	return p.DeepCopy(), nil
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func ended(id string, code int32, reason string) corev1.ContainerState {
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ContainerID: id, ExitCode: code, Reason: reason, StartedAt: now(), FinishedAt: now(),
	}}
}

// now has whole seconds, as statuses have.
func now() metav1.Time { return metav1.Time{Time: time.Now().Truncate(time.Second)} }
