package logstream

import (
	"bytes"
	"slices"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// A request names a container, not a run, and a container may restart before the watch
// reports it: the kubelet then answers with the next run's log. While a run is alive by its
// status, a response that joins nothing captured before is taken all the same: nearly
// always the node rotated the log. Such a response begins a part. When it shows that a part
// is the next run's, it is taken back.

const whyNexts = "lines that were read here belong to the container's next run, which began before its status said so"

const whyKept = "the lines from here on belong to the container's next run, and the last ones of this run may be missing"

const whyFirstFile = "the node rotated the log before it was read: lines before this one may be among those of the run before, or missing"

const (
	mostParts = 32 // that can be taken back; older ones are this run's
	mostFiles = 64 // whose first lines are kept
)

// part is a response that joined nothing captured before, and all that followed it.
type part struct {
	at     int64    // where it begins in the log
	head   []byte   // its first line
	ns     int64    // and the time of that
	before progress // what was known before it
	mark   logMark
}

// addPart begins a part at the end of the log, with the line of time ns.
func (s *splicer) addPart(line []byte, ns int64) {
	p := part{head: bytes.Clone(headOf(line)), ns: ns, before: s.progress, mark: s.l.mark()}
	p.at = p.mark.at
	p.before.head = bytes.Clone(s.head)
	p.before.suspect.recent = nil
	if n := len(s.parts); n > 0 && s.parts[n-1].at == p.at { // of which nothing was kept
		s.parts = s.parts[:n-1]
	}
	if len(s.parts) == mostParts {
		s.parts = slices.Delete(s.parts, 0, 1)
	}
	s.parts = append(s.parts, p)
	s.began++
	s.l.notePart(p.at, line)
}

// hadPart reports whether something was captured before the newest part.
func (s *splicer) hadPart() bool {
	n := len(s.parts)
	return n > 0 && s.parts[n-1].at > 0
}

// takeBack takes the newest part back: it is the next run's.
func (s *splicer) takeBack() {
	last := len(s.parts) - 1
	p := s.parts[last]
	s.parts, s.progress = s.parts[:last], p.before
	s.l.rewind(p.mark)
	s.heads.restart(s.head, s.headNS)
	if s.lineAt < p.at {
		s.reloadLine(p.at) // a long line may go on
	} else {
		s.startLine(p.at)
	}
	s.gap(whyNexts, s.newest, p.ns, p.at, false)
	s.foreign = true
}

// takeBackFrom takes back what the newest part has from off on, where the next run's own log
// begins, with the line head. Nothing is appended any more.
func (s *splicer) takeBackFrom(off int64, head []byte) {
	p := s.parts[len(s.parts)-1]
	s.l.beginFile(off, head)
	s.l.rewind(s.l.markAt(off, p))
	s.startLine(off)
}

// logMark is a state of a log that it can go back to.
type logMark struct {
	at              int64
	newlines, lines uint64
	stamps          int64
	newest, latest  int64
	gaps            int
}

// fileMark is where one of the node's files begins in a log.
type fileMark struct {
	at   int64
	head []byte // the beginning of its first line
	part bool   // with a response
}

// retreat is a part that was taken back.
type retreat struct {
	at    int64
	gaps  int // that the log had before it
	files []fileMark
}

// mark is the log as it is now. Nothing is uncommitted.
func (l *runLog) mark() logMark {
	l.mu.Lock()
	defer l.mu.Unlock()
	return logMark{
		at: l.committed, newlines: l.newlines, lines: l.lines, stamps: l.stamps,
		newest: l.newest, latest: l.latest, gaps: len(l.gaps),
	}
}

// markAt is the log as it was at off, the beginning of a line in the part p.
func (l *runLog) markAt(off int64, p part) logMark {
	m, buf, c := p.mark, make([]byte, longLine), stamp.Clock{}
	m.at = off
	stops := []int64{off}
	l.mu.Lock()
	for _, at := range slices.Backward(l.halves) {
		if p.at < at && at <= off {
			m.newlines, m.lines = m.newlines+1, m.lines+1
			stops = slices.Insert(stops, 0, at)
		}
	}
	l.mu.Unlock()
	at := p.at
	for _, stop := range stops {
		for start := true; at < stop; {
			b := l.peek(buf[:min(int64(len(buf)), stop-at)], at, stop)
			if len(b) == 0 {
				break
			}
			if j := bytes.LastIndexByte(b, '\n'); j >= 0 && at+int64(len(b)) < stop {
				b = b[:j+1]
			}
			for line := range bytes.Lines(b) {
				if start {
					ns, n := c.Parse(line)
					m.stamps, m.newest = m.stamps+int64(n), max(m.newest, ns)
				}
				if start = bytes.HasSuffix(line, newline); start {
					m.newlines, m.lines = m.newlines+1, m.lines+1
				}
			}
			at += int64(len(b))
		}
	}
	m.latest = m.newest
	return m
}

// rewind takes back what was captured since m. Writer only.
func (l *runLog) rewind(m logMark) {
	l.mu.Lock()
	gone := retreat{at: m.at, gaps: m.gaps}
	for len(l.files) > 0 && l.files[len(l.files)-1].at >= m.at {
		last := len(l.files) - 1
		gone.files = append(gone.files, l.files[last])
		l.files = l.files[:last]
	}
	l.retreats = append(l.retreats, gone)
	for n := len(l.halves); n > 0 && l.halves[n-1] >= m.at; n-- {
		l.halves = l.halves[:n-1]
	}
	kept := l.chunkAt(m.at-1) + 1
	released := slices.Clone(l.chunks[kept:])
	l.chunks = l.chunks[:kept:kept]
	for len(l.open) > 0 && l.open[len(l.open)-1].start >= m.at {
		l.open = l.open[:len(l.open)-1]
	}
	if n := len(l.open); n > 0 {
		l.open[n-1].n = int(m.at - l.open[n-1].start)
	}
	if kept > 0 {
		l.chunks[kept-1].top = m.newest
	}
	l.newlines, l.lines, l.stamps, l.newest, l.latest = m.newlines, m.lines, m.stamps, m.newest, m.latest
	l.committed, l.end, l.gaps = m.at, m.at, l.gaps[:m.gaps:m.gaps]
	l.wakeLocked()
	l.mu.Unlock()
	l.st.release(released)
}

// retreated is how often a part was taken back.
func (l *runLog) retreated() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.retreats)
}

// noteFile notes that a file of the node's begins at off. It needs l.mu.
func (l *runLog) noteFile(off int64, head []byte) {
	f := fileMark{at: off, head: bytes.Clone(head)}
	if n := len(l.files); n > 0 && l.files[n-1].at == off {
		f.part = l.files[n-1].part
		l.files = l.files[:n-1] // more of its first line is known
	}
	if len(l.files) == mostFiles {
		l.files = slices.Delete(l.files, 1, 2)
	}
	l.files = append(l.files, f)
}

// beginFile notes that the file of another run begins at off, with head.
func (l *runLog) beginFile(off int64, head []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := len(l.files)
	for i > 0 && l.files[i-1].at > off {
		i--
	}
	if i > 0 && l.files[i-1].at == off {
		i--
		l.files = slices.Delete(l.files, i, i+1)
	}
	l.files = slices.Insert(l.files, i, fileMark{at: off, head: bytes.Clone(headOf(head)), part: true})
}

// notePart notes that a part begins at off, with line.
func (l *runLog) notePart(off int64, line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteFile(off, headOf(line))
	l.files[len(l.files)-1].part = true
}

// head is the log's first line, as far as it is kept. It needs l.mu.
func (l *runLog) head() []byte {
	if len(l.files) == 0 {
		return nil
	}
	return l.files[0].head
}

// file is the node's current file. It needs l.mu.
func (l *runLog) file() (f fileMark) {
	if n := len(l.files); n > 0 {
		f = l.files[n-1]
	}
	return f
}

// beginsWith reports whether line is the log's first.
func (l *runLog) beginsWith(line []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return isSameLine(l.head(), line)
}

// noteFirst notes the first line of a response that may be this run's, while nothing is captured.
func (l *runLog) noteFirst(line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = append(l.first[:0], headOf(line)...)
}

// firstSeen is the log's first line, captured or not, as far as it is certain: of one that was
// cut, the time. nil: none was seen.
func (l *runLog) firstSeen() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	line := l.head()
	if line == nil {
		line = l.first
	}
	n := stamp.Len(line)
	switch {
	case n == 0:
		return nil
	case line[len(line)-1] != '\n' && len(line) < headLen:
		line = line[:n]
	}
	return bytes.Clone(line)
}

// beginsFile reports whether a file of the node's begins at off: the one before may have
// ended in the middle of a line.
func (l *runLog) beginsFile(off int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.files, func(f fileMark) bool { return f.at == off })
}

// has reports whether line, of time ns, was captured.
func (l *runLog) has(line []byte, ns int64) bool {
	committed, _ := l.bounds()
	return l.find(line, 0, committed, ns) >= 0
}

// fileBeginsWith reports whether b can be the beginning of the node's current file.
func (l *runLog) fileBeginsWith(b []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	head := l.file().head
	n := min(len(head), len(b))
	return bytes.Equal(head[:n], b[:n])
}

// hadFile reports whether a file before the current part began with line.
func (l *runLog) hadFile(line []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	last := len(l.files) - 1
	for last > 0 && !l.files[last].part {
		last--
	}
	return last > 0 && slices.ContainsFunc(l.files[:last], func(f fileMark) bool { return isSameLine(f.head, line) })
}

// partNS is the time of the first line of the current part; 0: there is none.
func (l *runLog) partNS() (ns int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.files {
		if f.part {
			ns, _ = stamp.Parse(f.head)
		}
	}
	return ns
}

// everTaken are the times of the first lines of all parts, of those that were taken back,
// too, in order, and that of the one that has the byte at off; 0: none has.
func (l *runLog) everTaken(off int64) (all []int64, holder int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	files := slices.Clone(l.files)
	for _, b := range l.retreats {
		files = append(files, b.files...)
	}
	var c stamp.Clock
	for i, f := range files {
		ns, n := c.Parse(f.head)
		if n == 0 || !f.part {
			continue
		}
		if all = append(all, ns); i < len(l.files) && f.at <= off {
			holder = ns
		}
	}
	slices.Sort(all)
	return all, holder
}

// firstNS is the time of the log's first line; 0: there is none.
func (l *runLog) firstNS() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ns, _ := stamp.Parse(l.head())
	return ns
}

// shownLine is the first line of a file of which a reader was shown n bytes as part of a
// run that it may not be of.
type shownLine struct {
	head    []byte
	n       int64
	midLine bool // they end within a line
}

// goBack follows the log to where a part was taken back. What was delivered of the part is
// passed over where it comes again, in the run that it is of.
func (r *Reader) goBack() bool {
	l := &r.cur.log
	l.mu.Lock()
	retreats := l.retreats[r.retreats:]
	l.mu.Unlock()
	for _, b := range retreats {
		r.retreats++
		r.told = r.told[:min(len(r.told), b.gaps)]
		if r.limit > b.at {
			r.limit = b.at
		}
		delivered := r.pos - int64(len(r.buf))
		switch {
		case r.pos <= b.at:
			continue
		case delivered <= b.at:
			r.buf = r.buf[:b.at-delivered]
		default:
			r.finishLine()
			r.noteShown(b.files, r.pos-int64(len(r.buf)))
			r.buf = r.buf[:0]
		}
		r.pos, r.skip = b.at, false
	}
	return len(retreats) > 0
}

// finishLine has a line whose beginning was delivered delivered to its end, as far as
// that is known.
func (r *Reader) finishLine() {
	if r.start {
		return
	}
	line := r.buf[:bytes.IndexByte(r.buf, '\n')+1]
	r.gap, r.text = nil, append(r.text, line...)
	r.buf, r.start = r.buf[len(line):], len(line) > 0
}

// noteShown notes that what a log had from files on was delivered, up to pos.
func (r *Reader) noteShown(files []fileMark, pos int64) {
	end := pos
	for _, f := range files { // the newest first
		if f.at < end {
			r.shown = append(r.shown, shownLine{head: f.head, n: end - f.at, midLine: end == pos && !r.start})
		}
		if f.part {
			end = min(end, f.at)
		}
	}
}

// leftRun is a run that a reader has left, and where.
type leftRun struct {
	log     *runLog
	at      int64
	midLine bool
}

// leaveUnproved notes that a run was left whose log may have that of a later one in it.
func (r *Reader) leaveUnproved() {
	if l := &r.cur.log; !l.isVerified() {
		r.left = append(r.left, leftRun{log: l, at: r.pos, midLine: !r.start})
	}
}

// shownOf returns how many bytes of a log that begins with head were delivered.
func (f *leftRun) shownOf(head []byte) int64 {
	ns, n := stamp.Parse(head)
	if n == 0 {
		return 0
	}
	at := f.log.find(head, 0, f.at, ns)
	if at < 0 {
		return 0
	}
	end := f.at
	f.log.mu.Lock()
	defer f.log.mu.Unlock()
	for _, m := range f.log.files {
		if m.part && m.at > at {
			end = min(end, m.at)
		}
	}
	return end - at
}

// skipShown passes over what was delivered as another run's.
func (r *Reader) skipShown(committed int64) bool {
	if r.pos > 0 || committed == 0 {
		return false
	}
	l := &r.cur.log
	l.mu.Lock()
	head := bytes.Clone(l.head())
	l.mu.Unlock()
	for _, s := range r.shown {
		if isSameLine(s.head, head) {
			r.skipTo(s.n, s.midLine)
		}
	}
	for _, f := range r.left {
		if n := f.shownOf(head); n > r.pos {
			r.skipTo(n, f.midLine)
		}
	}
	return r.pos > 0
}

func (r *Reader) skipTo(pos int64, midLine bool) {
	r.pos, r.start = pos, !midLine
	if r.limit >= 0 {
		r.pos = min(r.pos, r.limit)
	}
}
