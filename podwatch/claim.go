package podwatch

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// unclaimedAfter is how long a pod of a tracking's name is there, with nobody
	// saying whether it is the tracking's, before a notice says so.
	unclaimedAfter = 30 * time.Second
	// maxEnds bounds the ends of pods that are remembered until Created says which
	// pod is meant. Its pod is the last one of the name, or one of the last: a host
	// that calls Created at all calls it soon.
	maxEnds = 8
)

// claim is what a tracking that is not bound remembers of the pods of its name,
// for the case that Created names one of them. Of those that are there the
// watcher knows the newest version.
type claim struct {
	ends  []shownEnd  // oldest first
	uid   types.UID   // of the pod that timer is about
	timer *time.Timer // nil: no pod has the name
}

// shownEnd is a pod that the watch has shown and taken back.
type shownEnd struct {
	pod    *corev1.Pod
	missed bool // the deletion itself went by unseen
}

// end returns the end of the pod of that UID, if the watch has shown it. Pods
// without a UID (fake clientsets) cannot be told apart.
func (c *claim) end(uid types.UID) (end shownEnd, ok bool) {
	i := slices.IndexFunc(c.ends, func(e shownEnd) bool { return e.pod.UID == uid })
	if i < 0 || uid == "" {
		return shownEnd{}, false
	}
	return c.ends[i], true
}

// meet takes note that a pod has the tracking's name, which may be the
// tracking's or a leftover.
func (t *Tracking) meet(p *corev1.Pod) {
	c := &t.claim
	// It may have left the scope before, and come back.
	c.ends = slices.DeleteFunc(c.ends, func(e shownEnd) bool { return e.pod.UID == p.UID })
	if c.timer != nil && c.uid == p.UID {
		return
	}
	t.ignore()
	c.uid = p.UID
	var timer *time.Timer
	timer = time.AfterFunc(unclaimedAfter, func() {
		t.w.mu.Lock()
		defer t.w.mu.Unlock()
		if c.timer == timer {
			t.raise(NoticeUnclaimed, fmt.Errorf("podwatch: pod %s, UID %s, has been there for %s, and Created has not said whether it is the one that is tracked",
				t.key, p.UID, unclaimedAfter))
		}
	})
	c.timer = timer
}

// part takes note that a pod no longer has the tracking's name.
func (t *Tracking) part(p *corev1.Pod, missed bool) {
	c := &t.claim
	if len(c.ends) == maxEnds {
		c.ends = slices.Delete(c.ends, 0, 1)
	}
	c.ends = append(c.ends, shownEnd{p, missed})
	if c.uid == p.UID {
		t.ignore()
	}
}

// ignore ends the wait for somebody to say whose the pod of the name is.
func (t *Tracking) ignore() {
	if t.claim.timer != nil {
		t.claim.timer.Stop()
		t.claim.timer = nil
		t.settled()
	}
}

// abandon forgets the pods of the name that are not the tracking's.
func (t *Tracking) abandon() {
	t.drop()
	t.ignore()
	t.claim = claim{}
}
