package logstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// ReadOptions say how a [Reader] reads. The zero value reads everything, from the
// first line of the first run.
type ReadOptions struct {
	// FromEnd starts after what is captured when the Reader is made.
	FromEnd bool
	// Snapshot reads what is captured when the Reader is made, then io.EOF.
	Snapshot bool
	// Gap, when set, makes every Gap a piece of text in its place, or at the next
	// line where it is noticed behind the reader: once, and on lines of its own, to
	// which newlines are added where they lack; an empty text leaves it out. The
	// end is io.EOF then, whatever is missing, but that of a ctx that ended, which is
	// context.Cause as without. It is called by Read and Lines. Without it, Read tells of
	// gaps only by its error; Lines yields them all the same.
	Gap func(Gap) string
}

// Reader reads the log of a slot: all of its work runs, one after the other. It
// sees whole lines, and of a line longer than 64 KiB what there is of it; of a
// shorter one of which a part was dropped, nothing.
//
// It ends in
//   - io.EOF after a slot's last run, when no run is Incomplete (of runs that nobody
//     saw only a Gap tells), or with ReadOptions.Gap or Snapshot;
//   - an *[IncompleteError] after all bytes of the slot's runs, when one of them
//     is Incomplete (the first such; those without an ID come last);
//   - the error of [Runs].NextRun, when the slot cannot run: at once, before any
//     output. After output it is returned too, unless Gap is set. Of a nil Runs: that
//     the pod has finished and had no such container, or, while the API server refuses
//     the watch, its refusal;
//   - an error at once when slot is empty;
//   - context.Cause of its ctx, after all bytes and gaps that are captured at the first
//     call of Read or step of Lines after ctx ended: from then on it never blocks, and what
//     is captured later is left out, as is the beginning of a line whose end was not captured.
//     A Snapshot is not cut by its ctx. To stop at once, Close it;
//   - [ErrClosed] at once after Close, or Close of the Capture, which ends the reader of a
//     slot that never ran in io.EOF.
//
// What a Streamer that stops leaves unfinished is Incomplete. A run that has not
// begun by then is waited for as before.
//
// A Reader is for one goroutine at a time; Close may be called from any. One that
// has ended need not be closed.
type Reader struct {
	c      *Capture
	slot   string
	opt    ReadOptions
	ctx    context.Context // ends with the caller's, and with over
	over   context.Context // ends when the reader is closed, or has ended: then with its error
	cancel context.CancelCauseFunc

	ready chan struct{} // cur's log changed

	mu       sync.Mutex  // held by Read and by each step of Lines
	bound    error       // what ends the reader after cur and list, which are all there is to read; nil: it follows
	list     []window    // with bound: what to read after cur
	last     *run        // the newest run that was entered and has an ID
	cur      *run        // nil: the next run is to be found
	others   int         // runs without an ID that were entered
	after    string      // the run before it
	pos      int64       // in cur's log, after buf
	limit    int64       // with bound: where cur ends; else -1
	plain    bool        // cur's lines have no timestamps
	told     []bool      // cur's gaps that were dealt with
	shown    []shownLine // of parts that were taken back
	left     []leftRun
	retreats int    // of cur that were followed
	start    bool   // buf begins at the start of a line
	torn     bool   // the run before cur ended in no newline
	skip     bool   // bytes were dropped: skip to the next line
	buf      []byte // cur's bytes up to pos that are not delivered
	hold     []byte // buf's buffer
	gap      *Gap   // to be delivered first
	text     []byte // in words
	broken   bool   // text begins with the end of the line that the gap is in
	bad      *IncompleteError
	err      error
	clock    stamp.Clock
}

// window is what there is to read of a run.
type window struct {
	r        *run
	limit    int64
	retreats int // that were before limit was known
}

// Reader returns a reader of slot's log. It can be made at any time, before the
// slot's step started, while it runs, and after it ended: the bytes are the same.
// There may be any number. None of them slows the capture. ctx ends it.
func (c *Capture) Reader(ctx context.Context, slot string, o ReadOptions) *Reader {
	r := &Reader{c: c, slot: slot, opt: o, limit: -1, ready: make(chan struct{}, 1)}
	over, end := context.WithCancelCause(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancelCause(ctx)
	r.ctx, r.over, r.cancel = ctx, over, func(cause error) { end(cause); cancel(cause) }
	c.mu.Lock()
	switch {
	case slot == "":
		r.cancel(errNoSlot)
	case c.closed:
		r.cancel(c.closeCause(slot))
	default:
		c.readers[r] = struct{}{}
	}
	c.mu.Unlock()
	switch {
	case o.Snapshot && o.FromEnd:
		r.bound = io.EOF
	case o.Snapshot:
		r.bound, r.list = io.EOF, r.rest()
	case o.FromEnd:
		r.skipAll(r.rest())
	}
	return r
}

// rest is what is captured of the runs that were not entered. Those without an ID come
// last, as in a reader that follows.
func (r *Reader) rest() (list []window) {
	c := r.c
	c.mu.Lock()
	var runs, nameless []*run
	for _, k := range c.order {
		switch {
		case k.slot != r.slot:
		case k.id == "":
			nameless = append(nameless, k)
		default:
			runs = append(runs, k)
		}
	}
	c.mu.Unlock()
	runs = append(runs[slices.Index(runs, r.last)+1:], nameless[r.others:]...)
	for _, k := range runs {
		retreats := k.log.retreated()
		committed, _ := k.log.bounds()
		list = append(list, window{k, committed, retreats})
	}
	return list
}

// lookAtCtx bounds a reader whose ctx has ended to what is captured by now.
func (r *Reader) lookAtCtx() {
	if r.bound != nil || r.ctx.Err() == nil {
		return
	}
	r.bound, r.list = context.Cause(r.ctx), r.rest()
	if r.cur != nil {
		r.limit, _ = r.cur.log.bounds()
	}
}

// Close ends the reader; a Read that waits returns ErrClosed. The capture goes on.
func (r *Reader) Close() error {
	r.cancel(ErrClosed)
	r.c.leave(r)
	return nil
}

func (c *Capture) leave(r *Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.readers, r)
}

// Read implements io.Reader: it blocks until there are bytes or the end. Every
// line ends in its newline, but for a last one that has none.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for n, flush := 0, false; ; {
		if r.over.Err() != nil {
			r.ended()
			return 0, context.Cause(r.over)
		}
		r.lookAtCtx()
		if r.opt.Gap == nil && r.gap != nil {
			r.gap, r.text, r.broken = nil, nil, false
		}
		if len(r.text) > 0 {
			k := copy(p[n:], r.text)
			r.text, r.broken, n = r.text[k:], false, n+k
		} else {
			n += r.strip(p[n:], flush)
		}
		switch {
		case n == len(p):
			return n, nil
		case len(r.text) > 0:
			continue
		case r.err != nil && n > 0:
			return n, nil
		case r.err != nil:
			r.ended()
			return 0, r.err
		}
		switch r.fill(n == 0) {
		case filled:
			flush = false
		case wouldBlock:
			return n, nil
		case flushFirst:
			flush = true
		}
	}
}

// strip moves text from buf to p. Without flush it leaves the start of a line whose
// end is still to be read: it may be dropped by then.
func (r *Reader) strip(p []byte, flush bool) (n int) {
	buf, start := r.buf, r.start
	for n < len(p) && len(buf) > 0 && !r.skip {
		j := bytes.IndexByte(buf, '\n') + 1
		if j == 0 {
			if start && !flush && len(buf) < cap(r.hold) {
				break
			}
			j = len(buf)
		}
		if start && !r.plain {
			_, k := r.clock.Parse(buf[:j])
			buf, j = buf[k:], j-k
		}
		k := copy(p[n:], buf[:j])
		start = k > 0 && buf[k-1] == '\n'
		buf, n = buf[k:], n+k
	}
	if r.buf, r.start = buf, start; len(buf) == 0 {
		r.drop()
	}
	return n
}

// ended lets go of what would only end with the capture: a reader at its end need
// not be closed.
func (r *Reader) ended() {
	r.drop()
	r.cancel(r.err)
	r.c.leave(r)
}

// drop gives the buffer back.
func (r *Reader) drop() {
	if r.hold != nil {
		r.c.s.store.give(r.hold)
	}
	r.hold, r.buf = nil, nil
}

// Lines yields the log line by line; a line longer than 64 KiB comes in pieces. Every Gap
// is a Line in its place, which has Gap set and says it in words, with or without
// ReadOptions.Gap. An end that is not io.EOF is yielded last, with an empty Line. Text is
// valid until the next line. The loop may be left and Lines or Read called again.
func (r *Reader) Lines() iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for {
			l, err := r.line()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					yield(Line{}, err)
				}
				return
			}
			if !yield(l, nil) {
				return
			}
		}
	}
}

func (r *Reader) line() (Line, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for flush := false; ; {
		r.lookAtCtx()
		switch {
		case r.over.Err() != nil:
			r.ended()
			return Line{}, context.Cause(r.over)
		case len(r.text) > 0:
			if r.broken {
				r.text, r.broken = r.text[1:], false
			}
			j := bytes.IndexByte(r.text, '\n')
			l := Line{Text: r.text[:j], Gap: r.gap}
			r.text = r.text[j+1:]
			return l, nil
		}
		if l, ok := r.cutLine(flush); ok {
			return l, nil
		}
		if r.err != nil {
			r.ended()
			return Line{}, r.err
		}
		if len(r.buf) == 0 {
			r.drop()
		}
		flush = r.fill(true) == flushFirst
	}
}

// atEnd says whether buf holds the last that there is to read of cur.
func (r *Reader) atEnd() bool {
	committed, final, _, _ := r.cur.log.view()
	return r.pos == r.limit || (final && r.pos == committed)
}

// cutLine takes a line off buf, or a piece of one that does not fit in it.
func (r *Reader) cutLine(flush bool) (l Line, ok bool) {
	j := bytes.IndexByte(r.buf, '\n')
	if r.skip || j < 0 && (len(r.buf) == 0 || (!flush && len(r.buf) < cap(r.hold))) {
		return l, false
	}
	l = Line{ContainerID: r.cur.id, Run: r.cur.log.number, Partial: j < 0}
	l.More = l.Partial && !flush && !r.atEnd()
	text := r.buf
	if j >= 0 {
		text, r.buf = r.buf[:j], r.buf[j+1:]
	} else {
		r.buf = nil
	}
	if r.start && !r.plain {
		ns, n := r.clock.Parse(text)
		if n > 0 {
			text, l.Time = text[n:], stamp.Time(ns)
		}
	}
	r.start = j >= 0
	l.Text = text
	return l, true
}
