package logstream

import (
	"bytes"
	"math"
	"slices"
	"sort"
	"sync"

	"github.com/go-vela/podlife/logstream/internal/stamp"
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
	newlines uint64   // written so far
	open     []*chunk // the last is being written; those before hold uncommitted bytes

	share share // guarded by st.mu

	mu        sync.Mutex
	scanned   int64 // bytes read to find lines
	chunks    []*chunk
	trimmed   hole // of chunks that were dropped and are in chunks no more: times, why
	committed int64
	end       int64
	lines     uint64 // committed
	stamps    int64  // bytes of committed timestamps
	newest    int64  // newest timestamp committed
	latest    int64  // and since the node's clock was last set back
	plain     bool   // the body has no timestamps at all
	proof     Proof
	why       string
	first     []byte     // the first line of its first response, taken or not
	files     []fileMark // the first one and the newest ones
	retreats  []retreat
	halves    []int64 // where lines end without a newline
	freed     bool
	holes     []hole // once freed: what was dropped before
	gaps      []gapMark
	waiting   []chan<- struct{} // to be told of the next change
}

// mostGaps is how many gaps are kept apart: a log that rotates for days keeps its
// first ones, and one that grows.
const mostGaps = 1000

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
	size := chunkFirst
	if n := len(l.open); n > 0 {
		c := l.open[n-1]
		if c.n < len(c.data) {
			return c
		}
		if len(c.data) < chunkSize {
			l.st.grow(c, min(len(c.data)*4, chunkSize))
			return c
		}
		size = chunkSize
	}
	l.mu.Lock()
	c := &chunk{of: &l.share, start: l.end, base: l.newlines, first: l.newest, top: l.newest}
	l.chunks = append(l.chunks, c)
	for l.chunks[0].dropped() != nil {
		l.trimmed.take(l.chunks[0])
		l.chunks = l.chunks[1:]
	}
	l.mu.Unlock()
	l.st.grow(c, size)
	l.open = append(l.open, c)
	return c
}

// truncate takes uncommitted bytes back. Writer only.
func (l *runLog) truncate(to int64) {
	l.mu.Lock()
	if to >= l.end {
		l.mu.Unlock()
		return
	}
	l.end = to
	last := len(l.open) - 1
	for ; last > 0 && l.open[last].start >= to; last-- {
		l.chunks = l.chunks[:len(l.chunks)-1]
	}
	gone := l.open[last+1:]
	l.open = l.open[:last+1]
	l.open[last].n = int(to - l.open[last].start)
	l.mu.Unlock()
	l.st.release(gone)
}

// commit shows readers what was written up to off. Chunks with nothing else in
// them may leave the memory. Writer only.
func (l *runLog) commit(off, stamps int64, times span, latest int64, plain bool) {
	l.mu.Lock()
	l.newest, l.latest = max(l.newest, times.hi), latest
	for _, c := range l.open {
		c.times.join(times)
		c.top = l.newest
	}
	l.committed, l.lines, l.plain = off, l.newlines, plain
	l.stamps += stamps
	l.wakeLocked()
	l.mu.Unlock()
	for len(l.open) > 1 && l.open[1].start <= off {
		l.st.seal(l.open[0])
		l.open = append(l.open[:0], l.open[1:]...)
	}
}

// countHalf counts the half of a line that the log ends in, and that another file goes on
// with: readers get it as a line of its own.
func (l *runLog) countHalf() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.halves = append(l.halves, l.end)
	l.newlines++
	l.lines++
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

// forget takes ready back, so that readers that come and go leave nothing here.
func (l *runLog) forget(ready chan<- struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = slices.DeleteFunc(l.waiting, func(w chan<- struct{}) bool { return w == ready })
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

// addGap notes a gap at off. The list is bounded.
func (l *runLog) addGap(g Gap, off int64) {
	g.ContainerID, g.Run, g.AfterLine = l.id, l.number, l.linesAt(off)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.gaps); n < mostGaps {
		l.st.gaps.Add(1)
		l.gaps = append(l.gaps, gapMark{Gap: g, at: off})
	} else {
		last := l.gaps[n-1]
		last.join(g)
		l.gaps = append(l.gaps[:n-1:n-1], last) // readers hold the list as it was
	}
	l.wakeLocked()
}

// join makes g enclose another gap. A time that is not known encloses all.
func (g *Gap) join(o Gap) {
	if o.From.Before(g.From) {
		g.From = o.From
	}
	if o.To.IsZero() || !g.To.IsZero() && o.To.After(g.To) {
		g.To = o.To
	}
	g.Certain = g.Certain || o.Certain
}

// free gives everything back. What was dropped before stays known.
func (l *runLog) free() {
	holes := l.lost()
	l.mu.Lock()
	cs := l.chunks
	l.chunks, l.freed, l.holes = nil, true, holes
	l.wakeLocked()
	l.mu.Unlock()
	l.st.release(cs)
}

// hole is a stretch of the log that is no longer kept.
type hole struct {
	lines    uint64 // before it
	from, to int64  // times that enclose it; 0: not known
	times    span   // of its lines
	why      error  // the gravest reason
}

// take makes h enclose a chunk that was dropped.
func (h *hole) take(c *chunk) {
	h.times.join(c.times)
	h.why = graver(h.why, c.dropped())
}

// lost is what is no longer kept. The list is bounded like that of the gaps.
func (l *runLog) lost() []hole {
	l.mu.Lock()
	holes, after := l.holes, []int64(nil)
	in := len(l.chunks) > 0 && l.chunks[0].start > 0
	if in {
		holes, after = append(holes, l.trimmed), append(after, -1)
	}
	for _, c := range l.chunks {
		gone := c.dropped() != nil
		if gone && !in && len(holes) < mostGaps {
			holes, after = append(holes, hole{lines: c.base, from: c.first}), append(after, -1)
		}
		if in = gone; gone {
			holes[len(holes)-1].take(c)
			after[len(after)-1] = -1
		} else if n := len(after); n > 0 && after[n-1] < 0 {
			after[n-1] = c.start
		}
	}
	l.mu.Unlock()
	for i, off := range after {
		if off >= 0 {
			holes[i].enclose(l.firstKept(off))
		}
	}
	return holes
}

// lostBefore is the hole that a reader at off has skipped.
func (l *runLog) lostBefore(off int64) (h hole) {
	l.mu.Lock()
	i, after := l.chunkAt(off), int64(-1)
	for ; i >= 0 && l.chunks[i].dropped() == nil; i-- {
		after = l.chunks[i].start
	}
	for ; i >= 0 && l.chunks[i].dropped() != nil; i-- {
		c := l.chunks[i]
		h.lines, h.from = c.base, c.first
		h.take(c)
	}
	if i < 0 && len(l.chunks) > 0 && l.chunks[0].start > 0 {
		h.lines, h.from = 0, 0
		h.times.join(l.trimmed.times)
		h.why = graver(h.why, l.trimmed.why)
	}
	l.mu.Unlock()
	if after >= 0 {
		h.enclose(l.firstKept(after))
	}
	return h
}

// enclose notes the time of the line after the hole. Times may go back.
func (h *hole) enclose(to int64) {
	if to > 0 {
		h.to = max(to, h.times.hi)
	}
	if h.from > 0 && h.times.hi > 0 {
		h.from = min(h.from, h.times.lo)
	}
}

var newline = []byte{'\n'}

// finish ends the log: nothing changes any more but for what is dropped.
func (l *runLog) finish(p Proof, why string) {
	for _, c := range l.open {
		l.st.settle(c)
	}
	l.open = nil
	l.mu.Lock()
	defer l.mu.Unlock()
	l.proof, l.why = p, why
	l.wakeLocked()
}

func (l *runLog) isVerified() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proof == Verified
}

func (l *runLog) isFinal() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.proof != Live
}

// rotatedAt is the least that is known to have been captured of one of the node's files
// before another followed.
func (l *runLog) rotatedAt() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	least := int64(math.MaxInt64 / 4)
	for i := 1; i < len(l.files); i++ {
		if n := l.files[i].at - l.files[i-1].at; n > 0 {
			least = min(least, n)
		}
	}
	return least
}

// progress is the newest time committed, as the node's clock is now, and where the
// node's file begins.
func (l *runLog) progress() (latest, fileStart int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latest, l.file().at
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
	ns, _ := stamp.Parse(line)
	return ns
}
