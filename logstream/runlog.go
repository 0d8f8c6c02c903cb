package logstream

import (
	"bytes"
	"sort"
	"sync"
)

// runLog is what was captured of one run: the bytes as the kubelet sent them,
// timestamps included, so that any later read of the same file can be compared
// with them byte by byte. Offsets count from the first byte captured and never
// change. One goroutine writes; any number read.
//
// What lies between committed and end is not known to be output yet: the half of
// a line, or the kubelet's last words glued to it. Readers see what is committed.
type runLog struct {
	st     *store
	id     string // the run's container ID
	number int    // and the run's number

	// The writer's own.
	newlines uint64 // written so far
	last     *chunk // being written

	mu        sync.Mutex
	chunks    []*chunk
	committed int64
	end       int64
	lines     uint64 // committed
	stamps    int64  // bytes of committed timestamps
	newest    int64  // newest timestamp committed
	plain     bool   // the body has no timestamps at all
	proof     Proof
	why       string
	head      []byte // the beginning of its first line
	fileHead  []byte // the beginning of the node's current file, as far as is known
	fileStart int64  // where that file begins
	freed     bool
	gaps      []gapMark
	waiting   []chan<- struct{} // to be told of the next change
}

// gapMark is a Gap and its place in the log.
type gapMark struct {
	Gap
	at int64
}

func (l *runLog) bounds() (committed, end int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committed, l.end
}

// write appends uncommitted bytes. Writer only.
func (l *runLog) write(p []byte) {
	for len(p) > 0 {
		c := l.room()
		n := copy(c.data[c.n:], p)
		c.n += n
		l.newlines += uint64(bytes.Count(p[:n], newline))
		p = p[n:]
		l.mu.Lock()
		l.end += int64(n)
		l.mu.Unlock()
	}
}

// room returns the chunk to write to, with room in it.
func (l *runLog) room() *chunk {
	c := l.last
	if c != nil && c.n < len(c.data) {
		return c
	}
	if c != nil && len(c.data) < chunkSize {
		l.st.grow(c, min(len(c.data)*4, chunkSize))
		return c
	}
	size := chunkSize
	if c == nil {
		size = chunkFirst
	} else {
		l.st.seal(c)
	}
	l.mu.Lock()
	c = &chunk{start: l.end, base: l.newlines, first: l.newest, slot: -1}
	l.chunks = append(l.chunks, c)
	for len(l.chunks) > 1 && l.chunks[0].dropped() {
		l.chunks = l.chunks[1:]
	}
	l.mu.Unlock()
	l.st.grow(c, size)
	l.last = c
	return c
}

// truncate takes uncommitted bytes back. Writer only.
func (l *runLog) truncate(to int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if to >= l.end {
		return
	}
	var gone []*chunk
	for n := len(l.chunks); n > 0 && l.chunks[n-1].start >= to && n > 1; n-- {
		gone = append(gone, l.chunks[n-1])
		l.chunks = l.chunks[:n-1]
	}
	l.end = to
	c := l.chunks[len(l.chunks)-1]
	if len(gone) == 0 {
		c.n = int(to - c.start)
		return
	}
	l.st.release(gone)
	// c is sealed: its content stays as it is, and what follows starts a chunk
	// that begins before c's bytes end.
	n := &chunk{start: to, base: l.newlines, first: l.newest, slot: -1}
	l.st.grow(n, chunkFirst)
	l.chunks = append(l.chunks, n)
	l.last = n
}

// commit shows readers what was written up to off.
func (l *runLog) commit(off int64, stamps, newest int64, plain bool) {
	l.mu.Lock()
	l.committed, l.lines, l.plain = off, l.newlines, plain
	l.stamps += stamps
	l.newest = max(l.newest, newest)
	l.wakeLocked()
	l.mu.Unlock()
}

// countTail counts an unterminated last line.
func (l *runLog) countTail() {
	l.mu.Lock()
	l.lines++
	l.mu.Unlock()
}

func (l *runLog) wakeLocked() {
	for i, w := range l.waiting {
		select {
		case w <- struct{}{}:
		default:
		}
		l.waiting[i] = nil
	}
	l.waiting = l.waiting[:0]
}

// await has ready, which has room for one, told of the next change. Look again
// after it, before waiting.
func (l *runLog) await(ready chan<- struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, ready)
}

// chunkAt finds the chunk that holds off; -1: none. Needs l.mu.
func (l *runLog) chunkAt(off int64) int {
	return sort.Search(len(l.chunks), func(i int) bool { return l.chunks[i].start > off }) - 1
}

// readAt copies bytes from off on, up to limit, out of one chunk. When these
// bytes were dropped it returns errDropped and where the next kept ones begin.
func (l *runLog) readAt(p []byte, off, limit int64) (n int, next int64, err error) {
	l.mu.Lock()
	i := l.chunkAt(off)
	if i < 0 || off >= limit {
		next, err = off, nil
		if l.freed {
			next, err = limit, errDropped
		} else if len(l.chunks) > 0 && off < limit {
			next, err = l.chunks[0].start, errDropped
		}
		l.mu.Unlock()
		return 0, next, err
	}
	c, stop := l.chunks[i], min(limit, l.end)
	if i+1 < len(l.chunks) {
		stop = min(stop, l.chunks[i+1].start)
	}
	l.mu.Unlock()
	if stop <= off {
		return 0, off, nil
	}
	n, err = l.st.read(c, p[:min(int64(len(p)), stop-off)], int(off-c.start))
	if err != nil && n == 0 {
		return 0, stop, errDropped
	}
	return n, off + int64(n), nil
}

// addGap notes a gap at off. The list is bounded: a log that rotates for days
// keeps its first gaps and one that grows.
func (l *runLog) addGap(g Gap, off int64) {
	const most = 1000
	g.ContainerID, g.Run, g.AfterLine = l.id, l.number, l.linesAt(off)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.gaps); n >= most {
		last := &l.gaps[n-1]
		last.To, last.Certain = g.To, last.Certain || g.Certain
	} else {
		l.gaps = append(l.gaps, gapMark{Gap: g, at: off})
	}
	l.wakeLocked()
}

// kept is where the kept bytes begin, and the lines before it.
func (l *runLog) kept() (off int64, lines uint64) {
	l.mu.Lock()
	cs := l.chunks
	l.mu.Unlock()
	for _, c := range cs {
		if !c.dropped() {
			return c.start, c.base
		}
	}
	return 0, 0
}

// free gives everything back.
func (l *runLog) free() {
	l.mu.Lock()
	cs := l.chunks
	l.chunks, l.freed = nil, true
	l.wakeLocked()
	l.mu.Unlock()
	l.st.release(cs)
}

var newline = []byte{'\n'}

// beginsWith says whether line is the log's first.
func (l *runLog) beginsWith(line []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.head), len(line))
	return n >= stampUTC && bytes.Equal(l.head[:n], line[:n])
}

// finish ends the log: nothing changes any more but for what is dropped.
func (l *runLog) finish(p Proof, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proof, l.why = p, why
	l.wakeLocked()
}

func (l *runLog) isFinal() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proof != Live
}

// began says whether anything was captured.
func (l *runLog) began() bool {
	_, end := l.bounds()
	return end > 0
}

// progress is the newest time committed, and where the node's file begins.
func (l *runLog) progress() (newest, fileStart int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.newest, l.fileStart
}

// fileBeginsWith says whether b can be the beginning of the node's current file.
func (l *runLog) fileBeginsWith(b []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(len(l.fileHead), len(b))
	return bytes.Equal(l.fileHead[:n], b[:n])
}

// marks are the gaps noticed so far. The list only grows.
func (l *runLog) marks() []gapMark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.gaps
}

// view is what a reader needs to know at once.
func (l *runLog) view() (committed int64, final, plain bool, gaps []gapMark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committed, l.proof != Live, l.plain, l.gaps
}

// firstKept is the time of the first whole line at or after off.
func (l *runLog) firstKept(off int64) int64 {
	committed, _ := l.bounds()
	b := l.peek(make([]byte, longLine), off, committed)
	_, line, _ := bytes.Cut(b, newline)
	var c clock
	ns, _ := c.parse(line)
	return ns
}
