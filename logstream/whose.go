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
func (r *run) whose(ctx context.Context, line []byte, ns int64) (suspect, another bool) {
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
	return r.isOfNext(ctx, ns)
}

// isOfNext says whether a log that begins at ns (0: that is empty) may be, and is, of a
// run that no status has told of yet: it begins when this one had ended, perhaps in the
// same second. Then the kubelet has this one as the previous one.
func (r *run) isOfNext(ctx context.Context, ns int64) (suspect, is bool) {
	r.c.mu.Lock()
	follows := r.life == lifeEnded && !r.c.slots[r.slot].final
	ended, after := r.ended, r.after
	others := append([]*run(nil), r.c.order...)
	r.c.mu.Unlock()
	if !follows || ended.IsZero() || ns != 0 && ns < ended.UnixNano() {
		return false, false
	}
	b, err := r.lookPrevious(ctx)
	switch {
	case err != nil:
		return classify(err) != answerGone, false // else there is no previous run
	case r.log.number > 0: // it has one before this, too
		for _, o := range others {
			if o.slot == r.slot && o.log.number == r.log.number-1 && o.log.began() && (o.log.beginsWith(b) || o.log.fileBeginsWith(b)) {
				return false, false
			}
		}
		var c clock
		if ns, n := c.parse(b); n == 0 || after.IsZero() || ns <= after.Add(2*time.Second).UnixNano() {
			return false, false
		}
	}
	r.nowIs(lifePrevious)
	return true, true
}

// lookPrevious reads the beginning of the previous run's log.
func (r *run) lookPrevious(ctx context.Context) ([]byte, error) {
	limit := int64(128)
	return r.look(ctx, &corev1.PodLogOptions{Container: r.slot, Previous: true, Timestamps: true, LimitBytes: &limit})
}
