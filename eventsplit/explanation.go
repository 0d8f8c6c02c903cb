package eventsplit

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// explanation is the Warning Event that says best why something does not run.
type explanation struct {
	event   *corev1.Event
	failure *Failure
	rank    int
	at      time.Time // when it, or its newest repetition, arrived
}

func (x *explanation) current(now time.Time) bool {
	return x.failure != nil && now.Sub(x.at) < lapse(x.failure.Class)
}

// take replaces the explanation; a repetition is the same one, newly confirmed.
func (x *explanation) take(e *corev1.Event, f *Failure, rank int) {
	x.at = time.Now()
	if old := x.failure; old == nil || old.Class != f.Class || old.Reason != f.Reason || old.Message != f.Message {
		x.event, x.failure, x.rank = e, f, rank
	}
}

// cure forgets an explanation that an Event of a later time says to be over.
func (x *explanation) cure(e *corev1.Event, cures func(*Failure, *corev1.Event) bool) {
	if x.failure == nil || !cures(x.failure, e) {
		return
	}
	if then, now := eventTime(x.event), eventTime(e); then.IsZero() || now.IsZero() || now.After(then) {
		*x = explanation{}
	}
}
