package eventsplit

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// explanation is the Event that says best why a container, or the whole pod, does not run.
type explanation struct {
	event   *corev1.Event
	failure *Failure
	rank    int
	at      time.Time // when the Event or its newest repetition arrived
}

// current reports whether the Event still explains, by its age.
func (x *explanation) current(now time.Time) bool {
	return x.failure != nil && now.Sub(x.at) < lapse(x.failure.Class)
}

// take makes an Event the explanation. An Event that says the same as the one before only renews
// it.
func (x *explanation) take(e *corev1.Event, f *Failure, rank int) {
	x.at = time.Now()
	if old := x.failure; old == nil || old.Class != f.Class || old.Reason != f.Reason || old.Message != f.Message {
		x.event, x.failure, x.rank = e, f, rank
	}
}

// cure clears the explanation when e is later and cures what the explanation says.
func (x *explanation) cure(e *corev1.Event, cures func(*Failure, *corev1.Event) bool) {
	if x.failure == nil || !cures(x.failure, e) {
		return
	}
	if then, now := eventTime(x.event), eventTime(e); then.IsZero() || now.IsZero() || now.After(then) {
		*x = explanation{}
	}
}
