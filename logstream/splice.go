package logstream

import "bytes"

// A splicer decides which bytes of a response are new. It is the only place that
// does. The kubelet renders one file into the same bytes every time, so a response
// is compared with what was captured, byte by byte, from a known place on; where
// both agree to the end of the capture, what follows is new. Timestamps are no
// identities (conmon gives all lines of one read the same one; containerd stamps
// stdout and stderr in different goroutines), so they only help to find places.
//
// One splicer lives as long as its run; begin starts it on the next response.
type splicer struct {
	l     *runLog
	id    string
	whose func(line []byte, ns int64) (suspect, another bool) // nil: nobody else's

	oneFile    bool  // the response is no stream: it is one file, read once
	filterFrom int64 // bytes from which a resumed stream is asked for by time

	// The run's.
	clock     clock
	newest    int64  // newest timestamp appended
	stepped   bool   // the node's clock went back by more than a second
	fileStart int64  // where the file that is current began, as far as is known
	head      []byte // its first line, up to headLen bytes
	headNS    int64
	lineAt    int64 // where the line being appended began
	counted   bool  // its timestamp is in the log's count
	stamp     [stampMax]byte
	stampN    int
	stamps    int64 // bytes of timestamps not yet in the log's count
	decided   bool  // whether the body is plain
	sealed    bool  // the unterminated last line is committed
	plain     bool  // the body has no timestamps
	diverged  bool  // a later read differs from what was captured
	rotated   bool  // a rotation was noticed
	short     bool  // a gap is certain
	suspect   bool  // by its times the log may be another run's
	edgeOf    edgeOf

	// The response's.
	mode      spliceMode
	filtered  bool
	acceptNew bool  // a response that shares nothing with the capture continues it
	expect    int64 // where it should begin; modeSeek: the line to look for, -1: none
	hold      []byte
	skipped   []byte // lines before the first one that is known
	off, from int64  // modeCompare: position, start
	line      int64  // start of the line being compared
	replay    int    // lines matched of a suspected replay; -1: not one
	placed    bool   // it was found to begin another file
	scratch   []byte
	joined    bool // the end of the capture was reached
	grew      bool // bytes were appended, or taken back
	unproved  bool // compared with bytes no longer kept
	torn      bool // the cut line at the start of a filtered response was seen
	midLine   bool // modeSeek: hold goes on with a line whose start was let go
}

type spliceMode int

const (
	modeHead    spliceMode = iota // gathering the first line
	modeCompare                   // equal to the capture so far
	modeAppend                    // new
	modeOdd                       // gathering a line that differs
	modeSeek                      // looking for a line near the capture's end
)

const (
	headLen  = 256
	lineLen  = 4 << 10  // as much of a line as is looked at to identify it
	longLine = 64 << 10 // an unterminated line is shown from this length on
	holdBack = 4 << 10  // but for its end, where the kubelet's words may be glued
	maxSkip  = 8        // lines before the first known one
)

// begin prepares for the response to q: the whole file, or what starts with the
// captured line at expect, or a tail that has it in it.
func (s *splicer) begin(q query, acceptNew bool) {
	s.mode, s.filtered, s.expect, s.acceptNew = modeHead, q.filtered, q.expect, acceptNew
	switch {
	case q.tail > 0:
		s.mode, s.filtered = modeSeek, true
	case !q.filtered:
		s.expect = s.fileStart
	}
	s.hold, s.skipped, s.replay = s.hold[:0], s.skipped[:0], -1
	s.joined, s.grew, s.unproved, s.torn, s.placed, s.midLine = false, false, false, false, false, false
}

// feed takes the next bytes of the response.
func (s *splicer) feed(p []byte) (a answer, ok bool) {
	for len(p) > 0 {
		switch s.mode {
		case modeHead:
			p, a, ok = s.gather(p)
			if !ok {
				return a, false
			}
		case modeCompare:
			p = s.compare(p)
			if s.mode == modeOdd && s.filtered && s.replay < 0 {
				return answerAstray, false
			}
		case modeAppend:
			p = s.append(p)
		case modeOdd:
			p = s.odd(p)
		case modeSeek:
			p, a, ok = s.seek(p)
			if !ok {
				return a, false
			}
		}
	}
	return answerEOF, true
}

// takeLine moves bytes of p into hold, up to a newline or lineLen bytes; of a line
// that differs, whose end may be the kubelet's words, longLine bytes.
func (s *splicer) takeLine(p []byte) (rest []byte, whole bool) {
	most := lineLen
	if s.mode == modeOdd {
		most = longLine
	}
	n, whole := len(p), false
	if j := bytes.IndexByte(p, '\n'); j >= 0 {
		n, whole = j+1, true
	}
	if most -= len(s.hold); n >= most {
		n, whole = most, true
	}
	s.hold = append(s.hold, p[:n]...)
	return p[n:], whole
}

func (s *splicer) gather(p []byte) ([]byte, answer, bool) {
	rest, whole := s.takeLine(p)
	if !whole {
		return rest, 0, true
	}
	a, ok := s.place()
	return rest, a, ok
}

// compare follows the capture as long as p equals it.
func (s *splicer) compare(p []byte) []byte {
	committed, end := s.l.bounds()
	if s.scratch == nil {
		s.scratch = s.l.st.buffer()
		defer func() { s.l.st.give(s.scratch); s.scratch = nil }()
	}
	for len(p) > 0 {
		if s.off == end {
			return s.join(p)
		}
		n, next, err := s.l.readAt(s.scratch[:min(len(s.scratch), len(p))], s.off, end)
		if err != nil { // dropped: it cannot be compared
			k := min(next-s.off, int64(len(p)))
			s.off, s.line, s.unproved = s.off+k, s.off+k, true
			p = p[k:]
			continue
		}
		if n == 0 {
			return nil // freed under us: the capture is being closed
		}
		k := n
		if !bytes.Equal(s.scratch[:n], p[:n]) {
			for k = 0; s.scratch[k] == p[k]; k++ {
			}
		}
		if j := bytes.LastIndexByte(p[:k], '\n'); j >= 0 {
			s.line = s.off + int64(j) + 1
			if s.replay >= 0 {
				s.replay += bytes.Count(p[:k], newline)
			}
		}
		s.off += int64(k)
		p = p[k:]
		if k == n {
			continue
		}
		switch {
		case s.replay >= 0 && s.off-s.line > longLine:
			s.endReplay(false)
		case s.off >= committed:
			s.l.truncate(s.off)
			s.grew = true
			return s.join(p)
		default:
			s.mode = modeOdd
			s.hold = s.l.peek(append(s.hold[:0], make([]byte, min(s.off-s.line, longLine))...), s.line, s.off)
		}
		return p
	}
	return p
}

// join is the end of the capture: what follows is new.
func (s *splicer) join(p []byte) []byte {
	s.joined = true
	if s.replay >= 0 {
		s.endReplay(false)
		return p
	}
	s.mode = modeAppend
	_, end := s.l.bounds()
	s.reloadLine(end)
	return p
}

// endReplay ends what looked like lines sent again. A few in a row are taken for
// output that happens to repeat itself, unless they are a whole file's, or all there
// is (over): the next read tells then.
func (s *splicer) endReplay(over bool) {
	n, from, off, line := s.replay, s.from, s.off, s.line
	s.replay, s.mode = -1, modeAppend
	if n <= 3 && !s.isWhole(from, off) {
		if !over {
			s.again(from, off)
		}
		return
	}
	ns, before := s.timesAt(from)
	s.gap("the node sent lines twice here, and may have skipped a rotated file before them", before, ns, from, false)
	s.rotated = true
	head := s.l.peek(make([]byte, headLen), from, off)
	if j := bytes.IndexByte(head, '\n'); j >= 0 {
		head = head[:j+1]
	}
	s.startFile(from, head, ns)
	if over {
		return
	}
	s.again(line, off) // the start of a line that went on differently
}

// isWhole says whether the captured lines at [from, to) can be a whole file, sent a
// second time: a follower had all of it, so they are the last ones, and the newest is
// among them. Lines that are equal because their times are do not include it.
func (s *splicer) isWhole(from, to int64) bool {
	if _, end := s.l.bounds(); to < end {
		return false
	}
	if to-from > longLine {
		return true
	}
	for _, line := range bytes.SplitAfter(s.l.peek(make([]byte, to-from), from, to), newline) {
		if ns, n := s.clock.parse(line); n > 0 && ns >= s.newest {
			return true
		}
	}
	return false
}

// again appends what the capture holds at [from, to) once more.
func (s *splicer) again(from, to int64) {
	for from < to {
		b := s.l.peek(make([]byte, min(to-from, longLine)), from, to)
		if len(b) == 0 {
			return
		}
		s.appendRaw(b)
		from += int64(len(b))
	}
}

// timesAt returns the time of the line at off, and of a line before it.
func (s *splicer) timesAt(off int64) (ns, before int64) {
	_, end := s.l.bounds()
	ns, _ = s.clock.parse(s.l.peek(make([]byte, stampMax), off, end))
	from := max(off-longLine, 0)
	w := s.l.peek(make([]byte, off-from), from, off)
	if len(w) > 1 {
		if j := bytes.LastIndexByte(w[:len(w)-1], '\n'); j >= 0 || from == 0 {
			before, _ = s.clock.parse(w[j+1:])
		}
	}
	return ns, before
}

// odd gathers the first line that differs from the capture.
func (s *splicer) odd(p []byte) []byte {
	rest, whole := s.takeLine(p)
	if !whole {
		return rest
	}
	switch {
	case s.replay >= 0:
		s.hold = s.hold[:copy(s.hold, s.hold[s.off-s.line:])]
		s.endReplay(false)
	case !s.retarget():
		s.diverge()
	}
	s.refeed()
	return rest
}

// diverge gives up comparing: the capture is no prefix of the node's file.
func (s *splicer) diverge() {
	if !s.diverged {
		_, before := s.timesAt(s.line)
		ns, n := s.clock.parse(s.hold)
		missing := n > 0 && s.l.find(s.hold, s.line, ns) < 0
		if n == 0 {
			ns = before
		}
		s.gap("a later read of the log differs from what was captured here", min(ns, before), max(ns, s.newest), s.line, missing)
		s.diverged = true
	}
	s.mode, s.expect, s.torn, s.midLine = modeSeek, s.edge(), true, false
}
