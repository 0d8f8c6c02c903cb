package logstream

import (
	"bytes"
	"time"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// append takes new bytes. Whole lines are committed at once; the rest waits for
// its newline. It stops, and returns what is left, at a line that looks like one
// sent before.
func (s *splicer) append(p []byte) []byte {
	done := 0
	for {
		done += s.inOrder(p[done:])
		j := bytes.IndexByte(p[done:], '\n')
		if j < 0 {
			break
		}
		next := done + j + 1
		ns, n := s.parseLine(p[done:next])
		if n > 0 && ns <= s.newest && !s.plain {
			newest := s.suspect.newest // the one that the clock has come to, should it have been set back
			back, same := ns != newest, ns == newest && !s.shared
			if !s.oneFile && (same || back && s.isSuspect(ns)) {
				if done > 0 { // so that all that was sent before can be searched
					s.store(p[:done], done)
					p, next, done = p[done:], next-done, 0
				}
				if back && s.startReplay(p[:next], ns) {
					return p[next:]
				}
				if same && s.startDoubt(p[:next], ns) {
					return nil
				}
			}
			s.stepped = s.stepped || ns < s.newest-int64(time.Second)
		}
		s.endLine(ns, n, next-done)
		done = next
	}
	s.store(p, done)
	return nil
}

// inOrder takes the whole lines at the start of p of which each is newer than the one
// before, as nearly all are: nothing has to be looked up, nor noted of each.
func (s *splicer) inOrder(p []byte) (done int) {
	if s.stampN > 0 || s.counted || s.plain || !s.decided || s.suspect.recent != nil {
		return 0
	}
	newest := s.newest
	for {
		ns, n := s.clock.Parse(p[done:])
		if n == 0 || ns <= newest {
			break
		}
		j := bytes.IndexByte(p[done+n:], '\n') // there is none in a timestamp
		if j < 0 {
			break
		}
		if newest == s.newest {
			s.batch.add(ns)
		}
		newest = ns
		s.stamps += int64(n)
		done += n + j + 1
	}
	if done > 0 {
		s.sawLine(newest, int64(done))
		s.lead, s.settles = 0, false
	}
	return done
}

// appendRaw is append for bytes that are known to be no replay.
func (s *splicer) appendRaw(p []byte) {
	done := 0
	for {
		j := bytes.IndexByte(p[done:], '\n')
		if j < 0 {
			break
		}
		ns, n := s.parseLine(p[done : done+j+1])
		s.endLine(ns, n, j+1)
		done += j + 1
	}
	s.store(p, done)
}

// parseLine reads the timestamp of the line that ends with part, which is all of
// it unless its beginning is in the log already.
func (s *splicer) parseLine(part []byte) (ns int64, n int) {
	if s.stampN == 0 {
		return s.clock.Parse(part)
	}
	s.stampN += copy(s.stamp[s.stampN:], part)
	return s.clock.Parse(s.stamp[:s.stampN])
}

// endLine counts a whole line. The first one decides whether the body has
// timestamps at all: a fake clientset's and a very old kubelet's have none.
// part is the length of what of it is not in the log.
func (s *splicer) endLine(ns int64, n, part int) {
	s.decide(n)
	if !s.counted && !s.plain {
		s.stamps += int64(n)
	}
	s.counted, s.stampN = false, 0
	if n > 0 {
		s.sawLine(ns, s.lead+int64(part))
	}
	s.lead, s.settles = 0, false
}

func (s *splicer) decide(stamp int) {
	if !s.decided {
		s.decided, s.plain = true, stamp == 0
	}
}

// store writes p, of which p[:done] are whole lines.
func (s *splicer) store(p []byte, done int) {
	l := s.l
	_, start := l.bounds()
	l.write(p)
	s.grew = true
	_, end := l.bounds()
	if done > 0 {
		s.lineAt = start + int64(done)
	}
	if rest := p[done:]; len(rest) > 0 && s.stampN < stamp.Max {
		s.stampN += copy(s.stamp[s.stampN:], rest)
	}
	switch {
	case end-s.lineAt > longLine:
		// Shown as it comes: nobody knows whether a newline ever will.
		if !s.counted {
			_, n := s.clock.Parse(s.stamp[:s.stampN])
			s.decide(n)
			if !s.plain {
				s.stamps += int64(n)
			}
			s.counted = true
		}
		s.commit(end - holdBack)
	case done > 0:
		s.commit(s.lineAt)
	}
	s.lead = end - s.lineAt
	if s.suspect.recent != nil {
		s.suspect.recent.turn(end)
	}
}

func (s *splicer) commit(off int64) {
	s.l.commit(off, s.stamps, s.batch, s.suspect.newest, s.plain)
	s.stamps, s.batch = 0, span{}
}

// startLine begins a line at off, the end of the log.
func (s *splicer) startLine(off int64) {
	s.lineAt, s.stampN, s.counted, s.lead = off, 0, false, 0
}

// reloadLine takes up the line that the log ends in.
func (s *splicer) reloadLine(end int64) {
	s.lead = end - s.lineAt
	if s.counted && s.lineAt < end {
		return // a long line goes on
	}
	s.stampN = copy(s.stamp[:], s.l.peek(s.stamp[:], s.lineAt, end))
}

// end is the end of the response: what it was, and whether it equals the capture
// to its end. follow: it was a stream, whose kubelet may have died in a line.
func (s *splicer) end(follow bool) (a kubelog.Answer, equal bool) {
	if s.oneFile { // all that it brought is of the file that it began in
		committed, _ := s.l.bounds()
		s.heads.covers(committed, s.asked.asked)
	}
	if s.mode == modeHead {
		if a, ok := s.endHead(follow); !ok {
			return a, false
		}
	}
	if s.mode == modeCompare {
		committed, end := s.l.bounds()
		s.joined = s.joined || s.off == end
		if s.oneFile && s.off >= committed && s.off < end {
			// The file does not have all of the unterminated line that was read before:
			// that was the start of one sent again, or the kubelet's words. Should this
			// read be the one that was cut, the next will bring it back.
			s.l.truncate(s.off)
			s.reloadLine(s.off)
			s.joined, s.grew = true, true
		}
		if s.replay >= 0 {
			s.joined = true
			s.endReplay(true)
		}
	}
	if s.mode == modeOdd && s.replay >= 0 {
		a, text := kubelog.WordsAtEnd(s.hold)
		s.hold, s.joined = s.hold[:0], true
		if s.endReplay(true); text {
			return a, false
		}
	}
	if (s.mode == modeOdd || s.mode == modeSeek && !s.midLine) && stamp.Len(s.hold) == 0 && !s.plain {
		if a, ok := kubelog.Words(s.hold); ok {
			return a, false
		}
	}
	if s.mode == modeAppend {
		if a, ok := s.endTail(follow); !ok {
			return a, false
		}
	}
	return kubelog.EOF, s.joined && !s.grew
}

// endHead places a response that ended in its first line.
func (s *splicer) endHead(follow bool) (kubelog.Answer, bool) {
	_, end := s.l.bounds()
	if len(s.hold) == 0 && len(s.skipped) == 0 {
		s.joined = end == 0
		return kubelog.EOF, true
	}
	if stamp.Len(s.hold) == 0 && !s.plain {
		if a, ok := kubelog.Words(s.hold); ok {
			return a, false
		}
	}
	switch {
	case len(s.hold) == 0:
		return s.placeNew()
	case follow && end > 0 && !s.startsAt(s.expect, s.hold):
		return kubelog.EOF, true // cut in the head of another file: nothing to learn
	}
	return s.place()
}

// endTail looks at the unterminated end of the log.
func (s *splicer) endTail(follow bool) (kubelog.Answer, bool) {
	_, end := s.l.bounds()
	s.joined = true
	if end == s.lineAt {
		return kubelog.EOF, true
	}
	from := max(s.lineAt, end-lineLen)
	tail := s.l.peek(make([]byte, end-from), from, end)
	a, text := kubelog.EOF, false
	if from == s.lineAt && stamp.Len(tail) == 0 {
		a, text = kubelog.Words(tail)
		if !text && (s.isUnstamped(tail) || follow && s.mayBeWords(tail)) {
			a, text = kubelog.Failed, true
		}
	}
	if text {
		s.l.truncate(s.lineAt)
		s.startLine(s.lineAt)
		return a, false
	}
	if follow {
		if a, text = kubelog.WordsAtEnd(tail); text {
			committed, _ := s.l.bounds()
			s.l.truncate(max(committed, s.lineAt))
			if !s.counted {
				s.startLine(s.lineAt)
			}
			return a, false
		}
	}
	return kubelog.EOF, true
}

// seal commits an unterminated last line: two reads agree on it (proved), or no
// other read will come.
func (s *splicer) seal(proved bool) {
	committed, end := s.l.bounds()
	if end == s.lineAt || s.sealed {
		return
	}
	if !s.isOutput(end, proved) {
		s.l.truncate(max(committed, s.lineAt))
		return
	}
	s.commitTail(end)
	s.l.countTail()
	s.sealed = true
}

// isOutput reports whether the unterminated last line is what the container printed.
func (s *splicer) isOutput(end int64, proved bool) bool {
	from := max(s.lineAt, end-lineLen)
	tail := s.l.peek(make([]byte, end-from), from, end)
	if !s.counted && s.isTornStamp(tail) && (!proved || s.decided) {
		return false
	}
	if proved {
		return true
	}
	_, words := kubelog.WordsAtEnd(tail)
	return !words && !kubelog.TornWords(tail) && (from != s.lineAt || !s.wasSent(tail))
}

// commitTail commits the unterminated last line.
func (s *splicer) commitTail(end int64) {
	if !s.counted {
		_, n := s.clock.Parse(s.stamp[:s.stampN])
		s.decide(n)
		if !s.plain {
			s.stamps += int64(n)
		}
		s.counted = true
	}
	s.commit(end)
}

// leaveTail is the end of a file of the node's: the runtime may have been turned to the
// next one in the middle of a line, of which that one has the rest. Where the stream broke
// off, nobody knows what is missing. It reports whether a half was kept.
func (s *splicer) leaveTail() bool {
	committed, end := s.l.bounds()
	if s.ended && end > committed && s.isOutput(end, false) {
		s.commitTail(end)
		return true
	}
	s.l.truncate(committed)
	return false
}

// wasSent says whether a last line is the beginning of one that is in the log: of one
// that was being sent again.
func (s *splicer) wasSent(line []byte) bool {
	ns, n := s.clock.Parse(line)
	committed, _ := s.l.bounds()
	return n > 0 && !s.shared && s.l.find(line, 0, committed, ns) >= 0
}

// isUnstamped says whether a last line has no timestamp, in a log that has them, nor
// the beginning of one: whatever its words are, the container did not print them.
func (s *splicer) isUnstamped(line []byte) bool {
	return s.decided && !s.plain && !s.counted && stamp.Len(line) == 0 && !s.isTornStamp(line)
}

// mayBeWords says whether a body's only line, as far as there is one, is the beginning
// of the kubelet's words. Should it be output, the final read brings it.
func (s *splicer) mayBeWords(line []byte) bool {
	return !s.decided && s.lineAt == 0 && kubelog.TornWords(line)
}

// isTornStamp says whether all there is of a line is the beginning of its timestamp:
// nothing that the container printed.
func (s *splicer) isTornStamp(line []byte) bool {
	return !s.plain && stamp.IsTorn(line)
}
