package podstatus

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Restarts reports whether the kubelet starts a container of a living pod again after the
// container ended with exitCode. The container's own rules come first, then the
// container's policy, then the pod's; an empty policy is Always. It reports true while
// the pod or the container is unknown.
//
// Kubernetes v1.36.3: pkg/api/v1/pod/util.go:419-455 (ContainerShouldRestart, the same in
// v1.37.2); pkg/kubelet/kuberuntime/kuberuntime_container.go:1222-1246: an init container
// that succeeded is done, whatever its policy says.
func Restarts(pod *corev1.Pod, container string, exitCode int32) bool {
	if pod == nil {
		return true
	}
	c, ok := Find(pod, container)
	if !ok {
		return true
	}
	switch {
	case c.Role == Ephemeral:
		return false
	case c.Role == Sidecar:
		return true
	case c.Role == Init && exitCode == 0:
		return restartsAllOn(c.Spec, exitCode)
	}
	if c.Spec != nil && c.Spec.RestartPolicy != nil {
		if ruleFor(c.Spec, exitCode) != nil {
			return true // both actions, Restart and RestartAllContainers, start it again
		}
		switch *c.Spec.RestartPolicy {
		case corev1.ContainerRestartPolicyAlways:
			return true
		case corev1.ContainerRestartPolicyOnFailure:
			return exitCode != 0
		case corev1.ContainerRestartPolicyNever:
			return false
		}
	}
	switch pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return exitCode != 0
	}
	return true
}

// MayRestart reports whether there is an exit code after which the kubelet starts the
// container again.
func MayRestart(pod *corev1.Pod, container string) bool {
	if Restarts(pod, container, 0) || Restarts(pod, container, 1) {
		return true
	}
	c, _ := Find(pod, container)
	return c.Spec != nil && slices.ContainsFunc(c.Spec.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
		return r.ExitCodes != nil
	})
}

// RestartsAll reports whether the exit of one of the pod's containers may make the kubelet
// restart all of them, so that no end is the last one while the pod lives (feature
// RestartAllContainersOnContainerExits, on by default since v1.36; v1.36.3
// pkg/api/v1/pod/util.go AllContainersCouldRestart).
func RestartsAll(pod *corev1.Pod) bool {
	if pod == nil {
		return false
	}
	has := func(c corev1.Container) bool {
		return slices.ContainsFunc(c.RestartPolicyRules, func(r corev1.ContainerRestartRule) bool {
			return r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
		})
	}
	return slices.ContainsFunc(pod.Spec.InitContainers, has) || slices.ContainsFunc(pod.Spec.Containers, has)
}

func restartsAllOn(c *corev1.Container, exitCode int32) bool {
	if c == nil {
		return false
	}
	r := ruleFor(c, exitCode)
	return r != nil && r.Action == corev1.ContainerRestartRuleActionRestartAllContainers
}

// ruleFor returns the first of a container's restart rules that exitCode matches, nil
// when none does (v1.36.3 pkg/api/v1/pod/util.go:465 FindMatchingContainerRestartRule).
func ruleFor(c *corev1.Container, exitCode int32) *corev1.ContainerRestartRule {
	for i := range c.RestartPolicyRules {
		r := &c.RestartPolicyRules[i]
		if r.ExitCodes == nil {
			continue
		}
		in := slices.Contains(r.ExitCodes.Values, exitCode)
		switch r.ExitCodes.Operator {
		case corev1.ContainerRestartRuleOnExitCodesOpIn:
			if in {
				return r
			}
		case corev1.ContainerRestartRuleOnExitCodesOpNotIn:
			if !in {
				return r
			}
		}
	}
	return nil
}
