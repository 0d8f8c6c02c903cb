package eventsplit

import (
	"time"
)

// update applies a change to the Splitter, and everything that follows from it.
func (s *Splitter) update(change func()) {
	s.mu.Lock()
	var asks []ask
	if !s.closed {
		change()
		asks = s.settle(time.Now())
	}
	s.mu.Unlock()
	s.ask(asks)
}

// settle decides and publishes what follows from everything that was taken in, and returns the
// questions to Options.Policy. The lock is held.
func (s *Splitter) settle(now time.Time) (asks []ask) {
	w := &s.record
	s.updatePodWaiting(now)
	if w.patience.over(now) && w.cause == nil && w.waiting != nil {
		w.cause, w.waiting, w.patience = final(w.waiting), nil, patience{}
	}
	asks = w.patience.question(w.waiting, asks)
	for _, sl := range s.order {
		if settled(*sl.timeline.cur) {
			sl.timeline.setStale(s.stale)
			continue
		}
		s.judge(sl, now)
		if sl.timeline.cur.Failure != nil { // a Failure that was told is never taken back
			sl.timeline.setStale(s.stale)
			continue
		}
		st, at := s.derive(sl)
		sl.timeline.publish(st, at, false)
		sl.noteTold(st)
		if sl.waitingKey.source == waitsForItself {
			asks = sl.patience.question(sl.waiting, asks)
		}
	}
	if len(s.slots) > len(s.order) {
		s.settleUnknown()
	}
	if settled(*w.timeline.cur) {
		w.timeline.setStale(s.stale)
	} else {
		s.concludePod()
		w.timeline.publish(s.podState(), time.Time{}, false)
	}
	s.arm(now)
	return asks
}

// settleUnknown wakes those who wait for slots that the pod's spec lacks, once the spec is
// known, and tells them before that when the watch has lost contact.
func (s *Splitter) settleUnknown() {
	for _, sl := range s.slots {
		if sl.spec != nil {
			continue
		}
		sl.timeline.setStale(s.stale)
		if s.specKnown || s.over() {
			sl.timeline.release()
		}
	}
}

// ask asks Options.Policy until there is no question left. The lock must not be held.
func (s *Splitter) ask(asks []ask) {
	for len(asks) > 0 {
		type answer struct {
			grace time.Duration
			fatal bool
		}
		answers := make([]answer, len(asks))
		for i, a := range asks {
			s.mu.Lock()
			if s.closed {
				s.mu.Unlock()
				return
			}
			s.asking.Add(1)
			s.mu.Unlock()
			answers[i].grace, answers[i].fatal = s.consult(a.failure)
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		for i, a := range asks {
			if a.patience.asked != a.failure {
				continue // what is waited for has changed meanwhile
			}
			a.patience.due = time.Time{}
			if answers[i].fatal {
				a.patience.due = a.patience.since.Add(answers[i].grace)
			}
		}
		asks = s.settle(time.Now())
		s.mu.Unlock()
	}
}

// consult calls Options.Policy. Close waits for the call.
func (s *Splitter) consult(f *Failure) (grace time.Duration, fatal bool) {
	defer s.asking.Done()
	return s.opts.Policy(f)
}

// arm sets the timer to the earliest deadline. The lock is held.
func (s *Splitter) arm(now time.Time) {
	var next time.Time
	earliest := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) { // earlier deadlines were judged already
			next = t
		}
	}
	earliest(s.record.patience.due)
	if e := &s.record.event; e.failure != nil && s.record.waiting != nil && s.pod != nil {
		earliest(e.at.Add(lapse(e.failure.Class)))
	}
	for _, sl := range s.order {
		if sl.failure == nil {
			earliest(sl.patience.due)
			earliest(sl.decideAt)
			earliest(sl.giveUpAt)
		}
	}
	if next.Equal(s.due) {
		return
	}
	s.due = next
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if !next.IsZero() {
		s.timer = time.AfterFunc(next.Sub(now), func() { s.update(func() { s.due = time.Time{} }) })
	}
}
