package testutil

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// actions is what a sync is going to do to a pod.
type actions struct {
	killAll bool // nothing is left to run: stop what still runs (sidecars)
	kill    []unwanted
	init    []*corev1.Container // to start, in this order
	start   []*corev1.Container
}

// unwanted is a container to kill, and what the Event about it says.
type unwanted struct {
	container *container
	message   string
}

func (a actions) none() bool { return !a.killAll && len(a.kill)+len(a.init)+len(a.start) == 0 }

// computeActions compares the pod's spec with its containers (kubernetes v1.36.3
// pkg/kubelet/kuberuntime/kuberuntime_manager.go:1175-1400).
//
// This is where an image swap comes from: a running container whose image in the
// spec is another one than it was created with is killed and started again,
// whatever the restart policy (:1338-1342). The comparison is made of running
// containers only. Once the old one is dead and the new one could not be started,
// the restart policy decides; under Never that is the end, and patching the
// image again changes nothing.
func computeActions(pod *corev1.Pod, has podStatus) (a actions) {
	if !initActions(pod, has, &a) {
		return a
	}
	keep := 0
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		latest := has.latest(c.Name)
		switch {
		case latest == nil || latest.state != running:
			if shouldStart(pod, c, latest) {
				a.start = append(a.start, c)
			}
		case latest.specImage != c.Image:
			a.kill = append(a.kill, unwanted{latest.container, "Container " + c.Name + " definition changed, will be restarted"})
			a.start = append(a.start, c)
		default:
			keep++
		}
	}
	if keep == 0 && len(a.start) == 0 {
		a.killAll, a.init = true, nil
	}
	return a
}

// initActions adds what is to be done about init containers, and says whether
// the pod is initialised: regular containers may be started then
// (pkg/kubelet/kuberuntime/kuberuntime_container.go:1037-1314). Init containers
// run one after the other; a sidecar counts as done once it runs, and is kept
// running. A new image of an init container restarts it only if it is a sidecar.
func initActions(pod *corev1.Pod, has podStatus, a *actions) (initialized bool) {
	if len(pod.Spec.InitContainers) == 0 {
		return true
	}
	for i := range pod.Spec.Containers {
		latest := has.latest(pod.Spec.Containers[i].Name)
		initialized = initialized || latest != nil && latest.state != exited
	}
	begun := initialized // the init containers before the i-th have been run
	// In reverse, because what ran long ago may have been removed: the last one
	// that there is tells how far it got.
	last := len(pod.Spec.InitContainers) - 1
	for i := last; i >= 0; i-- {
		c := &pod.Spec.InitContainers[i]
		latest := has.latest(c.Name)
		if latest == nil && begun && isSidecar(c) {
			a.init = append(a.init, c)
		}
		if latest == nil || begun && !isSidecar(c) {
			continue
		}
		done := false
		switch {
		case latest.state == running:
			if done = isSidecar(c); done && latest.specImage != c.Image {
				a.kill = append(a.kill, unwanted{latest.container, "Init container " + c.Name + " definition changed"})
				a.init = append(a.init, c)
			}
		case latest.state == exited && latest.exitCode == 0 && !isSidecar(c):
			done = true
		case latest.state == exited && !shouldStart(pod, c, latest):
			a.killAll, a.init = true, nil
			return false
		default:
			a.init = append(a.init, c)
		}
		if done && i == last {
			initialized = true
		} else if done && !begun {
			a.init = append(a.init, &pod.Spec.InitContainers[i+1])
		}
		begun = true
	}
	if !begun {
		a.init = append(a.init, &pod.Spec.InitContainers[0])
	}
	slices.Reverse(a.init)
	return initialized
}

// shouldStart says whether a container that does not run is to be started
// (pkg/kubelet/container/helpers.go:86).
func shouldStart(pod *corev1.Pod, c *corev1.Container, latest *containerStatus) bool {
	switch {
	case pod.DeletionTimestamp != nil:
		return false
	case latest == nil || latest.state == created:
		return true
	case latest.state == running:
		return false
	}
	return restarts(pod, c, latest.exitCode)
}

// restarts says whether a container that ended with code is started again: by
// the first of its own rules that fits, by its own policy, or by the pod's
// (pkg/api/v1/pod/util.go:419).
func restarts(pod *corev1.Pod, c *corev1.Container, code int32) bool {
	policy := pod.Spec.RestartPolicy
	if c.RestartPolicy != nil {
		for _, rule := range c.RestartPolicyRules {
			if rule.ExitCodes == nil || rule.Action != corev1.ContainerRestartRuleActionRestart {
				continue
			}
			in := slices.Contains(rule.ExitCodes.Values, code)
			if in == (rule.ExitCodes.Operator == corev1.ContainerRestartRuleOnExitCodesOpIn) {
				return true
			}
		}
		policy = corev1.RestartPolicy(*c.RestartPolicy)
	}
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && code != 0
}
