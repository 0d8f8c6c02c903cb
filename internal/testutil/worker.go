package testutil

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// errGone: the pod that a write was meant for is not there any more.
var errGone = errors.New("testutil: the pod is gone")

// worker is the pod worker of one pod. Its fields are its goroutine's own, but
// for those that logs.go reads, which the kubelet's mutex guards.
type worker struct {
	k    *kubelet
	pod  *corev1.Pod // the newest the worker has read; last known when it is gone
	wake chan struct{}

	runs     map[string][]*container // by slot, oldest first: the runtime
	seen     map[string][]glimpse    // what the last look at the runtime showed
	sandbox  bool
	outdated bool // what was seen is older than what was done
	slots    map[string]*slotWork
}

// glimpse is a container as PLEG's cache has it: maybe out of date.
type glimpse struct {
	*container
	state corev1.ContainerState
}

// slotWork is what the kubelet remembers of a container beside its runs.
type slotWork struct {
	waiting, message string // why it does not run: the reason cache
	backoff          time.Duration
	retryAt          time.Time
	failedPulls      int
}

func newWorker(k *kubelet, p *corev1.Pod) *worker {
	return &worker{
		k: k, pod: p, wake: make(chan struct{}, 1),
		runs: map[string][]*container{}, seen: map[string][]glimpse{}, slots: map[string]*slotWork{},
	}
}

func (w *worker) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-w.k.serving():
		case <-ctx.Done():
			return
		}
		if p := w.k.current(w.pod); p == nil {
			w.killAll(ctx, 0) // force-deleted: the containers outlive the object a little
			w.forget()
			return
		} else {
			w.pod = p
		}
		if w.sync(ctx) {
			w.forget()
			return
		}
		w.pause(ctx)
	}
}

func (w *worker) forget() {
	w.k.mu.Lock()
	defer w.k.mu.Unlock()
	delete(w.k.workers, w.pod.UID)
}

// pause waits until there is something to do: another spec, a container's end
// that a relist shows, or a retry that is due.
func (w *worker) pause(ctx context.Context) {
	for ctx.Err() == nil {
		var retry <-chan time.Time
		if at := w.nextRetry(); !at.IsZero() && !w.outdated {
			timer := time.NewTimer(time.Until(at))
			defer timer.Stop()
			retry = timer.C
		}
		relist := w.k.nextRelist()
		select {
		case <-w.eager():
			return
		case <-retry:
			return
		case <-ctx.Done():
			return
		case <-relist:
			if w.look() || w.outdated {
				w.outdated = false
				return
			}
		}
	}
}

// eager is what wakes the worker before the next relist; nothing does while what
// was seen is outdated.
func (w *worker) eager() <-chan struct{} {
	if w.outdated {
		return nil
	}
	return w.wake
}

func (w *worker) nextRetry() (at time.Time) {
	for _, s := range w.slots {
		if s.retryAt.After(time.Now()) && (at.IsZero() || s.retryAt.Before(at)) {
			at = s.retryAt
		}
	}
	return at
}

// look is one look at the runtime; it reports whether anything is new.
func (w *worker) look() (news bool) {
	w.k.mu.Lock()
	defer w.k.mu.Unlock()
	for slot, runs := range w.runs {
		var gs []glimpse
		for _, c := range runs {
			gs = append(gs, glimpse{c, c.state()})
		}
		if fmt.Sprint(ids(gs)) != fmt.Sprint(ids(w.seen[slot])) {
			news = true
		}
		w.seen[slot] = gs
	}
	return news
}

func ids(gs []glimpse) (s []string) {
	for _, g := range gs {
		s = append(s, fmt.Sprint(g.id, g.state.Running != nil))
	}
	return s
}

// sync is the kubelet's SyncPod. It publishes what the last look showed, and
// only then acts: kubernetes v1.36.3 pkg/kubelet/kubelet.go:2074 and 2231. It
// reports whether the pod is done with.
func (w *worker) sync(ctx context.Context) (done bool) {
	if w.pod.Spec.NodeName == "" {
		w.k.bind(ctx, w.pod)
		return false // the binding wakes the worker again
	}
	w.publish(ctx)
	if w.pod.DeletionTimestamp != nil {
		w.terminate(ctx)
		return true
	}
	if w.ended() {
		return false
	}
	if !w.sandbox {
		if wait(ctx, sandboxTime) != nil {
			return false
		}
		w.sandbox = true
	}
	acted, ok := w.act(ctx)
	switch {
	case acted && ok:
		// New in v1.36: after a sync that did something, and went well, the pod
		// is looked at at once (pkg/kubelet/kubelet.go:2270), so that a start
		// shows soon.
		_ = wait(ctx, inspectTime)
		if w.look() {
			signal(w.wake)
		}
	case !ok:
		// What was done before it went wrong shows at the next relist, and no
		// sync goes by an older look (pkg/kubelet/pod_workers.go:1280).
		w.outdated = true
	}
	return false
}

// act kills the containers whose image changed, then starts what should run, one
// after the other.
func (w *worker) act(ctx context.Context) (acted, ok bool) {
	changed := map[string]bool{}
	for i := range w.pod.Spec.Containers {
		c := &w.pod.Spec.Containers[i]
		g := w.latest(c.Name)
		if g == nil || g.state.Running == nil || g.image == c.Image {
			continue
		}
		// Whatever the restart policy says: the image is part of the hash by
		// which a running container, and only a running one, is compared with its
		// spec (pkg/kubelet/kuberuntime/kuberuntime_manager.go:1308 and 1338).
		w.event(c, corev1.EventTypeNormal, "Killing", fmt.Sprintf("Container %s definition changed, will be restarted", c.Name))
		g.kill(ctx, w.grace())
		if wait(ctx, stopTime) != nil {
			return true, false
		}
		changed[c.Name], acted = true, true
	}
	ok = true
	started, ready := w.actInit(ctx, &ok)
	acted = acted || started
	for i := range w.pod.Spec.Containers {
		c := &w.pod.Spec.Containers[i]
		if ready && (changed[c.Name] || w.due(c, w.pod.Spec.RestartPolicy)) {
			started := w.start(ctx, c)
			acted, ok = acted || started, ok && started
		}
	}
	return acted, ok
}

// actInit starts the init container that is due, if any; ready says that the
// regular ones may start.
func (w *worker) actInit(ctx context.Context, ok *bool) (started, ready bool) {
	for i := range w.pod.Spec.InitContainers {
		c := &w.pod.Spec.InitContainers[i]
		policy, sidecar := initPolicy(c, w.pod.Spec.RestartPolicy)
		g := w.latest(c.Name)
		switch {
		case w.due(c, policy):
			started = w.start(ctx, c)
			*ok = *ok && started
			return started, false
		case g != nil && (sidecar || g.state.Terminated != nil && g.state.Terminated.ExitCode == 0):
		default:
			return false, false
		}
	}
	return false, true
}

// initPolicy is what restarts an init container: sidecars always, the others
// until they succeed, unless the pod's policy is Never.
func initPolicy(c *corev1.Container, pod corev1.RestartPolicy) (p corev1.RestartPolicy, sidecar bool) {
	if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
		return corev1.RestartPolicyAlways, true
	}
	if pod == corev1.RestartPolicyAlways {
		return corev1.RestartPolicyOnFailure, false
	}
	return pod, false
}

// due tells whether a container that does not run should be started now. After a
// failed swap under Never it is not due, ever: the placeholder was killed, its
// run is an exited one, and never means never, whatever the image
// (pkg/kubelet/container/helpers.go:107).
func (w *worker) due(c *corev1.Container, policy corev1.RestartPolicy) bool {
	if w.slot(c.Name).retryAt.After(time.Now()) {
		return false
	}
	g := w.latest(c.Name)
	switch {
	case g == nil:
		return true
	case g.state.Running != nil || !restarts(policy, g.state.Terminated.ExitCode):
		return false
	}
	return !w.crashBackOff(c, g)
}

func restarts(policy corev1.RestartPolicy, code int32) bool {
	return policy == corev1.RestartPolicyAlways || policy == corev1.RestartPolicyOnFailure && code != 0
}

// crashBackOff lets the first restart pass at once; each further one waits, twice
// as long as the one before (10 s to 5 min), after the end of the last run.
func (w *worker) crashBackOff(c *corev1.Container, g *glimpse) (waits bool) {
	s := w.slot(c.Name)
	if until := g.finished.Add(s.backoff); until.After(time.Now()) {
		s.waiting, s.retryAt = "CrashLoopBackOff", until
		s.message = fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)", s.backoff, c.Name, w.pod.Name, w.pod.Namespace, w.pod.UID)
		w.event(c, corev1.EventTypeWarning, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)", c.Name, w.pod.Name, w.pod.Namespace, w.pod.UID))
		signal(w.wake) // to publish it
		return true
	}
	s.backoff = min(max(2*s.backoff, 10*time.Second), 5*time.Minute)
	return false
}

// start pulls the image, if need be, and starts the container.
func (w *worker) start(ctx context.Context, c *corev1.Container) bool {
	if !w.pull(ctx, c) {
		return false
	}
	s := w.slot(c.Name)
	s.waiting, s.message, s.retryAt = "", "", time.Time{}
	w.event(c, corev1.EventTypeNormal, "Created", "Container created")
	if wait(ctx, createTime) != nil {
		return false
	}
	runs := w.runs[c.Name]
	r := &container{
		id: "containerd://" + w.k.cluster.id(), slot: c.Name, image: c.Image, restarts: int32(0),
		log: newLogFile(), dead: make(chan struct{}),
	}
	if n := len(runs); n > 0 {
		r.restarts = runs[n-1].restarts + 1
	}
	w.k.launch(ctx, r, w.k.images[c.Image], c.Args)
	w.k.mu.Lock()
	if n := len(runs); n > 1 { // only the newest dead run is kept, its log too
		runs = runs[n-1:]
	}
	w.runs[c.Name] = append(runs[:len(runs):len(runs)], r)
	w.k.mu.Unlock()
	if !r.started.IsZero() {
		w.event(c, corev1.EventTypeNormal, "Started", "Container started")
	} else {
		w.event(c, corev1.EventTypeWarning, "Failed", "Error: "+r.message)
	}
	return true
}

// pull makes sure that the image is on the node. When it cannot be had, a
// container that never ran, or would be restarted, is tried again; how long that
// takes is the kubelet's image back-off (10 s to 5 min).
func (w *worker) pull(ctx context.Context, c *corev1.Container) bool {
	_, exists := w.k.images[c.Image]
	s := w.slot(c.Name)
	switch {
	case !exists && s.waiting == "ErrImagePull":
		s.waiting, s.message = "ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q", c.Image)
		w.event(c, corev1.EventTypeNormal, "BackOff", s.message)
		w.event(c, corev1.EventTypeWarning, "Failed", "Error: ImagePullBackOff")
		s.retryAt = time.Now().Add(min(10*time.Second<<min(s.failedPulls-1, 10), 5*time.Minute))
		return false
	case !exists:
		w.event(c, corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
		if wait(ctx, pullFailTime) != nil {
			return false
		}
		why := fmt.Sprintf("failed to pull and unpack image %[1]q: failed to resolve reference %[1]q: %[1]s: not found", c.Image)
		w.event(c, corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %s", c.Image, why))
		w.event(c, corev1.EventTypeWarning, "Failed", "Error: ErrImagePull")
		s.waiting, s.message = "ErrImagePull", why
		s.failedPulls++
		s.retryAt = time.Now().Add(relistPeriod)
		return false
	case w.k.pullTime > 0 && !w.k.has(c.Image):
		w.event(c, corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
		if wait(ctx, w.k.pullTime) != nil {
			return false
		}
		w.k.took(c.Image)
		w.event(c, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %s (%[2]s including waiting). Image size: 4096 bytes.", c.Image, w.k.pullTime))
	default:
		w.event(c, corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
	}
	return true
}

func (k *kubelet) has(image string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.pulled[image]
}

func (k *kubelet) took(image string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pulled[image] = true
}
