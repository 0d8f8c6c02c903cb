package podstatus

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A run is one life of a container, from its start to its end. It is known by its
// containerID: restartCount is recomputed by the kubelet from what its garbage collector
// left (Kubernetes v1.36.3 pkg/kubelet/kuberuntime/kuberuntime_container.go:222-245), and
// the name of an image may be that of another tag.

// Reasons in a container's status that say how a run goes on or ended.
const (
	// ReasonStatusUnknown is the kubelet's word for a container that it lost sight of, or
	// that never began before its pod was ended (v1.36.3 pkg/kubelet/kubelet_pods.go:2371-2392,
	// pkg/kubelet/status/status_manager.go:658-669).
	ReasonStatusUnknown = "ContainerStatusUnknown"
	// ReasonRestartingAll is the kubelet's word for a container that it removes because all
	// containers of the pod are restarted (v1.36.3 pkg/kubelet/kubelet_pods.go:88).
	ReasonRestartingAll = "RestartingAllContainers"
	// ReasonCrashLoop is the kubelet's word for the pause before a restart (v1.36.3
	// pkg/kubelet/container/sync_result.go:77).
	ReasonCrashLoop = "CrashLoopBackOff"

	reasonStartError = "StartError"
	reasonCannotRun  = "ContainerCannotRun"
)

// Phase is what a container status shows of a container.
type Phase int

// The phases of a container status.
const (
	None Phase = iota // the status has no state
	Waiting
	Running
	Terminated
)

// Current returns the containerID of the run that a status shows, "" when it gives none,
// and the phase in which it shows the run. A waiting container shows no run, though its
// status may still carry the containerID of the last one.
func Current(st *corev1.ContainerStatus) (containerID string, phase Phase) {
	switch t := st.State.Terminated; {
	case st.State.Running != nil:
		return st.ContainerID, Running
	case t != nil && t.ContainerID != "":
		return t.ContainerID, Terminated
	case t != nil:
		return st.ContainerID, Terminated
	case st.State.Waiting != nil:
		return "", Waiting
	}
	return "", None
}

// EndUnknown reports whether a Terminated state says that nobody knows how the run ended.
// The exit code beside it is then invented: 137 by the kubelet (v1.36.3
// pkg/kubelet/kubelet_pods.go:2371-2392), 255 by containerd, whose program's own 255 has
// reason Error (v2.4.2 internal/cri/server/helpers.go:250-263), -137 by a virtual kubelet
// (virtual-kubelet v1.11 node/sync.go).
func EndUnknown(t *corev1.ContainerStateTerminated) bool {
	switch t.Reason {
	case ReasonStatusUnknown, ReasonRestartingAll:
		return true
	case "Unknown":
		return t.ExitCode == 255
	case "NotFound":
		return t.ExitCode == -137
	}
	return false
}

// NeverStarted reports whether a Terminated state is that of a container whose process
// could not be started: containerd gives it reason StartError, docker ContainerCannotRun,
// both exit code 128 (or 127) and the epoch as the time of its start.
func NeverStarted(t *corev1.ContainerStateTerminated) bool {
	switch t.Reason {
	case reasonStartError, reasonCannotRun:
		return true
	}
	return t.ExitCode == 128 && KnownTime(t.StartedAt.Time).IsZero()
}

// KnownTime turns the epoch, which a runtime gives for "never", into the zero time.
func KnownTime(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// IsTerminal reports whether the pod has ended: no container of it starts any more. A pod
// that has ended may go on to show a container as running: after an eviction, or when its
// node was lost.
func IsTerminal(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}
