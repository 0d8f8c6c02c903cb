package podwatch

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"

	"github.com/go-vela/podlife/internal/podstatus"
)

// keyOf returns the name of a pod.
func keyOf(p *corev1.Pod) types.NamespacedName {
	return types.NamespacedName{Namespace: p.Namespace, Name: p.Name}
}

// aboutPod returns the name of the pod that e is about.
func aboutPod(e *corev1.Event) types.NamespacedName {
	o := &e.InvolvedObject
	return types.NamespacedName{Namespace: cmp.Or(o.Namespace, e.Namespace), Name: o.Name}
}

// older reports whether version a is known to be older than version b.
func older(a, b string) bool {
	c, ok := podstatus.CompareVersions(a, b)
	return ok && c < 0
}

// newer returns the newer of two versions of a pod: the first where they have no
// order.
func newer(p, q *corev1.Pod) *corev1.Pod {
	if older(p.ResourceVersion, q.ResourceVersion) {
		return q
	}
	return p
}

// repeats reports whether p is the version of its pod that is known already. An API
// server gives each content a version of its own; a fake one may give all contents
// the same version, or none. The two may differ in what a transform leaves out.
func repeats(known, p *corev1.Pod) bool {
	if p.ResourceVersion == "" || p.ResourceVersion != known.ResourceVersion {
		return false
	}
	a, b := Trim(known), Trim(p)
	a.TypeMeta = b.TypeMeta
	return equality.Semantic.DeepEqual(a, b)
}

// deleted reports whether p, the last version that the watch showed, is that of a
// deletion. Where a pod leaves the selector the last version is the one before. A
// real deletion carries deletionTimestamp and a grace period of 0, to which it is
// shortened when the containers have ended; a pod that leaves the selector while it
// is being deleted still has a longer one (seen on a real API server, v1.36.3).
func deleted(p *corev1.Pod) bool {
	grace := p.DeletionGracePeriodSeconds // nil: a host's informer does not keep it
	return p.DeletionTimestamp != nil && (grace == nil || *grace == 0)
}
