package podwatch

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Trim returns a small pod with what lifecycle code reads, and leaves its
// argument alone; Trim of a trimmed pod is an equal pod. It keeps
//
//   - metadata: name, namespace, generateName, uid, resourceVersion, generation,
//     creationTimestamp, deletionTimestamp, deletionGracePeriodSeconds, labels
//     and ownerReferences;
//   - spec: nodeName, restartPolicy, activeDeadlineSeconds,
//     terminationGracePeriodSeconds, and of every container its name, image,
//     imagePullPolicy, restartPolicy and restartPolicyRules (of an ephemeral
//     one also targetContainerName);
//   - the volumes that are images, with their mounts: an image that cannot be pulled
//     is one of these or the container's own;
//   - the whole status.
//
// Annotations, managedFields, environments, other mounts and volumes and the rest go: of
// a CI pod with ten containers they are nine tenths. The result shares slices
// and maps with the argument.
func Trim(p *corev1.Pod) *corev1.Pod {
	if p == nil {
		return nil
	}
	volumes := imageVolumes(p.Spec.Volumes)
	return &corev1.Pod{
		TypeMeta: p.TypeMeta,
		ObjectMeta: metav1.ObjectMeta{
			Name:                       p.Name,
			GenerateName:               p.GenerateName,
			Namespace:                  p.Namespace,
			UID:                        p.UID,
			ResourceVersion:            p.ResourceVersion,
			Generation:                 p.Generation,
			CreationTimestamp:          p.CreationTimestamp,
			DeletionTimestamp:          p.DeletionTimestamp,
			DeletionGracePeriodSeconds: p.DeletionGracePeriodSeconds,
			Labels:                     p.Labels,
			OwnerReferences:            p.OwnerReferences,
		},
		Spec: corev1.PodSpec{
			NodeName:                      p.Spec.NodeName,
			RestartPolicy:                 p.Spec.RestartPolicy,
			ActiveDeadlineSeconds:         p.Spec.ActiveDeadlineSeconds,
			TerminationGracePeriodSeconds: p.Spec.TerminationGracePeriodSeconds,
			Volumes:                       volumes,
			InitContainers:                trimContainers(p.Spec.InitContainers, volumes),
			Containers:                    trimContainers(p.Spec.Containers, volumes),
			EphemeralContainers:           trimEphemeral(p.Spec.EphemeralContainers, volumes),
		},
		Status: p.Status,
	}
}

// imageVolumes returns those of the volumes that are images.
func imageVolumes(all []corev1.Volume) (images []corev1.Volume) {
	for i := range all {
		if all[i].Image != nil {
			images = append(images, all[i])
		}
	}
	return images
}

// mountsOf returns those of the mounts that are of one of the volumes.
func mountsOf(volumes []corev1.Volume, all []corev1.VolumeMount) (mounts []corev1.VolumeMount) {
	for i := range all {
		if slices.ContainsFunc(volumes, func(v corev1.Volume) bool { return v.Name == all[i].Name }) {
			mounts = append(mounts, all[i])
		}
	}
	return mounts
}

func trimContainers(cs []corev1.Container, volumes []corev1.Volume) []corev1.Container {
	if cs == nil {
		return nil
	}
	out := make([]corev1.Container, len(cs))
	for i := range cs {
		out[i] = corev1.Container{
			Name:               cs[i].Name,
			Image:              cs[i].Image,
			ImagePullPolicy:    cs[i].ImagePullPolicy,
			RestartPolicy:      cs[i].RestartPolicy,
			RestartPolicyRules: cs[i].RestartPolicyRules,
			VolumeMounts:       mountsOf(volumes, cs[i].VolumeMounts),
		}
	}
	return out
}

func trimEphemeral(cs []corev1.EphemeralContainer, volumes []corev1.Volume) []corev1.EphemeralContainer {
	if cs == nil {
		return nil
	}
	out := make([]corev1.EphemeralContainer, len(cs))
	for i := range cs {
		out[i] = corev1.EphemeralContainer{
			TargetContainerName: cs[i].TargetContainerName,
			EphemeralContainerCommon: corev1.EphemeralContainerCommon{
				Name:            cs[i].Name,
				Image:           cs[i].Image,
				ImagePullPolicy: cs[i].ImagePullPolicy,
				VolumeMounts:    mountsOf(volumes, cs[i].VolumeMounts),
			},
		}
	}
	return out
}

// trimEvent drops what nobody reads of an Event; a namespace keeps an hour of
// them.
func trimEvent(e *corev1.Event) *corev1.Event {
	t := *e
	t.ObjectMeta = metav1.ObjectMeta{
		Name:              e.Name,
		Namespace:         e.Namespace,
		UID:               e.UID,
		ResourceVersion:   e.ResourceVersion,
		CreationTimestamp: e.CreationTimestamp,
	}
	return &t
}

// keepPod applies the host's choice of what to keep, and puts back what the
// watcher itself lives on.
func (o *Options) keepPod(p *corev1.Pod) *corev1.Pod {
	if o.Keep == nil {
		return Trim(p)
	}
	// Copied first: Keep may change its argument, and p stays what it was.
	meta := p.ObjectMeta
	k := o.Keep(p)
	if k == nil {
		return Trim(p)
	}
	k.Namespace, k.Name, k.UID = meta.Namespace, meta.Name, meta.UID
	k.ResourceVersion, k.Labels = meta.ResourceVersion, meta.Labels
	k.DeletionTimestamp, k.DeletionGracePeriodSeconds = meta.DeletionTimestamp, meta.DeletionGracePeriodSeconds
	return k
}

// transform is keepPod and trimEvent in the form that informers take.
func (o *Options) transform(obj any) (any, error) {
	switch obj := obj.(type) {
	case *corev1.Pod:
		return o.keepPod(obj), nil
	case *corev1.Event:
		return trimEvent(obj), nil
	}
	return obj, nil
}
