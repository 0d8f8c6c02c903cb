package podwatch

import (
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// unclaimedAfter is how long a pod of a tracking's name is there, with Created
	// not saying whether it is the tracking's, before a notice says so.
	unclaimedAfter = 30 * time.Second
	// maxEnds bounds the ends of pods that are remembered until Created says which
	// pod is meant. Its pod is the last one of the name, or one of the last: a host
	// that calls Created at all calls it soon.
	maxEnds = 8
)

// claim is what is remembered of the pods of a tracking's name until Created names
// one of them. The newest versions of those that exist are in the cache.
type claim struct {
	mu    sync.Locker // guards all of it
	ends  []shownEnd  // oldest first
	uid   types.UID   // of the pod that timer is about
	timer *time.Timer // nil: no pod has the name
}

// shownEnd is a pod that the watch has shown and taken back.
type shownEnd struct {
	pod    *corev1.Pod
	missed bool // the deletion itself went by unseen
}

// endOf returns the end of the pod of that UID, if the watch has shown it. Pods
// without a UID (fake clientsets) cannot be told apart.
func (c *claim) endOf(uid types.UID) (end shownEnd, ok bool) {
	i := slices.IndexFunc(c.ends, func(e shownEnd) bool { return e.pod.UID == uid })
	if i < 0 || uid == "" {
		return shownEnd{}, false
	}
	return c.ends[i], true
}

// appeared takes note that a pod has the name; it may have left the scope before,
// and come back.
func (c *claim) appeared(uid types.UID) {
	c.ends = slices.DeleteFunc(c.ends, func(e shownEnd) bool { return e.pod.UID == uid })
}

// disappeared takes note that a pod no longer has the name.
func (c *claim) disappeared(p *corev1.Pod, missed bool) {
	if len(c.ends) == maxEnds {
		c.ends = slices.Delete(c.ends, 0, 1)
	}
	c.ends = append(c.ends, shownEnd{p, missed})
}

// waitsFor reports whether the claim waits for Created to say whose that pod is.
func (c *claim) waitsFor(uid types.UID) bool { return c.timer != nil && c.uid == uid }

// wait calls unclaimed, with mu held, unless stop is called for unclaimedAfter.
func (c *claim) wait(uid types.UID, unclaimed func()) {
	c.uid = uid
	var timer *time.Timer
	timer = time.AfterFunc(unclaimedAfter, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.timer == timer {
			unclaimed()
		}
	})
	c.timer = timer
}

// stop ends the wait.
func (c *claim) stop() {
	if c.timer != nil {
		c.timer.Stop()
		c.timer = nil
	}
}
