package podwatch

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// podCache is what the watch has shown and not taken back, in the order of the
// watch. The informers' stores are not read: they may be ahead of what has been
// handed on, and a tracking would hear of versions twice or in the wrong order. The
// core's mutex guards it.
type podCache struct {
	pods   map[types.NamespacedName]*cachedPod
	events map[types.UID]*eventLog // by the UID of the pod that they are about
}

// cachedPod is the newest version of a pod.
type cachedPod struct {
	pod   *corev1.Pod
	asked bool // OnPod was asked about it, or need not be
}

// eventLog is what is remembered of the Events about one pod, oldest first: an
// Event may come before its pod is seen, and a tracking may begin late.
type eventLog struct{ events []*corev1.Event }

func newCache() *podCache {
	return &podCache{pods: map[types.NamespacedName]*cachedPod{}, events: map[types.UID]*eventLog{}}
}

func (c *podCache) clear() {
	clear(c.pods)
	clear(c.events)
}

// countEvents returns how many Events are remembered.
func (c *podCache) countEvents() (n int) {
	for _, l := range c.events {
		n += len(l.events)
	}
	return n
}

// about returns the Events about a pod.
func (c *podCache) about(pod types.UID) []*corev1.Event {
	if l := c.events[pod]; l != nil {
		return l.events
	}
	return nil
}

func (l *eventLog) index(e *corev1.Event) int {
	return slices.IndexFunc(l.events, func(o *corev1.Event) bool {
		return o.UID == e.UID && o.Name == e.Name && o.Namespace == e.Namespace
	})
}

// remember adds an Event, or replaces its older version; isNew is false for a
// version that is known already.
func (c *podCache) remember(e *corev1.Event) (typ watch.EventType, isNew bool) {
	l := c.events[e.InvolvedObject.UID]
	if l == nil {
		l = &eventLog{}
		c.events[e.InvolvedObject.UID] = l
	}
	if i := l.index(e); i >= 0 {
		if known := l.events[i]; known.ResourceVersion == e.ResourceVersion && e.ResourceVersion != "" && equality.Semantic.DeepEqual(known, e) {
			return "", false
		}
		l.events[i] = e
		return watch.Modified, true
	}
	if len(l.events) == maxEvents {
		l.events = slices.Delete(l.events, 0, 1)
	}
	l.events = append(l.events, e)
	return watch.Added, true
}

// forget removes an Event.
func (c *podCache) forget(e *corev1.Event) {
	l := c.events[e.InvolvedObject.UID]
	if l == nil {
		return
	}
	if i := l.index(e); i >= 0 {
		l.events = slices.Delete(l.events, i, i+1)
	}
	if len(l.events) == 0 {
		delete(c.events, e.InvolvedObject.UID)
	}
}
