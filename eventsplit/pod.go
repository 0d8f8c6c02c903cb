package eventsplit

import (
	"time"
)

// whole is what is known of the pod itself.
type podRecord struct {
	timeline    timeline
	cause       *Failure // sticky: what befell the pod, told by its earliest signal
	announced   *Failure // an Event told of a disruption that the pod does not show yet
	announcedAt time.Time
	requested   time.Time // when the deletion was asked for
	gone        bool      // deleted, replaced, or out of scope: nothing more will be heard
	ended       bool      // phase Succeeded or Failed

	event      explanation // the Warning Event that says best why nothing starts
	waiting    *Failure
	patience   patience
	outcome    *Outcome
	endFailure *Failure // it ended by itself, and that is no outcome
}
