package logstream

import (
	"bytes"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

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
	whose func(line []byte, ns int64) owner // nil: nobody else's
	only  func() bool                       // will no other response come?

	oneFile    bool  // the response is no stream: it is one file, read once
	ended      bool  // the last stream ended cleanly
	filterFrom int64 // bytes from which a resumed stream is asked for by time

	heads heads
	clock stamp.Clock
	progress
	parts []part // the newest ones

	// The response's.
	asked     look // its request; its answer shows a file once it has come
	mode      spliceMode
	filtered  bool
	late      bool  // it is taken though it may be another run's
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
	settles   bool // the doubt that the response before ended in
}

// progress is what is known of the run's log.
type progress struct {
	newest    int64 // newest timestamp appended
	batch     span  // times of lines appended and not yet committed
	lead      int64 // bytes in the log of the line being appended
	suspect   suspicion
	skew      int64  // by which lines are out of the order of time, two streams stamped apart
	stepped   bool   // the node's clock went back by more than a second
	fileStart int64  // where the file that is current began, as far as is known
	head      []byte // its first line, up to headLen bytes
	headNS    int64
	lineAt    int64 // where the line being appended began
	counted   bool  // its timestamp is in the log's count
	stamp     [stamp.Max]byte
	stampN    int
	stamps    int64 // bytes of timestamps not yet in the log's count
	decided   bool  // whether the body is plain
	sealed    bool  // the unterminated last line is committed
	plain     bool  // the body has no timestamps
	diverged  bool  // a later read differs from what was captured
	rotated   bool  // a rotation was noticed
	short     bool  // a gap is certain
	foreign   bool  // a part was taken back
	strange   bool  // by its times the log may be another run's
	edgeOf    edgeOf
	shared    bool // lines have the time of another
	doubt     bool // new or sent again: the next response, the whole file, tells
	began     int  // responses that joined nothing captured before
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

	mostTries = 1000 // places where the head of a rotated file is looked for
)

// begin prepares for the response to q: the whole file, or what starts with the
// captured line at expect, or a tail that has it in it.
func (s *splicer) begin(q query, late bool) {
	s.mode, s.filtered, s.expect, s.late = modeHead, q.filtered, q.expect, late
	switch {
	case q.tail > 0:
		s.mode, s.filtered = modeSeek, true
	case !q.filtered:
		s.expect = s.fileStart
	}
	s.hold, s.replay = s.hold[:0], -1
	s.shed()
	s.joined, s.grew, s.unproved, s.torn, s.placed, s.midLine = false, false, false, false, false, false
	s.settles, s.doubt = s.doubt && !s.filtered, false
}

// shed gives up what a response took that was out of the ordinary: a run may be
// quiet from here on.
func (s *splicer) shed() {
	if cap(s.hold) > lineLen {
		s.hold = nil
	}
	s.skipped = nil
}

// feed takes the next bytes of the response.
func (s *splicer) feed(p []byte) (a kubelog.Answer, ok bool) {
	for len(p) > 0 && !s.doubt {
		switch s.mode {
		case modeHead:
			p, a, ok = s.gather(p)
			if !ok {
				return a, false
			}
		case modeCompare:
			p = s.compare(p)
			if s.mode == modeOdd && s.filtered && s.replay < 0 {
				return kubelog.Astray, false
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
	if s.doubt {
		return kubelog.Astray, false
	}
	return kubelog.EOF, true
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

func (s *splicer) gather(p []byte) ([]byte, kubelog.Answer, bool) {
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

// timesAt returns the time of the line at off, and of a line before it.
func (s *splicer) timesAt(off int64) (ns, before int64) {
	_, end := s.l.bounds()
	ns, _ = s.clock.Parse(s.l.peek(make([]byte, stamp.Max), off, end))
	from := max(off-longLine, 0)
	w := s.l.peek(make([]byte, off-from), from, off)
	if len(w) > 1 {
		if j := bytes.LastIndexByte(w[:len(w)-1], '\n'); j >= 0 || from == 0 {
			before, _ = s.clock.Parse(w[j+1:])
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
		committed, _ := s.l.bounds()
		ns, n := s.clock.Parse(s.hold)
		missing := n > 0 && s.l.find(s.hold, s.line, committed, ns) < 0
		if n == 0 {
			ns = before
		}
		s.gap("a later read of the log differs from what was captured here", min(ns, before), max(ns, s.newest), s.line, missing)
		s.diverged = true
	}
	s.mode, s.expect, s.torn, s.midLine = modeSeek, s.edge(), true, false
}
