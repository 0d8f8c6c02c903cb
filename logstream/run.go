package logstream

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
)

// life is what the newest status says of a run: whether it goes on, and which
// request reads its log.
type life int

const (
	lifeAlive      life = iota
	lifeBlind           // no status will come: the pod left the watch's scope
	lifeEnded           // a plain read is its log
	lifePrevious        // a read with previous=true is
	lifeUnreadable      // none is: the kubelet keeps one dead container a slot
	lifeGone            // the pod is deleted
	lifeClosed          // the tracking ended while it ran
)

const (
	statusWait = 3 * time.Second         // for a status that explains what a final read brought
	streamWait = 1300 * time.Millisecond // after a stream that brought nothing, for one that explains its end
	streamPace = time.Second             // between the beginnings of two streams that brought something
	settle     = 200 * time.Millisecond  // between the last read of a log and its verification

	whyStopped  = "the Streamer stopped before the log was verified"
	whyClosed   = "the capture was closed before the log was verified"
	whyNameless = "the node gave the container no ID, so its log could not be captured"
	whyStrange  = "by its times the log may be another run's"
	whyBefore   = "by their times the lines from here on may be those of the container's next run, and this run's own may be missing"
	whyWasEmpty = "the node may have rotated the log between a read that found it empty and the first line"
	whyLeft     = "the capture was closed while the container ran"
	whyDropped  = "output was dropped to stay within the buffer's budget"
)

// run captures one life of a container. Its loop is the only writer of its log.
//
//	Opening ─► Streaming ─► Suspect ─┬─► Opening     still running
//	                                 └─► Draining ─► Verifying ─► Final
//
// Opening and Streaming are follow; Suspect is rest; the others are drain.
type run struct {
	s        *Streamer
	c        *Capture
	slot, id string
	log      runLog
	sp       splicer
	done     chan struct{} // closed when the loop has ended
	poke     chan struct{} // the life changed

	life   life      // guarded by c.mu
	lifeAt time.Time // since when; guarded by c.mu
	told   life      // what the newest status said of it; guarded by c.mu
	toldAt time.Time // since when; guarded by c.mu
	missed int32     // runs before it that nobody saw
	at     times     // guarded by c.mu
	first  bool      // it is of an image that did not run before
	waited bool      // the kubelet waited before it started the next; guarded by c.mu
	dying  time.Time // since when the pod is known to be deleted, or to be about to; guarded by c.mu

	// The loop's own.
	read       bool // the last response that may have had all of the log did end cleanly
	asked      bool // a request was answered
	readAt     time.Time
	sawEmpty   bool      // its log was answered for when it was empty, and what came first is of a later response
	wholeAt    time.Time // when a stream brought all and ended cleanly, if none broke off since
	sure       int       // the part that is this run's: the kubelet was asked
	foreignAt  time.Time // since when responses are dropped as another run's; zero: they are not
	unfiltered bool      // do not resume with a filter
	deadEnds   int       // streams in a row that ended at once, as those of a dead container do
	poll       pollState
	health     health
	small      [chunkFirst]byte

	// Guarded by mu.
	mu      sync.Mutex
	cancel  context.CancelCauseFunc // ends the loop; nil: not launched
	closed  bool                    // by the capture
	kick    context.CancelCauseFunc // ends the open stream; nil: none is
	final   bool                    // the open stream is a read that ends by itself
	probe   probeState
	recheck bool // the next stream is to be a whole one
	behind  int  // streams that did not bring what the node had, since one was seen to

	active atomic.Int64 // when the open stream last delivered, in ns since the epoch
}

func newRun(c *Capture, slot, id string, number int) *run {
	r := &run{s: c.s, c: c, slot: slot, id: id, done: make(chan struct{}), poke: make(chan struct{}, 1)}
	r.log.st, r.log.id, r.log.number = c.s.store, id, number
	r.log.share.tell = func(lost error) { r.notify(NoticeDropped, lost) }
	r.log.proof = Live
	r.sp = splicer{l: &r.log, only: r.isOnly, filterFrom: c.s.filterFrom, heads: heads{life: c.s.fileLife}}
	return r
}

// loop captures the run to its end.
func (r *run) loop(ctx context.Context) {
	for failures := 0; ; {
		if ctx.Err() != nil {
			r.cutOff()
			return
		}
		l := r.lifeNow()
		if l != lifeAlive && (l != lifeBlind || r.deadEnds > 1) {
			if r.drain(ctx) {
				return
			}
			continue
		}
		res := r.follow(ctx)
		if res.grew || res.joined && r.poll.on() {
			failures = 0
		}
		failures++
		r.rest(ctx, res, failures)
	}
}

// follow streams until the stream ends, for whatever reason, or polls once.
func (r *run) follow(ctx context.Context) result {
	q := query{follow: !r.poll.on() || r.tryFollow(ctx)}
	switch {
	case r.unfiltered:
	case q.follow:
		q.expect, q.since, q.filtered = r.sp.cut()
	default:
		q.expect, q.tail = r.tail()
	}
	res := r.fetch(ctx, q)
	// Where a poll ends, or a stream that was not the last, the log goes on: that such an
	// end is the capture's, too, is no second opinion.
	r.read = q.follow && res.answer == kubelog.EOF
	switch {
	case r.read && res.joined:
		r.wholeAt = r.readAt
	case res.grew || res.answer == kubelog.Broken || res.answer == kubelog.Interrupted:
		r.wholeAt = time.Time{}
	}
	if q.tail > 0 {
		res.answer = r.adapt(q, res)
	}
	if r.deadEnds++; !res.isDeadEnd(q) {
		r.deadEnds = 0
	}
	switch res.answer {
	case kubelog.Astray:
		r.unfiltered = r.unfiltered || q.filtered
	case kubelog.Foreign:
		r.noteForeign()
	case kubelog.Watchers:
		r.startPolls(pollFor)
	case kubelog.PodGone:
		r.nowIs(lifeGone) // a watch has shown it, so it is deleted
	case kubelog.EOF, kubelog.Broken, kubelog.Interrupted:
		if res.joined {
			r.foreignAt, r.unfiltered = time.Time{}, r.takeRecheck()
		}
	}
	if q.follow && r.isHeldBack() {
		r.startPolls(heldFor)
		r.notePolling()
	}
	return res
}

// noteForeign notes that a response was dropped as another run's.
func (r *run) noteForeign() {
	if r.foreignAt.IsZero() {
		r.foreignAt = time.Now()
	}
}

// foreignFor reports whether responses have been dropped as another run's for d.
func (r *run) foreignFor(d time.Duration) bool {
	return !r.foreignAt.IsZero() && time.Since(r.foreignAt) >= d
}

// isDeadEnd says whether a stream ended as that of a dead container: with nothing new and
// at once, or because the node has removed it. A kubelet that dies ends it as well, and
// one that has been open for four hours.
func (res result) isDeadEnd(q query) bool {
	switch res.answer {
	case kubelog.Gone, kubelog.Absent:
		return true
	case kubelog.EOF:
		return q.follow && (res.joined || res.bytes == 0) && !res.grew && res.took < endWait
	}
	return false
}

// rest waits before the next stream: for as long as the answer asks for, or for a status
// that says why this one ended. One that ended cleanly and had brought something is
// opened again at once, but no oftener than once in streamPace.
func (r *run) rest(ctx context.Context, res result, failures int) {
	d := max(res.answer.Backoff(failures), res.after)
	switch res.answer {
	case kubelog.EOF, kubelog.Failed, kubelog.Gone, kubelog.Absent:
		if res.grew {
			d = max(d, streamPace-res.took)
		} else {
			d = streamWait
		}
	}
	if r.poll.on() && (res.answer == kubelog.EOF || res.answer == kubelog.Astray) {
		d = r.poll.wait(res)
	}
	if d > 0 {
		d += rand.N(d/4 + 1)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			return
		case <-ctx.Done():
			return
		case <-r.poke:
			if r.lifeNow() != lifeAlive {
				return
			}
		}
	}
}

// query is one request for the run's log.
type query struct {
	follow, filtered, previous bool
	since                      time.Time // filtered: from when on
	tail                       int64     // this many last lines; 0: all
	expect                     int64     // filtered, tail: a captured line that is to be in the response
}

func (q query) options(slot string) *corev1.PodLogOptions {
	r := kubelog.Request{Container: slot, Follow: q.follow, Previous: q.previous, Tail: q.tail}
	if q.filtered {
		r.Since = q.since
	}
	return r.Options()
}

// result is what one request brought.
type result struct {
	answer              kubelog.Answer
	equal, joined, grew bool
	bytes               int
	took                time.Duration
	after               time.Duration // not to ask again before
	err                 error         // the refusal
}

// why says for people why the final read could not be made, in the words of whoever refused
// it where these tell what is to be done.
func (res result) why() string {
	text, words := res.answer.String(), ""
	if res.err != nil {
		words = ": " + strings.TrimSuffix(res.err.Error(), ".")
	}
	switch res.answer {
	case kubelog.Unserved:
		return text + words
	case kubelog.Denied:
		return text + ", before the log was verified" + words
	}
	return text + ", before the log was verified"
}

// fetch makes one request and splices what it brings.
func (r *run) fetch(ctx context.Context, q query) result {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	r.setStream(cancel, !q.follow)
	defer r.setStream(nil, false)
	if q.follow && r.lifeNow() == lifeClosed {
		return result{answer: kubelog.Interrupted} // the tracking ended when there was no stream to end yet
	}
	if q.follow {
		r.s.counts.follows.Add(1)
	} else {
		r.s.counts.reads.Add(1)
	}
	committed, _ := r.log.bounds()
	r.sp.asked = look{asked: time.Now(), end: committed}
	body, err := r.s.open(ctx, r.c.namespace, r.c.name, q.options(r.slot), !r.asked)
	if err != nil {
		if ctx.Err() != nil {
			return result{answer: kubelog.Interrupted}
		}
		refusal := kubelog.Refuse(err)
		r.noteRefused(refusal.Answer, err)
		return result{answer: refusal.Answer, after: refusal.RetryAfter, err: err}
	}
	r.asked = true
	r.noteOpened(q.follow)
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = body.Close(); close(closed) })
	r.sp.oneFile = !q.follow
	r.sp.whose = func(line []byte, ns int64) owner {
		who := r.whose(ctx, q, line, ns)
		if who == ownRun && !r.log.began() {
			r.noteFirstFile(line, ns)
		}
		return who
	}
	r.sp.begin(q, r.foreignFor(blindWait))
	start := time.Now()
	res := r.pump(ctx, body, q)
	res.took = time.Since(start)
	if stop() {
		_ = body.Close()
	} else {
		<-closed
	}
	if q.follow {
		r.sp.ended = res.answer == kubelog.EOF
	}
	r.sawEmpty = r.sawEmpty || res.answer == kubelog.EOF && res.bytes == 0 && !r.log.began()
	if r.readAt = time.Now(); q.follow {
		r.noteEnded(res.answer)
	}
	return res
}

// pump reads the body to its end. Its buffer is small until data flows, so that
// a quiet stream holds none of the shared ones.
func (r *run) pump(ctx context.Context, body io.Reader, q query) (res result) {
	buf, big, total := r.small[:], []byte(nil), 0
	defer func() {
		if big != nil {
			r.s.store.give(big)
		}
		res.joined, res.grew, res.bytes = r.sp.joined, r.sp.grew, total
	}()
	for idle := 0; ; {
		n, err := body.Read(buf)
		if n > 0 {
			idle, total = 0, total+n
			now := time.Now()
			r.active.Store(now.UnixNano())
			r.s.counts.bytes.Add(int64(n))
			if a, ok := r.sp.feed(buf[:n]); !ok {
				return result{answer: a}
			}
			r.sp.heads.note(r.sp.newest, now)
			if r.sp.mode == modeAppend && r.sp.turn() {
				r.askRecheck()
				_, _ = r.sp.end(q.follow)
				return result{answer: kubelog.Interrupted}
			}
		} else if idle++; idle > 100 && err == nil {
			err = io.ErrNoProgress
		}
		if err != nil {
			a, equal := r.sp.end(q.follow)
			switch {
			case ctx.Err() != nil:
				return result{answer: kubelog.Interrupted}
			case a != kubelog.EOF:
				return result{answer: a}
			case !errors.Is(err, io.EOF):
				return result{answer: kubelog.Broken}
			}
			return result{answer: kubelog.EOF, equal: equal}
		}
		switch {
		case big == nil && n == len(buf):
			big = r.s.store.buffer()
			buf = big
		case big != nil && n < len(r.small):
			r.s.store.give(big)
			buf, big = r.small[:], nil
		}
	}
}

func (r *run) setStream(kick context.CancelCauseFunc, final bool) {
	r.active.Store(time.Now().UnixNano())
	r.mu.Lock()
	r.kick, r.final = kick, final
	p := &r.probe
	*p = probeState{known: p.known, opened: time.Now(), headAt: p.headAt, headEnd: p.headEnd, floodAt: p.floodAt}
	r.mu.Unlock()
}

func (r *run) lifeNow() life {
	l, _ := r.lifeSince()
	return l
}

func (r *run) lifeSince() (life, time.Time) {
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	return r.life, r.lifeAt
}

// isOnly says whether the open stream is the last of the run's log: nobody answers for
// a pod that is deleted.
func (r *run) isOnly() bool {
	switch r.lifeNow() {
	case lifeGone, lifeUnreadable, lifeClosed:
		return true
	}
	return false
}

// launched tells the run how its loop is ended.
func (r *run) launched(cancel context.CancelCauseFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cancel = cancel
	if r.closed {
		cancel(ErrClosed)
	}
}

// close ends the loop. It does not wait.
func (r *run) close() {
	r.mu.Lock()
	r.closed = true
	if r.cancel != nil {
		r.cancel(ErrClosed)
	}
	r.mu.Unlock()
	r.s.abandon(r)
}

func (r *run) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// kickStream ends the open stream, so that the loop looks again.
func (r *run) kickStream() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.kick != nil {
		r.kick(errKick)
	}
}
