package logstream

import (
	"bytes"
	"context"
	"math/rand/v2"
	"time"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
)

// A stream takes an inotify instance of its node, and a node has some 100 of them.
// Past that a stream brings what there is by now and ends in the kubelet's words for it,
// and the run is polled: its last lines are read, as many as it takes to find what was
// captured last. The kubelet looks for them from the file's end
// (k8s.io/cri-client v0.36.3 pkg/logs/tail.go:32), so a poll costs the node and the
// network what is new, whatever the size of the log.
const (
	pollFor   = time.Minute // then a stream is tried again
	heldFor   = time.Hour   // the same, where streams are held back
	pollTry   = 2 * time.Second
	pollEvery = time.Second     // as often as a stream of the kubelet's looks without inotify (logs.go:62)
	pollQuiet = 2 * time.Second // after one that brought nothing
	tailFirst = 16              // lines
	tailLeast = 4               // one that may be cut, the one to go on from, one of another time, a new one
	tailMost  = 16 << 10        // more than that are likely the whole file
)

// pollState is the loop's own.
type pollState struct {
	until time.Time // zero: the run is streamed
	lines int64     // to ask for
}

func (p *pollState) on() bool { return !p.until.IsZero() }

func (r *run) startPolls(d time.Duration) {
	if !r.poll.on() {
		r.poll.lines = tailFirst
	}
	r.poll.until = time.Now().Add(d + rand.N(d/4))
}

// isHeldBack reports whether streams do not bring what the node has: a proxy may pass a
// body on in pieces, or at its end. One such stream may have missed an event of the node's.
func (r *run) isHeldBack() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.behind > 1
}

// tryFollow says whether to try a stream again. One of nothing but what is still to
// come tells at no cost: in a node that is out of instances it ends at once.
func (r *run) tryFollow(ctx context.Context) bool {
	if time.Now().Before(r.poll.until) {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, pollTry)
	defer cancel()
	b, err := r.look(ctx, kubelog.Request{Container: r.slot, Follow: true, Tail: kubelog.NoLines})
	_, words := kubelog.Words(b[bytes.LastIndexByte(b, '\n')+1:])
	if words || err != nil && ctx.Err() == nil {
		r.startPolls(pollFor)
		return false
	}
	r.poll = pollState{}
	return true
}

// tail says how many lines to ask for, and the captured one that is to be among them.
func (r *run) tail() (expect, lines int64) {
	if expect = r.sp.edge(); expect < 0 {
		return 0, 0
	}
	return expect, r.poll.lines
}

// adapt chooses the lines to ask for next by what was to be seen in this response: four
// times as many when it did not reach back to the capture's end, fewer when little of it
// was of use.
func (r *run) adapt(q query, res result) kubelog.Answer {
	_, end := r.log.bounds()
	got, useful := int64(res.bytes), end-q.expect
	switch {
	case res.answer != kubelog.EOF && res.answer != kubelog.Astray:
	case !res.joined && got == 0: // a new file, as yet empty
		r.unfiltered = true
	case !res.joined && r.poll.lines >= tailMost:
		r.unfiltered, r.poll.lines = true, tailFirst
		return kubelog.Astray
	case !res.joined:
		r.poll.lines *= 4
		return kubelog.Astray
	case got > 4*useful:
		r.poll.lines = max(r.poll.lines*2*useful/got, tailLeast)
	}
	return res.answer
}

// wait is the time to the next poll after one that went well.
func (p *pollState) wait(res result) time.Duration {
	switch {
	case res.answer == kubelog.Astray: // and asks for more lines
		return 0
	case res.grew:
		return pollEvery
	}
	return pollQuiet
}
