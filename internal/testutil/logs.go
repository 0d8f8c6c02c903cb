package testutil

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// stampFormat is how the kubelet writes times with timestamps=true: RFC3339 with
// nine digits always (cri-client v0.36.3 pkg/logs/logs.go:52).
const stampFormat = "2006-01-02T15:04:05.000000000Z07:00"

// serveLogs answers pods/log. A request names pod and container, never a run:
// which one it gets is up to the status that the kubelet has published.
func (k *kubelet) serveLogs(w http.ResponseWriter, r *http.Request) {
	t := parse(r)
	o, err := logOptions(r.URL.Query())
	if err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	id, err := k.logOf(t, &o)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	if id == "" { // 204 in truth: the pod has no node yet; client-go shows both as an empty body
		return
	}
	c := k.container(id)
	if c == nil {
		// Not an error of HTTP's: the answer has begun (kubernetes v1.36.3
		// pkg/kubelet/kubelet_pods.go:1639). No newline.
		_, _ = io.WriteString(w, "unable to retrieve container logs for "+id)
		return
	}
	c.serve(r.Context(), w, &o)
}

// logOptions reads the query by hand: client-go's scheme has no conversion for
// it, a real API server's has.
func logOptions(q url.Values) (o corev1.PodLogOptions, err error) {
	o.Container = q.Get("container")
	for name, field := range map[string]*bool{"follow": &o.Follow, "previous": &o.Previous, "timestamps": &o.Timestamps} {
		if q.Has(name) && err == nil {
			*field, err = strconv.ParseBool(q.Get(name))
		}
	}
	for name, field := range map[string]**int64{"tailLines": &o.TailLines, "limitBytes": &o.LimitBytes, "sinceSeconds": &o.SinceSeconds} {
		if q.Has(name) && err == nil {
			*field = new(int64)
			**field, err = strconv.ParseInt(q.Get(name), 10, 64)
		}
	}
	if q.Has("sinceTime") && err == nil {
		o.SinceTime = &metav1.Time{}
		o.SinceTime.Time, err = time.Parse(time.RFC3339, q.Get("sinceTime"))
	}
	return o, err
}

// logOf returns the ID of the run whose log is asked for.
func (k *kubelet) logOf(t target, o *corev1.PodLogOptions) (id string, err error) {
	v := k.store.get(pods.key(t.namespace, t.name))
	if v == nil {
		return "", apierrors.NewNotFound(pods.gr(), t.name)
	}
	p := v.object.(*corev1.Pod)
	slot := o.Container
	if slot == "" && len(p.Spec.Containers) == 1 {
		slot = p.Spec.Containers[0].Name
	}
	if slot == "" {
		return "", apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s", p.Name))
	}
	if !hasSlot(p, slot) {
		return "", apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", slot, p.Name))
	}
	if p.Spec.NodeName == "" {
		return "", nil
	}
	select {
	case <-k.serving():
	default:
		return "", dialError(p)
	}
	for _, cs := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if cs.Name == slot {
			return runOf(p, &cs, o.Previous)
		}
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is not available", slot, p.Name))
}

// runOf: kubernetes v1.36.3 pkg/kubelet/kubelet_pods.go:1538-1584. A container
// that waits for its next run gives the log of the last one, without an error.
func runOf(p *corev1.Pod, cs *corev1.ContainerStatus, previous bool) (string, error) {
	last := cs.LastTerminationState.Terminated
	switch {
	case previous && last == nil:
		return "", apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", cs.Name, p.Name))
	case previous:
		return last.ContainerID, nil
	case cs.State.Running != nil:
		return cs.ContainerID, nil
	case cs.State.Terminated != nil:
		return cs.State.Terminated.ContainerID, nil
	case last != nil:
		return last.ContainerID, nil
	}
	why := cs.State.Waiting.Reason
	switch why {
	case "ErrImagePull":
		why = "image can't be pulled"
	case "ImagePullBackOff":
		why = "trying and failing to pull image"
	}
	return "", apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: %s", cs.Name, p.Name, why))
}

func hasSlot(p *corev1.Pod, slot string) bool {
	for _, cs := range [][]corev1.Container{p.Spec.InitContainers, p.Spec.Containers} {
		for _, c := range cs {
			if c.Name == slot {
				return true
			}
		}
	}
	return false
}

// dialError is what the API server answers when no kubelet listens: a 500
// without a reason (apiserver v0.36.3 pkg/registry/generic/rest/streamer.go:89).
func dialError(p *corev1.Pod) error {
	err := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
		Message: fmt.Sprintf("Get %q: %v", "https://192.0.2.1:10250/containerLogs/"+p.Namespace+"/"+p.Name, err),
	}}
}

func (k *kubelet) container(id string) *container {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, w := range k.workers {
		for _, runs := range w.runs {
			for _, c := range runs {
				if c.id == id {
					return c
				}
			}
		}
	}
	return nil
}

// serve writes the run's log. A follow is bound to the run: at the end of what
// there is it asks the runtime whether the container still runs, when something
// is written and once a second, and so ends up to a second after the container
// (cri-client v0.36.3 pkg/logs/logs.go:343 and 487).
func (c *container) serve(ctx context.Context, w io.Writer, o *corev1.PodLogOptions) {
	out := &logWriter{w: w, timestamps: o.Timestamps, limit: -1}
	if o.LimitBytes != nil {
		out.limit = *o.LimitBytes
	}
	var since time.Time
	if o.SinceTime != nil {
		since = seconds(o.SinceTime.Time) // a second is the resolution, rounded down
	}
	n := 0
	if o.TailLines != nil {
		all, _ := c.log.from(0)
		n = max(0, len(all)-int(*o.TailLines))
	}
	for {
		ended := !c.running()
		records, changed := c.log.from(n)
		n += len(records)
		for _, r := range records {
			if !r.time.Before(since) {
				out.record(r)
			}
		}
		if out.err != nil || !o.Follow || ended {
			return
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// logWriter renders records.
type logWriter struct {
	w          io.Writer
	timestamps bool
	limit      int64 // bytes left; below zero: no limit
	err        error
}

func (l *logWriter) record(r record) {
	if l.err != nil {
		return
	}
	b := r.text
	if l.timestamps {
		b = append([]byte(r.time.Format(stampFormat)+" "), b...)
	}
	if l.limit >= 0 && int64(len(b)) >= l.limit {
		b, l.err = b[:l.limit], io.EOF
	}
	if l.limit >= 0 {
		l.limit -= int64(len(b))
	}
	if _, err := l.w.Write(b); err != nil {
		l.err = err
	}
}
