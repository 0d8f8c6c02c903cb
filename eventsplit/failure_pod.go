package eventsplit

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// podReasons are the reasons in the status of a pod that failed as a whole; the second half are
// refusals of the kubelet to admit the pod.
var podReasons = map[string]Class{
	"Evicted":            ClassEvicted,
	"DeadlineExceeded":   ClassDeadline,
	"Preempting":         ClassPreempted,
	"NodeLost":           ClassNodeLost,
	"Terminated":         ClassNodeLost, // graceful node shutdown
	"NodeShutdown":       ClassNodeLost,
	"Shutdown":           ClassNodeLost,
	reasonProviderFailed: ClassRejected,
	"NotFound":           ClassLost, // a virtual kubelet whose provider lost the pod (virtual-kubelet node/sync.go)

	"OutOfcpu":                             ClassRejected,
	"OutOfmemory":                          ClassRejected,
	"OutOfephemeral-storage":               ClassRejected,
	"OutOfpods":                            ClassRejected,
	"UnexpectedAdmissionError":             ClassRejected,
	"NodeAffinity":                         ClassRejected,
	"NodePorts":                            ClassRejected,
	"TaintToleration":                      ClassRejected,
	"PodFeatureUnsupported":                ClassRejected,
	"NodeName":                             ClassRejected,
	"PodOSNotSupported":                    ClassRejected,
	"PodOSSelectorNodeLabelDoesNotMatch":   ClassRejected,
	"InvalidNodeInfo":                      ClassRejected,
	"SupplementalGroupsPolicyNotSupported": ClassRejected,
	"InitContainerRestartPolicyForbidden":  ClassRejected,
	"TopologyAffinityError":                ClassRejected,
	"AppArmor":                             ClassRejected,
	"SysctlForbidden":                      ClassRejected,
	"PodLevelResourcesNotSupported":        ClassRejected,
}

// disruptionClasses are the classes of the reasons of the condition DisruptionTarget.
var disruptionClasses = map[string]Class{
	"PreemptionByScheduler":        ClassPreempted,
	"DeletionByTaintManager":       ClassNodeLost,
	"DeletionByDeviceTaintManager": ClassEvicted,
	"EvictionByEvictionAPI":        ClassEvicted,
	"DeletionByPodGC":              ClassNodeLost,
	"TerminationByKubelet":         ClassEvicted,
}

// podCause returns what befell a pod, nil when nothing did. Containers that ended by themselves
// are no cause.
func podCause(pod *corev1.Pod) *Failure {
	disruption := disruptionCondition(pod)
	if disruption != nil && endedBefore(pod, disruption.Since) {
		disruption = nil // a drain also evicts pods that have ended
	}
	if pod.Status.Phase == corev1.PodFailed {
		if f := failedPod(pod); f != nil {
			return f
		}
		if disruption != nil {
			disruption.MayRecover = false
			return disruption
		}
	}
	if pod.DeletionTimestamp != nil && disruption != nil {
		disruption.MayRecover = false
		return disruption
	}
	return nil
}

// disruptionCondition returns the disruption that the condition DisruptionTarget announces, nil
// when it announces none. The condition is the earliest signal of a disruption, which may still
// be called off.
func disruptionCondition(pod *corev1.Pod) *Failure {
	c := condition(pod, corev1.DisruptionTarget)
	if c == nil || c.Status != corev1.ConditionTrue {
		return nil
	}
	class, ok := disruptionClasses[c.Reason]
	if !ok {
		class = ClassEvicted
	}
	return &Failure{Class: class, Reason: c.Reason, Message: c.Message, MayRecover: true, Since: c.LastTransitionTime.Time}
}

// failedPod returns why a pod failed, by status.reason; nil when the status gives no reason.
func failedPod(pod *corev1.Pod) *Failure {
	reason := pod.Status.Reason
	if reason == "" {
		return nil
	}
	class, ok := podReasons[reason]
	switch {
	case ok:
	case strings.HasPrefix(reason, "OutOf"): // of any resource (pkg/kubelet/lifecycle/predicate.go:232, v1.36)
		class = ClassRejected
	default:
		// The kubelet rejects a pod with a reason of its own for each check, before any
		// container has a status (v1.36 pkg/kubelet/lifecycle/predicate.go).
		if len(pod.Status.ContainerStatuses)+len(pod.Status.InitContainerStatuses) > 0 {
			class = ClassOther
		} else {
			class = ClassRejected
		}
	}
	return &Failure{Class: class, Reason: reason, Message: pod.Status.Message}
}

// podWaiting returns why nothing in a pod starts, nil when nothing tells.
func podWaiting(pod *corev1.Pod) *Failure {
	if podstatus.IsTerminal(pod) {
		return nil
	}
	if d := disruptionCondition(pod); d != nil {
		return d
	}
	if c := condition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		return &Failure{
			Class: ClassUnschedulable, Reason: c.Reason, Message: c.Message, MayRecover: true,
			Since: c.LastTransitionTime.Time,
		}
	}
	if pod.Status.Reason == reasonProviderFailed { // virtual-kubelet v1.11 node/pod.go:164: the virtual kubelet tries again
		return &Failure{Class: ClassRejected, Reason: reasonProviderFailed, Message: pod.Status.Message, MayRecover: true}
	}
	if pod.Status.Phase == corev1.PodUnknown || pod.Status.Reason == "NodeLost" {
		return &Failure{
			Class: ClassNodeLost, Reason: reasonPodUnknown, Message: pod.Status.Message, MayRecover: true,
		}
	}
	return nil
}

func condition(pod *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

func isTrue(p *corev1.Pod, t corev1.PodConditionType) bool {
	c := condition(p, t)
	return c != nil && c.Status == corev1.ConditionTrue
}

// isScheduled reports whether a node has taken the pod.
func isScheduled(p *corev1.Pod) bool {
	return p.Spec.NodeName != "" || isTrue(p, corev1.PodScheduled)
}

// deletionAsked returns when the deletion of a pod was requested. The pod must have a
// deletionTimestamp.
func deletionAsked(pod *corev1.Pod) time.Time {
	asked := pod.DeletionTimestamp.Time
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		asked = asked.Add(-time.Duration(*g) * time.Second)
	}
	return asked
}

// endedBefore reports whether a pod has ended and all of its containers ended before the time
// requested: then a deletion only cleaned up.
func endedBefore(pod *corev1.Pod, requested time.Time) bool {
	if !podstatus.IsTerminal(pod) || len(pod.Status.ContainerStatuses) == 0 {
		return false
	}
	for i := range pod.Status.ContainerStatuses {
		t := pod.Status.ContainerStatuses[i].State.Terminated
		if t == nil || t.FinishedAt.IsZero() || !t.FinishedAt.Time.Before(requested) {
			return false
		}
	}
	return true
}
