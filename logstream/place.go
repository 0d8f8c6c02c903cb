package logstream

import (
	"bytes"
	"cmp"
	"math"
	"time"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

const (
	whyRotated = "the node rotated the log here, and lines written at that moment may be missing"
	whyAway    = "the node rotated the log while it was not being read"
	whyUnseen  = "the node may have rotated the log unseen between here and the next gap"
)

// place decides where the response's first line, in hold, belongs.
func (s *splicer) place() (kubelog.Answer, bool) {
	line := s.hold
	ns, n := s.clock.Parse(line)
	_, end := s.l.bounds()
	if s.filtered && n == 0 && !s.plain && !s.torn {
		// The filter is per raw record: it may cut a line in two, and the rest has
		// no timestamp of its own (k8s.io/cri-client v0.36.3 pkg/logs/logs.go:239,408).
		s.torn, s.hold = true, s.hold[:0]
		return 0, true
	}
	switch {
	case end == 0:
		if !s.takes(line, ns) {
			return kubelog.Foreign, false
		}
		s.looked(line, ns)
		s.startFile(0, line, ns)
		s.mode = modeAppend
		return s.refeed()
	case len(s.skipped) == 0 && s.startsAt(s.expect, line):
		if s.filtered {
			s.heads.still(s.expect, ns, s.asked)
		} else {
			s.looked(line, ns)
		}
		if s.expect == s.fileStart && !s.isHeadCertain() && (len(line) > len(s.head) || line[len(line)-1] == '\n') {
			s.startFile(s.fileStart, line, ns) // its first line was cut before
		}
		s.startCompare(s.expect)
		return s.refeed()
	case s.filtered:
		return kubelog.Astray, false
	}
	return s.placeRotated(line, ns, n)
}

// placeRotated places the head of a file that was not the current one before.
func (s *splicer) placeRotated(line []byte, ns int64, n int) (kubelog.Answer, bool) {
	whole := line[len(line)-1] == '\n' || len(line) >= lineLen
	if n == 0 && !s.plain {
		// Cut in its timestamp, or nobody knows what.
		s.hold = s.hold[:0]
		return kubelog.Foreign, !whole
	}
	if n > 0 {
		off := int64(-1)
		if ns <= s.newest || s.stepped {
			key := line
			if !whole {
				key = line[:n] // what follows may be the kubelet's words
			}
			committed, _ := s.l.bounds()
			off = s.l.find(key, s.fileStart, committed, ns)
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
	first := line // of the file
	if len(s.skipped) > 0 {
		first = s.skipped
	}
	firstNS, _ := s.clock.Parse(first)
	s.looked(first, firstNS)
	if off != s.fileStart {
		why, certain := whyRotated, false
		if len(s.skipped) > 0 && !s.skippedEndsAt(off) {
			why, certain = "lines are in the node's file that were not captured", true
		}
		at := s.comeToRest(nodeFile{head: first, ns: firstNS}, off, len(s.skipped) > 0 && !certain)
		s.seam(why, at, ns, certain)
	}
	s.startFile(off, line, ns)
	s.startCompare(off)
	s.placed = true
}

// looked notes that the response shows a file of the node's that begins with line.
func (s *splicer) looked(line []byte, ns int64) {
	if ns == 0 { // the beginning of a timestamp is that of many
		return
	}
	if n := len(line); n < lineLen && line[n-1] != '\n' {
		line = line[:stamp.Len(line)] // what follows may be the kubelet's words
	}
	k := s.asked
	k.answered = time.Now()
	s.heads.look(headOf(line), ns, k)
}

// turn looks for the files that looks have shown in what a stream brought, and for where it
// has passed them over. It reports whether it has passed over one that may be current still.
func (s *splicer) turn() (past bool) {
	for i := 0; ; i++ {
		f, ok := s.heads.next(i)
		if !ok || s.newest < f.ns {
			break
		}
		if off, joined := s.l.fileAt(&f, s.fileStart); off >= 0 {
			s.turnTo(f, off, joined)
			i = -1
			continue
		}
		committed, _ := s.l.bounds()
		s.heads.change(f.head, func(f *nodeFile) { f.sought = committed })
	}
	const margin = int64(time.Second) // lines are in near order of time
	f, ok := s.heads.next(0)
	// Times before the clock was set back say nothing of where the stream is.
	if !ok || min(s.suspect.newest, s.suspect.last) < f.ns+margin {
		return false
	}
	if _, more := s.heads.next(1); more || f.asks {
		committed, _ := s.l.bounds()
		s.comeTo(f, committed)
		s.passOver(f.ns, committed)
		return false
	}
	s.heads.change(f.head, func(f *nodeFile) { f.asks = true })
	return true
}

// turnTo notes that the stream has come to f, which begins at off, or (joined) with the rest of
// the line before.
func (s *splicer) turnTo(f nodeFile, off int64, joined bool) {
	committed, _ := s.l.bounds()
	head := s.l.peek(make([]byte, headLen), off, committed)
	if j := bytes.IndexByte(head, '\n'); j >= 0 {
		head = head[:j+1]
	}
	ns, _ := s.clock.Parse(head)
	s.seam(whyRotated, s.comeToRest(f, off, joined), ns, false)
	s.startFile(off, head, ns)
}

// placeNew takes a response that shares nothing with the capture for what follows it.
func (s *splicer) placeNew() (kubelog.Answer, bool) {
	first := append(append([]byte(nil), s.skipped...), s.hold...)
	ns, _ := s.clock.Parse(first)
	committed, end := s.l.bounds()
	torn := (end > committed || committed > s.lineAt) && !s.ended
	if !s.takes(first, ns) {
		return kubelog.Foreign, false
	}
	committed, _ = s.l.bounds()
	s.skipped = s.skipped[:0]
	s.looked(first, ns)
	s.stepped = s.stepped || ns != 0 && ns < s.newest-int64(time.Second)
	s.comeTo(nodeFile{head: first, ns: ns}, committed)
	s.seam(whyAway, committed, ns, torn)
	s.grew, s.joined = true, true
	s.startFile(committed, first, ns)
	s.mode, s.hold = modeAppend, first
	s.startLine(committed)
	return s.refeed()
}

// takes decides whether to take a response that begins with line and joins nothing that
// was captured.
func (s *splicer) takes(line []byte, ns int64) bool {
	who := ownRun
	if s.whose != nil {
		who = s.whose(line, ns)
	}
	if who == anotherRun || who == doubtful && !s.late {
		return false
	}
	half := s.leaveTail()
	if s.addPart(line, ns); half {
		s.l.countHalf()
	}
	s.strange = s.strange || who != ownRun
	return true
}

// refeed passes on what was held.
func (s *splicer) refeed() (kubelog.Answer, bool) {
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
	s.head = append(s.head[:0], headOf(line)...)
	s.l.mu.Lock()
	s.l.noteFile(off, s.head)
	s.l.mu.Unlock()
}

func (s *splicer) startCompare(off int64) {
	s.mode, s.off, s.from, s.line = modeCompare, off, off, off
}

// startsAt says whether the captured line at off is line, as far as both go.
func (s *splicer) startsAt(off int64, line []byte) bool {
	_, end := s.l.bounds()
	known := s.head
	if len(known) > 0 && !s.isHeadCertain() {
		if known = known[:stamp.Prefix(known)]; len(known) == 0 { // the timestamp has to do
			return off >= s.lineAt // nothing is known but that there was something
		}
	}
	if off != s.fileStart {
		known = s.l.peek(make([]byte, len(line)), off, end)
	}
	n := min(len(known), len(line))
	return n > 0 && bytes.Equal(known[:n], line[:n])
}

// isHeadCertain says whether all of the head is the file's: a first line that was cut
// may have the kubelet's words glued to it.
func (s *splicer) isHeadCertain() bool {
	committed, _ := s.l.bounds()
	n := len(s.head)
	return n > 0 && s.head[n-1] == '\n' || n == headLen && committed > s.fileStart
}

// startsAtTail says whether line is the unterminated one that the capture ends in.
func (s *splicer) startsAtTail(line []byte) bool {
	_, end := s.l.bounds()
	tail := s.l.peek(make([]byte, len(line)), s.lineAt, end)
	return len(tail) >= stamp.UTC && bytes.HasPrefix(line, tail)
}

// skippedEndsAt says whether the captured line before off ends with the one line
// that was skipped.
func (s *splicer) skippedEndsAt(off int64) bool {
	n := stamp.Len(s.skipped)
	text := s.skipped[n:]
	at := off - int64(len(text))
	return bytes.IndexByte(text, '\n') == len(text)-1 && at >= 0 &&
		bytes.Equal(s.l.peek(make([]byte, len(text)), at, off), text)
}

func (s *splicer) gap(why string, from, to, at int64, certain bool) {
	if s.stepped {
		from, to = 0, 0
	}
	s.enclose(why, from, to, at, certain)
}

// enclose notes a gap at the line at, between two times.
func (s *splicer) enclose(why string, from, to, at int64, certain bool) {
	s.short = s.short || certain
	switch back := from - to; {
	case to == 0 || back <= 0:
	case back > int64(time.Second):
		from, to = 0, 0 // the clock was set back: they enclose nothing
	default:
		from, to = to, from // two streams are stamped apart
	}
	s.l.addGap(Gap{Why: why, From: stamp.Time(from), To: stamp.Time(to), Certain: certain}, at)
}

// seam notes that one of the node's files begins at off, with a line of time ns (0: it is
// empty): lines may be missing there.
func (s *splicer) seam(why string, off, ns int64, certain bool) {
	s.rotated = true
	before := s.timeBefore(off)
	if ns != 0 {
		ns += s.skew
	}
	s.enclose(why, before-s.skew, ns, off, certain)
}

// comeToRest is comeTo, and returns where lines may be missing. A file may begin with the rest
// of a line (joined), which is joined to the half that the one before ended in: but if another
// may have begun since that was printed, the half is of another line.
func (s *splicer) comeToRest(f nodeFile, off int64, joined bool) (at int64) {
	if over := s.comeTo(f, off); joined && s.timeBefore(off) < over {
		return s.lineOf(off - 1)
	}
	return off
}

// comeTo notes that the capture has come to a file of the node's, at off. Lines may be missing
// where it passed over others, and where those may have begun that nobody saw. It returns when
// the last of these may have begun; 0: there were none.
func (s *splicer) comeTo(f nodeFile, off int64) (over int64) {
	if s.plain {
		return 0
	}
	if f.found.IsZero() {
		f.found = time.Now()
	}
	f.head = headOf(f.head)
	steps := s.heads.reach(f)
	for i, k := range steps {
		if k.unseen {
			s.passUnseen(k, off)
			over = max(over, cmp.Or(k.upTo, math.MaxInt64))
		}
		if i < len(steps)-1 {
			s.passOver(k.ns, off)
			over = max(over, k.ns)
		}
	}
	return over
}

// passOver notes that before off a file was passed over that begins with a line of time ns.
func (s *splicer) passOver(ns, off int64) {
	if at := s.l.after(ns-1, s.fileStart, off); at < off && !s.stepped {
		s.seam(whyRotated, at, s.timeAt(at), false)
	}
}

// passUnseen notes that before off files may have begun that nobody saw.
func (s *splicer) passUnseen(k step, off int64) {
	from, to, last := s.behind(k.end, k.from, off), off, s.timeBefore(off)
	if k.upTo != 0 && !s.stepped {
		to = s.l.after(k.upTo, from, off)
	}
	if to < off {
		last = s.timeAt(to)
	}
	if from < off {
		s.rotated = true
		s.gap(whyUnseen, s.timeBefore(from)-s.skew, last+s.skew, from, false)
	}
}

// behind is where, before off, the first line begins that was not captured by end, nor printed
// until then; 0: that is not known.
func (s *splicer) behind(end, until, off int64) int64 {
	from := max(s.fileStart, s.lineOf(min(end, off)))
	if until != 0 && !s.stepped {
		from = max(from, s.l.after(until, s.fileStart, off))
	}
	return from
}

// lineOf is where the line begins that off is in.
func (s *splicer) lineOf(off int64) int64 {
	back := max(s.fileStart, off-longLine)
	if back >= off {
		return off
	}
	w := s.l.peek(make([]byte, off-back), back, off)
	return back + int64(bytes.LastIndexByte(w, '\n')+1)
}

// timeBefore is the time of the line before off; of the first line of its file where
// that begins there, or is all that is known.
func (s *splicer) timeBefore(off int64) int64 {
	if _, before := s.timesAt(off); before != 0 && off > s.fileStart {
		return before
	}
	return s.headNS
}

// timeAt is the time of the line at off.
func (s *splicer) timeAt(off int64) int64 {
	ns, _ := s.timesAt(off)
	return ns
}

// retarget tries the next place where the head of a rotated file occurs: lines
// that are equal, timestamps included, may follow one another.
func (s *splicer) retarget() bool {
	if s.from != s.fileStart || bytes.IndexByte(s.head, '\n') < 0 {
		return false
	}
	matched := s.line - s.from
	if matched > longLine {
		return false
	}
	committed, _ := s.l.bounds()
	want := append(s.l.peek(make([]byte, matched), s.from, s.line), s.hold...)
	off := s.from
	for range mostTries {
		off = s.l.find(s.head, off+1, committed, s.headNS)
		if off < 0 {
			return false
		}
		got := min(int64(len(want)), committed-off)
		if !s.l.equal(off, want[:got], committed) {
			continue
		}
		if !s.placed { // it was taken for the file before, whose head is equal
			s.seam(whyRotated, off, s.headNS, false)
			s.placed = true
		}
		s.startFile(off, append([]byte(nil), s.head...), s.headNS)
		s.startCompare(off + got)
		s.from, s.line = off, min(off+matched, s.off)
		s.hold = append(s.hold[:0], want[got:]...)
		return true
	}
	return false
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
		ns, n := s.clock.Parse(w)
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
