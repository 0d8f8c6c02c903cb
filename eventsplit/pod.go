package eventsplit

import (
	"time"
)

// podRecord is what is known of the pod itself, slot "". The Splitter's lock guards it.
type podRecord struct {
	timeline    timeline
	cause       *Failure // what befell the pod, by its earliest signal; set once
	announced   *Failure // a disruption that an Event announced and the pod does not show yet
	announcedAt time.Time
	requested   time.Time // when the deletion was requested
	gone        bool      // deleted, replaced, or out of scope: no newer version will come
	ended       bool      // phase Succeeded or Failed

	event      explanation // why nothing starts
	waiting    *Failure
	patience   patience
	outcome    *Outcome
	endFailure *Failure // how it ended by itself, where that is no outcome
}
