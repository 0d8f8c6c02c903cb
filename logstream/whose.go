package logstream

import (
	"bytes"
	"context"
	"slices"
	"time"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// Requests name a container, not a run, and the kubelet answers for the run that it
// knows: whose log an answer is has to be seen from what is in it.

// blindWait is for how long a run that has ended waits for a status of the next one where
// nothing else tells their logs apart: a watch may be blind for as long as a dead
// connection goes unnoticed, 45 s with client-go's pings, and would tell then.
const blindWait = 50 * time.Second

// takenWait is for how long a log is left to the run before, where that one took it and
// is being verified.
const takenWait = time.Second

// startMargin is how much earlier than the start in its status a run may print: containerd
// notes the start after it.
const startMargin = 100 * time.Millisecond

// owner is whose a response is, by its first line.
type owner int

const (
	ownRun   owner = iota
	unproved       // it is taken, but not proved to be this run's
	doubtful       // it may be another run's: it is not taken while a status may tell
	anotherRun
)

// nowIs notes what the API server or the kubelet said of the run, whether a watch will
// say so or not.
func (r *run) nowIs(l life) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.setLife(l)
}

// standing is what statuses tell of a run among those of its slot.
type standing struct {
	life
	times
	told      bool      // by a status, not by the kubelet's answers alone
	next      time.Time // when its successor began
	fresh     bool      // the kubelet is not at the next run, if it waits for restartWait before that
	noNext    bool      // no run follows it
	atOnce    bool      // the next run may have begun as soon as it ended
	before    *run      // the one before it; nil: not known
	after     *run      // and the one after it
	nextEnded bool      // which has ended, by a status
	number    int
	others    []*run // of the slot, those of pods before this one of the same name included
}

func (r *run) standing() standing {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.standingLocked()
}

func (r *run) standingLocked() standing {
	st := standing{number: r.log.number, life: r.life, told: r.life == r.told, fresh: time.Since(r.toldAt) < freshFor, times: r.at}
	st.atOnce = !r.waited && (r.first || r.at.ended.Sub(r.at.began) >= restartSoon)
	if sl := r.c.slots[r.slot]; sl != nil {
		st.noNext = sl.noNext
		for _, o := range sl.runs {
			switch o.log.number {
			case r.log.number - 1:
				st.before = o
			case r.log.number + 1:
				st.after, st.next, st.nextEnded = o, o.at.began, o.told >= lifeEnded
			}
		}
	}
	for _, o := range r.c.order {
		if o != r && o.slot == r.slot {
			st.others = append(st.others, o)
		}
	}
	return st
}

// A kubelet restarts a container at once when it ends for the first time, or has run for
// more than twice the longest backoff, and else after 10 s or more, or what its
// configuration and gates make of that (kubernetes v1.36.3
// pkg/kubelet/kuberuntime/kuberuntime_manager.go:1908, kubelet.go:352, apis/config/validation/validation.go:226;
// k8s.io/client-go v0.36.3 util/flowcontrol/backoff.go:97).
const (
	restartWait = time.Second     // at least
	restartSoon = 2 * time.Second // a run that was shorter is not restarted at once, but for the first
)

// freshFor is for how long after a status the kubelet is taken to wait still, where nothing
// else tells: by default it waits for 10 s.
const freshFor = 5 * time.Second

// nextBegan is the earliest that the next run can have begun, in whole seconds of the
// node; zero: not known.
func (st *standing) nextBegan() time.Time {
	t := st.ended
	if !t.IsZero() && !st.atOnce {
		t = t.Add(restartWait)
	}
	if st.next.After(t) {
		return st.next
	}
	return t
}

// mayBeNexts says whether a log that begins at ns (0: that is empty) may be the next run's.
// A status without times, which no kubelet writes, is believed.
func (st *standing) mayBeNexts(ns int64) bool {
	t := st.nextBegan()
	if t.Equal(st.next) && t.After(st.ended) {
		t = t.Add(-startMargin)
	}
	isUntold := !st.told || st.life == lifeUnreadable // its end is
	return ns == 0 || t.IsZero() && isUntold || !t.IsZero() && ns >= t.UnixNano()
}

// isBefore reports whether a log that begins at ns begins before the run did.
func (st *standing) isBefore(ns int64) bool {
	return st.number > 0 && !st.began.IsZero() && ns < st.began.Add(-time.Second).UnixNano()
}

// isInside reports whether a log that begins at ns begins before the run's end: no later
// one's does.
func (st *standing) isInside(ns int64) bool {
	return !st.ended.IsZero() && ns < st.ended.UnixNano()
}

// isOutside says whether a log that begins at ns begins after the run's end.
func (st *standing) isOutside(ns int64) bool {
	return !st.ended.IsZero() && ns > st.ended.Add(2*time.Second).UnixNano() // it has whole seconds
}

// whose attributes an open response that begins with line and joins nothing that was
// captured. Whose it is does not change any more while it is open.
func (r *run) whose(ctx context.Context, q query, line []byte, ns int64) owner {
	if ns == 0 {
		return ownRun
	}
	st := r.standing()
	began, taken := r.log.began(), false
	isLater := func(o *run) bool { return o.log.number > r.log.number && o.log.has(line, ns) }
	if slices.ContainsFunc(st.others, isLater) {
		return anotherRun
	}
	if !began && !st.isOutside(ns) && !st.isBefore(ns) {
		r.log.noteFirst(line)
	}
	for _, o := range st.others {
		switch {
		case !o.log.beginsWith(line):
		case o.log.isVerified() || !o.log.isFinal() && !r.foreignFor(takenWait):
			return anotherRun
		default: // it was taken for that run's, perhaps, before a status told of this one
			taken = true
		}
	}
	switch {
	case st.isOutside(ns) || !began && st.isBefore(ns):
		return doubtful
	case !q.follow && r.log.hadFile(line): // what was captured since is another's
		return anotherRun
	case q.previous && began && (ns < r.sp.headNS || !st.isInside(ns)): // whose the first one is has time until the proof
		return doubtful
	case q.previous && taken:
		return unproved
	case q.previous:
		return ownRun
	}
	suspect, another := r.isOfNext(ctx, q, line, ns)
	if !suspect && st.life == lifeEnded {
		r.sure = r.sp.began + 1 // with the part that is to begin
	}
	switch {
	case another:
		return anotherRun
	case suspect:
		return doubtful
	case taken:
		return unproved
	}
	return ownRun
}

// isOfNext says whether a log that begins with line, at ns (0: it is empty), may be, and
// is, of a run that no status had told of when it was asked for: it begins when this one
// had ended, perhaps in the same second. Then the kubelet has this one as the previous one.
func (r *run) isOfNext(ctx context.Context, q query, line []byte, ns int64) (suspect, is bool) {
	st := r.standing()
	switch {
	case !st.mayBeNexts(ns):
		return false, false
	case q.previous:
		return !r.isNextCurrent(ctx, st, line), false
	case st.life == lifePrevious || st.life == lifeUnreadable: // a status told of it meanwhile
		return true, false
	case st.life == lifeGone: // and meanwhile it may have been restarted
		return !st.noNext, false
	case st.life != lifeEnded || st.noNext || st.ended.IsZero():
		return false, false
	}
	b, err := r.lookAt(ctx, true)
	if err != nil {
		return kubelog.Refuse(err).Answer != kubelog.Gone, false // else there is no previous run
	}
	if ns != 0 && isSameLine(line, b) {
		// The container waits, after this run or another; or this one's is the previous
		// one by now. In either case it is read as such.
		r.nowIs(lifePrevious)
		return true, false
	}
	suspect, is = r.isPrevious(b, ns, st)
	if is {
		r.nowIs(lifePrevious)
	}
	// Where it printed nothing, its log is as empty as the next one's.
	if ns == 0 && len(b) == 0 && st.fresh && !st.atOnce {
		suspect = false
	}
	return suspect, is
}

// isPrevious says whether the previous run, whose log begins with b, may be, and is, this
// one, and not the one before, where the current one's begins at ns.
func (r *run) isPrevious(b []byte, ns int64, st standing) (may, is bool) {
	prev, n := stamp.Parse(b)
	switch {
	case n > 0 && r.log.hadFile(b): // what was captured before is this run's
		return true, true
	case len(b) == 0 && r.sp.hadPart(): // this one printed something
		return false, false
	case n == 0 && len(b) > 0:
		// The kubelet's words name a container that it removed: the one before this,
		// unless the next has ended, too (kubernetes v1.36.3 pkg/kubelet/kubelet.go:2745,
		// kuberuntime/kuberuntime_container.go:1322), and more of them: the silence may be
		// any later one's then. Others tell nothing.
		a, _ := kubelog.Words(b)
		is = bytes.Contains(b, []byte(r.id))
		isBefore := st.before != nil && bytes.Contains(b, []byte(st.before.id))
		return is || a != kubelog.Absent || r.log.number == 0 || ns == 0 && !isBefore, is
	case ns == 0 && len(b) == 0: // both are silent: the container may wait
		return true, false
	case r.log.number == 0: // there is none before this one
		return true, true
	case n > 0 && prev < st.began.UnixNano():
		return false, false
	case n > 0 && !st.began.IsZero() && prev >= st.began.Add(time.Second).UnixNano():
		return true, true
	}
	if st.before == nil || !st.before.log.isVerified() || !st.before.log.began() {
		return true, false
	}
	o := &st.before.log
	return n == 0 || !o.beginsWith(b) && !o.fileBeginsWith(b), n == 0 // that one printed something
}

// isNextCurrent says whether the kubelet's current run is known to be the next one, and
// its previous one, whose log begins with line, this: any other begins restartWait later,
// unless the next one is the first of its image. While a container waits, both are one.
func (r *run) isNextCurrent(ctx context.Context, st standing, line []byte) bool {
	b, err := r.lookAt(ctx, false)
	if err != nil || isSameLine(line, b) {
		return false
	}
	ns, n := stamp.Parse(b)
	return n > 0 && ns < st.nextBegan().Add(restartWait).UnixNano() && (st.after == nil || !st.after.first)
}

// isSameLine says whether two logs begin with one line, as far as both are known.
func isSameLine(a, b []byte) bool {
	n := min(len(a), len(b))
	return n >= stamp.UTC && bytes.Equal(a[:n], b[:n])
}

// mayHaveNexts says whether what was captured may be the next run's. It needs c.mu.
func (r *run) mayHaveNexts() bool {
	st, ns := r.standingLocked(), r.log.partNS()
	return (st.after != nil || !st.noNext) && ns != 0 && st.mayBeNexts(ns)
}

// mayHaveTaken says the same of the newest part, unless the kubelet was asked.
func (r *run) mayHaveTaken() bool {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return !r.isSure() && r.mayHaveNexts()
}

// mayBeginWithNexts says whether what was captured, which begins at ns, may be the next run's
// from its first line on.
func (r *run) mayBeginWithNexts(ns int64) bool {
	if off, first := r.nextsAt(); first != nil && off < 0 { // that one begins otherwise
		return false
	}
	st := r.standing()
	return !r.isSure() && (st.after != nil || !st.noNext) && (st.life == lifeUnreadable || !st.nextBegan().IsZero()) && st.mayBeNexts(ns)
}

// nextsAt is where in the newest part the next run's log begins, by the first line that was
// seen of that one, which is returned; -1: nowhere. The kubelet had that log when a status
// still called this run the newest, and may have rotated it since.
func (r *run) nextsAt() (off int64, first []byte) {
	st := r.standing()
	if st.after == nil {
		return -1, nil
	}
	first = st.after.log.firstSeen()
	if first == nil || len(r.sp.parts) == 0 {
		return -1, first
	}
	ns, _ := stamp.Parse(first)
	p := r.sp.parts[len(r.sp.parts)-1]
	if isSameLine(first, p.head) {
		return p.at, first
	}
	committed, _ := r.log.bounds()
	return r.log.find(first, p.at, committed, ns), first
}

// noteFirstFile notes a gap before the run's first line, at ns, where the run before took an
// earlier file of this run's for its own: the node has rotated the log since.
func (r *run) noteFirstFile(line []byte, ns int64) {
	st := r.standing()
	if st.before == nil || st.before.log.isVerified() {
		return
	}
	of, l := st.before.standing(), &st.before.log
	committed, _ := l.bounds()
	parts, holder := l.everTaken(l.find(line, 0, committed, ns))
	for _, taken := range parts {
		if taken < ns && of.mayBeNexts(taken) && (taken == holder || of.isSurelyNexts(taken)) {
			r.sp.rotated = true
			r.sp.gap(whyFirstFile, taken, ns, 0, false)
			return
		}
	}
}

// isSurelyNexts says whether a log that begins at ns is the next run's: this one had ended,
// whose status has whole seconds.
func (st *standing) isSurelyNexts(ns int64) bool {
	return !st.ended.IsZero() && ns >= st.ended.Add(time.Second).UnixNano() && st.mayBeNexts(ns)
}

// hasNexts reports whether the newest part has the next run's log in it.
func (r *run) hasNexts() bool {
	off, _ := r.nextsAt()
	return off >= 0
}

// isLineBefore reports whether a line is older than ns.
func isLineBefore(line []byte, ns int64) bool {
	at, n := stamp.Parse(line)
	return n > 0 && at < ns
}

// tookNexts reports whether the newest part is the next run's, whose log the kubelet had
// when a status still called this one the newest: this one's begins with an earlier file,
// or, as the previous one, before it.
func (r *run) tookNexts(ctx context.Context, q query) bool {
	st := r.standing()
	if r.isSure() || len(r.sp.parts) == 0 || r.sp.headNS == 0 {
		return false
	}
	b, err := r.lookAt(ctx, q.previous)
	switch {
	case err != nil:
		return false
	case r.log.hadFile(b):
		return true
	case !q.previous || !st.mayBeNexts(r.log.partNS()):
		return false
	}
	ns, n := stamp.Parse(b)
	if len(b) == 0 { // it is silent
		return st.after != nil && st.isSurelyNexts(r.log.partNS())
	}
	return n > 0 && ns <= r.sp.headNS && !r.log.fileBeginsWith(b)
}

// isSure reports whether the kubelet was asked, and the newest part is this run's.
func (r *run) isSure() bool { return r.sure > 0 && r.sure == r.sp.began }

// lookAt reads the beginning of the current or the previous run's log: of its first line.
func (r *run) lookAt(ctx context.Context, previous bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	const limit = 128
	b, err := r.look(ctx, kubelog.Request{Container: r.slot, Previous: previous, Limit: limit})
	if err == nil {
		err = ctx.Err() // an answer that hangs is none
	}
	return certain(b, limit), err
}

// headOf is what is kept of a log's first line.
func headOf(line []byte) []byte { return line[:min(len(line), headLen)] }

// certain is what an answer of at most limit bytes shows for certain of the log's first line:
// of one that was cut off, the time, for what follows may be the kubelet's words. An answer
// that begins with none is all of it.
func certain(b []byte, limit int) []byte {
	if j := bytes.IndexByte(b, '\n'); j >= 0 {
		return b[:j+1]
	}
	if n := stamp.Len(b); n > 0 && len(b) < limit {
		return b[:n]
	}
	return b
}

// began says whether anything was captured.
func (l *runLog) began() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end > 0
}
