package eventsplit

import (
	"time"

	"github.com/go-vela/podlife/internal/podstatus"
)

const (
	// verdictDelay is how long a failed swap waits for the Event that says why:
	// seen on real kubelets (v1.36), it comes 60 to 930 ms before the status.
	verdictDelay = 2 * time.Second
	// lostDelay is how long a run may still show as running in a pod that has
	// ended before it is given up.
	lostDelay = 5 * time.Second
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

// ask puts questions to Options.Policy until there are none. The lock must not be
// held.
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
				continue // it waits for something else by now
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

// consult calls Options.Policy, which Close waits for.
func (s *Splitter) consult(f *Failure) (grace time.Duration, fatal bool) {
	defer s.asking.Done()
	return s.opts.Policy(f)
}

// settle draws what follows from everything taken in, publishes it, and returns
// what Policy has to be asked. The lock is held.
func (s *Splitter) settle(now time.Time) (asks []ask) {
	w := &s.whole
	s.rewaitPod(now)
	if w.patience.over(now) && w.cause == nil && w.waiting != nil {
		w.cause, w.waiting, w.patience = final(w.waiting), nil, patience{}
	}
	asks = w.patience.question(w.waiting, asks)
	for _, sl := range s.order {
		if settled(*sl.timeline.cur) {
			sl.timeline.markStale(s.stale)
			continue
		}
		s.judge(sl, now)
		if sl.timeline.cur.Failure != nil { // it was said, and is never taken back
			sl.timeline.markStale(s.stale)
			continue
		}
		st, at := s.derive(sl)
		sl.timeline.publish(st, at, false)
		sl.toldState(st)
		if sl.waitingKey.source == waitsForItself {
			asks = sl.patience.question(sl.waiting, asks)
		}
	}
	if len(s.slots) > len(s.order) {
		s.settleUnknown()
	}
	if settled(*w.timeline.cur) {
		w.timeline.markStale(s.stale)
	} else {
		s.concludePod()
		w.timeline.publish(s.podState(), time.Time{}, false)
	}
	s.arm(now)
	return asks
}

// settleUnknown tells those who wait for slots that the pod's spec does not have:
// that there are none, or, while it is unknown, that the watch has lost contact.
func (s *Splitter) settleUnknown() {
	for _, sl := range s.slots {
		if sl.spec != nil {
			continue
		}
		sl.timeline.markStale(s.stale)
		if s.specced || s.over() {
			sl.timeline.release()
		}
	}
}

// final is f once it is decided that Kubernetes will not get over it in time.
func final(f *Failure) *Failure {
	cp := *f
	return &cp
}

// judge decides whether a slot will never run, or was lost. The lock is held.
func (s *Splitter) judge(sl *slot, now time.Time) {
	if sl.failure != nil {
		return
	}
	s.rewait(sl, now)
	r := sl.work()
	if r == nil || r.ended() {
		sl.lostAt = time.Time{}
	}
	if r != nil {
		sl.verdict = time.Time{}
	}
	switch {
	case r == nil:
		s.judgeUnrun(sl, now)
	case !r.ended() && sl.status == statusWaiting && !s.over():
		s.judgeVanished(sl, r, now)
	case !r.ended():
		s.judgeRunning(sl, r, now)
	default:
		s.judgeEnded(sl, r, now)
	}
	if sl.failure != nil {
		sl.waiting = nil
		sl.patience, sl.verdict, sl.lostAt = patience{}, time.Time{}, time.Time{}
	}
}

// judgeRunning: a run is lost when its pod is gone from view, or has ended and
// goes on showing it as running.
func (s *Splitter) judgeRunning(sl *slot, r *run, now time.Time) {
	switch {
	case !s.whole.gone && !s.whole.ended:
		sl.lostAt = time.Time{}
		return
	case !s.whole.gone && sl.lostAt.IsZero():
		sl.lostAt = now.Add(lostDelay)
		return
	case !s.whole.gone && now.Before(sl.lostAt):
		return
	}
	sl.sayStarted(r)
	r.end, r.endedBy = endLost, endedByItself
	sl.failure = s.lostFailure(sl)
}

// judgeVanished: a container that ran and waits now is gone from the node, whatever
// the status says of its end. It is started anew, or comes back into sight.
func (s *Splitter) judgeVanished(sl *slot, r *run, now time.Time) {
	sl.lostAt = time.Time{}
	if sl.patience.over(now) && sl.waiting != nil {
		r.end, r.endedBy = endLost, endedByItself
		sl.failure = final(sl.waiting)
	}
}

func (s *Splitter) judgeEnded(sl *slot, r *run, now time.Time) {
	sl.sayStarted(r)
	if r.endedBy == endedByUnknown {
		if r.endedBy = endedByItself; s.whole.cause != nil && !s.endedBefore(r) {
			r.endedBy = endedByDisruption
		}
	}
	switch {
	case r.unattributed():
		sl.failure = s.lostFailure(sl)
	case !s.over() && (sl.status == statusWaiting || s.wouldRestart(sl, r)):
		if sl.patience.over(now) && sl.waiting != nil {
			sl.failure = final(sl.waiting)
		}
	case r.lost():
		sl.failure = s.lostFailure(sl)
	case r.end == endNeverStarted:
		sl.failure = startFailure(sl, r)
	case r.endedBy == endedByDisruption:
		sl.failure = s.podFailure(sl)
	}
}

// endedBefore tells whether a run ended before the pod's deletion was asked for.
func (s *Splitter) endedBefore(r *run) bool {
	return r.outcome != nil && !r.outcome.Finished.IsZero() && r.outcome.Finished.Before(s.whole.requested)
}

func (s *Splitter) wouldRestart(sl *slot, r *run) bool {
	return podstatus.Restarts(sl.pod, sl.name, r.code)
}

// judgeUnrun: no run of the slot that State speaks of is known.
func (s *Splitter) judgeUnrun(sl *slot, now time.Time) {
	if rep := sl.replaced(); rep != nil && rep.ended() && sl.status == statusTerminated && (s.over() || !s.wouldRestart(sl, rep)) {
		if s.judgeReplaced(sl, now) {
			return
		}
	} else {
		sl.verdict = time.Time{}
	}
	switch f := s.blockingInit(sl); {
	case s.over():
		sl.failure = s.podFailure(sl)
	case f != nil:
		sl.failure = f
	case sl.patience.over(now) && sl.waiting != nil:
		sl.failure = final(sl.waiting)
	}
}

// judgeReplaced: the run that a swap is to replace has ended and will not be
// restarted. After the patch this is published when, and only when, the new
// container could not be started: in a good swap it is killed and the new one
// started before the kubelet publishes anything (0 of 87 good swaps and 5 of 5
// failed ones on a real kubelet, v1.36). It tells false when the pod's own end
// explains it.
func (s *Splitter) judgeReplaced(sl *slot, now time.Time) bool {
	switch {
	case !sl.verdict.IsZero(): // decided, the words are awaited
	case s.whole.cause != nil:
		return false
	case !sl.swapped() && sl.replaced().lost():
		sl.failure = s.lostFailure(sl)
		return true
	case sl.mayBePatched(): // a patch may have killed it, and then the words come
		sl.verdict = now.Add(verdictDelay)
	case !sl.swapped():
		sl.failure = placeholderFailure(sl)
		return true
	default:
		sl.verdict = now.Add(verdictDelay)
	}
	rep := sl.replaced()
	if e := sl.explain.event; sl.mayBePatched() && e != nil && !eventTime(e).After(rep.started) {
		sl.explain = explanation{} // of its own start
	}
	switch {
	case sl.explain.rank < rankWords && !s.whole.gone && now.Before(sl.verdict):
	case sl.explain.failure != nil:
		sl.failure = swapFailure(sl)
	case rep.lost() || rep.unattributed(): // by a node that was restarted, perhaps
		sl.failure = s.lostFailure(sl)
	case sl.mayBePatched():
		sl.failure = placeholderFailure(sl)
	default:
		sl.failure = swapFailure(sl)
	}
	return true
}

// blockingInit returns the failure of an init container before sl that keeps it
// from ever running.
func (s *Splitter) blockingInit(sl *slot) *Failure {
	if sl.kind == KindEphemeral {
		return nil
	}
	for _, before := range s.order {
		if before == sl || before.kind != KindInit && before.kind != KindSidecar {
			return nil
		}
		if before.failure != nil && before.work() == nil {
			return before.failure
		}
	}
	return nil
}

// derive makes of a judged slot what State says, and since when. The lock is
// held.
func (s *Splitter) derive(sl *slot) (State, time.Time) {
	st := sl.base()
	st.Stale, st.Failure, st.Final = s.stale, sl.failure, sl.failure != nil
	r := sl.work()
	if r == nil {
		st.Waiting = sl.waiting
		if sl.failure == nil && (!sl.declared || sl.swapped()) {
			st.Phase = PhaseWaiting
		}
		return st, time.Time{}
	}
	st.Restarts, st.Last = sl.restarts(r), sl.last(r)
	if sl.status == statusWaiting && sl.failure == nil && (!r.ended() || !s.over()) {
		st.Phase, st.Last, st.Waiting = PhaseWaiting, r.outcome, sl.waiting
		return st, time.Time{}
	}
	st.ContainerID, st.Image, st.ImageID = r.containerID(), r.image, r.imageID
	if !r.ended() {
		st.Phase, st.Ready = PhaseRunning, sl.ready
		st.Final = st.Final || s.over()
		return st, r.started
	}
	st.Phase, st.Outcome = PhaseEnded, r.outcome
	st.Final = st.Final || s.over() || !s.wouldRestart(sl, r) && !podstatus.RestartsAll(sl.pod)
	return st, r.finished()
}

// toldState notes what a State that was published told of the slot's newest run.
func (s *slot) toldState(st State) {
	r := s.work()
	switch {
	case r == nil:
	case st.Phase == PhaseRunning:
		r.told = max(r.told, toldStart)
	case st.Phase == PhaseEnded:
		r.told = toldEnd
	}
}
