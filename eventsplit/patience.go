package eventsplit

import (
	"time"
)

// patience measures how long Kubernetes gets to overcome what a slot or the pod waits for. It
// starts when a class of trouble is first seen, and goes on while reasons of that class
// alternate, as ErrImagePull and ImagePullBackOff do.
type patience struct {
	class Class
	since time.Time
	asked *Failure  // what Options.Policy was last asked about
	due   time.Time // when it ends; zero: never, or Options.Policy has not answered yet
}

// wait notes what is waited for now; nil and progress are no trouble.
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

// ask is a question to Options.Policy. It is asked while the lock is not held.
type ask struct {
	patience *patience
	failure  *Failure
}

// question adds the question about f to asks, unless it was asked before.
func (p *patience) question(f *Failure, asks []ask) []ask {
	if f == nil || p.class == "" || p.asked == f {
		return asks
	}
	p.asked = f
	return append(asks, ask{p, f})
}
