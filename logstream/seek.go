package logstream

import (
	"bytes"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
)

// edge finds a line near the capture's end from which on another read of the file can
// be compared, wherever that read begins; -1: there is none. Lines of one time may be
// equal and would be found where they are not: the line is the first of its time,
// occurs once, and lines of another time follow it.
func (s *splicer) edge() int64 {
	committed, _ := s.l.bounds()
	end := min(committed, s.lineAt)
	switch {
	case end <= s.fileStart:
		return -1
	case end == s.edgeOf.end && s.fileStart == s.edgeOf.file:
		return s.edgeOf.off
	}
	// Most lines are short. But conmon gives all lines of one read(2) the same time,
	// and in 8 KiB there may be as many.
	off, size := int64(-1), int64(lineLen)
	for from := end; off < 0 && from > s.fileStart && size <= 1<<20; size *= 16 {
		from = max(end-size, s.fileStart)
		off = s.edgeIn(from, end)
	}
	s.edgeOf = edgeOf{end: end, file: s.fileStart, off: off}
	return off
}

// edgeOf is the edge of what was captured up to end: that of a quiet log is the same.
type edgeOf struct{ end, file, off int64 }

// edgeIn is edge within [from, end).
func (s *splicer) edgeIn(from, end int64) int64 {
	w := s.l.peek(make([]byte, end-from), from, end)
	at, edges, later := len(w), 0, int64(0)
	for edges < 2 && at > 0 {
		start := bytes.LastIndexByte(w[:at-1], '\n') + 1
		if start == 0 && from > s.fileStart {
			return -1 // it may have begun before
		}
		ns, n := s.clock.Parse(w[start:at])
		if n == 0 {
			return -1
		}
		if at < len(w) && ns != later {
			edges++
		}
		if edges < 2 {
			at, later = start, ns
		}
	}
	if edges < 2 {
		return -1
	}
	line := w[at:]
	line = line[:min(bytes.IndexByte(line, '\n')+1, lineLen)]
	if off := from + int64(at); s.l.find(line, s.fileStart, end, later) == off {
		return off
	}
	return -1
}

// seek skips lines until the one at expect. The first line of a tail is no line for
// certain: it may be the rest of one, with the time of that part
// (k8s.io/cri-client v0.36.3 pkg/logs/logs.go:304, 408).
func (s *splicer) seek(p []byte) ([]byte, kubelog.Answer, bool) {
	rest, whole := s.takeLine(p)
	if !whole {
		return rest, 0, true
	}
	isLine := s.torn && !s.midLine
	s.torn, s.midLine = true, s.hold[len(s.hold)-1] != '\n'
	if isLine && s.expect >= 0 && s.startsAt(s.expect, s.hold) {
		ns, _ := s.clock.Parse(s.hold)
		s.heads.still(s.expect, ns, s.asked)
		s.startCompare(s.expect)
		a, ok := s.refeed()
		return rest, a, ok
	}
	s.hold = s.hold[:0]
	return rest, 0, true
}
