package testutil

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/go-vela/podlife/internal/testutil/nodelog"
)

// logs answers pods/log: first what the API server has to say about it
// (kubernetes v1.36.3 pkg/registry/core/pod/strategy.go:600-650), then the
// kubelet (pkg/kubelet/kubelet_pods.go:1528-1650).
func (c *Cluster) logs(w http.ResponseWriter, r *http.Request) {
	t := parse(r)
	v := c.store.get(pods.key(t.namespace, t.name))
	if v == nil {
		fail(w, apierrors.NewNotFound(pods.gr(), t.name))
		return
	}
	pod := v.object.(*corev1.Pod)
	o, err := logOptions(r.URL.Query(), pod)
	switch {
	case err != nil:
		fail(w, err)
	case pod.Spec.NodeName == "":
		w.WriteHeader(http.StatusNoContent)
	default:
		c.kubeletLogs(w, r, pod, o)
	}
}

func (c *Cluster) kubeletLogs(w http.ResponseWriter, r *http.Request, pod *corev1.Pod, o *corev1.PodLogOptions) {
	k := c.node.current()
	if k == nil {
		url := fmt.Sprintf("https://10.0.0.1:10250/containerLogs/%s/%s/%s?%s", pod.Namespace, pod.Name, o.Container, r.URL.RawQuery)
		fail(w, &apierrors.StatusError{ErrStatus: metav1.Status{ // without a reason: client-go does not retry it
			Status: metav1.StatusFailure, Code: http.StatusInternalServerError,
			Message: fmt.Sprintf("Get %q: dial tcp 10.0.0.1:10250: connect: connection refused", url),
		}})
		return
	}
	if k.worker(pod.UID) == nil { // it has just come up, or has cleaned up already
		fail(w, apierrors.NewGenericServerResponse(http.StatusNotFound, "", corev1.Resource("pods/log"), pod.Name, "404 page not found", 0, true))
		return
	}
	id, err := whichRun(pod, k.statuses.of(pod), o.Container, o.Previous)
	if err != nil {
		fail(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK) // from here on errors can only come as text in the body
	it := c.node.runtime.find(pod.UID, id)
	if it == nil {
		_, _ = fmt.Fprintf(w, "unable to retrieve container logs for %s", id)
		return
	}
	read := nodelog.For(o)
	read.EndAtRotation = faultOf(r).LostAtRotation
	if faultOf(r).NoWatcher {
		read.Watch = func() error { return syscall.EMFILE }
	}
	log := it.log.Open(r.Context(), read)
	defer func() { _ = log.Close() }()
	_, _ = log.WriteTo(c.answering(r, id, w))
}

// whichRun finds the containerID that a request for a container's log is about.
// Requests never name a run: it is the one in the kubelet's newest status
// (kubelet_pods.go:1528).
func whichRun(pod *corev1.Pod, s corev1.PodStatus, name string, previous bool) (string, error) {
	all := slices.Concat(s.ContainerStatuses, s.InitContainerStatuses, s.EphemeralContainerStatuses)
	i := slices.IndexFunc(all, func(c corev1.ContainerStatus) bool { return c.Name == name })
	if i < 0 {
		return "", fmt.Errorf("container %q in pod %q is not available", name, pod.Name)
	}
	state, last := all[i].State, all[i].LastTerminationState.Terminated
	switch {
	case previous && (last == nil || last.ContainerID == ""):
		return "", fmt.Errorf("previous terminated container %q in pod %q not found", name, pod.Name)
	case previous:
		return last.ContainerID, nil
	case state.Running != nil:
		return all[i].ContainerID, nil
	case state.Terminated != nil && state.Terminated.ContainerID != "":
		return state.Terminated.ContainerID, nil
	case last != nil && last.ContainerID != "": // it waits: the run before is served, and a follow ends at once
		return last.ContainerID, nil
	case state.Terminated != nil || last != nil:
		return "", fmt.Errorf("container %q in pod %q is terminated", name, pod.Name)
	}
	why := "no logs yet"
	if state.Waiting != nil {
		switch why = state.Waiting.Reason; why {
		case errImagePull.Error():
			why = "image can't be pulled"
		case errImagePullBackOff.Error():
			why = "trying and failing to pull image"
		}
		return "", fmt.Errorf("container %q in pod %q is waiting to start: %s", name, pod.Name, why)
	}
	return "", fmt.Errorf("container %q in pod %q is waiting to start - %s", name, pod.Name, why)
}

// logOptions reads and checks the query.
func logOptions(q url.Values, pod *corev1.Pod) (*corev1.PodLogOptions, error) {
	o := &corev1.PodLogOptions{Container: q.Get("container")}
	var errs field.ErrorList
	for name, to := range map[string]*bool{"follow": &o.Follow, "previous": &o.Previous, "timestamps": &o.Timestamps} {
		*to = q.Get(name) == "true" || q.Get(name) == "1"
	}
	for name, to := range map[string]**int64{"tailLines": &o.TailLines, "limitBytes": &o.LimitBytes, "sinceSeconds": &o.SinceSeconds} {
		if q.Has(name) {
			n, err := strconv.ParseInt(q.Get(name), 10, 64)
			if least := map[string]int64{"limitBytes": 1, "sinceSeconds": 1}[name]; err != nil || n < least {
				errs = append(errs, field.Invalid(field.NewPath(name), q.Get(name), fmt.Sprintf("must be greater than or equal to %d", least)))
			}
			*to = &n
		}
	}
	if q.Has("sinceTime") {
		t, err := time.Parse(time.RFC3339, q.Get("sinceTime"))
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		o.SinceTime = &metav1.Time{Time: t}
	}
	if q.Has("stream") && q.Get("stream") != corev1.LogStreamAll {
		errs = append(errs, field.Forbidden(field.NewPath("stream"), "may not be specified"))
	}
	if o.SinceTime != nil && o.SinceSeconds != nil {
		errs = append(errs, field.Forbidden(field.NewPath(""), "at most one of `sinceTime` or `sinceSeconds` may be specified"))
	}
	if len(errs) > 0 {
		return nil, apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("PodLogOptions").GroupKind(), pod.Name, errs)
	}
	return o, logContainer(o, pod)
}

// logContainer defaults and checks which container is meant.
func logContainer(o *corev1.PodLogOptions, pod *corev1.Pod) error {
	if o.Container == "" && len(pod.Spec.Containers) == 1 && len(pod.Spec.InitContainers) == 0 {
		o.Container = pod.Spec.Containers[0].Name
	}
	if o.Container == "" {
		return apierrors.NewBadRequest(fmt.Sprintf("a container name must be specified for pod %s, choose one of: %s", pod.Name,
			names(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers))))
	}
	for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
		if c.Name == o.Container {
			return nil
		}
	}
	return apierrors.NewBadRequest(fmt.Sprintf("container %s is not valid for pod %s", o.Container, pod.Name))
}
