package logstream

import (
	"bytes"
	"sort"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// visitCost is what looking at a chunk's times costs, in bytes scanned.
const visitCost = 64

// linesAt counts the lines before off.
func (l *runLog) linesAt(off int64) uint64 {
	l.mu.Lock()
	i := l.chunkAt(off)
	if i < 0 {
		l.mu.Unlock()
		return 0
	}
	c := l.chunks[i]
	n, buf := c.base, l.st.buffer()
	for _, at := range l.halves {
		if c.start < at && at <= off {
			n++
		}
	}
	l.mu.Unlock()
	defer l.st.give(buf)
	for at := c.start; at < off; {
		k, next, err := l.readAt(buf[:min(int64(len(buf)), off-at)], at, off)
		if err != nil || k == 0 {
			break
		}
		n += uint64(bytes.Count(buf[:k], newline))
		at = next
	}
	return n
}

// span encloses times; the zero value none.
type span struct{ lo, hi int64 }

func (a *span) add(ns int64) {
	if a.hi == 0 || ns < a.lo {
		a.lo = ns
	}
	a.hi = max(a.hi, ns)
}

func (a *span) join(b span) {
	if b.hi != 0 {
		a.add(b.lo)
		a.add(b.hi)
	}
}

// find looks in the committed log for a line that begins with line, at [from, to), of which
// it may have less by now. Its time tells which chunks can hold it; 0: not known.
func (l *runLog) find(line []byte, from, to, ns int64) int64 {
	committed, _ := l.bounds()
	for to = min(to, committed); from < to; {
		start, stop := l.stretch(from, ns)
		if off := l.scan(line, start, min(stop, to)); off >= 0 {
			return off
		}
		from = stop
	}
	return -1
}

// stretch is the first one of the log, at or after from, that can hold a line of
// time ns.
func (l *runLog) stretch(from, ns int64) (start, stop int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := max(l.chunkAt(from), 0)
	rest := l.chunks[i:]
	i += sort.Search(len(rest), func(k int) bool { return rest[k].top >= ns })
	can := func(i int) bool {
		l.scanned += visitCost
		t := l.chunks[i].times
		return ns == 0 || t.lo <= ns && ns <= t.hi
	}
	for ; i < len(l.chunks) && !can(i); i++ {
	}
	if i == len(l.chunks) {
		return l.end, l.end
	}
	start = max(from, l.chunks[i].start)
	for i++; i < len(l.chunks) && can(i); i++ {
	}
	if i == len(l.chunks) {
		return start, l.end
	}
	return start, l.chunks[i].start
}

// scan is find in bytes that are read.
func (l *runLog) scan(line []byte, from, to int64) int64 {
	key := line[:min(len(line), stamp.UTC)] // short enough for the fast search of package bytes
	committed, _ := l.bounds()
	limit := min(to+int64(len(key))-1, committed)
	buf := l.st.buffer()
	defer l.st.give(buf)
	base, n := from, 0 // buf[:n] is the log at base
	for base < to {
		k, next, err := l.readAt(buf[n:], base+int64(n), limit)
		if err != nil {
			base, n = next, 0 // dropped
			continue
		}
		n += k
		l.addScanned(k)
		for i := 0; ; i++ {
			j := bytes.Index(buf[i:n], key)
			if j < 0 {
				break
			}
			i += j
			if off := base + int64(i); off < to && l.lineStart(off, buf, base) && l.equal(off, line, committed) {
				return off
			}
		}
		if k == 0 || base+int64(n) >= limit {
			break
		}
		if keep := len(key) - 1; n > keep {
			base += int64(n - keep)
			n = copy(buf, buf[n-keep:n])
		}
	}
	return -1
}

func (l *runLog) addScanned(n int) {
	l.mu.Lock()
	l.scanned += int64(n)
	l.mu.Unlock()
}

func (l *runLog) scannedBytes() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.scanned
}

// equal says whether the log holds b at off.
func (l *runLog) equal(off int64, b []byte, limit int64) bool {
	buf := l.st.buffer()
	defer l.st.give(buf)
	for len(b) > 0 {
		n, next, err := l.readAt(buf[:min(len(buf), len(b))], off, limit)
		if err != nil || n == 0 || !bytes.Equal(buf[:n], b[:n]) {
			return false
		}
		l.addScanned(n)
		off, b = next, b[n:]
	}
	return true
}

// lineStart says whether a line begins at off.
func (l *runLog) lineStart(off int64, buf []byte, base int64) bool {
	if off == 0 {
		return true
	}
	if off > base {
		return buf[off-base-1] == '\n' || l.beginsFile(off)
	}
	var b [1]byte
	n, _, err := l.readAt(b[:], off-1, off)
	return err != nil || (n == 1 && b[0] == '\n') || l.beginsFile(off)
}

// peek reads up to len(p) bytes at off, across chunks.
func (l *runLog) peek(p []byte, off, limit int64) []byte {
	n := 0
	for n < len(p) {
		k, next, err := l.readAt(p[n:], off, limit)
		if err != nil || k == 0 {
			break
		}
		n, off = n+k, next
	}
	return p[:n]
}

// shortRest is the length of the end of a line, with its newline, that many have.
const shortRest = 3

// fileAt is where behind fileStart, at which the file before begins, a file of the node's
// begins, or, where it begins with the rest of a line (joined), its next line; -1: nowhere.
func (l *runLog) fileAt(f *nodeFile, fileStart int64) (off int64, joined bool) {
	committed, _ := l.bounds()
	if off = l.find(f.head, max(f.sought, fileStart+1), committed, f.ns); off >= 0 {
		return off, false
	}
	// The runtime may have turned to it in the middle of a line, of which the stream has
	// the rest without its time.
	rest := f.head[stamp.Len(f.head):]
	if len(rest) <= shortRest {
		return -1, false
	}
	off = l.after(f.ns, fileStart, committed)
	from := max(off-lineLen, fileStart)
	switch before := l.peek(make([]byte, off-from), from, off); {
	case off == committed:
	case bytes.HasSuffix(before, rest), len(rest) > headLimit/2 && bytes.Contains(before, rest):
		return off, true
	}
	return -1, false
}

// after is where in [from, to), which begins with a line, the first line begins that is newer
// than ns; to: none is.
func (l *runLog) after(ns, from, to int64) int64 {
	buf := l.st.buffer()
	defer l.st.give(buf)
	var c stamp.Clock
	for begins := true; from < to; {
		if older := min(l.older(from, ns), to); older > from {
			from, begins = older, false
			continue
		}
		n, next, err := l.readAt(buf, from, to)
		if err != nil { // dropped
			from, begins = next, false
			continue
		}
		if n == 0 {
			break
		}
		for p := buf[:n]; len(p) > 0; {
			if at := next - int64(len(p)); begins {
				begin := p[:min(len(p), stamp.Max)]
				if len(p) < stamp.Max {
					begin = l.peek(make([]byte, stamp.Max), at, to)
				}
				if t, k := c.Parse(begin); k > 0 && t > ns {
					return at
				}
			}
			j := bytes.IndexByte(p, '\n')
			if begins = j >= 0; !begins {
				break
			}
			p = p[j+1:]
		}
		from = next
	}
	return to
}

// older is where the chunks end, from off on, whose lines are none newer than ns.
func (l *runLog) older(off, ns int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.chunkAt(off)
	for ; i >= 0 && i < len(l.chunks) && l.chunks[i].times.hi <= ns; i++ {
	}
	switch {
	case i < 0:
		return off
	case i == len(l.chunks):
		return l.end
	}
	return max(off, l.chunks[i].start)
}
