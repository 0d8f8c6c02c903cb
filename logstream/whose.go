package logstream

import (
	"bytes"
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Requests name a container, not a run, and the kubelet answers for the run that it
// knows: whose log an answer is has to be seen from what is in it.

// blindWait is for how long answers are taken for another run's without more proof than
// that they begin anew: a watch may be blind for as long as a dead connection goes
// unnoticed, 45 s with client-go's pings, and would tell then.
const blindWait = 50 * time.Second

// isAnother notes that a response was dropped as another run's.
func (r *run) isAnother() {
	if r.foreignAt.IsZero() {
		r.foreignAt = time.Now()
	}
}

// mayTake says whether to take a log that begins anew for this run's, after one was
// dropped as another's. Either the node rotated it or another run has begun: then this
// run is the previous one, and its log is the kubelet's answer when it is asked for that.
func (r *run) mayTake(ctx context.Context, q query) bool {
	late := time.Since(r.foreignAt) >= blindWait
	if r.foreignAt.IsZero() || q.previous || stampLen(r.sp.head) == 0 {
		return late && !r.foreignAt.IsZero()
	}
	b, err := r.lookPrevious(ctx)
	if err != nil {
		return late || classify(err) == answerGone // there is no previous run
	}
	if j := bytes.IndexByte(b, '\n'); j >= 0 {
		b = b[:j+1]
	}
	var c clock
	ns, n := c.parse(b)
	if n == 0 {
		return late
	}
	committed, _ := r.log.bounds()
	if !r.log.fileBeginsWith(b) && r.log.find(b, 0, committed, ns) < 0 {
		return true
	}
	r.nowIs(lifePrevious)
	return false
}

// nowIs notes what the API server or the kubelet said of the run, whether a watch will
// say so or not.
func (r *run) nowIs(l life) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.setLife(l, time.Time{})
}

// whose says whether a log that begins with line looks like that of another run of the
// slot, and whether it is. It is asked of a response that is open: whose that is does not
// change any more.
func (r *run) whose(ctx context.Context, q query, line []byte, ns int64) (suspect, another bool) {
	if ns == 0 {
		return false, false
	}
	r.c.mu.Lock()
	others := append([]*run(nil), r.c.order...)
	ended, after := r.ended, r.after
	r.c.mu.Unlock()
	for _, o := range others {
		if o != r && o.slot == r.slot && o.log.beginsWith(line) {
			return true, true
		}
	}
	// Statuses have whole seconds.
	if !ended.IsZero() && ns > ended.Add(2*time.Second).UnixNano() ||
		!after.IsZero() && ns < after.Add(-time.Second).UnixNano() {
		return true, false
	}
	return r.isOfNext(ctx, q, ns)
}

// isOfNext says whether a log that begins at ns (0: that is empty) may be, and is, of a
// run that no status had told of when it was asked for: it begins when this one had ended,
// perhaps in the same second. Then the kubelet has this one as the previous one.
func (r *run) isOfNext(ctx context.Context, q query, ns int64) (suspect, is bool) {
	r.c.mu.Lock()
	l, ended, after := r.life, r.ended, r.after
	follows := l == lifeEnded && !r.c.slots[r.slot].final
	others := append([]*run(nil), r.c.order...)
	r.c.mu.Unlock()
	if q.previous || ended.IsZero() || ns != 0 && ns < ended.UnixNano() || !follows && l != lifePrevious {
		return false, false
	}
	if l == lifePrevious { // a status told of it meanwhile
		return true, false
	}
	b, err := r.lookPrevious(ctx)
	if err != nil {
		return classify(err) != answerGone, false // else there is no previous run
	}
	if r.log.number > 0 { // it has one before this, too
		suspect, is = r.isPrevious(b, others, after)
	} else {
		is = true
	}
	if is {
		r.nowIs(lifePrevious)
	}
	// Where the previous one printed nothing, this one's log is empty, whichever it is.
	return is || suspect && ns != 0, is
}

// isPrevious says whether the previous run's log, which begins with b, may be, and is,
// this one's, and not that of the run before, which ended at after.
func (r *run) isPrevious(b []byte, others []*run, after time.Time) (may, is bool) {
	var c clock
	ns, n := c.parse(b)
	if n == 0 && len(b) > 0 {
		// The kubelet's words name a container that it removed: the one before this,
		// unless the next has ended, too (kubernetes v1.36.3 pkg/kubelet/kubelet.go:2745,
		// kuberuntime/kuberuntime_container.go:1322).
		is = bytes.Contains(b, []byte(r.id))
		return is, is
	}
	for _, o := range others {
		if o.slot != r.slot || o.log.number != r.log.number-1 || !o.log.began() {
			continue
		}
		if n == 0 {
			return true, true // that one printed something
		}
		if o.log.beginsWith(b) || o.log.fileBeginsWith(b) {
			return false, false
		}
	}
	if n == 0 {
		return true, false
	}
	is = !after.IsZero() && ns > after.Add(2*time.Second).UnixNano()
	return is, is
}

// lookPrevious reads the beginning of the previous run's log.
func (r *run) lookPrevious(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	limit := int64(128)
	b, err := r.look(ctx, &corev1.PodLogOptions{Container: r.slot, Previous: true, Timestamps: true, LimitBytes: &limit})
	if err == nil {
		err = ctx.Err() // an answer that hangs is none
	}
	return b, err
}
