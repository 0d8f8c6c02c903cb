package kubelog

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NoLines is the Tail of a Request for nothing but what is still to come.
const NoLines = -1

// Request is one request for a container's log, with the node's timestamps.
type Request struct {
	Container string
	Follow    bool      // a stream, which goes on while the container runs
	Previous  bool      // of the run before the current one
	Since     time.Time // only what is of this second or later; zero: all
	Tail      int64     // so many last lines; 0: all
	Limit     int64     // so many bytes; 0: all
}

// Options is the request in Kubernetes' terms.
func (r Request) Options() *corev1.PodLogOptions {
	o := &corev1.PodLogOptions{Container: r.Container, Follow: r.Follow, Previous: r.Previous, Timestamps: true}
	if !r.Since.IsZero() {
		// Whole seconds: client-go and the apiserver cut the rest off anyway
		// (k8s.io/apimachinery v0.35.3 pkg/apis/meta/v1/time.go:210).
		t := metav1.NewTime(r.Since)
		o.SinceTime = &t
	}
	if r.Tail != 0 {
		lines := max(r.Tail, 0)
		o.TailLines = &lines
	}
	if r.Limit > 0 {
		o.LimitBytes = &r.Limit
	}
	return o
}
