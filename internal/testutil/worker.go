package testutil

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// worker is the kubelet's for one pod: it does one thing at a time. While it
// pulls the image of one container, nothing is done and nothing said about the
// others (kubernetes v1.36.3 pkg/kubelet/pod_workers.go:1255).
type worker struct {
	k       *kubelet
	pod     *corev1.Pod   // what it works by
	heard   *corev1.Pod   // what the kubelet heard last; the kubelet's to use
	changed chan struct{} // capacity 1: the pod in the API changed, or is gone
	died    chan struct{} // capacity 1: one of its containers ended

	due     time.Time // of the next sync
	fresh   time.Time // from when on the kubelet's picture of the containers is newer than the last sync
	synced  bool      // at least once
	sandbox bool
	why     reasons
}

func newWorker(k *kubelet, pod *corev1.Pod) *worker {
	return &worker{
		k: k, pod: pod, heard: pod, why: reasons{}, due: time.Now().Add(watchTakes),
		changed: make(chan struct{}, 1), died: make(chan struct{}, 1),
		sandbox: len(k.runtime.containers(pod.UID)) > 0, // after a restart of the kubelet
	}
}

// run syncs the pod whenever there is a reason, until the pod is gone.
func (w *worker) run(ctx context.Context) {
	for over := false; !over; {
		if w.await(ctx) != nil {
			return
		}
		w.due = time.Time{}
		over = w.sync(ctx)
	}
}

// await returns when the next sync is due. A change in the API is acted on at
// once, but never on a picture of the containers that is as old as the last sync
// (pod_workers.go:1280); a death is seen with the next look at all containers.
func (w *worker) await(ctx context.Context) error {
	for {
		var timer <-chan time.Time
		if !w.due.IsZero() {
			timer = time.After(time.Until(w.due))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer:
			return nil
		case <-w.changed:
			w.dueBy(latest(time.Now().Add(watchTakes), w.fresh))
		case <-w.died:
			w.dueBy(w.k.nextLook())
		}
	}
}

func (w *worker) dueBy(t time.Time) {
	if w.due.IsZero() || t.Before(w.due) {
		w.due = t
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// sync brings the pod a step nearer to what its spec says. It says how things
// stand before it does anything (pkg/kubelet/kubelet.go:2074, 2101): while it
// works, the API shows what was before.
func (w *worker) sync(ctx context.Context) (over bool) {
	gone := w.read()
	has := w.k.runtime.containers(w.pod.UID)
	status := w.status(has, false)
	w.k.statuses.set(w.pod, status, mayRun)
	w.k.runtime.collect(w.pod.UID)
	switch {
	case gone || w.pod.DeletionTimestamp != nil:
		return w.terminate(ctx, has, gone)
	case isTerminal(status.Phase): // which asks for a newer picture of the containers (pod_workers.go:1280)
		return wait(ctx, time.Until(w.k.nextLook())) != nil || w.terminate(ctx, has, gone)
	}
	do, sandbox, before := computeActions(w.pod, has), w.sandbox, w.k.runtime.containers(w.pod.UID)
	err := w.act(ctx, do, has)
	w.fresh = w.k.nextLook()
	switch {
	case err != nil:
		w.dueBy(retryTime(err))
		if w.sandbox != sandbox || w.k.runtime.containers(w.pod.UID).differs(before) {
			w.dueBy(w.fresh) // what it did do is seen with the next look
		}
	case !do.none():
		w.fresh = time.Now().Add(relistTakes)
		w.dueBy(w.fresh)
	}
	return false
}

// retryTime is when a sync that failed is tried again: when a crashed container
// may start again, else in ten seconds, with some jitter; within a minute at
// most (pod_workers.go:1536-1547).
func retryTime(err error) time.Time {
	d := retryPeriod
	if crash := retryAt(time.Time{}); errors.As(err, &crash) {
		d = min(time.Until(time.Time(crash)), resyncPeriod)
	}
	return time.Now().Add(time.Duration(float64(d) * retryJitter))
}

// read gets the newest pod; gone: it was removed from the API. The first sync
// takes the pod as the kubelet first heard of it: an image patched right after
// the pod was created with a nodeName comes after the placeholder (seen at 0, 60
// and 150 ms).
func (w *worker) read() (gone bool) {
	if !w.synced {
		w.synced = true
		return false
	}
	v := w.k.store.get(pods.key(w.pod.Namespace, w.pod.Name))
	if v == nil || v.GetUID() != w.pod.UID {
		w.pod = w.k.lastHeard(w) // its grace period may be another now
		return true
	}
	w.pod = v.object.(*corev1.Pod)
	return false
}

func (w *worker) status(has podStatus, terminal bool) corev1.PodStatus {
	old := w.k.statuses.of(w.pod)
	if old.StartTime == nil {
		t := now()
		old.StartTime = &t
	}
	s := generateStatus(w.pod, old, has, w.why, terminal, w.k.ips(w.pod))
	w.deadline(&s)
	return s
}

// deadline fails a pod that was active for longer than its spec allows
// (pkg/kubelet/active_deadline.go).
func (w *worker) deadline(s *corev1.PodStatus) {
	limit := w.pod.Spec.ActiveDeadlineSeconds
	if limit == nil || isTerminal(s.Phase) {
		return
	}
	end := s.StartTime.Add(time.Duration(*limit) * time.Second)
	if time.Now().Before(end) {
		w.dueBy(end)
		return
	}
	s.Phase, s.Reason, s.Message = corev1.PodFailed, "DeadlineExceeded", "Pod was active on the node longer than the specified deadline"
	w.k.recorder.event(w.pod, "", corev1.EventTypeNormal, s.Reason, s.Message)
}

// act does what was decided: kill what changed, one after the other, and only
// then pull and start, one after the other (kuberuntime_manager.go:1463-1791).
func (w *worker) act(ctx context.Context, do actions, has podStatus) error {
	if do.killAll {
		return w.killAll(ctx, has)
	}
	for _, u := range do.kill { // a real kubelet's order is that of a Go map
		w.say(u.container.status.name, corev1.EventTypeNormal, "Killing", u.message)
		if err := w.stop(ctx, u.container); err != nil {
			return err
		}
	}
	if !w.sandbox && len(do.init)+len(do.start) > 0 {
		if err := wait(ctx, sandboxTakes); err != nil {
			return err
		}
		w.sandbox = true
	}
	var failed error
	for _, c := range do.init {
		if err := w.start(ctx, c, has); err != nil {
			if failed = errors.Join(failed, err); !isSidecar(c) {
				return failed // the others wait for it
			}
		}
	}
	for _, c := range do.start {
		failed = errors.Join(failed, w.start(ctx, c, has))
	}
	return failed
}

// stop stops a container with the pod's grace period, which is two seconds at
// least (kuberuntime_container.go:84).
func (w *worker) stop(ctx context.Context, c *container) error {
	grace := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if s := w.pod.DeletionGracePeriodSeconds; s != nil {
		grace = *s
	} else if s := w.pod.Spec.TerminationGracePeriodSeconds; s != nil {
		grace = *s
	}
	return w.k.runtime.stop(ctx, c, time.Duration(max(grace, 2))*time.Second)
}

// killAll stops all containers at a time, but sidecars after the others.
func (w *worker) killAll(ctx context.Context, has podStatus) error {
	var groups [2][]*container
	for _, c := range has {
		if c.state == running {
			group := 0
			if isInit(w.pod, c.name) {
				group = 1
			}
			groups[group] = append(groups[group], c.container)
		}
	}
	for _, group := range groups {
		var all sync.WaitGroup
		for _, c := range group {
			w.say(c.status.name, corev1.EventTypeNormal, "Killing", "Stopping container "+c.status.name)
			all.Go(func() { _ = w.stop(ctx, c) })
		}
		all.Wait()
	}
	return context.Cause(ctx)
}

// terminate stops what runs and says how it ended. A pod that is to be deleted
// is then removed from the API; one that has just ended stays there.
func (w *worker) terminate(ctx context.Context, has podStatus, gone bool) (over bool) {
	if w.killAll(ctx, has) != nil {
		return true
	}
	w.k.statuses.set(w.pod, w.status(w.k.runtime.containers(w.pod.UID), true), stopped)
	if wait(ctx, time.Until(w.k.nextLook())) != nil { // to be sure that nothing runs
		return true
	}
	w.k.statuses.set(w.pod, w.k.statuses.of(w.pod), terminated)
	for !gone { // its logs can be read until it is deleted
		select {
		case <-ctx.Done():
			return true
		case <-w.changed:
		}
		if gone = w.read(); !gone && w.pod.DeletionTimestamp != nil {
			w.k.statuses.set(w.pod, w.k.statuses.of(w.pod), terminated)
		}
	}
	w.k.statuses.forget(w.pod.UID)
	w.k.runtime.remove(w.pod.UID)
	return true
}

// start pulls, creates and starts one container
// (pkg/kubelet/kuberuntime/kuberuntime_container.go:200-298).
func (w *worker) start(ctx context.Context, c *corev1.Container, has podStatus) error {
	message, err := w.backOff(c, has)
	if err == nil {
		message, err = w.startNow(ctx, c, has)
	}
	delete(w.why, c.Name)
	if err == nil || ctx.Err() != nil {
		return err
	}
	w.why[c.Name] = struct{ reason, message string }{err.Error(), message}
	return err
}

func (w *worker) startNow(ctx context.Context, c *corev1.Container, has podStatus) (string, error) {
	say := func(kind, reason, message string) { w.say(c.Name, kind, reason, message) }
	image, message, err := w.k.images.ensure(ctx, w.pod.UID, c, say)
	if err != nil {
		if ctx.Err() == nil {
			say(corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		}
		return message, err
	}
	attempt, uid := int32(0), w.pod.UID
	if latest := has.latest(c.Name); latest != nil {
		attempt = latest.attempt + 1
	}
	if err := wait(ctx, createTakes); err != nil {
		return "", err
	}
	it := w.k.runtime.create(w.pod, c, image, attempt, func() { w.k.died(uid) })
	say(corev1.EventTypeNormal, "Created", "Container created")
	if err := wait(ctx, startTakes); err != nil {
		return "", err
	}
	command := append(append([]string(nil), c.Command...), c.Args...)
	if err := w.k.runtime.start(ctx, it, image.program, command); err != nil {
		say(corev1.EventTypeWarning, "Failed", "Error: "+err.Error())
		return err.Error(), errRunContainer
	}
	say(corev1.EventTypeNormal, "Started", "Container started")
	return "", nil
}

// backOff holds back the restart of a container that ended: the first one comes
// at once, then 10 s after its end, 20 s, up to five minutes; a new image starts
// anew (kuberuntime_manager.go:1900-1938, helpers.go:193).
func (w *worker) backOff(c *corev1.Container, has podStatus) (string, error) {
	ended := has.latest(c.Name)
	if ended == nil || ended.state != exited {
		return "", nil
	}
	id := fmt.Sprintf("%s_%s(%s)", w.pod.Name, w.pod.Namespace, w.pod.UID)
	key := id + c.Name + c.Image
	if w.k.crashes.IsInBackOffSince(key, ended.finished) {
		pause := w.k.crashes.Get(key)
		w.say(c.Name, corev1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s", c.Name, id))
		return fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", pause, c.Name, id), retryAt(ended.finished.Add(pause))
	}
	w.k.crashes.Next(key, ended.finished)
	return "", nil
}

// retryAt is the CrashLoopBackOff that ends then.
type retryAt time.Time

func (retryAt) Error() string { return errCrashLoopBackOff.Error() }

// say records an Event about a container.
func (w *worker) say(name, kind, reason, message string) {
	w.k.recorder.event(w.pod, fieldPath(w.pod, name), kind, reason, message)
}
