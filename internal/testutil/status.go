package testutil

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// reasons is why the containers of a pod could not be started, by name.
type reasons map[string]struct{ reason, message string }

// generateStatus is the API's status of a pod from what the runtime says of its
// containers (kubernetes v1.36.3 pkg/kubelet/kubelet_pods.go:1891, 2083, 2279).
// old is the status before. terminal: nothing of it will be started any more.
func generateStatus(pod *corev1.Pod, old corev1.PodStatus, has podStatus, why reasons, terminal bool, ips podIPs) corev1.PodStatus {
	s := *old.DeepCopy()
	s.QOSClass = corev1.PodQOSBestEffort
	s.ObservedGeneration = pod.Generation // of the spec that the kubelet acts on next, not of what runs
	s.HostIP, s.HostIPs = ips.host, []corev1.HostIP{{IP: ips.host}}
	if len(has) > 0 {
		s.PodIP, s.PodIPs = ips.pod, []corev1.PodIP{{IP: ips.pod}}
	}
	s.InitContainerStatuses = containerStatuses(pod, pod.Spec.InitContainers, old.InitContainerStatuses, has, why)
	s.ContainerStatuses = containerStatuses(pod, pod.Spec.Containers, old.ContainerStatuses, has, why)
	slices.SortFunc(s.ContainerStatuses, func(a, b corev1.ContainerStatus) int { return cmp.Compare(a.Name, b.Name) })
	if !isTerminal(s.Phase) { // there is no way back from those
		s.Phase = phaseOf(pod, s, terminal)
	}
	setConditions(pod, &s, len(has) > 0)
	return s
}

type podIPs struct{ host, pod string }

func containerStatuses(pod *corev1.Pod, cs []corev1.Container, before []corev1.ContainerStatus, has podStatus, why reasons) (all []corev1.ContainerStatus) {
	for i := range cs {
		c, old := &cs[i], corev1.ContainerStatus{}
		for _, b := range before {
			if b.Name == c.Name {
				old = b
			}
		}
		all = append(all, containerStatusOf(pod, c, old, has, why))
	}
	return all
}

func containerStatusOf(pod *corev1.Pod, c *corev1.Container, old corev1.ContainerStatus, has podStatus, why reasons) corev1.ContainerStatus {
	latest := has.latest(c.Name)
	s := corev1.ContainerStatus{Name: c.Name, Image: c.Image, State: waiting("ContainerCreating", "")}
	switch latest {
	case nil:
		if len(pod.Spec.InitContainers) > 0 {
			s.State = waiting("PodInitializing", "")
		}
		s.RestartCount, s.LastTerminationState = old.RestartCount, old.LastTerminationState
		if old.State.Terminated != nil { // the kubelet forgot, the API did not
			s = old
		}
	default:
		s = ofRuntime(latest)
		if s.ContainerID != old.ContainerID && old.State.Terminated != nil {
			s.LastTerminationState = old.State
		} else {
			s.LastTerminationState = old.LastTerminationState
		}
		if previous := has.before(latest); previous != nil {
			s.LastTerminationState = ofRuntime(previous).State
		}
	}
	// A reason to wait is shown only where the container is going to be started
	// (kubelet_pods.go:2727). Under Never a container that ran is not: a swap whose
	// pull failed shows the placeholder's Terminated, for good.
	if r, ok := why[c.Name]; ok && shouldStart(pod, c, latest) {
		if s.State.Terminated != nil {
			s.LastTerminationState = s.State
		}
		s.State = waiting(r.reason, r.message)
	}
	s.Ready = s.State.Running != nil
	if initFinished := s.State.Terminated != nil && s.State.Terminated.ExitCode == 0; isInit(pod, c.Name) && !isSidecar(c) {
		s.Ready = initFinished
	}
	s.Started = ptr(s.State.Running != nil)
	return s
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

// before is the newest container of the same name that is older than this one.
func (p podStatus) before(this *containerStatus) *containerStatus {
	for i := range p {
		if p[i].name == this.name && p[i].attempt < this.attempt {
			return &p[i]
		}
	}
	return nil
}

func ofRuntime(c *containerStatus) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name: c.name, Image: c.image, ImageID: c.imageID, ContainerID: c.id, RestartCount: c.attempt,
	}
	switch started := (metav1.Time{Time: seconds(c.started)}); c.state {
	case created:
		s.State.Waiting = &corev1.ContainerStateWaiting{}
	case running:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: started}
	case exited:
		s.State.Terminated = &corev1.ContainerStateTerminated{
			ExitCode: c.exitCode, Reason: c.reason, Message: c.message, ContainerID: c.id,
			StartedAt: started, FinishedAt: metav1.Time{Time: seconds(c.finished)},
		}
	}
	return s
}

func isInit(pod *corev1.Pod, name string) bool {
	return slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == name })
}

func isSidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// phaseOf: kubernetes v1.36.3 pkg/kubelet/kubelet_pods.go:1653.
func phaseOf(pod *corev1.Pod, s corev1.PodStatus, terminal bool) corev1.PodPhase {
	var pending, waits, runs, stopped, final, succeeded int
	status := func(all []corev1.ContainerStatus, name string) (corev1.ContainerStatus, *corev1.ContainerStateTerminated) {
		i := slices.IndexFunc(all, func(s corev1.ContainerStatus) bool { return s.Name == name })
		ended := all[i].State.Terminated
		if all[i].State.Waiting != nil {
			ended = all[i].LastTerminationState.Terminated
		}
		return all[i], ended
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		is, ended := status(s.InitContainerStatuses, c.Name)
		switch {
		case isSidecar(c) && is.State.Running != nil:
			runs++
		case isSidecar(c) && ended != nil: // does not count
		case ended == nil:
			pending++
		case ended.ExitCode != 0 && !restarts(pod, c, ended.ExitCode):
			return corev1.PodFailed
		}
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		switch is, ended := status(s.ContainerStatuses, c.Name); {
		case is.State.Running != nil:
			runs++
		case ended == nil:
			waits++
		default:
			stopped++
			if is.State.Terminated != nil && ended.ExitCode == 0 {
				succeeded++
			}
			if !restarts(pod, c, ended.ExitCode) {
				final++
			}
		}
	}
	switch {
	case pending > 0 || waits > 0:
		return corev1.PodPending
	case runs > 0 || !terminal && stopped != final:
		return corev1.PodRunning
	case stopped == succeeded:
		return corev1.PodSucceeded
	}
	return corev1.PodFailed
}

// setConditions sets the conditions that the kubelet owns.
func setConditions(pod *corev1.Pod, s *corev1.PodStatus, sandbox bool) {
	var unready []string
	initialized := true
	for i, c := range s.InitContainerStatuses {
		initialized = initialized && c.Ready
		if isSidecar(&pod.Spec.InitContainers[i]) && !c.Ready {
			unready = append(unready, c.Name)
		}
	}
	for _, c := range s.ContainerStatuses {
		initialized = initialized || c.State.Running != nil || c.State.Terminated != nil
		if !c.Ready {
			unready = append(unready, c.Name)
		}
	}
	over := isTerminal(s.Phase)
	set := func(kind corev1.PodConditionType, yes bool, reason, message string) {
		c := corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue, ObservedGeneration: pod.Generation}
		if !yes {
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, reason, message
		}
		setCondition(s, c)
	}
	reason, message := "ContainersNotReady", fmt.Sprintf("containers with unready status: %v", unready)
	switch s.Phase {
	case corev1.PodSucceeded:
		reason, message = "PodCompleted", ""
	case corev1.PodFailed:
		reason, message = "PodFailed", ""
	}
	set("PodReadyToStartContainers", sandbox && !over, "", "")
	set(corev1.PodInitialized, initialized, "ContainersNotInitialized", "containers with incomplete status: "+fmt.Sprint(names(pod.Spec.InitContainers)))
	set(corev1.PodReady, len(unready) == 0 && !over, reason, message)
	set(corev1.ContainersReady, len(unready) == 0 && !over, reason, message)
	set(corev1.PodScheduled, true, "", "")
}

func names(cs []corev1.Container) string {
	var all []string
	for _, c := range cs {
		all = append(all, c.Name)
	}
	return "[" + strings.Join(all, " ") + "]"
}

// setCondition replaces a condition; its transition time stays while its status does.
func setCondition(s *corev1.PodStatus, c corev1.PodCondition) {
	c.LastTransitionTime = now()
	for i, old := range s.Conditions {
		if old.Type == c.Type {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			s.Conditions[i] = c
			return
		}
	}
	s.Conditions = append(s.Conditions, c)
}
