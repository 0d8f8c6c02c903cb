package logstream

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
)

type fillState int

const (
	filled     fillState = iota // there is more to deliver, or the end
	wouldBlock                  // nothing yet
	flushFirst                  // nothing more that belongs with what buf holds
)

// fill gets more: bytes, the text of a gap, or the end. It blocks if told to.
func (r *Reader) fill(block bool) fillState {
	var awaited *runLog
	defer func() {
		if awaited != nil {
			awaited.forget(r.ready)
		}
	}()
	for {
		if r.over.Err() != nil {
			return filled // the caller looks at it
		}
		r.lookAtCtx()
		if r.cur == nil {
			if !block {
				return wouldBlock
			}
			if r.nextRun(); r.err != nil || len(r.text) > 0 {
				return filled
			}
			continue
		}
		committed, final, plain, gaps := r.cur.log.view()
		if r.goBack() || r.skipShown(committed) {
			continue
		}
		r.plain = plain
		stop := committed
		if r.limit >= 0 {
			stop = r.limit
		}
		ends := final || r.limit >= 0
		told, next := r.tellGap(gaps, stop, ends && r.pos >= stop)
		switch {
		case len(r.text) > 0:
			return filled
		case told:
			continue
		case r.pos < min(next, stop):
			if st, done := r.window(min(next, stop)); done {
				return st
			}
			continue
		case len(r.buf) > 0 && (next <= r.pos || ends):
			return flushFirst
		case ends:
			if r.leave(); r.err != nil {
				return filled
			}
			continue
		case !block:
			return wouldBlock
		}
		if l := &r.cur.log; awaited != l { // it may be the one before, which ended meanwhile
			if awaited != nil {
				awaited.forget(r.ready)
			}
			awaited = l
			awaited.await(r.ready)
			continue // look once more: it may have changed before
		}
		select {
		case <-r.ready:
			awaited = nil
		case <-r.ctx.Done():
		}
	}
}

// window reads up to stop. done is false when bytes were dropped: look again.
func (r *Reader) window(stop int64) (st fillState, done bool) {
	if r.hold == nil {
		r.hold = r.c.s.store.buffer()
		r.buf = r.hold[:0]
	} else if len(r.buf) > 0 {
		r.buf = r.hold[:copy(r.hold, r.buf)]
	} else {
		r.buf = r.hold[:0]
	}
	n, next, err := r.cur.log.readAt(r.hold[len(r.buf):], r.pos, stop)
	if r.cur.log.retreated() != r.retreats {
		return filled, false // what was read may be another run's
	}
	if err != nil {
		if len(r.buf) > 0 && !r.start && !r.skip {
			return flushFirst, true // what there is of a long line
		}
		r.buf = r.hold[:0] // the start of a line whose end was dropped
		r.pos, r.skip = next, true
		return filled, false
	}
	r.buf = r.hold[:len(r.buf)+n]
	r.pos = next
	return filled, !r.skip || r.skipLine(false)
}

// skipLine skips to the next line after dropped bytes, and tells of them. When none
// comes in a whole buffer, this is a long line, of which there is what there is.
func (r *Reader) skipLine(atEnd bool) bool {
	midLine := !r.start
	j := bytes.IndexByte(r.buf, '\n')
	switch {
	case j >= 0:
		r.buf, r.start = r.buf[j+1:], true
	case atEnd:
		r.buf, r.start = nil, true
	case len(r.buf) == cap(r.hold):
		r.start = false
	default:
		return false
	}
	r.skip = false
	r.tell(r.cur.log.holeGap(r.cur.log.lostBefore(r.pos-int64(len(r.buf)))), midLine)
	return true
}

// tellGap deals with a gap at the reader's place, or behind it: that one waits for
// the end of the line, or of the run. next is the place of the next one ahead, or
// the reader's own when what is before the gap must be delivered first.
func (r *Reader) tellGap(gaps []gapMark, stop int64, atEnd bool) (told bool, next int64) {
	next = stop + 1
	if r.skip {
		return atEnd && r.skipLine(true), next // first of what was dropped
	}
	for len(r.told) < len(gaps) {
		r.told = append(r.told, false)
	}
	for i, g := range gaps {
		switch {
		case r.told[i] || g.at > stop:
		case g.at > r.pos:
			next = min(next, g.at)
		case len(r.buf) > 0:
			if g.at == r.pos {
				next = r.pos
			}
		case g.at == r.pos || r.start || atEnd:
			r.told[i] = true
			midLine := !r.start
			r.start = true
			r.tell(g.Gap, midLine)
			return true, next
		}
	}
	return false, next
}

// tell makes a gap's text the next thing to deliver: on a line of its own.
func (r *Reader) tell(g Gap, midLine bool) {
	text := "[" + g.String() + "]"
	if r.opt.Gap != nil {
		text = r.opt.Gap(g)
	}
	if text == "" {
		return
	}
	r.gap = &g
	if midLine {
		r.text, r.broken = append(r.text, '\n'), true
	}
	r.torn = false
	r.text = append(r.text, text...)
	if !strings.HasSuffix(text, "\n") {
		r.text = append(r.text, '\n')
	}
}

// nextRun finds the run to read next, or the end.
func (r *Reader) nextRun() {
	if r.bound != nil {
		if len(r.list) == 0 {
			r.err = r.bound
			return
		}
		w := r.list[0]
		r.enter(w.r)
		r.limit, r.retreats, r.list = w.limit, w.retreats, r.list[1:]
		return
	}
	id, err := r.c.nextRun(r.ctx, r.slot, r.after)
	if r.ctx.Err() != nil {
		return // what is captured by now is all there is to read
	}
	if err == nil && id == "" {
		err = io.EOF
	}
	if errors.Is(err, io.EOF) {
		if k := r.c.nameless(r.slot, r.others); k != nil {
			r.enter(k)
			return
		}
	}
	if err != nil {
		r.endWith(err)
		return
	}
	run, err := r.c.find(r.ctx, r.slot, id)
	switch {
	case r.ctx.Err() != nil || err != nil:
	case run == nil: // the watch ended before it told of this run
		c := Certificate{Slot: r.slot, ContainerID: id, Run: -1, Proof: Incomplete, Why: "the run was never seen by the capture"}
		c.Gaps = []Gap{{ContainerID: id, Run: -1, Why: c.Why, Certain: true}}
		r.fail(c)
		r.after = id
		r.tell(c.Gaps[0], r.torn)
	default:
		r.enter(run)
	}
}

// endWith ends the reader for NextRun's reason.
func (r *Reader) endWith(err error) {
	switch {
	case r.opt.Gap != nil && (errors.Is(err, io.EOF) || r.after != ""):
		r.err = io.EOF
	case r.bad != nil:
		r.err = r.bad
	default:
		r.err = err
	}
}

func (r *Reader) enter(k *run) {
	r.cur, r.pos, r.limit, r.start, r.skip, r.told, r.retreats = k, 0, -1, true, false, nil, k.log.retreated()
	r.noteEntered(k)
	if k.missed > 0 {
		r.tell(k.missedGap(), r.torn)
	}
}

// skipAll begins after all that is captured.
func (r *Reader) skipAll(list []window) {
	for _, w := range list {
		r.noteEntered(w.r)
	}
	if r.last != nil {
		r.enterAtEnd(r.last)
	}
}

func (r *Reader) noteEntered(k *run) {
	if k.id == "" {
		r.others++
	} else {
		r.last = k
	}
}

// enterAtEnd enters a run after what is captured of it.
func (r *Reader) enterAtEnd(k *run) {
	r.retreats = k.log.retreated()
	committed, _, plain, gaps := k.log.view()
	r.cur, r.pos, r.plain = k, committed, plain
	r.start = k.log.lineStart(committed, nil, committed)
	r.told = slices.Repeat([]bool{true}, len(gaps))
}

// leave ends the reading of a run.
func (r *Reader) leave() {
	c := r.cur.certificate()
	if c.Proof == Incomplete {
		r.fail(c)
	}
	if r.pos > 0 {
		r.torn = !r.start
		r.leaveUnproved()
	}
	if r.cur.id != "" {
		r.after = r.cur.id
	}
	r.cur = nil
	if c.Why == whyStopped && r.bound == nil && r.c.isLast(r.slot, r.after) {
		r.endWith(io.EOF) // no run will be captured any more
	}
	r.drop()
}

func (r *Reader) fail(c Certificate) {
	if r.bad == nil {
		r.bad = &IncompleteError{c}
	}
}
