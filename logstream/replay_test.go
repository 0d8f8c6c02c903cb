package logstream

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// inTimes renders n numbered lines of the times given.
func inTimes(n int, at func(i int) time.Duration) []byte {
	var b bytes.Buffer
	start := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	for i := range n {
		b.WriteString(start.Add(at(i)).Format("2006-01-02T15:04:05.000000000Z07:00"))
		fmt.Fprintf(&b, " %068d\n", i)
	}
	return b.Bytes()
}

// The clocks of nodes, and of nodes that lie.
var clocks = map[string]struct {
	at    func(i int) time.Duration
	lines int
	lies  bool
}{
	"stdout and stderr in turn": {at: func(i int) time.Duration { return time.Duration(i+i%2*-10) * time.Microsecond }, lines: 100_000},
	"stderr far behind":         {at: func(i int) time.Duration { return time.Duration(i+i%5/4*-3000) * time.Microsecond }, lines: 100_000},
	"set back an hour": {at: func(i int) time.Duration {
		return time.Duration(i)*time.Microsecond - time.Duration(i/50_000)*time.Hour
	}, lines: 100_000},
	"one time for many lines": {at: func(i int) time.Duration { return time.Duration(i/80+i/40%2*-3) * time.Microsecond }, lines: 100_000, lies: true},
	"backwards":               {at: func(i int) time.Duration { return -time.Duration(i) * time.Microsecond }, lines: 100_000, lies: true},
	"an hour to and fro": {at: func(i int) time.Duration {
		return time.Duration(i)*time.Microsecond - time.Duration(i%2)*time.Hour
	}, lines: 20_000, lies: true},
}

// feedIn feeds data in pieces of n bytes.
func (s *splicer) feedIn(n int, data []byte) {
	for len(data) > 0 {
		k := min(n, len(data))
		s.feed(data[:k])
		data = data[k:]
	}
}

func TestTimesThatGoBackCostInProportionToWhatIsReceived(t *testing.T) {
	for name, c := range clocks {
		t.Run(name, func(t *testing.T) {
			data := inTimes(c.lines, c.at)
			s := newTestSplicer()
			s.begin(query{}, false)
			start := time.Now()
			s.feedIn(32<<10, data)
			s.end(true)
			t.Logf("%d MB in %v, %d MB scanned", len(data)/1e6, time.Since(start), s.l.scanned/1e6)
			most := int64(4 * len(data))
			if c.lies {
				most = int64(scanPaid*len(data) + scanDebt + len(data))
			}
			if s.l.scanned > most {
				t.Errorf("scanned %d bytes for %d received", s.l.scanned, len(data))
			}
			if s.captured() != string(data) || len(s.l.gaps) > 0 {
				t.Errorf("captured %d bytes of %d, gaps %+v", len(s.captured()), len(data), s.l.gaps)
			}
		})
	}
}

func TestAFileSentAgainIsRecognisedWhateverTheClock(t *testing.T) {
	for name, c := range clocks {
		if c.lies {
			continue
		}
		for _, from := range []int{99_990, 96_000, 80_000, 49_999, 30_000} { // 49,999: the newest of all times
			t.Run(fmt.Sprint(name, " from ", from), func(t *testing.T) {
				data := inTimes(c.lines+100, c.at)
				line := len(data) / (c.lines + 100)
				again := append(append([]byte(nil), data[:c.lines*line]...), data[from*line:]...)
				s := newTestSplicer()
				s.begin(query{}, false)
				s.feedIn(30_011, again)
				s.end(true)
				if got := s.captured(); got != string(data) {
					t.Errorf("captured %d lines, want %d", len(got)/line, len(data)/line)
				}
				if len(s.l.gaps) != 1 || s.l.gaps[0].AfterLine != uint64(from) {
					t.Errorf("gaps %+v", s.l.gaps)
				}
			})
		}
	}
}

// No time tells then: it is neither behind what came last nor far ahead of it.
func TestAFileSentAgainWhenTheClockIsBackAtItsBeginningIsCapturedOnce(t *testing.T) {
	times := []int{300, 301, 450, 10, 299} // and again 300, in tenths of a second
	data := inTimes(6, func(i int) time.Duration { return time.Duration(append(times, 302)[i]) * time.Second / 10 })
	line := len(data) / 6
	for n := 1; n < 2*line; n += 7 {
		s := newTestSplicer()
		s.begin(query{}, false)
		s.feedIn(n, append(append([]byte(nil), data[:5*line]...), data...))
		s.end(true)
		if got := s.captured(); got != string(data) {
			t.Fatalf("in pieces of %d: captured\n%s want\n%s", n, got, data)
		}
	}
}

// Its stream was cut, and no other read came.
func TestOfALineSentAgainThatWasCutNothingIsKept(t *testing.T) {
	data := inTimes(5, func(i int) time.Duration { return time.Duration(i) * time.Microsecond })
	line := len(data) / 5
	for n := 1; n < line; n++ {
		s := newTestSplicer()
		s.respond(t, string(data)+string(data[2*line:2*line+n]), true, false)
		s.seal(false)
		if got := s.captured(); got != string(data) {
			t.Fatalf("cut after %d bytes: captured\n%s want\n%s", n, got, data)
		}
	}
}

// A filter by time holds for what is sent again, too: that begins in the midst of its file.
func TestAFileSentAgainFromATimeOnIsCapturedOnce(t *testing.T) {
	data := inTimes(103, func(i int) time.Duration { return time.Duration(i) * time.Second })
	line := len(data) / 103
	from := int64(50 * line)
	s := newTestSplicer()
	s.respond(t, string(data[:100*line]), true, false)
	s.begin(query{filtered: true, expect: from}, false)
	s.feedIn(1000, data[from:101*line])
	s.feedIn(1000, data[from:102*line])
	s.end(true)
	s.respond(t, string(data), false, true)
	if got := s.captured(); got != string(data) {
		t.Errorf("captured %d lines of %d", len(got)/line, len(data)/line)
	}
	if len(s.l.gaps) > 0 { // it is the file that was being read
		t.Errorf("gaps %+v", s.l.gaps)
	}
}

func TestALineIsFoundWhereverItBegins(t *testing.T) {
	data := inTimes(3000, func(i int) time.Duration { return time.Duration(i) * time.Microsecond })
	s := newTestSplicer()
	s.begin(query{}, false)
	s.feedIn(10_007, data)
	line := len(data) / 3000
	var c stamp.Clock
	for off := 0; off < len(data); off += line {
		text := data[off : off+line]
		ns, _ := c.Parse(text)
		for _, from := range []int{0, max(0, off-5000), off} {
			if got := s.l.find(text, int64(from), int64(len(data)), ns); got != int64(off) {
				t.Fatalf("line at %d is found at %d from %d on", off, got, from)
			}
		}
		if got := s.l.find(text, int64(off)+1, int64(len(data)), 0); got >= 0 {
			t.Fatalf("line at %d is found at %d, after it", off, got)
		}
		if got := s.l.find(text, 0, int64(off), ns); got >= 0 {
			t.Fatalf("line at %d is found at %d, before it", off, got)
		}
		if got := s.l.find(text, 0, int64(off)+1, ns); got != int64(off) {
			t.Fatalf("line at %d is found at %d, as the last one", off, got)
		}
	}
}

func TestALineInsideAnotherIsNotFound(t *testing.T) {
	lines := bytes.SplitAfter([]byte(body("x", "y", "z")), newline)
	quoting := append(append([]byte(nil), lines[0][:len(lines[0])-1]...), lines[1]...) // forged
	s := newTestSplicer()
	s.respond(t, string(quoting)+string(lines[2]), true, false)
	if got := s.l.find(lines[1], 0, s.l.committed, 0); got >= 0 {
		t.Errorf("found at %d", got)
	}
}

// Where a later read differs, nobody knows why; but where it joins the end of the
// capture, it goes on.
func TestAReadThatDiffersInItsMiddleIsTakenUpAtTheEnd(t *testing.T) {
	lines := bytes.SplitAfter(inTimes(20_000, func(i int) time.Duration { return time.Duration(i/50) * time.Microsecond }), newline)
	all := func(from, to int) []byte { return bytes.Join(lines[from:to], nil) }
	s := newTestSplicer()
	s.begin(query{}, false)
	s.feedIn(30_000, all(0, 19_980))
	s.end(true)
	s.begin(query{}, false)
	s.feedIn(1000, append(append(all(0, 100), lines[300]...), all(101, 20_000)...))
	s.end(false)
	if got := s.captured(); got != string(all(0, 20_000)) {
		t.Errorf("captured %d bytes of %d", len(got), len(all(0, 20_000)))
	}
	if len(s.l.gaps) != 1 || s.l.gaps[0].AfterLine != 100 {
		t.Errorf("gaps %+v", s.l.gaps)
	}
}

// A file that begins like thousands of places in the capture, and is at none.
func TestEqualHeadsAreTriedInBounds(t *testing.T) {
	same := bytes.Repeat([]byte("2026-11-22T10:00:00.000000001Z x\n"), 200_000)
	s := newTestSplicer()
	s.oneFile = true // what is printed twice is no doubt
	s.begin(query{}, false)
	s.feedIn(32<<10, same)
	s.end(true)
	other := append(append([]byte(nil), same[:33*1500]...), inTimes(10, func(i int) time.Duration { return time.Hour })...)
	for range 5 {
		s.begin(query{}, true)
		s.feedIn(32<<10, other)
		s.end(false)
	}
	if most := int64(5 * mostTries * (longLine + chunkSize)); s.l.scanned > most {
		t.Errorf("scanned %d bytes, at most %d are right", s.l.scanned, most)
	}
	if s.captured() != string(same) || len(s.l.gaps) != 1 {
		t.Errorf("captured %d bytes of %d, gaps %+v", len(s.captured()), len(same), s.l.gaps)
	}
}
