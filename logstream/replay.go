package logstream

import (
	"bytes"
	"time"
)

// A follower of a rotated log that fell behind may be sent a file twice
// (k8s.io/cri-client v0.36.3 pkg/logs/logs.go:371-383). The second time begins with
// a line whose time goes back, and that is in the capture to the nanosecond and the
// letter. But times go back for other reasons, and not seldom: with every line of a
// container that prints to stdout and stderr in turn. So what is searched for, and
// where, is bounded: else a flood of such lines would cost its length squared.

// suspicion is what is remembered of the lines appended, to find those sent again.
type suspicion struct {
	newest int64 // time, since the clock was last set back
	last   int64 // time of the last line
	debt   int64 // bytes scanned, above those that the bytes received paid for
	recent *recent
}

const (
	scanPaid = 32       // bytes that may be scanned for one received
	scanDebt = 64 << 20 // and on top of that
)

// isSuspect says whether the line of time ns, older than the newest, may be the
// first of those sent again: it goes back, or, to what was before the clock was set
// back, it jumps forward; or it comes when that time is here once more.
func (s *splicer) isSuspect(ns int64) bool {
	return ns < s.suspect.newest || ns > s.suspect.last+int64(time.Second) || ns == s.headNS
}

// sawLine notes a line of length bytes.
func (s *splicer) sawLine(ns, length int64) {
	s.newest = max(s.newest, ns)
	s.batch.add(ns)
	q := &s.suspect
	if back := q.newest - ns; back < int64(time.Second) {
		s.skew = max(s.skew, back)
	}
	if s.oneFile && ns < q.newest-int64(time.Second) {
		q.newest = ns // nothing is sent again within one file: the clock was set back
	}
	q.newest, q.last = max(q.newest, ns), ns
	q.debt = max(0, q.debt-scanPaid*length)
	if q.recent != nil {
		q.recent.add(ns, length)
	}
}

// startReplay says whether a line was sent before. part is the line, or the end of
// the one whose beginning is in the log.
func (s *splicer) startReplay(part []byte, ns int64) bool {
	q := &s.suspect
	off := int64(-1)
	if s.lead+int64(len(part)) <= longLine && q.debt < scanDebt {
		off = s.findSent(part, ns)
	}
	if off < 0 {
		if ns < q.newest-int64(time.Second) {
			q.newest = ns // the clock was set back: lines that follow are as they should be
		}
		return false
	}
	length := s.lead + int64(len(part))
	s.l.truncate(s.lineAt)
	s.startLine(s.lineAt)
	s.startCompare(off)
	s.off += length
	s.line = s.off
	s.replay = 1
	return true
}

// findSent finds where a line was sent before.
func (s *splicer) findSent(part []byte, ns int64) int64 {
	q := &s.suspect
	committed, end := s.l.bounds()
	if q.recent == nil {
		q.recent = &recent{from: [2]int64{end, end}}
	}
	to := min(q.recent.from[0], committed)
	if q.recent.has(ns, s.lead+int64(len(part))) {
		to = committed
	}
	before := s.l.scannedBytes()
	off := s.l.find(s.whole(part), 0, to, ns)
	q.debt += s.l.scannedBytes() - before
	return off
}

// whole is the line that ends with part.
func (s *splicer) whole(part []byte) []byte {
	if s.lead == 0 {
		return part
	}
	_, end := s.l.bounds()
	return append(s.l.peek(make([]byte, s.lead), s.lineAt, end), part...)
}

// recent is a filter of the lines appended last: two generations of a Bloom filter
// of their times and lengths. The node's times are almost all different.
type recent struct {
	bits  [2][1 << 10]uint64
	from  [2]int64 // lines that begin here, or later, are in it
	lines int      // in the second generation
}

const recentLines = 4096

// recentBits returns four bits, of 16 each.
func recentBits(ns, length int64) uint64 {
	h := (uint64(ns) + uint64(length)<<48) * 0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>32
}

func (r *recent) add(ns, length int64) {
	for h := recentBits(ns, length); h != 0; h >>= 16 {
		r.bits[1][h&0xffff/64] |= 1 << (h % 64)
	}
	r.lines++
}

func (r *recent) has(ns, length int64) bool {
	for g := range r.bits {
		in := true
		for h := recentBits(ns, length); h != 0 && in; h >>= 16 {
			in = r.bits[g][h&0xffff/64]>>(h%64)&1 == 1
		}
		if in {
			return true
		}
	}
	return false
}

// turn begins a new generation at end, when there is cause for one.
func (r *recent) turn(end int64) {
	if r.lines >= recentLines {
		r.bits[0], r.from[0] = r.bits[1], r.from[1]
		r.bits[1], r.from[1], r.lines = [1 << 10]uint64{}, end, 0
	}
}

// startDoubt looks at a line of the newest time. No other line of a log of containerd's
// has that: one that is in the capture was sent again, from a file whose lines all have
// this time. Of a log of conmon's many lines do, and they may be equal.
func (s *splicer) startDoubt(part []byte, ns int64) bool {
	committed, _ := s.l.bounds()
	if s.lead+int64(len(part)) <= longLine && s.l.find(s.whole(part), 0, committed, ns) >= 0 && s.doubts() {
		s.l.truncate(s.lineAt)
		s.startLine(s.lineAt)
		return true
	}
	s.shared = true
	return false
}

// doubts ends the response, for the next one to tell whether lines that were sent
// before are new: it is the whole file, which has the new ones twice. A log that has
// equal lines at one time is not doubted again.
func (s *splicer) doubts() bool {
	if s.shared || s.settles || (s.only != nil && s.only()) {
		s.shared = true
		return false
	}
	s.doubt = true
	return true
}

// endReplay ends what looked like lines sent again. What may as well be output that
// happens to repeat itself is taken for that, unless it can be doubted, or is all there
// is (over): the next read tells then.
func (s *splicer) endReplay(over bool) {
	n, from, off, line := s.replay, s.from, s.off, s.line
	s.replay, s.mode = -1, modeAppend
	if off-line <= longLine && !s.isSentAgain(n, from, off) {
		if !over && !s.doubts() {
			s.again(from, off)
		}
		return
	}
	if from == s.fileStart || s.filtered && from == s.expect {
		// The file that was being read: the runtime could not make another, and the
		// kubelet gave it its name back (kubernetes v1.36.3
		// pkg/kubelet/logs/container_log_manager.go:424). Nothing came between.
		if !over {
			s.again(line, off)
		}
		return
	}
	ns, _ := s.timesAt(from)
	sent := s.l.peek(make([]byte, headLen), from, off)
	if j := bytes.IndexByte(sent, '\n'); j >= 0 {
		sent = sent[:j+1]
	}
	s.comeTo(nodeFile{head: sent, ns: ns}, from)
	s.heads.covers(off, time.Time{}) // when it was opened again, all that was captured was there
	s.seam("the node sent lines twice here, and may have skipped a rotated file before them", from, ns, false)
	if !s.filtered { // what is asked for by time need not begin with its file
		s.startFile(from, sent, ns)
	}
	if over {
		return
	}
	s.again(line, off) // the start of a line that went on differently
}

// isSentAgain says whether the n captured lines at [from, to) came a second time with
// their file: a follower had all of it, so they are the last ones, and the newest is
// among them or they are many. Lines that conmon read at once have one time; they may
// be equal, and are 8 KiB at most.
func (s *splicer) isSentAgain(n int, from, to int64) bool {
	if _, end := s.l.bounds(); to < end {
		return false
	}
	if to-from > longLine {
		return true
	}
	var first int64
	differ := !s.shared // the times of lines
	for line := range bytes.Lines(s.l.peek(make([]byte, to-from), from, to)) {
		ns, _ := s.clock.Parse(line)
		if ns >= s.suspect.newest {
			return true
		}
		if first == 0 {
			first = ns
		}
		differ = differ || ns != first
	}
	return n > 3 && differ
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
