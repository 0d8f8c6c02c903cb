package eventsplit

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// wouldRestart tells whether the kubelet starts a container of a living pod
// again after it ended with exitCode. Container-level rules come first, then the
// container's policy, then the pod's (kubernetes pkg/kubelet/container/helpers.go
// ShouldContainerBeRestarted, pkg/api/v1/pod/util.go ContainerShouldRestart, v1.35).
func wouldRestart(pod *corev1.Pod, c *corev1.Container, kind Kind, exitCode int32) bool {
	if pod == nil || c == nil {
		return true // not known to be the end
	}
	switch kind {
	case KindEphemeral:
		return false
	case KindSidecar:
		return true
	}
	for i := range c.RestartPolicyRules {
		if r := &c.RestartPolicyRules[i]; ruleMatches(r.ExitCodes, exitCode) {
			return true // both actions, Restart and RestartAllContainers, start it again
		}
	}
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	switch policy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	default: // Always, and what the API server makes of ""
		return kind != KindInit || exitCode != 0
	}
}

func ruleMatches(r *corev1.ContainerRestartRuleOnExitCodes, exitCode int32) bool {
	if r == nil {
		return false
	}
	in := slices.Contains(r.Values, exitCode)
	switch r.Operator {
	case corev1.ContainerRestartRuleOnExitCodesOpIn:
		return in
	case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
		return !in
	}
	return false
}

// mayRestart tells whether any exit code would make the kubelet start c again.
func mayRestart(pod *corev1.Pod, c *corev1.Container, kind Kind) bool {
	if wouldRestart(pod, c, kind, 0) || wouldRestart(pod, c, kind, 1) {
		return true
	}
	for i := range c.RestartPolicyRules {
		if c.RestartPolicyRules[i].ExitCodes != nil {
			return true
		}
	}
	return false
}

// restartsAll tells whether a container of the pod may make the kubelet restart
// all of them (RestartAllContainersOnContainerExits, on by default from v1.36), so
// that no end is the last one while the pod lives.
func restartsAll(pod *corev1.Pod) bool {
	if pod == nil {
		return false
	}
	for _, cs := range [2][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range cs {
			for j := range cs[i].RestartPolicyRules {
				if cs[i].RestartPolicyRules[j].Action == corev1.ContainerRestartRuleActionRestartAllContainers {
					return true
				}
			}
		}
	}
	return false
}
