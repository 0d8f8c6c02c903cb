package logstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

const (
	finalTries = 50               // final reads of a log that changes from one to the next
	shortTries = 20               // final reads that end before the capture does
	emptyTries = 4                // final reads that are empty, of a log that may have been rotated
	nextWait   = 2 * time.Second  // for the first line of the next run, whose log may have been taken for this one's
	passedWait = time.Second      // for a second answer that the log is gone, where that is to be expected
	finalTime  = 10 * time.Minute // for all of them, and for any one; and for a dead container's stream
)

// drain reads the log of a dead container, whole and unfiltered, until a read
// equals the capture: that one is the proof. The capture counts as the first of
// the two reads that have to agree, so a run that nothing disturbed needs one.
// It returns false when the run turns out to be alive.
func (r *run) drain(ctx context.Context) (final bool) {
	// A stream that got to the capture's end, and to its own, was the first.
	d := drain{run: r, started: time.Now(), half: r.read && r.sp.joined}
	for l := r.lifeNow(); ; {
		r.pause(ctx, l, time.Until(r.readAt.Add(settle)))
		l = r.lifeNow()
		switch {
		case ctx.Err() != nil:
			r.cutOff()
		case l == lifeAlive:
			return false
		case d.hasNexts():
			if !d.takeBack(ctx) {
				continue
			}
		case (l == lifeGone || l == lifeUnreadable || l == lifeClosed) && d.awaitsNext(ctx):
			continue
		case l == lifeGone:
			r.unread("the pod was deleted before the log was verified")
		case l == lifeUnreadable:
			r.unread("the container was removed from its node before the log was verified")
		case l == lifeClosed:
			r.finish(Unverified, "the tracking of the pod ended while the container ran")
		case !d.step(ctx, l):
			continue
		}
		return true
	}
}

// drain counts what the final reads of a run came to.
type drain struct {
	*run
	started   time.Time
	doubtAt   time.Time      // since when the log may be another run's; zero: it is not known to
	nextAt    time.Time      // since when the next run's first line is awaited; zero: it was not
	half      bool           // the first of the two reads that have to agree was made
	failing   time.Time      // since when every answer was an error
	refusal   kubelog.Answer // the last of them
	refusedAt time.Time      // since when they are all the same
	failures  int
	grown     int       // reads that brought something new, or were the first
	short     int       // reads that ended before the capture does
	empty     int       // of these, the empty ones
	emptyAt   time.Time // the first
}

// step makes one final read. It returns true when the run is final.
func (d *drain) step(ctx context.Context, l life) bool {
	q := query{previous: l == lifePrevious}
	res := d.fetch(ctx, q)
	if res.grew {
		d.wholeAt = time.Time{}
	}
	if !res.joined && (res.answer == kubelog.Foreign || q.previous && res.answer == kubelog.EOF) && d.tookNexts(ctx, q) {
		return d.takeBack(ctx)
	}
	if res.answer != kubelog.EOF {
		return d.failed(ctx, l, res)
	}
	d.failing, d.failures = time.Time{}, 0
	own := res.joined && d.isOwn(ctx, q)
	if d.log.isFinal() {
		return true
	}
	proved := own && res.equal && (d.half || d.sp.foreign) // nothing proves the end of one that had another's lines
	if res.joined {
		d.foreignAt, d.half = time.Time{}, true
	}
	switch {
	case proved:
		d.prove(l)
		return true
	case !d.doubtAt.IsZero():
		d.pause(ctx, l, time.Second)
	case res.grew || res.equal:
		d.grown++
	default:
		if d.short++; res.bytes == 0 {
			if d.empty++; d.empty == 1 {
				d.emptyAt = d.readAt
			}
		}
		d.pause(ctx, l, min(time.Duration(d.short)*250*time.Millisecond, 2*time.Second))
	}
	switch {
	case d.empty >= shortTries || d.empty >= emptyTries && d.mayBeRotated():
		d.sp.seal(false)
		_, end := d.log.bounds()
		// The kubelet rotates the log of a container that runs (kubernetes v1.36.3
		// pkg/kubelet/logs/container_log_manager.go:206).
		f := nodeFile{found: d.emptyAt}
		if ended := d.standing().ended; !ended.IsZero() {
			f.by = ended.Add(time.Second).UnixNano() // it has whole seconds
		}
		d.sp.comeTo(f, end)
		d.sp.seam("the node's file is empty: it was rotated before the container ended", end, 0, false)
		d.prove(l)
	case d.short >= shortTries || d.grown >= finalTries || time.Since(d.started) > finalTime:
		d.incomplete("no read of the log on the node agrees with what was captured")
	default:
		return false
	}
	return true
}

// isOwn says whether the log that a read brought is this run's.
// When nobody can tell, not even in a while, it has to do.
func (d *drain) isOwn(ctx context.Context, q query) bool {
	began := d.log.began()
	if d.isSure() || d.sp.plain { // of a log without times nobody can tell
		return true
	}
	wait, st := statusWait, d.standing()
	if q.previous && st.next.IsZero() || !q.previous && !began {
		wait = blindWait // for the status of the next run
	}
	line, ns := d.sp.head, d.sp.headNS
	switch {
	case !began:
		line, ns = nil, 0
	case !d.sp.isHeadCertain():
		line = line[:stamp.Len(line)]
	}
	suspect, is := d.isOfNext(ctx, q, line, ns)
	if ns == 0 && !q.previous && !d.doubtAt.IsZero() {
		suspect = true // the silence of others came since
	}
	switch {
	case !suspect && (st.noNext || !st.isOutside(ns)):
		if d.doubtAt = (time.Time{}); st.life == lifeEnded || st.life == lifePrevious {
			d.sure = d.sp.began
		}
		return true
	case is && len(d.sp.parts) > 0:
		d.takeBack(ctx)
	case d.doubtAt.IsZero():
		d.doubtAt = time.Now()
	case time.Since(d.doubtAt) >= wait:
		d.sp.strange = true
		return true
	}
	return false
}

// takeBack takes the newest part back, which is the next run's, from where that one's own
// log begins. What it has before that nobody else has: it stays, and the run is final.
func (d *drain) takeBack(ctx context.Context) (final bool) {
	p := d.sp.parts[len(d.sp.parts)-1]
	if after := d.standing().after; after != nil {
		for d.awaitsNext(ctx) {
		}
		off, first := d.nextsAt()
		if first != nil && off != p.at && !isLineBefore(first, p.ns) {
			if off > p.at {
				d.sp.takeBackFrom(off, first)
			}
			d.sp.gap(whyKept, p.before.newest, p.ns, p.at, false)
			d.finish(Unverified, whyKept)
			return true
		}
	}
	d.sp.takeBack()
	d.half, d.doubtAt, d.foreignAt = false, time.Time{}, time.Time{}
	return false
}

// awaitsNext waits a little for the first line of the next run, where that one's log may have
// been taken for this one's; false: there is nothing to wait for any more.
func (d *drain) awaitsNext(ctx context.Context) bool {
	after := d.standing().after
	if after == nil || after.log.firstSeen() != nil || after.log.isFinal() || !d.mayHaveTaken() {
		return false
	}
	if d.nextAt.IsZero() {
		d.nextAt = time.Now()
	}
	if ctx.Err() != nil || time.Since(d.nextAt) >= nextWait {
		return false
	}
	d.pause(ctx, d.lifeNow(), 100*time.Millisecond)
	return true
}

// mayBeRotated says whether the node's file was large enough to be rotated. The
// node does that within its interval, though nothing more is printed: then the new
// file stays empty.
func (d *drain) mayBeRotated() bool {
	_, start := d.log.progress()
	_, end := d.log.bounds()
	return end-start > d.s.opt.RotateSize
}

// failed waits after an answer that was no log, or gives up.
func (d *drain) failed(ctx context.Context, l life, res result) bool {
	fresh := d.failing.IsZero()
	if fresh {
		d.failing = time.Now()
	}
	if fresh || res.answer != d.refusal { // what was answered before proves nothing of this
		d.refusal, d.refusedAt = res.answer, time.Now()
	}
	patience := res.answer.Patience()
	if d.isPassed(l, res.answer) {
		patience = passedWait
	}
	if time.Since(d.refusedAt) >= patience || time.Since(d.failing) >= finalTime {
		if d.awaitsNext(ctx) {
			return false
		}
		d.unread(res.why())
		return true
	}
	d.failures++
	wait := max(res.answer.Backoff(d.failures), res.after)
	if res.answer == kubelog.Foreign {
		d.noteForeign()
		if d.log.began() {
			wait = statusWait
		}
	}
	wait = min(wait, max(patience-time.Since(d.refusedAt), time.Millisecond))
	d.pause(ctx, l, wait+rand.N(wait/4+1))
	return false
}

// isPassed reports whether an answer says that the node has no log of the run any more. It
// keeps one dead container of a slot, so when the next run has ended, too, this one is removed
// (kubernetes v1.36.3 pkg/kubelet/pod_container_deletor.go:84-99), which a status tells, or
// what was read for this run's log.
func (d *drain) isPassed(l life, a kubelog.Answer) bool {
	if l != lifePrevious || a != kubelog.Absent && a != kubelog.Foreign {
		return false
	}
	st := d.standing()
	return a == kubelog.Absent && st.nextEnded || d.sp.foreign
}

// pause waits, or until the run's life is not l any more. That it was poked tells
// nothing: the change may be the one to l.
func (r *run) pause(ctx context.Context, l life, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for r.lifeNow() == l {
		select {
		case <-t.C:
			return
		case <-ctx.Done():
			return
		case <-r.poke:
		}
	}
}

// prove gives the run the best certificate that it deserves. Its last full read
// agreed with the capture.
func (r *run) prove(l life) {
	s := &r.sp
	s.seal(true)
	r.noteUnseen()
	switch {
	case l == lifeBlind:
		r.finish(Unverified, "the pod left the scope of its watch")
	case s.strange:
		r.uncertain(whyStrange)
		r.finish(Unverified, whyStrange)
	case s.foreign:
		r.finish(Unverified, whyNexts)
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

// unread ends a run whose final read could not be made. Where its pod was being deleted and
// its last stream brought all there was and ended cleanly, nothing is known to be missing.
func (r *run) unread(why string) {
	if !r.wasWhole() {
		r.incomplete(why)
		return
	}
	r.uncertain(why)
	r.finish(Unverified, why)
}

// wasWhole reports whether the run's last stream ended cleanly after its pod was known to
// be deleted, or to be about to, and no lines are known to be missing.
func (r *run) wasWhole() bool {
	r.c.mu.Lock()
	dying := r.dying
	r.c.mu.Unlock()
	return !dying.IsZero() && r.wholeAt.After(dying) && r.whyMissing() == ""
}

// uncertain notes that nothing proves what was captured since the node's file was last seen,
// nor that it was the end.
func (r *run) uncertain(why string) {
	r.sp.seal(false)
	_, end := r.log.bounds()
	known, until := r.sp.heads.known()
	r.sp.gap(why, r.sp.timeBefore(r.sp.behind(known, until, end))-r.sp.skew, 0, end, false)
}

// noteUnseen notes a gap before the first line of a log that was empty when it was read
// first, where the run prints as much as the node rotates.
func (r *run) noteUnseen() {
	if _, end := r.log.bounds(); r.sawEmpty && end > r.s.opt.RotateSize {
		r.sawEmpty, r.sp.rotated = false, true
		r.sp.gap(whyWasEmpty, 0, r.log.firstNS(), 0, false)
	}
}

// cutOff ends a run because its owner ends. That a container goes on is no loss: of what it
// printed until now nothing is known to be missing.
func (r *run) cutOff() {
	l, closed := r.lifeNow(), r.isClosed()
	why, count := whyStopped, &r.s.counts.incomplete
	if closed {
		why = whyClosed
	}
	goesOn := l == lifeAlive || l == lifeBlind
	if goesOn && r.whyMissing() == "" {
		count = &r.s.counts.closed
	}
	if !closed || !goesOn || !r.asked {
		r.uncertain(why)
		r.finishAs(Incomplete, why, count)
		return
	}
	r.finishAs(Unverified, whyLeft, count)
}

// whyMissing says why lines are known to be missing; empty: none are.
func (r *run) whyMissing() string {
	switch lost := r.log.lost(); {
	case len(lost) > 0:
		return whyLost(lost)
	case r.sp.short:
		return "lines are missing"
	}
	return ""
}

// finish makes the run final.
func (r *run) finish(p Proof, why string) {
	c := &r.s.counts
	r.finishAs(p, why, map[Proof]*atomic.Int64{Verified: &c.verified, Unverified: &c.unverified, Incomplete: &c.incomplete}[p])
}

// finishAs makes the run final, and counts it. Lines that are known to be missing make it
// Incomplete.
func (r *run) finishAs(p Proof, why string, count *atomic.Int64) {
	r.sp.seal(p == Verified)
	r.noteUnseen()
	if missing := r.whyMissing(); missing != "" && p != Incomplete {
		p, why, count = Incomplete, missing, &r.s.counts.incomplete
	}
	if ns := r.log.firstNS(); p != Verified && ns != 0 && r.mayBeginWithNexts(ns) {
		r.sp.gap(whyBefore, 0, ns, 0, false)
	}
	r.log.finish(p, why)
	r.sp.shed()
	r.sp.hold, r.sp.suspect.recent = nil, nil
	count.Add(1)
	r.noteFinal()
	r.c.changed()
}

// certificate is what can be said of the run now.
func (r *run) certificate() Certificate {
	l := &r.log
	holes := l.lost()
	l.mu.Lock()
	defer l.mu.Unlock()
	c := Certificate{
		Slot: r.slot, ContainerID: r.id, Run: l.number, Why: l.why, Proof: l.proof,
		Lines: l.lines, Bytes: l.committed - l.stamps,
	}
	for _, h := range holes {
		c.Gaps = append(c.Gaps, l.holeGap(h))
	}
	if len(holes) > 0 && (c.Proof == Verified || c.Proof == Unverified || c.Why == whyDropped) {
		c.Proof, c.Why = Incomplete, whyLost(holes)
	}
	if r.missed > 0 {
		c.Gaps = append(c.Gaps, r.missedGap())
	}
	for _, g := range l.gaps {
		c.Gaps = append(c.Gaps, g.Gap)
	}
	return c
}

// holeGap is the Gap of bytes that are no longer kept.
func (l *runLog) holeGap(h hole) Gap {
	return Gap{
		ContainerID: l.id, Run: l.number, Why: h.reason(),
		AfterLine: h.lines, From: stamp.Time(h.from), To: stamp.Time(h.to), Certain: true,
	}
}

// reason is why the bytes of the hole are no longer kept, for people.
func (h *hole) reason() string {
	if h.why == nil || errors.Is(h.why, errBudget) {
		return whyDropped
	}
	return "output was dropped because the disk failed: " + h.why.Error()
}

// whyLost is the gravest reason of holes.
func whyLost(holes []hole) string {
	var h hole
	for _, o := range holes {
		h.why = graver(h.why, o.why)
	}
	return h.reason()
}

// missedGap says that runs before this one lived and ended unseen. It is no gap in
// this run's log.
func (r *run) missedGap() Gap {
	return Gap{Run: r.log.number, Why: fmt.Sprintf("%d earlier runs of container %q ended before they were seen", r.missed, r.slot), Certain: true}
}
