package testutil

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// publish writes the pod's status as the last look showed it.
func (w *worker) publish(ctx context.Context) {
	w.k.mu.Lock()
	status := w.status()
	w.k.mu.Unlock()
	if wait(ctx, statusTime) != nil {
		return
	}
	_, _ = w.k.store.write(pods.key(w.pod.Namespace, w.pod.Name), func(old object) (object, error) {
		p, ok := old.(*corev1.Pod)
		if !ok || p.UID != w.pod.UID {
			return old, errGone
		}
		conditions := p.Status.Conditions
		p.Status = *status.DeepCopy()
		p.Status.Conditions = conditions
		setConditions(p)
		return p, nil
	})
}

func (w *worker) status() corev1.PodStatus {
	p := w.pod
	s := corev1.PodStatus{
		QOSClass: corev1.PodQOSBestEffort, HostIP: "192.0.2.1", StartTime: &metav1.Time{Time: p.CreationTimestamp.Time},
		// What the kubelet had read when it looked, not what it has done:
		// kubernetes v1.36.3 pkg/kubelet/status/status_manager.go:479.
		ObservedGeneration: p.Generation,
	}
	if w.sandbox {
		s.PodIP = "198.51.100.7"
		s.PodIPs = []corev1.PodIP{{IP: s.PodIP}}
	}
	initialized := true
	for i := range p.Spec.InitContainers {
		c := &p.Spec.InitContainers[i]
		policy, sidecar := initPolicy(c, p.Spec.RestartPolicy)
		cs := w.containerStatus(c, policy, initialized)
		if g := w.latest(c.Name); g == nil || !sidecar && (g.state.Terminated == nil || g.state.Terminated.ExitCode != 0) {
			initialized = false
		}
		s.InitContainerStatuses = append(s.InitContainerStatuses, cs)
	}
	for i := range p.Spec.Containers {
		s.ContainerStatuses = append(s.ContainerStatuses, w.containerStatus(&p.Spec.Containers[i], p.Spec.RestartPolicy, initialized))
	}
	s.Phase = w.phase()
	return s
}

// containerStatus: a container that will be started again is Waiting when the
// kubelet knows why it is not yet, and its end is the last state. One that will
// not be is Terminated, whatever went wrong since
// (kubernetes v1.36.3 pkg/kubelet/kubelet_pods.go:2727).
func (w *worker) containerStatus(c *corev1.Container, policy corev1.RestartPolicy, initialized bool) corev1.ContainerStatus {
	work := w.slot(c.Name)
	cs := corev1.ContainerStatus{Name: c.Name, Image: c.Image, Started: ptr(false)}
	waiting := &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	if len(w.pod.Spec.InitContainers) > 0 && !initialized {
		waiting.Reason = "PodInitializing"
	}
	if work.waiting != "" {
		waiting.Reason, waiting.Message = work.waiting, work.message
	}
	gs := w.seen[c.Name]
	if len(gs) == 0 {
		cs.State.Waiting = waiting
		return cs
	}
	g := gs[len(gs)-1]
	cs.ContainerID, cs.Image, cs.ImageID, cs.RestartCount = g.id, g.image, imageID(g.image), g.restarts
	cs.State = g.state
	if len(gs) > 1 {
		cs.LastTerminationState = gs[len(gs)-2].state
	}
	switch {
	case g.state.Running != nil:
		cs.Ready, cs.Started = true, ptr(true)
	case work.waiting != "" && restarts(policy, g.state.Terminated.ExitCode):
		cs.State, cs.LastTerminationState = corev1.ContainerState{Waiting: waiting}, g.state
	}
	return cs
}

func imageID(image string) string { return "sha256:" + image }

// phase: kubernetes v1.36.3 pkg/kubelet/kubelet_pods.go getPhase.
func (w *worker) phase() corev1.PodPhase {
	waiting, running, failed, ended := 0, 0, 0, 0
	for i := range w.pod.Spec.InitContainers {
		c := &w.pod.Spec.InitContainers[i]
		policy, sidecar := initPolicy(c, w.pod.Spec.RestartPolicy)
		g := w.latest(c.Name)
		switch {
		case sidecar && g != nil:
		case g == nil || g.state.Terminated == nil:
			return corev1.PodPending
		case g.state.Terminated.ExitCode == 0:
		case restarts(policy, g.state.Terminated.ExitCode):
			return corev1.PodPending
		default:
			return corev1.PodFailed
		}
	}
	for _, c := range w.pod.Spec.Containers {
		switch g := w.latest(c.Name); {
		case g == nil:
			waiting++
		case g.state.Running != nil || restarts(w.pod.Spec.RestartPolicy, g.state.Terminated.ExitCode):
			running++
		case g.state.Terminated.ExitCode != 0:
			failed++
		default:
			ended++
		}
	}
	switch {
	case waiting > 0:
		return corev1.PodPending
	case running > 0:
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	case ended > 0:
		return corev1.PodSucceeded
	}
	return corev1.PodPending
}

func (w *worker) ended() bool {
	p := w.phase()
	return p == corev1.PodSucceeded || p == corev1.PodFailed
}

func setConditions(p *corev1.Pod) {
	ready := len(p.Status.ContainerStatuses) > 0
	for _, cs := range p.Status.ContainerStatuses {
		ready = ready && cs.Ready
	}
	setCondition(p, corev1.PodReadyToStartContainers, p.Status.PodIP != "")
	setCondition(p, corev1.PodInitialized, p.Status.Phase != corev1.PodPending || len(p.Spec.InitContainers) == 0)
	setCondition(p, corev1.PodReady, ready)
	setCondition(p, corev1.ContainersReady, ready)
	setCondition(p, corev1.PodScheduled, true)
}

// terminate ends a deleted pod: every container gets SIGTERM, the status shows
// their ends, and then the object goes.
func (w *worker) terminate(ctx context.Context) {
	w.killAll(ctx, time.Duration(*w.pod.DeletionGracePeriodSeconds)*time.Second)
	w.look()
	w.publish(ctx)
	uid := w.pod.UID
	_, _ = w.k.store.delete(pods, w.pod.Namespace, w.pod.Name, metav1.DeleteOptions{
		GracePeriodSeconds: ptr(int64(0)), Preconditions: &metav1.Preconditions{UID: &uid},
	})
}

// killAll stops all running containers at the same time.
func (w *worker) killAll(ctx context.Context, grace time.Duration) {
	done := make(chan struct{})
	n := 0
	for _, cs := range [][]corev1.Container{w.pod.Spec.InitContainers, w.pod.Spec.Containers} {
		for i := range cs {
			runs := w.runs[cs[i].Name]
			if len(runs) == 0 || !runs[len(runs)-1].running() {
				continue
			}
			w.event(&cs[i], corev1.EventTypeNormal, "Killing", "Stopping container "+cs[i].Name)
			n++
			go func() {
				runs[len(runs)-1].kill(ctx, grace)
				done <- struct{}{}
			}()
		}
	}
	for range n {
		<-done
	}
}

func (w *worker) grace() time.Duration {
	return time.Duration(*w.pod.Spec.TerminationGracePeriodSeconds) * time.Second
}

func (w *worker) event(c *corev1.Container, typ, reason, message string) {
	field := "spec.containers{" + c.Name + "}"
	for i := range w.pod.Spec.InitContainers {
		if w.pod.Spec.InitContainers[i].Name == c.Name {
			field = "spec.initContainers{" + c.Name + "}"
		}
	}
	w.k.events.about(w.pod, field, typ, reason, message)
}

func (w *worker) slot(name string) *slotWork {
	if w.slots[name] == nil {
		w.slots[name] = &slotWork{}
	}
	return w.slots[name]
}

// latest is the newest run of a slot that the last look showed.
func (w *worker) latest(name string) *glimpse {
	gs := w.seen[name]
	if len(gs) == 0 {
		return nil
	}
	return &gs[len(gs)-1]
}
