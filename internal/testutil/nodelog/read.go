package nodelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// readAhead is how much the kubelet reads of a file at a time: bufio's default
// (logs.go:317).
const readAhead = 4096

// ReadOptions are those of one read of a log (logs.go:88-112).
type ReadOptions struct {
	Follow     bool
	Timestamps bool
	TailLines  *int64 // counts records, not lines
	LimitBytes *int64
	Since      time.Time

	// Watch, if set, is asked when a follower comes to the end of its file for the first
	// time: why the node has no inotify instance left for it.
	Watch func() error

	// AtEnd, if set, is asked whenever a follower that has its inotify instance is at the
	// end of its file, and after every event and Wake: an error ends the read there; io.EOF
	// is a clean end.
	AtEnd func() error

	// EndAtRotation ends a follow, cleanly, when it learns of a new file (seen on a real
	// node, v1.37.2).
	EndAtRotation bool
}

// For are the options of a request. The times of requests have no fractions of a
// second on their way to the kubelet (apimachinery v0.36.3 pkg/apis/meta/v1/time.go:210);
// seconds are counted back on the node's clock (kubernetes v1.36.3
// pkg/kubelet/kuberuntime/kuberuntime_logs.go:33-45).
func For(o *corev1.PodLogOptions) ReadOptions {
	r := ReadOptions{Follow: o.Follow, Timestamps: o.Timestamps, TailLines: o.TailLines, LimitBytes: o.LimitBytes}
	switch {
	case o.SinceTime != nil:
		r.Since = o.SinceTime.Truncate(time.Second)
	case o.SinceSeconds != nil:
		r.Since = time.Now().Add(-time.Duration(*o.SinceSeconds) * time.Second)
	}
	return r
}

// Reader is one read of a log, and a follow when asked for: an io.ReadCloser, and an
// io.WriterTo that writes as the kubelet does, a record at a time. What goes wrong on
// the node comes as the kubelet's words at the end of the text, because its headers are
// out by then (kubernetes v1.36.3 pkg/kubelet/server/server.go:881). One goroutine may
// use it, beside Close.
//
// A follower learns of a new file from inotify only, which it asks for events at the
// end of its file, and from then on only. So one that had not come to the end of the old
// file when it was rotated stays with it until the next rotation, and one that lags
// behind by two rotations skips a file and is sent another one twice.
type Reader struct {
	ctx    context.Context
	log    *Log
	o      ReadOptions
	once   sync.Once
	closed chan struct{}

	text []byte // to be sent, not yet taken
	err  error  // what comes after that

	file    *file
	offset  int    // in file, of what is read next
	ahead   []byte // read of the file, not yet looked at
	emptied int    // file's, when ahead was read

	records int64    // that are still wanted of TailLines
	remain  int64    // of LimitBytes
	started bool     // a record was read
	inLine  bool     // the record before ended without a newline
	stop    bool     // after the record before
	found   bool     // the container was not seen dead
	watcher *watcher // set under the log's lock
	waits   bool     // for an event
	waited  bool     // for one, at least once
	scratch []byte
}

// Open begins to read. It does not block and does not fail.
func (l *Log) Open(ctx context.Context, o ReadOptions) *Reader {
	r := &Reader{ctx: ctx, log: l, o: o, closed: make(chan struct{}), records: -1, remain: math.MaxInt64, found: true}
	if o.LimitBytes != nil {
		r.remain = *o.LimitBytes
	}
	if _, err := l.status(false); err != nil { // kubernetes v1.36.3 pkg/kubelet/kuberuntime/kuberuntime_container.go:1315-1322
		r.end(fmt.Sprintf("unable to retrieve container logs for %s", l.o.ID))
		return r
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.file = l.current; r.file == nil { // logs.go:292-295
		r.end(fmt.Sprintf("failed to try resolving symlinks in path %q: lstat %s: no such file or directory", l.o.Path, l.o.Path))
		return r
	}
	if o.TailLines != nil {
		r.offset = tailStart(r.file.data, *o.TailLines)
		if !o.Follow {
			r.records = *o.TailLines
		}
	}
	return r
}

// tailStart is where the last n records of a file begin; the end of one that is
// missing does not count (tail.go:33-60).
func tailStart(data []byte, n int64) int {
	at := bytes.LastIndexByte(data, '\n') + 1
	for ; n > 0 && at > 0; n-- {
		at = bytes.LastIndexByte(data[:at-1], '\n') + 1
	}
	return at
}

// end ends the text with words of the kubelet.
func (r *Reader) end(words string) { r.text, r.err = append(r.text, words...), io.EOF }

var (
	errClosed  = errors.New("nodelog: the reader was closed")
	errBlocked = errors.New("nodelog: nothing to read yet")
)

// Read returns what there is, many records at a time.
func (r *Reader) Read(p []byte) (n int, err error) {
	select {
	case <-r.closed:
		return 0, errClosed
	default:
	}
	for n < len(p) {
		if len(r.text) == 0 {
			if err := r.next(n == 0); err != nil {
				if n > 0 {
					err = nil
				}
				return n, err
			}
		}
		k := copy(p[n:], r.text)
		n, r.text = n+k, r.text[k:]
	}
	return n, nil
}

// WriteTo writes every record by itself, and reads the next one when that is written.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		if len(r.text) == 0 {
			if err := r.next(true); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				return n, err
			}
		}
		k, err := w.Write(r.text)
		n, r.text = n+int64(k), nil
		if err != nil {
			return n, err
		}
	}
}

// Close ends a Read that waits.
func (r *Reader) Close() error {
	r.once.Do(func() {
		close(r.closed)
		r.unwatch()
	})
	return nil
}

// next reads on until there is text. When it would have to wait, it does (block) or
// fails with errBlocked.
func (r *Reader) next(block bool) error {
	for len(r.text) == 0 && r.err == nil {
		if r.waits {
			if err := r.wait(block); err != nil {
				return err
			}
			if r.err != nil {
				break
			}
		}
		if r.stop || r.records == 0 {
			return r.fail(io.EOF)
		}
		raw, whole := r.readRecord()
		switch {
		case whole:
			r.take(raw)
		case r.o.Follow:
			r.atEnd(raw)
		default: // what there is of a record whose end is missing
			if r.stop = true; len(raw) > 0 {
				r.take(raw)
			}
		}
	}
	if len(r.text) > 0 {
		return nil
	}
	return r.fail(r.err)
}

// fail ends the read for good.
func (r *Reader) fail(err error) error {
	r.err = err
	r.unwatch()
	return err
}

// readRecord reads to the next newline; whole is false at the end of the file, which
// may come before.
func (r *Reader) readRecord() (raw []byte, whole bool) {
	var before []byte // of a record that does not fit
	for {
		if i := bytes.IndexByte(r.ahead, '\n'); i >= 0 {
			raw, r.ahead = r.ahead[:i+1], r.ahead[i+1:]
			whole = true
			break
		}
		if len(r.ahead) >= readAhead {
			before, r.ahead = append(before, r.ahead...), nil
		}
		if !r.fill(readAhead - len(r.ahead)) {
			raw, r.ahead = r.ahead, nil
			break
		}
	}
	if len(before) > 0 {
		raw = append(before, raw...)
	}
	return raw, whole
}

// fill reads up to n bytes more of the file; false: there are none.
func (r *Reader) fill(n int) bool {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	f := r.file
	n = min(n, len(f.data)-r.offset)
	if n <= 0 {
		return false
	}
	if more := f.data[r.offset : r.offset+n]; len(r.ahead) == 0 {
		r.ahead = more
	} else if r.emptied == f.emptied {
		r.ahead = f.data[r.offset-len(r.ahead) : r.offset+n]
	} else { // what was read is gone from the file
		r.ahead = append(bytes.Clone(r.ahead), more...)
	}
	r.emptied = f.emptied
	r.offset += n
	return true
}

// take renders a record as the request asks (logs.go:233-276, 393-427). Only the first
// record of a line has a time. A line of which only the rest is new enough has none.
func (r *Reader) take(raw []byte) {
	at, text, ok := parse(raw)
	switch {
	case !ok && !r.started:
		r.end(fmt.Sprintf("failed to get parse function: unsupported log format: %q", raw))
		return
	case !ok:
		return
	}
	r.started = true
	if r.records > 0 {
		r.records--
	}
	inLine := r.inLine
	r.inLine = len(text) > 0 && text[len(text)-1] != '\n'
	if at.Before(r.o.Since) {
		return
	}
	r.scratch = r.scratch[:0]
	if r.o.Timestamps && !inLine {
		r.scratch = append(AppendStamp(r.scratch, at), ' ')
	}
	r.scratch = append(r.scratch, text...)
	r.text = r.scratch[:min(int64(len(r.scratch)), r.remain)]
	if r.remain -= int64(len(r.text)); r.remain <= 0 {
		r.err = io.EOF
	}
}

// atEnd is what a follower does at the end of its file, where a record may have been
// begun (logs.go:340-384).
func (r *Reader) atEnd(begun []byte) {
	if !r.found {
		r.err = io.EOF
		return
	}
	r.offset -= len(begun) // to be read again
	if r.watcher == nil {
		if r.o.Watch != nil {
			if err := r.o.Watch(); err != nil {
				r.end(fmt.Sprintf("failed to create fsnotify watcher: %v", err))
				return
			}
		}
		r.watch() // what was written before is not told: it reads again
		return
	}
	if r.interrupted() {
		return
	}
	running, err := r.log.status(r.waited)
	switch {
	case err != nil:
		r.end(err.Error())
	case !running:
		r.found = false // and reads what there is
	default:
		r.waits = true
	}
}

// interrupted asks whether the read is to end here.
func (r *Reader) interrupted() bool {
	if r.o.AtEnd != nil {
		r.err = r.o.AtEnd()
	}
	return r.err != nil
}

// wait waits for something to happen to the log, or for another reason to look at it
// (logs.go:461-491).
func (r *Reader) wait(block bool) error {
	if r.interrupted() {
		return nil
	}
	e, ok := r.watcher.next()
	if !ok && !block {
		return errBlocked
	}
	if !ok {
		r.waited = true
		var notices <-chan time.Time
		if d, ended := r.log.notices(); ended {
			timer := time.NewTimer(d)
			defer timer.Stop()
			notices = timer.C
		}
		select {
		case <-r.watcher.more:
		case <-notices:
		case <-r.closed:
			return r.fail(errClosed)
		case <-r.ctx.Done():
			return r.fail(r.ctx.Err())
		}
		if r.interrupted() {
			return nil
		}
		e, ok = r.watcher.next()
	}
	r.waits = false
	if ok && e == created {
		r.reopen()
	}
	return nil
}

// reopen turns to the file that has the log's name now. Where there is none again, it
// stays with the old one (logs.go:371-383).
func (r *Reader) reopen() {
	if r.o.EndAtRotation {
		r.err = io.EOF
		return
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if f := r.log.current; f != nil {
		r.file, r.offset, r.ahead = f, 0, nil
	}
}
