package eventsplit

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// maxEventUIDs bounds how many Events are remembered as seen, maxEarly how many are kept
	// until the pod, and so its UID, is known.
	maxEventUIDs = 1024
	maxEarly     = 256
)

// eventLog remembers which Events were seen, by UID and count.
type eventLog struct {
	counts map[types.UID]int32
	fifo   []types.UID
	early  []*corev1.Event // Events of the pod's name, from before its UID was known
}

// fresh reports whether this repetition of an Event was not seen before.
func (l *eventLog) fresh(e *corev1.Event) bool {
	key := e.UID
	if key == "" {
		key = types.UID(e.Name)
	}
	n := eventCount(e)
	old, seen := l.counts[key]
	if seen && n <= old {
		return false
	}
	if l.counts == nil {
		l.counts = map[types.UID]int32{}
	}
	l.counts[key] = n
	if !seen {
		if l.fifo = append(l.fifo, key); len(l.fifo) > maxEventUIDs {
			delete(l.counts, l.fifo[0])
			l.fifo = l.fifo[1:]
		}
	}
	return true
}
