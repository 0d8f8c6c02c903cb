package podstatus

import (
	"iter"

	corev1 "k8s.io/api/core/v1"
)

// Role is what sort of container a container is.
type Role string

// The roles of containers.
const (
	Regular   Role = "Regular"
	Init      Role = "Init"
	Sidecar   Role = "Sidecar" // an init container with restartPolicy Always
	Ephemeral Role = "Ephemeral"
)

// Container is one container of a pod.
type Container struct {
	Name string
	Role Role
	Spec *corev1.Container // the pod's own, not to be changed; nil: only a status names it
}

// HasSpec reports whether a pod has a spec. No pod that an API server stores is without
// containers, but fake pods are, and the objects of an informer whose transform strips the
// spec.
func HasSpec(pod *corev1.Pod) bool { return len(pod.Spec.Containers) > 0 }

// Containers yields the containers of a pod in the order of its spec: init containers,
// containers, ephemeral ones. Of a pod without a spec it yields those that the statuses
// name.
func Containers(pod *corev1.Pod) iter.Seq[Container] {
	return func(yield func(Container) bool) {
		if !HasSpec(pod) {
			named(pod, yield)
			return
		}
		for i := range pod.Spec.InitContainers {
			c := &pod.Spec.InitContainers[i]
			if !yield(Container{c.Name, initRole(c), c}) {
				return
			}
		}
		for i := range pod.Spec.Containers {
			c := &pod.Spec.Containers[i]
			if !yield(Container{c.Name, Regular, c}) {
				return
			}
		}
		for i := range pod.Spec.EphemeralContainers {
			c := (*corev1.Container)(&pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
			if !yield(Container{c.Name, Ephemeral, c}) {
				return
			}
		}
	}
}

// named yields the containers that only the statuses name.
func named(pod *corev1.Pod, yield func(Container) bool) {
	for _, list := range []struct {
		role     Role
		statuses []corev1.ContainerStatus
	}{
		{Init, pod.Status.InitContainerStatuses},
		{Regular, pod.Status.ContainerStatuses},
		{Ephemeral, pod.Status.EphemeralContainerStatuses},
	} {
		for i := range list.statuses {
			if !yield(Container{Name: list.statuses[i].Name, Role: list.role}) {
				return
			}
		}
	}
}

// Find returns the container of that name, by the spec or, where the spec lacks it (a
// transform may have stripped the ephemeral containers, for instance), by the statuses. ok
// is false when the pod has no such container.
func Find(pod *corev1.Pod, name string) (found Container, ok bool) {
	look := func(c Container) (more bool) {
		if ok = c.Name == name; ok {
			found = c
		}
		return !ok
	}
	if Containers(pod)(look); !ok {
		named(pod, look)
	}
	return found, ok
}

func initRole(c *corev1.Container) Role {
	if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
		return Sidecar
	}
	return Init
}
