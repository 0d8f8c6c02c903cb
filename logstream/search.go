package logstream

import "bytes"

// linesAt counts the lines before off.
func (l *runLog) linesAt(off int64) uint64 {
	l.mu.Lock()
	i := l.chunkAt(off)
	if i < 0 {
		l.mu.Unlock()
		return 0
	}
	c := l.chunks[i]
	l.mu.Unlock()
	n, buf := c.base, l.st.buffer()
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

// find looks for a line, newline included, in the committed log at or after from.
// Lines are in near order of time: chunks that end before the line's second are
// skipped.
func (l *runLog) find(line []byte, from int64, ns int64) int64 {
	committed, _ := l.bounds()
	buf := make([]byte, 0, chunkSize+len(line))
	at, base := from, from // buf holds [base, at)
	for at < committed {
		if skip := l.skipTo(at, ns); skip > at {
			at, base, buf = skip, skip, buf[:0]
		}
		n, next, err := l.readAt(buf[len(buf):cap(buf)], at, committed)
		if n == 0 && err == nil {
			return -1
		}
		if err != nil {
			at, base, buf = next, next, buf[:0]
			continue
		}
		buf, at = buf[:len(buf)+n], next
		for i := 0; ; {
			j := bytes.Index(buf[i:], line)
			if j < 0 {
				break
			}
			if off := base + int64(i+j); l.lineStart(off, buf, base) {
				return off
			}
			i += j + 1
		}
		if keep := len(line) - 1; len(buf) > keep {
			base += int64(len(buf) - keep)
			buf = buf[:copy(buf, buf[len(buf)-keep:])]
		}
	}
	return -1
}

// skipTo is the offset of the first chunk at or after off that may hold a line of time
// ns: those that end more than a second before it are passed over. A chunk's first is
// the newest time when it was begun; the line that was being written then may be newer,
// and may have begun chunks before, at the same newest time.
func (l *runLog) skipTo(off, ns int64) int64 {
	if ns == 0 {
		return off
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	from := max(l.chunkAt(off), 0)
	i := from
	for i+1 < len(l.chunks) && l.chunks[i+1].first < ns-1e9 {
		i++
	}
	for i > from && l.chunks[i-1].first == l.chunks[i].first {
		i--
	}
	if i--; i <= from {
		return off
	}
	return l.chunks[i].start
}

// lineStart says whether a line begins at off.
func (l *runLog) lineStart(off int64, buf []byte, base int64) bool {
	if off == 0 {
		return true
	}
	if off > base {
		return buf[off-base-1] == '\n'
	}
	var b [1]byte
	n, _, err := l.readAt(b[:], off-1, off)
	return err != nil || (n == 1 && b[0] == '\n')
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
