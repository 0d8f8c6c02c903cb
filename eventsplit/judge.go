package eventsplit

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	// eventDelay is how long a failed swap waits for the Event that says why. On real kubelets
	// (v1.36) the Event came 60 to 930 ms before the status.
	eventDelay = 2 * time.Second
	// lostDelay is how long an ended pod may show a run as running before the run counts as
	// lost.
	lostDelay = 5 * time.Second
)

// judge decides whether a slot will never run, or its run was lost. The lock is held.
func (s *Splitter) judge(sl *slot, now time.Time) {
	if sl.failure != nil {
		return
	}
	s.updateWaiting(sl, now)
	r := sl.stepRun()
	if r == nil || r.ended() {
		sl.giveUpAt = time.Time{}
	}
	if r != nil {
		sl.decideAt = time.Time{}
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
		sl.patience, sl.decideAt, sl.giveUpAt = patience{}, time.Time{}, time.Time{}
	}
}

// judgeUnrun judges a slot of which no run is known that State tells of.
func (s *Splitter) judgeUnrun(sl *slot, now time.Time) {
	if rep := sl.replaced(); rep != nil && rep.ended() && sl.status == statusTerminated && (s.over() || !s.wouldRestart(sl, rep)) {
		if s.judgeReplaced(sl, now) {
			return
		}
	} else {
		sl.decideAt = time.Time{}
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

// judgeReplaced judges a slot in which the run that a swap is to replace has ended and will not
// be restarted. After a patch the kubelet publishes this if, and only if, it could not start the
// new container: in a good swap it kills the old container and starts the new one before it
// publishes anything (0 of 87 good swaps and 5 of 5 failed ones on a real kubelet, v1.36).
// judgeReplaced returns false when the pod's own end explains the end of the run.
func (s *Splitter) judgeReplaced(sl *slot, now time.Time) bool {
	switch {
	case !sl.decideAt.IsZero(): // decided; the Event that says why is awaited
	case s.record.cause != nil:
		return false
	case !sl.swapped() && sl.replaced().lost():
		sl.failure = s.lostFailure(sl)
		return true
	case sl.mayBePatched(): // a patch may have killed it, and then an Event says why
		sl.decideAt = now.Add(eventDelay)
	case !sl.swapped():
		sl.failure = placeholderFailure(sl)
		return true
	default:
		sl.decideAt = now.Add(eventDelay)
	}
	rep := sl.replaced()
	if e := sl.explanation.event; sl.mayBePatched() && e != nil && !eventTime(e).After(rep.started) {
		sl.explanation = explanation{} // it was about the start of this run
	}
	switch {
	case sl.explanation.rank < rankWords && !s.record.gone && now.Before(sl.decideAt):
	case sl.explanation.failure != nil:
		sl.failure = swapFailure(sl)
	case rep.lost() || rep.unattributed(): // its node was restarted, perhaps
		sl.failure = s.lostFailure(sl)
	case sl.mayBePatched():
		sl.failure = placeholderFailure(sl)
	default:
		sl.failure = swapFailure(sl)
	}
	return true
}

// judgeRunning judges a run that no status has shown to end: it is lost when no newer version
// will come, or when the pod has ended and goes on showing it as running.
func (s *Splitter) judgeRunning(sl *slot, r *run, now time.Time) {
	switch {
	case !s.record.gone && !s.record.ended:
		sl.giveUpAt = time.Time{}
		return
	case !s.record.gone && sl.giveUpAt.IsZero():
		sl.giveUpAt = now.Add(lostDelay)
		return
	case !s.record.gone && now.Before(sl.giveUpAt):
		return
	}
	sl.tellStarted(r)
	r.end, r.endedBy = endLost, endedByItself
	sl.failure = s.lostFailure(sl)
}

// judgeVanished judges a slot whose run had not ended and that waits now: its container is gone
// from the node, whatever the status says of its end. The kubelet starts it anew, or sees it
// again.
func (s *Splitter) judgeVanished(sl *slot, r *run, now time.Time) {
	sl.giveUpAt = time.Time{}
	if sl.patience.over(now) && sl.waiting != nil {
		r.end, r.endedBy = endLost, endedByItself
		sl.failure = final(sl.waiting)
	}
}

// judgeEnded judges a run that has ended.
func (s *Splitter) judgeEnded(sl *slot, r *run, now time.Time) {
	sl.tellStarted(r)
	if r.endedBy == endedByUnknown {
		if r.endedBy = endedByItself; s.record.cause != nil && !s.endedBefore(r) {
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

// blockingInit returns the Failure of an earlier init container that keeps sl from ever running;
// nil when there is none.
func (s *Splitter) blockingInit(sl *slot) *Failure {
	if sl.kind == KindEphemeral {
		return nil
	}
	for _, before := range s.order {
		if before == sl || before.kind != KindInit && before.kind != KindSidecar {
			return nil
		}
		if before.failure != nil && before.stepRun() == nil {
			return before.failure
		}
	}
	return nil
}

// concludePod decides how a pod ended by itself, once all of its containers are decided.
// Kubernetes also calls a pod Succeeded when the placeholder of a failed swap was the last
// container to end, and Failed when nobody knows how its containers ended.
func (s *Splitter) concludePod() {
	w := &s.record
	if !w.ended || w.cause != nil || w.outcome != nil || w.endFailure != nil {
		return
	}
	var failure *Failure
	for _, sl := range s.order {
		if !w.gone && (!sl.decideAt.IsZero() || !sl.giveUpAt.IsZero()) {
			return
		}
		if f := sl.failure; f != nil && failure == nil && (f.Class == ClassLost || sl.swapped() && sl.stepRun() == nil) {
			failure = f
		}
	}
	o := s.podOutcome()
	switch {
	case failure != nil:
		w.endFailure = failure
	case o.ExitCode != 0 || s.pod.Status.Phase == corev1.PodSucceeded:
		w.outcome = o
	default:
		w.endFailure = &Failure{Class: ClassOther, Reason: string(corev1.PodFailed), Message: s.pod.Status.Message}
	}
}

// podOutcome returns the Outcome of a pod that has ended.
func (s *Splitter) podOutcome() *Outcome {
	o := &Outcome{Reason: string(s.pod.Status.Phase), Message: s.pod.Status.Message}
	if t := s.pod.Status.StartTime; t != nil {
		o.Started = t.Time
	}
	for _, sl := range s.order {
		r := sl.current()
		if r == nil || r.outcome == nil {
			continue
		}
		if r.outcome.Finished.After(o.Finished) {
			o.Finished = r.outcome.Finished
		}
		if s.pod.Status.Phase == corev1.PodFailed && o.ExitCode == 0 && sl.kind != KindSidecar {
			o.ExitCode, o.Signal, o.OOM = r.outcome.ExitCode, r.outcome.Signal, r.outcome.OOM
			if o.ExitCode != 0 && o.Message == "" {
				o.Message = "container " + strconv.Quote(sl.name) + " failed"
			}
		}
	}
	return o
}
