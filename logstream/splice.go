package logstream

import (
	"bytes"
	"time"
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
	l       *runLog
	id      string
	foreign func(line []byte, ns int64) bool // the log of another run?

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

	// The response's.
	mode      spliceMode
	filtered  bool
	acceptNew bool  // a response that shares nothing with the capture continues it
	expect    int64 // where it should begin
	hold      []byte
	skipped   []byte // lines before the first one that is known
	off, from int64  // modeCompare: position, start
	line      int64  // start of the line being compared
	replay    int    // lines matched of a suspected replay; -1: not one
	last      []byte // modeSeek: the line to find
	scratch   []byte
	joined    bool // the end of the capture was reached
	grew      bool // bytes were appended, or taken back
	unproved  bool // compared with bytes no longer kept
	torn      bool // the cut line at the start of a filtered response was seen
}

type spliceMode int

const (
	modeHead    spliceMode = iota // gathering the first line
	modeCompare                   // equal to the capture so far
	modeAppend                    // new
	modeOdd                       // gathering a line that differs
	modeSeek                      // looking for the last captured line
)

const (
	headLen  = 256
	lineLen  = 4 << 10  // as much of a line as is looked at to identify it
	longLine = 64 << 10 // an unterminated line is shown from this length on
	holdBack = 4 << 10  // but for its end, where the kubelet's words may be glued
	maxSkip  = 8        // lines before the first known one
)

// begin prepares for a response: unfiltered when since is false, or one that
// starts with the captured line at expect.
func (s *splicer) begin(filtered bool, expect int64, acceptNew bool) {
	s.mode, s.filtered, s.expect, s.acceptNew = modeHead, filtered, expect, acceptNew
	if !filtered {
		s.expect = s.fileStart
	}
	s.hold, s.skipped, s.replay = s.hold[:0], s.skipped[:0], -1
	s.joined, s.grew, s.unproved, s.torn = false, false, false, false
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
			if s.mode == modeOdd && s.filtered {
				return answerAstray, false
			}
		case modeAppend:
			p = s.append(p)
		case modeOdd:
			p = s.odd(p)
		case modeSeek:
			p = s.seek(p)
		}
	}
	return answerEOF, true
}

// takeLine moves bytes of p into hold, up to a newline or lineLen bytes.
func (s *splicer) takeLine(p []byte) (rest []byte, whole bool) {
	n, whole := len(p), false
	if j := bytes.IndexByte(p, '\n'); j >= 0 {
		n, whole = j+1, true
	}
	if most := lineLen - len(s.hold); n >= most {
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

// place decides where the response's first line, in hold, belongs.
func (s *splicer) place() (answer, bool) {
	line := s.hold
	ns, n := s.clock.parse(line)
	_, end := s.l.bounds()
	if s.filtered && n == 0 && !s.plain && !s.torn {
		// The filter is per raw record: it may cut a line in two, and the rest has
		// no timestamp of its own (k8s.io/cri-client v0.36.3 pkg/logs/logs.go:239,408).
		s.torn, s.hold = true, s.hold[:0]
		return 0, true
	}
	switch {
	case end == 0:
		if s.foreign != nil && !s.acceptNew && s.foreign(line, ns) {
			return answerForeign, false
		}
		s.startFile(0, line, ns)
		s.mode = modeAppend
		return s.refeed()
	case len(s.skipped) == 0 && s.startsAt(s.expect, line):
		if s.expect == s.fileStart && len(line) > len(s.head) && len(s.head) < headLen {
			s.startFile(s.fileStart, line, ns) // its first line was cut before
		}
		s.startCompare(s.expect)
		return s.refeed()
	case s.filtered:
		return answerAstray, false
	}
	return s.placeRotated(line, ns, n)
}

// placeRotated places the head of a file that was not the current one before.
func (s *splicer) placeRotated(line []byte, ns int64, n int) (answer, bool) {
	whole := line[len(line)-1] == '\n' || len(line) >= lineLen
	if n > 0 {
		off := int64(-1)
		if ns <= s.newest || s.stepped {
			key := line
			if !whole {
				key = line[:n] // what follows may be the kubelet's words
			}
			off = s.l.find(key, s.fileStart, ns)
		}
		if off < 0 && s.startsAtTail(line) {
			off = s.lineAt
		}
		if off >= 0 {
			s.placeAt(off, line, ns)
			return s.refeed()
		}
	}
	if n > 0 && (ns <= s.newest || s.stepped) {
		// A file may begin with the rest of a line whose start is in the file
		// before: it has a timestamp of its own then. The next line is known.
		if bytes.Count(s.skipped, newline) < maxSkip && len(s.skipped) < longLine && whole {
			s.skipped = append(s.skipped, line...)
			s.hold = s.hold[:0]
			return 0, true
		}
		if !whole {
			s.hold = s.hold[:0]
			return 0, true // a cut line, and not even its time is known
		}
	}
	return s.placeNew()
}

// placeAt continues at the captured line at off, with which a file begins.
func (s *splicer) placeAt(off int64, line []byte, ns int64) {
	if off != s.fileStart {
		why, certain := "the node rotated the log here, and lines written at that moment may be missing", false
		if len(s.skipped) > 0 && !s.skippedEndsAt(off) {
			why, certain = "lines are in the node's file that were not captured", true
		}
		s.gap(why, s.headNS, ns, off, certain)
		s.rotated = true
	}
	s.startFile(off, line, ns)
	s.startCompare(off)
}

// placeNew takes a response that shares nothing with the capture for what follows it.
func (s *splicer) placeNew() (answer, bool) {
	if !s.acceptNew {
		return answerForeign, false
	}
	committed, end := s.l.bounds()
	first := append(append([]byte(nil), s.skipped...), s.hold...)
	s.skipped = s.skipped[:0]
	ns, _ := s.clock.parse(first)
	torn := end > committed || committed > s.lineAt
	s.l.truncate(committed)
	// The stretch since the file before began is unproved: the stream may have
	// passed over other rotations in it.
	s.gap("the node rotated the log while it was not being read", s.headNS, ns, committed, torn)
	s.rotated, s.grew, s.joined = true, true, true
	s.startFile(committed, first, ns)
	s.mode, s.hold = modeAppend, first
	s.startLine(committed)
	return s.refeed()
}

// refeed passes on what was held.
func (s *splicer) refeed() (answer, bool) {
	held := s.hold
	s.hold = nil
	a, ok := s.feed(held)
	if s.hold == nil {
		s.hold = held[:0]
	}
	return a, ok
}

func (s *splicer) startFile(off int64, line []byte, ns int64) {
	s.fileStart, s.headNS = off, ns
	s.head = append(s.head[:0], line[:min(len(line), headLen)]...)
	s.l.mu.Lock()
	if off == 0 {
		s.l.head = append([]byte(nil), s.head...)
	}
	s.l.fileHead, s.l.fileStart = append(s.l.fileHead[:0], s.head...), off
	s.l.mu.Unlock()
}

func (s *splicer) startCompare(off int64) {
	s.mode, s.off, s.from, s.line = modeCompare, off, off, off
}

// startsAt says whether the captured line at off is line, as far as both go.
func (s *splicer) startsAt(off int64, line []byte) bool {
	_, end := s.l.bounds()
	known := s.head
	if n := len(known); n < headLen && n > 0 && known[n-1] != '\n' {
		// It was cut, perhaps with the kubelet's words glued to it: the timestamp
		// has to do.
		if known = known[:stampPrefix(known)]; len(known) == 0 {
			return off >= s.lineAt // nothing is known but that there was something
		}
	}
	if off != s.fileStart {
		known = s.l.peek(make([]byte, len(line)), off, end)
	}
	n := min(len(known), len(line))
	return n > 0 && bytes.Equal(known[:n], line[:n])
}

// startsAtTail says whether line is the unterminated one that the capture ends in.
func (s *splicer) startsAtTail(line []byte) bool {
	_, end := s.l.bounds()
	tail := s.l.peek(make([]byte, len(line)), s.lineAt, end)
	return len(tail) >= stampUTC && bytes.HasPrefix(line, tail)
}

// skippedEndsAt says whether the captured line before off ends with the one line
// that was skipped.
func (s *splicer) skippedEndsAt(off int64) bool {
	n := stampLen(s.skipped)
	text := s.skipped[n:]
	at := off - int64(len(text))
	return bytes.IndexByte(text, '\n') == len(text)-1 && at >= 0 &&
		bytes.Equal(s.l.peek(make([]byte, len(text)), at, off), text)
}

func (s *splicer) gap(why string, from, to, at int64, certain bool) {
	s.short = s.short || certain
	s.l.addGap(Gap{ContainerID: s.id, Why: why, From: timeOf(from), To: timeOf(to), Certain: certain}, at)
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
		case s.replay >= 0:
			s.endReplay()
		case s.off >= committed:
			s.l.truncate(s.off)
			s.grew = true
			return s.join(p)
		default:
			s.mode = modeOdd
			s.hold = s.l.peek(append(s.hold[:0], make([]byte, min(s.off-s.line, lineLen))...), s.line, s.off)
		}
		return p
	}
	return p
}

// join is the end of the capture: what follows is new.
func (s *splicer) join(p []byte) []byte {
	s.joined = true
	if s.replay >= 0 {
		s.endReplay()
		return p
	}
	s.mode = modeAppend
	_, end := s.l.bounds()
	s.reloadLine(end)
	return p
}

// endReplay ends what looked like lines sent again. Fewer than three in a row
// are taken for output that happens to repeat itself.
func (s *splicer) endReplay() {
	n, from, off, line := s.replay, s.from, s.off, s.line
	s.replay, s.mode = -1, modeAppend
	if n <= 3 {
		s.again(from, off)
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
	s.again(line, off) // the start of a line that went on differently
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
	if !s.retarget() {
		s.diverge()
	}
	s.refeed()
	return rest
}

// retarget tries the next place where the head of a rotated file occurs: lines
// that are equal, timestamps included, may follow one another.
func (s *splicer) retarget() bool {
	if s.from != s.fileStart || s.from == 0 || bytes.IndexByte(s.head, '\n') < 0 {
		return false
	}
	matched := s.line - s.from
	if matched > longLine {
		return false
	}
	committed, _ := s.l.bounds()
	want := append(s.l.peek(make([]byte, matched), s.from, s.line), s.hold...)
	for off := s.from; ; {
		off = s.l.find(s.head, off+1, s.headNS)
		if off < 0 {
			return false
		}
		got := s.l.peek(make([]byte, len(want)), off, committed)
		if bytes.HasPrefix(want, got) {
			s.fileStart = off
			s.startCompare(off + int64(len(got)))
			s.from, s.line = off, min(off+matched, s.off)
			s.hold = append(s.hold[:0], want[len(got):]...)
			return true
		}
	}
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
	committed, _ := s.l.bounds()
	from := max(committed-lineLen, 0)
	w := s.l.peek(make([]byte, committed-from), from, committed)
	if len(w) > 0 {
		if j := bytes.LastIndexByte(w[:len(w)-1], '\n'); j >= 0 {
			w = w[j+1:]
		}
	}
	s.mode, s.last = modeSeek, w
}

// seek skips lines until the last captured one.
func (s *splicer) seek(p []byte) []byte {
	rest, whole := s.takeLine(p)
	if whole {
		if bytes.Equal(s.hold, s.last) {
			committed, _ := s.l.bounds()
			s.startCompare(committed)
		}
		s.hold = s.hold[:0]
	}
	return rest
}

// cut finds a place in the capture's last part where a sinceTime filter cuts
// cleanly: every line before it is older than the second it begins with, none after
// it is. The earliest such place is taken: should the node's clock go back, the
// filter hides what is printed until it has caught up again.
func (s *splicer) cut() (off int64, since time.Time, ok bool) {
	const window = 256 << 10
	committed, _ := s.l.bounds()
	if committed < s.filterFrom || s.stepped || s.diverged || s.plain {
		return 0, since, false
	}
	from := max(committed-window, s.fileStart)
	w := s.l.peek(make([]byte, committed-from), from, committed)
	if from > s.fileStart { // starts inside a line
		j := bytes.IndexByte(w, '\n') + 1
		w, from = w[j:], from+int64(j)
	}
	type place struct{ off, ns, before int64 }
	var lines []place
	for newest := int64(0); len(w) > 0; {
		ns, n := s.clock.parse(w)
		j := bytes.IndexByte(w, '\n')
		if n == 0 || j < 0 {
			return 0, since, false
		}
		lines = append(lines, place{from, ns, newest})
		newest = max(newest, ns)
		w, from = w[j+1:], from+int64(j)+1
	}
	oldest, best := s.newest, place{}
	for i := len(lines) - 1; i > 0; i-- {
		oldest = min(oldest, lines[i].ns)
		floor := oldest - oldest%int64(time.Second)
		// A second of margin: what comes next may be a little older than the newest.
		if floor > lines[i].before && floor+int64(time.Second) <= s.newest {
			best = place{off: lines[i].off, ns: floor}
		}
	}
	if best.ns > 0 {
		return best.off, time.Unix(0, best.ns), true
	}
	return 0, since, false
}
