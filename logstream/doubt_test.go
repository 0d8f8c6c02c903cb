package logstream

import (
	"fmt"
	"strings"
	"testing"
)

// A follower that lags by two rotations opens the newest file twice. One that has a
// single line, or one time, looks like output that repeats itself.
func TestAFileOfOneLineSentAgainIsCapturedOnce(t *testing.T) {
	at := func(ns int, text string) string { return fmt.Sprintf("2026-11-22T10:00:00.%09dZ %s\n", ns, text) }
	first, more := at(1, "a")+at(5, "b"), at(7, "more")
	for name, next := range map[string]string{
		"newest": at(6, "c"),
		"older than the newest, as the other stream's may be":   at(4, "c"),
		"older, of three lines":                                 at(2, "c") + at(3, "c") + at(4, "c"),
		"whose first line is the newest, and another is not":    at(6, "c") + at(4, "d"),
		"older than all, as after a step of the clock backward": at(0, "c"),
	} {
		t.Run(name, func(t *testing.T) {
			for step := 1; step < 80; step++ {
				s := newTestSplicer()
				if s.take(first+next+next+more, step) {
					t.Fatalf("step %d: nothing is doubted", step)
				}
				if got, want := s.captured(), first+next; got != want {
					t.Fatalf("step %d: captured\n%s want\n%s", step, got, want)
				}
				s.readUntilSure(t, next+more, step)
				if got, want := s.captured(), first+next+more; got != want {
					t.Fatalf("step %d: captured\n%s want\n%s", step, got, want)
				}
				if len(s.l.gaps) != 1 || s.l.gaps[0].AfterLine != 2 || s.l.gaps[0].From.Nanosecond() > 5 || s.l.gaps[0].To.Nanosecond() > 8 {
					t.Errorf("step %d: gaps %+v", step, s.l.gaps)
				}
			}
		})
	}
}

// The newest line is then the newest since the step.
func TestAFileOfOneLineSentAgainIsCapturedOnceWhereTheClockWasSetBack(t *testing.T) {
	at := func(sec int, text string) string {
		return fmt.Sprintf("2026-11-22T10:00:%02d.000000001Z %s\n", sec, text)
	}
	first, next, more := at(30, "a")+at(40, "b")+at(10, "c"), at(20, "d"), at(21, "more")
	for step := 1; step < 80; step++ {
		s := newTestSplicer()
		s.readUntilSure(t, first, step)
		if s.take(first+next+next+more, step) {
			t.Fatalf("step %d: nothing is doubted", step)
		}
		s.readUntilSure(t, next+more, step)
		if got, want := s.captured(), first+next+more; got != want {
			t.Fatalf("step %d: captured\n%s want\n%s", step, got, want)
		}
	}
}

// conmon gives all lines of one read the same time. Should the node's clock go back a
// little, lines that are equal are older than the newest one, too.
func TestOutputThatRepeatsItselfIsNoFileSentAgain(t *testing.T) {
	at := func(ns int, texts ...string) (lines string) {
		for _, text := range texts {
			lines += fmt.Sprintf("2026-11-22T10:00:00.%09dZ %s\n", ns, text)
		}
		return lines
	}
	for name, repeated := range map[string]string{
		"the last lines":           at(3, strings.Fields(strings.Repeat("same ", 20))...),
		"lines with more after it": at(3, strings.Fields("a b c d e and again a b c d e and on")...),
	} {
		t.Run(name, func(t *testing.T) {
			full := at(7, "one", "two", "three") + repeated + at(9, "more")
			for step := 1; step < 200; step += 3 {
				s := newTestSplicer()
				s.readUntilSure(t, full, step)
				if s.captured() != full || len(s.l.gaps) > 0 {
					t.Fatalf("step %d: captured\n%s want\n%s gaps %+v", step, s.captured(), full, s.l.gaps)
				}
			}
		})
	}
}

// A doubt of a log that cannot be read again would lose what the stream still brings.
func TestTheLastStreamOfALogIsNotDoubted(t *testing.T) {
	same := strings.Repeat("2026-11-22T10:00:00.000000001Z x\n", 3)
	s := newTestSplicer()
	s.only = func() bool { return true }
	if s.respond(t, same, true, false); s.captured() != same {
		t.Errorf("captured %q", s.captured())
	}
}

// A stream may pass over rotations unnoticed before one is: nothing proves what is
// between the file that is known and the one that was sent twice.
func TestLinesSentTwiceLeaveNothingUnprovedOutsideTheGap(t *testing.T) {
	lines := strings.SplitAfter(body(numbered(20)...), "\n")
	all := func(from, to int) string { return strings.Join(lines[from:to], "") }
	s := newTestSplicer()
	s.heads.life = 0                                                     // no look shows that none came and went
	s.respond(t, all(0, 5)+all(6, 9)+all(9, 15)+all(9, 20), true, false) // 5 was written to a file rotated away
	if len(s.l.gaps) != 2 {
		t.Fatalf("gaps %+v", s.l.gaps)
	}
	if from, to := s.l.gaps[0].From, s.l.gaps[1].To; from.Nanosecond() != 1 || to.Nanosecond() != 9001 {
		t.Errorf("the gaps are from %s to %s", from, to)
	}
}

// Times do not enclose what is missing where the node's clock was set back meanwhile.
func TestAGapAcrossAStepOfTheClockNamesNoTimes(t *testing.T) {
	at := func(sec int, text string) string {
		return fmt.Sprintf("2026-11-22T10:00:%02d.000000001Z %s\n", sec, text)
	}
	for name, c := range map[string]struct {
		before   string
		from, to int // seconds
	}{
		"before the gap": {at(20, "a") + at(40, "b") + at(10, "c"), 10, 15},
		"within the gap": {at(20, "a") + at(40, "b"), 0, 0},
	} {
		s := newTestSplicer()
		s.respond(t, c.before, true, false)
		s.respond(t, at(15, "x"), false, true)
		if len(s.l.gaps) != 1 || s.l.gaps[0].From.Second() != c.from || s.l.gaps[0].To.Second() != c.to || s.l.gaps[0].From.IsZero() != (c.from == 0) {
			t.Errorf("%s: gaps %+v", name, s.l.gaps)
		}
	}
}

// take plays a stream of body, step bytes at a time, until one is doubted: it says
// whether none is.
func (s *splicer) take(body string, step int) (ok bool) {
	s.begin(query{}, false)
	ok = true
	for p := []byte(body); len(p) > 0 && ok; {
		n := min(step, len(p))
		_, ok = s.feed(p[:n])
		p = p[n:]
	}
	return ok
}

// readUntilSure plays streams of body until one has no doubt, step bytes at a time.
func (s *splicer) readUntilSure(t testing.TB, body string, step int) (reads int) {
	t.Helper()
	for ok := false; !ok; reads++ {
		if reads > 5 {
			t.Fatal("five streams are not enough")
		}
		ok = s.take(body, step)
	}
	s.end(true)
	return reads
}
