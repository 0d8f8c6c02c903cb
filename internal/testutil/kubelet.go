package testutil

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// nodeName is the only node.
const nodeName = "node-1"

// How long things take. Together they make the times that a real kubelet
// v1.36.3 was seen to take: placeholders run some 320 ms after create, a good
// swap shows 0.6 s after the PATCH, a container's end up to a second later.
const (
	scheduleTime = 20 * time.Millisecond
	sandboxTime  = 150 * time.Millisecond
	createTime   = 50 * time.Millisecond // of one container, its start included
	stopTime     = 60 * time.Millisecond // from SIGTERM's effect to the runtime's word
	inspectTime  = 10 * time.Millisecond // from a start to the look at its result
	statusTime   = 20 * time.Millisecond // of the status manager
	pullFailTime = 300 * time.Millisecond
	relistPeriod = time.Second // PLEG: kubernetes v1.36.3 pkg/kubelet/kubelet.go:215
)

// kubelet runs the pods of the cluster's one node, and binds those that have no
// node. Each pod has one worker, as on a real kubelet: while it pulls, kills or
// starts one container, nothing about the others reaches the API.
type kubelet struct {
	cluster  *Cluster
	store    *store
	events   *recorder
	images   map[string]Program
	pullTime time.Duration

	group sync.WaitGroup // workers and programs

	mu      sync.Mutex
	workers map[types.UID]*worker
	pulled  map[string]bool
	relist  chan struct{} // closed and replaced at every relist
	up      chan struct{} // closed while the kubelet serves
}

func newKubelet(c *Cluster, o Options) *kubelet {
	k := &kubelet{
		cluster: c, store: c.store, events: newRecorder(c.store, c.id), images: o.Images, pullTime: o.PullTime,
		workers: map[types.UID]*worker{}, pulled: map[string]bool{},
		relist: make(chan struct{}), up: make(chan struct{}),
	}
	close(k.up)
	if k.images == nil {
		k.images = map[string]Program{"pause": Pause}
	}
	return k
}

// run serves the node until ctx ends, and joins the workers and the programs.
func (k *kubelet) run(ctx context.Context) {
	defer k.group.Wait()
	k.group.Go(func() { k.generateRelists(ctx) })
	vs, cursor := k.store.list(pods.name, "", func(object) bool { return true })
	for _, v := range vs {
		k.see(ctx, v.object.(*corev1.Pod))
	}
	for {
		changes, changed, ok := k.store.since(cursor)
		if !ok { // the history was compacted: what there is now is enough
			vs, cursor = k.store.list(pods.name, "", func(object) bool { return true })
			for _, v := range vs {
				k.see(ctx, v.object.(*corev1.Pod))
			}
			continue
		}
		for _, c := range changes {
			cursor = c.rv
			switch {
			case c.key.resource != pods.name:
			case c.new != nil:
				k.see(ctx, c.new.object.(*corev1.Pod))
			case c.old != nil:
				k.see(ctx, c.old.object.(*corev1.Pod)) // the worker finds it gone
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// see wakes the pod's worker, or starts it.
func (k *kubelet) see(ctx context.Context, p *corev1.Pod) {
	k.mu.Lock()
	w := k.workers[p.UID]
	if w == nil {
		if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed || k.current(p) == nil {
			k.mu.Unlock()
			return
		}
		w = newWorker(k, p)
		k.workers[p.UID] = w
		k.group.Go(func() { w.run(ctx) })
	}
	k.mu.Unlock()
	signal(w.wake)
}

// current is the pod in the API, or nil when it is gone or replaced.
func (k *kubelet) current(p *corev1.Pod) *corev1.Pod {
	v := k.store.get(pods.key(p.Namespace, p.Name))
	if v == nil || v.GetUID() != p.UID {
		return nil
	}
	return v.object.(*corev1.Pod)
}

// generateRelists looks at all containers once a second, from the time the last
// look was over: this is how a container's end is noticed.
func (k *kubelet) generateRelists(ctx context.Context) {
	for wait(ctx, relistPeriod) == nil {
		k.mu.Lock()
		close(k.relist)
		k.relist = make(chan struct{})
		k.mu.Unlock()
	}
}

func (k *kubelet) nextRelist() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.relist
}

// serving is closed while the kubelet is up.
func (k *kubelet) serving() <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.up
}

// RestartKubelet takes the kubelet away for down: containers go on, statuses
// stand still, log streams end cleanly, which is how a client sees them broken
// (kubernetes v1.36.3: the API server drops the error). It blocks for down.
func (c *Cluster) RestartKubelet(ctx context.Context, down time.Duration) error {
	k := c.kubelet
	k.mu.Lock()
	up := make(chan struct{})
	k.up = up
	k.mu.Unlock()
	defer close(up)
	c.DropLogs(nil)
	return wait(ctx, down)
}

// bind is the scheduler: it puts a pod on the node.
func (k *kubelet) bind(ctx context.Context, p *corev1.Pod) {
	if wait(ctx, scheduleTime) != nil {
		return
	}
	_, _ = k.store.write(pods.key(p.Namespace, p.Name), func(old object) (object, error) {
		pod, ok := old.(*corev1.Pod)
		if !ok || pod.UID != p.UID {
			return old, errGone
		}
		if pod.Spec.NodeName == "" {
			pod.Spec.NodeName = nodeName
		}
		setCondition(pod, corev1.PodScheduled, true)
		return pod, nil
	})
}

func setCondition(p *corev1.Pod, t corev1.PodConditionType, yes bool) {
	status := corev1.ConditionFalse
	if yes {
		status = corev1.ConditionTrue
	}
	for i := range p.Status.Conditions {
		if c := &p.Status.Conditions[i]; c.Type == t {
			if c.Status != status {
				c.Status, c.LastTransitionTime = status, metav1.Time{Time: seconds(time.Now())}
			}
			return
		}
	}
	p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
		Type: t, Status: status, LastTransitionTime: metav1.Time{Time: seconds(time.Now())},
	})
}
