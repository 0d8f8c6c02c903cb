package logstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	finalTries = 50               // final reads of a log that changes from one to the next
	shortTries = 20               // final reads that end before the capture does
	finalTime  = 10 * time.Minute // for all of them
)

// drain reads the log of a dead container, whole and unfiltered, until a read
// equals the capture: that one is the proof. The capture counts as the first of
// the two reads that have to agree, so a run that nothing disturbed needs one.
// It returns false when the run turns out to be alive.
func (r *run) drain(ctx context.Context) bool {
	started := time.Now()
	var failing time.Time // since when every answer was an error
	for grown, short, empty, failures := 0, 0, 0, 0; ; {
		r.pause(ctx, time.Until(r.readAt.Add(settle)))
		l := r.lifeNow()
		switch {
		case ctx.Err() != nil:
			r.cutOff()
			return true
		case l == lifeAlive:
			return false
		case l == lifeGone:
			r.incomplete("the pod was deleted before the log was verified")
			return true
		case l == lifeUnreadable:
			r.incomplete("the container was removed from its node before the log was verified")
			return true
		case l == lifeClosed:
			r.finish(Unverified, "the tracking of the pod ended while the container ran")
			return true
		}
		first := !r.read
		res := r.fetch(ctx, query{previous: l == lifePrevious})
		if res.answer == answerEOF {
			failing, failures = time.Time{}, 0
			switch {
			case res.equal && !first:
				r.prove(l)
				return true
			case res.grew || first:
				grown++
			default:
				if short++; res.empty {
					empty++
				}
				r.pause(ctx, min(time.Duration(short)*250*time.Millisecond, 2*time.Second))
			}
			if empty >= shortTries {
				r.sp.rotated = true
				r.uncertain("the node's file is empty: it was rotated before the container ended")
				r.prove(l)
				return true
			}
			if short >= shortTries || grown >= finalTries || time.Since(started) > finalTime {
				r.incomplete("no read of the log on the node agrees with what was captured")
				return true
			}
			continue
		}
		if res.answer == answerForeign {
			r.foreign++
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		if time.Since(failing) >= res.patience() {
			r.incomplete(answerText[res.answer] + ", before the log was verified")
			return true
		}
		failures++
		d := res.backoff(failures)
		if res.answer == answerForeign && r.log.began() {
			d = statusWait
		}
		r.pause(ctx, d+rand.N(d/4+1))
	}
}

// pause waits, or until the run's life changes.
func (r *run) pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-r.poke:
	}
}

// prove gives the run the best certificate that it deserves. Its last full read
// agreed with the capture.
func (r *run) prove(l life) {
	s := &r.sp
	s.seal(true)
	from, _ := r.log.kept()
	switch {
	case from > 0:
		r.finish(Incomplete, "output was dropped to stay within the buffer's budget")
	case s.short:
		r.finish(Incomplete, "lines are missing")
	case l == lifeBlind:
		r.finish(Unverified, "the pod left the scope of its watch")
	case s.rotated:
		r.finish(Unverified, "the node rotated the log")
	case s.diverged || s.unproved:
		r.finish(Unverified, "a later read of the log differs from what was captured")
	default:
		r.finish(Verified, "")
	}
}

// incomplete ends a run whose final read could not be made.
func (r *run) incomplete(why string) {
	r.uncertain(why)
	r.finish(Incomplete, why)
}

// uncertain notes that nothing proves what was captured since the node's file
// began, nor that it was the end.
func (r *run) uncertain(why string) {
	r.sp.seal(false)
	_, end := r.log.bounds()
	r.sp.gap(why, r.sp.headNS, 0, end, false)
}

// cutOff ends a run because its owner ends.
func (r *run) cutOff() {
	if r.isClosed() {
		r.incomplete(whyClosed)
		return
	}
	r.incomplete(whyStopped)
}

// finish makes the run final.
func (r *run) finish(p Proof, why string) {
	r.sp.seal(p == Verified)
	r.log.finish(p, why)
	c := &r.s.counts
	switch p {
	case Verified:
		c.verified.Add(1)
	case Unverified:
		c.unverified.Add(1)
	case Incomplete:
		c.incomplete.Add(1)
	}
	r.c.changed()
}

// certificate is what can be said of the run now.
func (r *run) certificate() Certificate {
	l := &r.log
	from, _ := l.kept()
	var to int64
	if from > 0 {
		to = l.firstKept(from)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := Certificate{
		Slot: r.slot, ContainerID: r.id, Why: l.why, Proof: l.proof,
		Lines: l.lines, Bytes: l.committed - l.stamps,
	}
	if from > 0 {
		g := droppedGap(r.id)
		g.To = timeOf(to)
		c.Gaps = append(c.Gaps, g)
		if c.Proof == Verified || c.Proof == Unverified {
			c.Proof, c.Why = Incomplete, c.Gaps[0].Why
		}
	}
	if r.missed > 0 {
		c.Gaps = append(c.Gaps, r.missedGap())
	}
	for _, g := range l.gaps {
		c.Gaps = append(c.Gaps, g.Gap)
	}
	return c
}

// droppedGap is the beginning of a log that is no longer kept.
func droppedGap(id string) Gap {
	return Gap{ContainerID: id, Why: "output was dropped to stay within the buffer's budget", Certain: true}
}

// missedGap says that runs before this one lived and ended unseen. It is no gap in
// this run's log.
func (r *run) missedGap() Gap {
	return Gap{Why: fmt.Sprintf("%d earlier runs of container %q ended before they were seen", r.missed, r.slot), Certain: true}
}
