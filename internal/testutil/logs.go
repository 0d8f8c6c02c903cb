package testutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
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
	path := fmt.Sprintf("/var/log/pods/%s_%s_%s/%s/%s", pod.Namespace, pod.Name, pod.UID, o.Container, it.logName())
	if err := readLog(c.answering(r, id, w), r, it, path, o); err != nil {
		_, _ = io.WriteString(w, err.Error())
	}
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

// readLog writes the log of one container and, when asked to follow, goes on
// until it is dead: a follow never crosses over to the next run. An error is the
// end of the body (k8s.io/cri-client v0.36.3 pkg/logs/logs.go:259-413).
//
// A follower learns of a new file from inotify only, of which it takes one event
// at each end of its file. So one that had not come to the end of the old file when
// it was rotated stays with it until the next rotation, and one that lags behind by
// two rotations skips a file and is sent another one twice.
func readLog(w io.Writer, r *http.Request, c *container, path string, o *corev1.PodLogOptions) error {
	file := c.log.open()
	if file == nil {
		return fmt.Errorf("failed to try resolving symlinks in path %q: lstat %s: no such file or directory", path, path)
	}
	next := 0
	if o.TailLines != nil { // counts records, not lines
		next = max(0, len(c.log.from(file, 0))-int(*o.TailLines))
	}
	out := &logWriter{w: w, o: o, start: true}
	var watcher *logWatcher
	for dead := false; ; {
		for _, rec := range c.log.from(file, next) {
			if next++; !out.write(rec) {
				return nil
			}
		}
		switch {
		case !o.Follow || dead:
			return nil
		case watcher == nil && faultOf(r).NoWatcher:
			return errors.New("failed to create fsnotify watcher: too many open files")
		case watcher == nil: // what was written before is not told
			watcher = c.log.watch()
			defer watcher.close()
			continue
		}
		recreated, found := watcher.wait(r.Context(), c)
		if dead = !found; recreated && faultOf(r).LostAtRotation {
			return nil
		}
		if f := c.log.open(); recreated && f != nil {
			file, next = f, 0
		}
	}
}

// wait returns when something happened to the log, and whether its name has a
// file again; found is false when the container is dead, or the client gone. The
// kubelet asks the runtime only now and then; of a container that was dead all along
// it knows at once.
func (w *logWatcher) wait(ctx context.Context, c *container) (recreated, found bool) {
	var asks <-chan time.Time
	for killed := c.killed; ; {
		select {
		case <-killed:
			if !w.waited {
				return false, false
			}
			if killed = nil; asks == nil {
				asks = time.After(followEnds)
			}
		default:
		}
		if e, ok := w.next(); ok {
			return e == fileRecreated, true
		}
		w.waited = true
		select {
		case <-w.more:
		case <-killed:
		case <-asks:
			return false, false
		case <-ctx.Done():
			return false, false
		}
	}
}

// logWriter renders records as a log request asks.
type logWriter struct {
	w     io.Writer
	o     *corev1.PodLogOptions
	start bool // of a line
	sent  int64
}

// write writes one record; false: it is over. Only the first part of a line has
// a timestamp: nine digits always, unlike RFC3339Nano. A line of which only the
// rest is new enough has none.
func (l *logWriter) write(rec logRecord) bool {
	start := l.start
	l.start = !rec.partial
	if l.o.SinceTime != nil && rec.time.Before(l.o.SinceTime.Time) {
		return true
	}
	var b []byte
	if l.o.Timestamps && start {
		b = append(b, rec.time.UTC().Format("2006-01-02T15:04:05.000000000Z07:00 ")...)
	}
	if b = append(b, rec.data...); l.start {
		b = append(b, '\n')
	}
	if limit := l.o.LimitBytes; limit != nil && l.sent+int64(len(b)) >= *limit {
		_, _ = l.w.Write(b[:*limit-l.sent])
		return false
	}
	n, err := l.w.Write(b)
	l.sent += int64(n)
	return err == nil
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
		// The API server hands it on as RFC3339: in whole seconds, rounded down.
		o.SinceTime = &metav1.Time{Time: seconds(t)}
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
	if o.SinceSeconds != nil {
		o.SinceTime = &metav1.Time{Time: time.Now().Add(-time.Duration(*o.SinceSeconds) * time.Second)}
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
