package eventsplit

import (
	"time"
)

// patience is how long Kubernetes has had, and will have, to get over what a slot
// or the pod waits for. The clock starts when a class of trouble is first seen,
// and goes on while reasons of that class take turns (ErrImagePull and
// ImagePullBackOff do).
type patience struct {
	class Class
	since time.Time
	asked *Failure  // what Policy was asked of last
	due   time.Time // when it is over; zero: never, or not asked yet
}

func (p *patience) wait(f *Failure, now time.Time) {
	switch {
	case f == nil || f.Class == ClassProgress:
		*p = patience{}
	case f.Class != p.class:
		*p = patience{class: f.Class, since: now}
	}
}

func (p *patience) over(now time.Time) bool {
	return !p.due.IsZero() && !now.Before(p.due)
}

// ask is a question to Options.Policy, put with the lock released.
type ask struct {
	patience *patience
	failure  *Failure
}

func (p *patience) question(f *Failure, asks []ask) []ask {
	if f == nil || p.class == "" || p.asked == f {
		return asks
	}
	p.asked = f
	return append(asks, ask{p, f})
}
