package podwatch

import (
	"slices"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// core is what all parts of a watcher share: what it was made with, its mutex, its
// phase, its counters and its notices.
//
// Its mutex guards nearly all that a watcher knows, so that what follows from one
// thing follows in the order in which things happened. It comes before a mailbox's
// mutex. No handler is called and no request is made while it is held.
type core struct {
	opts     Options
	selector labels.Selector
	owned    bool // the informers are the watcher's own, so that the scope is known

	wg        sync.WaitGroup // what Run joins; grows under mu, until the phase is stopped
	delivered atomic.Uint64
	gets      atomic.Uint64

	mu      sync.Mutex
	phase   phase
	stats   Stats    // the counters that mu guards
	notices []Notice // those that wait for Notify, oldest first
	telling bool     // a goroutine calls Notify
}

type phase uint8

const (
	idle phase = iota
	running
	stopped
)

// enter counts a call as work that Run waits for, unless the watcher does not run.
func (c *core) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != running {
		return false
	}
	c.wg.Add(1)
	return true
}

// count changes a counter.
func (c *core) count(change func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change(&c.stats)
}

// kept returns what is kept of a pod that did not come through the informer.
func (c *core) kept(p *corev1.Pod) *corev1.Pod {
	if !c.owned {
		return p // a host's informer keeps what its transform leaves
	}
	return c.opts.keepPod(p)
}

// inScope reports whether the scope is known, and the pod known to be in it.
func (c *core) inScope(p *corev1.Pod) bool {
	return c.owned && c.selector.Matches(labels.Set(p.Labels))
}

// outOfScope reports whether the scope is known, and the pod known not to be in it.
func (c *core) outOfScope(p *corev1.Pod) bool {
	return c.owned && !c.selector.Matches(labels.Set(p.Labels))
}

// unlimited reports whether no pod can leave the scope: no labels select.
func (c *core) unlimited() bool { return c.owned && c.selector.Empty() }

// maxNotices bounds the notices that wait for a slow Notify.
const maxNotices = 1024

// note raises a notice. It needs mu held, and is called in the section that changes
// what the notice is about. When too many notices wait the oldest is dropped: of
// those about one thing the last one holds.
func (c *core) note(n Notice) {
	if c.opts.Notify == nil || c.phase == stopped {
		return
	}
	if len(c.notices) == maxNotices {
		c.notices = slices.Delete(c.notices, 0, 1)
		c.stats.NoticesDropped++
	}
	c.notices = append(c.notices, n)
	c.tell()
}

// notePod raises a notice about a tracked pod; it needs mu held.
func (c *core) notePod(k NoticeKind, key types.NamespacedName, err error) {
	c.note(Notice{Kind: k, Resource: podResource, Namespace: key.Namespace, Name: key.Name, Err: err})
}

// tell starts the goroutine that calls Notify, if notices wait and the watcher
// runs; it needs mu held.
func (c *core) tell() {
	if c.phase == running && !c.telling && len(c.notices) > 0 {
		c.telling = true
		c.wg.Go(c.notify)
	}
}

// notify calls Notify, one call at a time, until no notice waits.
func (c *core) notify() {
	for {
		c.mu.Lock()
		if len(c.notices) == 0 {
			c.notices, c.telling = nil, false
			c.mu.Unlock()
			return
		}
		n := c.notices[0]
		c.notices = slices.Delete(c.notices, 0, 1)
		c.mu.Unlock()
		c.opts.Notify(n)
	}
}
