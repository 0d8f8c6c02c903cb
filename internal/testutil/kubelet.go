package testutil

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
)

// node is the cluster's only one: it answers to every name that a pod's nodeName
// gives. Its container runtime and images outlive its kubelet, which can be
// restarted.
type node struct {
	name     string // what the scheduler calls it
	cluster  *Cluster
	runtime  *containerd
	images   *images
	restarts chan restart

	mu      sync.Mutex
	kubelet *kubelet // nil: it is down
}

// restart is a wish to have the kubelet die and come up again after down.
type restart struct {
	down time.Duration
	done chan struct{} // closed when it comes up
}

// kubelet runs the pods of its node: a worker each.
type kubelet struct {
	*node
	store    *store
	recorder *recorder
	statuses *statuses
	crashes  *flowcontrol.Backoff // client-go's, the one that the kubelet uses
	born     time.Time

	mu      sync.Mutex
	workers map[types.UID]*worker
	tasks   sync.WaitGroup
}

// run runs the kubelet, one after the other, until ctx ends.
func (n *node) run(ctx context.Context) {
	for takes := time.Duration(0); ctx.Err() == nil; takes = startupTakes {
		stop := n.start(ctx, takes)
		select {
		case r := <-n.restarts:
			stop()
			n.cluster.DropLogs(nil)
			_ = wait(ctx, r.down)
			close(r.done)
		case <-ctx.Done():
			stop()
		}
	}
}

// start starts a new kubelet, which after takes gets to know its pods. It knows
// nothing but what it finds. stop ends it as SIGKILL does: what it was about to
// do is not done; containers go on.
func (n *node) start(ctx context.Context, takes time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	k := &kubelet{
		node: n, store: n.cluster.store, recorder: newRecorder(n.cluster.store, n.name, n.cluster.id),
		statuses: newStatuses(n.cluster.store, n.cluster.options.Status), crashes: flowcontrol.NewBackOff(10*time.Second, 300*time.Second),
		born: time.Now(), workers: map[types.UID]*worker{},
	}
	k.tasks.Go(func() { k.statuses.run(ctx) })
	k.tasks.Go(func() { k.rotateLogs(ctx) })
	k.tasks.Go(func() {
		if wait(ctx, takes) == nil {
			follow(ctx, k.store, func(v *version) { k.heard(ctx, v) })
		}
	})
	n.set(k)
	return func() {
		n.set(nil)
		cancel()
		k.tasks.Wait()
	}
}

func (n *node) set(k *kubelet) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.kubelet = k
}

func (n *node) current() *kubelet {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.kubelet
}

// died wakes the worker of a pod of which a container ended.
func (n *node) died(uid types.UID) {
	if k := n.current(); k != nil {
		if w := k.worker(uid); w != nil {
			signal(w.died)
		}
	}
}

func (k *kubelet) worker(uid types.UID) *worker {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.workers[uid]
}

// lastHeard is the pod as the kubelet heard of it last.
func (k *kubelet) lastHeard(w *worker) *corev1.Pod {
	k.mu.Lock()
	defer k.mu.Unlock()
	return w.heard
}

// heard is told of every pod that is new, changed or gone.
func (k *kubelet) heard(ctx context.Context, v *version) {
	pod := v.object.(*corev1.Pod)
	if pod.Spec.NodeName == "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.workers[pod.UID]
	if w != nil {
		if pod.DeletionTimestamp != nil || !sameSpec(pod, w.heard) { // of its own status it knows
			w.heard = pod
			signal(w.changed)
		}
		return
	}
	if v := k.store.get(pods.key(pod.Namespace, pod.Name)); v == nil || v.GetUID() != pod.UID {
		return
	}
	w = newWorker(k, pod)
	k.workers[pod.UID] = w
	k.tasks.Go(func() {
		w.run(ctx)
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.workers, pod.UID)
	})
}

// nextLook is when the kubelet looks at all containers next: PLEG's relist.
func (k *kubelet) nextLook() time.Time {
	since := time.Since(k.born)
	return k.born.Add(since.Truncate(plegPeriod) + plegPeriod)
}

// ips makes up an address for a pod.
func (n *node) ips(pod *corev1.Pod) podIPs {
	ips := podIPs{host: "10.0.0.1", pod: "10.0.0.1"}
	if !pod.Spec.HostNetwork {
		h := fnv.New32()
		_, _ = h.Write([]byte(pod.UID))
		ips.pod = fmt.Sprintf("10.1.%d.%d", h.Sum32()>>8&255, h.Sum32()&255)
	}
	return ips
}

// follow calls f with every pod there is, then with every pod that changes; one
// that is gone comes in its last state.
func follow(ctx context.Context, s *store, f func(*version)) {
	list, cursor := s.list(pods.name, "", func(object) bool { return true })
	for _, v := range list {
		f(v)
	}
	for {
		changes, changed, ok := s.since(cursor)
		if !ok { // compacted meanwhile
			list, cursor = s.list(pods.name, "", func(object) bool { return true })
			for _, v := range list {
				f(v)
			}
			continue
		}
		for _, c := range changes {
			cursor = c.rv
			switch {
			case c.key.resource != pods.name:
			case c.new != nil:
				f(c.new)
			default:
				f(c.last)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// RestartKubelet kills the kubelet and starts it again after down, which it
// blocks for. Containers go on; open log streams end, cleanly, wherever they
// are; log requests fail until the new kubelet has got to know its pods. Run must
// be running.
func (c *Cluster) RestartKubelet(ctx context.Context, down time.Duration) error {
	if c.node.current() == nil {
		return errors.New("testutil: there is no kubelet to restart")
	}
	r := restart{down: down, done: make(chan struct{})}
	select {
	case c.node.restarts <- r:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// scheduler binds pods that name no node to the node, in an instant. One that
// Options.Unschedulable speaks against waits, and is asked about every second.
func (c *Cluster) scheduler(ctx context.Context) {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	seen := map[types.UID]bool{}
	follow(ctx, c.store, func(v *version) {
		pod := v.object.(*corev1.Pod)
		if pod.Spec.NodeName != "" || pod.DeletionTimestamp != nil || seen[pod.UID] || pod.Spec.SchedulerName != corev1.DefaultSchedulerName {
			return
		}
		seen[pod.UID] = true
		tasks.Go(func() { c.schedule(ctx, pod) })
	})
}

func (c *Cluster) schedule(ctx context.Context, pod *corev1.Pod) {
	said := ""
	for d := bindTakes; wait(ctx, d) == nil; d = time.Second {
		v := c.store.get(pods.key(pod.Namespace, pod.Name))
		if v == nil || v.GetUID() != pod.UID {
			return
		}
		why := ""
		if c.options.Unschedulable != nil {
			why = c.options.Unschedulable(v.object.(*corev1.Pod).DeepCopy())
		}
		if why == "" {
			if c.bind(pod) == nil {
				scheduled(c.store, c.id(), pod, corev1.EventTypeNormal, "Scheduled",
					fmt.Sprintf("Successfully assigned %s/%s to %s", pod.Namespace, pod.Name, c.node.name))
			}
			return
		}
		if why != said {
			said = why
			c.refuse(pod, why)
		}
	}
}

// bind gives a pod its node.
func (c *Cluster) bind(pod *corev1.Pod) error {
	return c.change(pod, func(p *corev1.Pod) {
		p.Spec.NodeName = c.node.name // which does not count as a new generation
		setCondition(&p.Status, corev1.PodCondition{Type: corev1.PodScheduled, Status: corev1.ConditionTrue, ObservedGeneration: p.Generation})
	})
}

// refuse says that there is no node for a pod.
func (c *Cluster) refuse(pod *corev1.Pod, why string) {
	err := c.change(pod, func(p *corev1.Pod) {
		setCondition(&p.Status, corev1.PodCondition{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable,
			Message: why, ObservedGeneration: p.Generation,
		})
	})
	if err == nil {
		scheduled(c.store, c.id(), pod, corev1.EventTypeWarning, "FailedScheduling", why)
	}
}

// change writes a pod as a part of the cluster does, without going through HTTP.
func (c *Cluster) change(pod *corev1.Pod, f func(*corev1.Pod)) error {
	_, err := c.store.write(pods.key(pod.Namespace, pod.Name), func(old object) (object, error) {
		if old == nil || old.GetUID() != pod.UID {
			return nil, fmt.Errorf("pod %q is gone", pod.Name)
		}
		p := old.(*corev1.Pod)
		f(p)
		return p, nil
	})
	return err
}
