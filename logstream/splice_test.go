package logstream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
)

// body renders lines as the kubelet does, one nanosecond-stamped line each.
func body(lines ...string) string {
	var b strings.Builder
	for i, l := range lines {
		fmt.Fprintf(&b, "2026-11-22T10:00:%02d.%09dZ %s\n", i/50, i%50*1000+1, l)
	}
	return b.String()
}

func numbered(n int) []string {
	lines := make([]string, n)
	for i := range lines {
		lines[i] = fmt.Sprintf("line %d", i)
	}
	return lines
}

func newTestSplicer() *splicer {
	return &splicer{l: &runLog{st: newStore(64<<20, 0, ""), id: "c"}, heads: heads{life: fileLife}, asked: look{asked: time.Now()}}
}

// respond plays one whole response.
func (s *splicer) respond(t testing.TB, resp string, follow, acceptNew bool) (kubelog.Answer, bool) {
	t.Helper()
	s.begin(query{}, acceptNew)
	if a, ok := s.feed([]byte(resp)); !ok {
		return a, false
	}
	return s.end(follow)
}

func (s *splicer) captured() string {
	committed, _ := s.l.bounds()
	return string(s.l.peek(make([]byte, committed), 0, committed))
}

func TestACutAtAnyByteLosesAndRepeatsNothing(t *testing.T) {
	for name, full := range map[string]string{
		"lines":        body(numbered(6)...),
		"empty lines":  body("", "", "x", ""),
		"same lines":   strings.Repeat("2026-11-22T10:00:00.000000001Z x\n", 5),
		"unterminated": body("a", "b") + "2026-11-22T10:00:09.000000001Z no newline",
		"plain":        "one\ntwo\nthree",
		"offset zone":  "2026-11-22T10:00:00.000000001+07:00 a\n2026-11-22T10:00:00.000000002+07:00 b\n",
	} {
		t.Run(name, func(t *testing.T) {
			for cut := range len(full) + 1 {
				s := newTestSplicer()
				if a, _ := s.respond(t, full[:cut], true, false); a != kubelog.EOF && (a != kubelog.Astray || name != "same lines") {
					t.Fatalf("cut at %d: %v", cut, a)
				}
				if got := s.captured(); !strings.HasPrefix(full, got) {
					t.Fatalf("cut at %d: captured %q", cut, got)
				}
				s.oneFile = true
				var equal bool
				for range 2 {
					var a kubelog.Answer
					if a, equal = s.respond(t, full, false, false); a != kubelog.EOF {
						t.Fatalf("cut at %d: the full read answers %v", cut, a)
					}
				}
				s.seal(true)
				if got := s.captured(); got != full || !equal {
					t.Fatalf("cut at %d: equal %v, captured %q, want %q", cut, equal, got, full)
				}
				if len(s.l.gaps) > 0 {
					t.Fatalf("cut at %d: gaps %v", cut, s.l.gaps)
				}
			}
		})
	}
}

func TestTheKubeletsWordsAreNeverOutput(t *testing.T) {
	full := body(numbered(3)...)
	for _, k := range kubelog.Texts {
		for cut := range len(full) + 1 {
			s := newTestSplicer()
			words := k.Text + "something: too many open files"
			a, _ := s.respond(t, full[:cut]+words, true, false)
			if a == kubelog.EOF {
				t.Fatalf("cut at %d: %q was not noticed", cut, words)
			}
			s.respond(t, full, false, false)
			if got := s.captured(); got != full {
				t.Fatalf("cut at %d: captured %q", cut, got)
			}
		}
	}
}

func TestTheStartOfATimestampIsNoOutput(t *testing.T) {
	lines := strings.SplitAfter(body("one", "two"), "\n")
	for before, text := range map[string]string{"": lines[0], lines[0]: lines[1]} {
		for cut := range len(text) - len("two\n") {
			s := newTestSplicer()
			s.respond(t, before+text[:cut], true, false)
			s.seal(false)
			if got := s.captured(); got != before {
				t.Errorf("captured %q, want %q", got, before)
			}
		}
	}
}

// A read that ends in the kubelet's words proves nothing: neither that the log is
// another nor, because the line was long, that it differs.
func TestTheKubeletsWordsInALongLineAreNoDifference(t *testing.T) {
	full := body("before", strings.Repeat("long ", 4000), "after")
	for cut := len(full) - 15000; cut < len(full); cut += 1000 {
		s := newTestSplicer()
		s.respond(t, full, true, false)
		if _, equal := s.respond(t, full[:cut]+"rpc error: code = Unavailable", false, false); equal {
			t.Fatalf("cut at %d: equal", cut)
		}
		if _, equal := s.respond(t, full, false, false); !equal || s.diverged || len(s.l.gaps) > 0 {
			t.Fatalf("cut at %d: equal %v, diverged %v, gaps %v", cut, equal, s.diverged, s.l.gaps)
		}
	}
}

func TestOutputThatQuotesTheKubeletIsOutput(t *testing.T) {
	for _, k := range kubelog.Texts {
		full := body("before", k.Text+"x") + "2026-11-22T10:00:09.000000001Z " + k.Text + "x"
		s := newTestSplicer()
		s.respond(t, full, true, false)
		for range 2 {
			s.respond(t, full, false, false)
		}
		s.seal(true)
		if got := s.captured(); got != full {
			t.Errorf("captured %q, want %q", got, full)
		}
	}
}

func TestARotatedFileContinuesTheCaptureWithAGap(t *testing.T) {
	lines := strings.SplitAfter(body(numbered(20)...), "\n")
	all := func(from, to int) string { return strings.Join(lines[from:to], "") }
	for seen := 1; seen <= 20; seen++ {
		for start := 1; start < 20; start++ {
			s := newTestSplicer()
			s.respond(t, all(0, seen), true, false)
			if a, ok := s.respond(t, all(start, 20), false, false); a == kubelog.Foreign {
				if start < seen {
					t.Fatalf("seen %d, file from %d: not placed", seen, start)
				}
				s.respond(t, all(start, 20), false, true)
			} else if a != kubelog.EOF {
				t.Fatalf("seen %d, file from %d: %v %v", seen, start, a, ok)
			}
			want := all(0, seen) + all(max(seen, start), 20)
			if got := s.captured(); got != want {
				t.Fatalf("seen %d, file from %d: captured\n%s want\n%s", seen, start, got, want)
			}
			if len(s.l.gaps) != 1 || s.l.gaps[0].AfterLine != uint64(min(start, seen)) {
				t.Fatalf("seen %d, file from %d: gaps %+v", seen, start, s.l.gaps)
			}
		}
	}
}

func TestLinesSentAgainAreNotOutputAgain(t *testing.T) {
	lines := strings.SplitAfter(body(numbered(20)...), "\n")
	all := func(from, to int) string { return strings.Join(lines[from:to], "") }
	stream := all(0, 5) + all(9, 15) + all(9, 20) // lines 5 to 8 skipped, 9 to 14 twice
	for step := 1; step < 80; step++ {
		s := newTestSplicer()
		s.begin(query{}, false)
		for p := []byte(stream); len(p) > 0; {
			n := min(step, len(p))
			if a, ok := s.feed(p[:n]); !ok {
				t.Fatal(a)
			}
			p = p[n:]
		}
		s.end(true)
		if got, want := s.captured(), all(0, 5)+all(9, 20); got != want {
			t.Fatalf("step %d: captured\n%s want\n%s", step, got, want)
		}
		if len(s.l.gaps) != 1 || s.l.gaps[0].AfterLine != 5 {
			t.Fatalf("step %d: gaps %+v", step, s.l.gaps)
		}
	}
}

func TestASmallFileSentAgainIsNotOutputAgain(t *testing.T) {
	lines := strings.SplitAfter(body(numbered(20)...), "\n")
	all := func(from, to int) string { return strings.Join(lines[from:to], "") }
	for n := 2; n < 5; n++ {
		for step := 1; step < 80; step++ {
			for _, rest := range []int{9 + n, 20} { // the end of the stream, or more
				s := newTestSplicer()
				s.begin(query{}, false)
				for p := []byte(all(0, 5) + all(9, 9+n) + all(9, rest)); len(p) > 0; {
					k := min(step, len(p))
					s.feed(p[:k])
					p = p[k:]
				}
				s.end(true)
				if got, want := s.captured(), all(0, 5)+all(9, rest); got != want {
					t.Fatalf("%d lines, step %d: captured\n%s want\n%s", n, step, got, want)
				}
				if len(s.l.gaps) != 1 || s.l.gaps[0].AfterLine != 5 {
					t.Fatalf("%d lines, step %d: gaps %+v", n, step, s.l.gaps)
				}
			}
		}
	}
}

// A rotation that fails makes the follower start the file over; its stream may end at
// any byte of that.
func TestAFileThatIsStartedOverAndCutIsCapturedOnce(t *testing.T) {
	full := body(numbered(10)...)
	for n := range 2*len(full) + 2 {
		cut, words := n/2, []string{"", kubelog.Texts[0].Text}[n%2]
		s := newTestSplicer()
		s.respond(t, full+full[:cut]+words, true, false)
		if got := s.captured(); got != full {
			t.Fatalf("cut at %d: captured\n%s want\n%s", cut, got, full)
		}
		s.oneFile = true
		_, equal := s.respond(t, full, false, false)
		if !equal { // the torn line is taken back
			_, equal = s.respond(t, full, false, false)
		}
		if s.seal(true); !equal || s.captured() != full {
			t.Fatalf("cut at %d: equal %v, captured\n%s", cut, equal, s.captured())
		}
	}
}

func TestLongLinesSentAgainAreCapturedOnce(t *testing.T) {
	var lines []string
	for i := range 6 {
		lines = append(lines, strings.Repeat(fmt.Sprint(i), 5000*(1+i)))
	}
	full := body(lines...)
	for step := 4000; step < 40000; step += 1111 {
		s := newTestSplicer()
		s.begin(query{}, false)
		for p := []byte(full + full); len(p) > 0; {
			k := min(step, len(p))
			s.feed(p[:k])
			p = p[k:]
		}
		if s.end(true); s.captured() != full {
			t.Errorf("step %d: captured %d bytes instead of %d", step, len(s.captured()), len(full))
		}
	}
}

func TestTheKubeletsWordsAfterAnUnterminatedLineAreTakenBack(t *testing.T) {
	full := body("one") + "2026-11-22T10:00:09.000000001Z two"
	s := newTestSplicer()
	s.respond(t, full, true, false)
	s.oneFile = true
	s.respond(t, full+"context canceled", false, false)
	s.respond(t, full, false, false)
	if _, equal := s.respond(t, full, false, false); !equal {
		t.Error("no read agrees")
	}
	if s.seal(true); s.captured() != full {
		t.Errorf("captured %q", s.captured())
	}
}

func TestAPlainReadHasNothingTwice(t *testing.T) {
	at := func(ns int, text string) string { return fmt.Sprintf("2026-11-22T10:00:00.%09dZ %s\n", ns, text) }
	full := strings.Repeat(at(4, "a")+at(5, "b"), 5)
	s := newTestSplicer()
	s.oneFile = true
	for range 2 {
		s.respond(t, full, false, false)
	}
	if got := s.captured(); got != full || len(s.l.gaps) > 0 {
		t.Errorf("captured\n%s want\n%s, gaps %+v", got, full, s.l.gaps)
	}
}

func TestALineOfTheSameTimeAndTextIsNoReplay(t *testing.T) {
	at := func(ns int, text string) string {
		return fmt.Sprintf("2026-11-22T10:00:00.%09dZ %s\n", ns, text)
	}
	for name, full := range map[string]string{
		"the newest": at(5, "out") + at(6, "out") + at(6, "out") + at(6, "out") + at(7, "out") + at(7, "out"),
		"older":      at(5, "out") + at(4, "err") + at(4, "err") + at(4, "err") + at(6, "out") + at(3, "late"),
	} {
		t.Run(name, func(t *testing.T) {
			for step := 1; step < len(full); step++ {
				s := newTestSplicer()
				if reads := s.readUntilSure(t, full, step); reads != 2 {
					t.Errorf("step %d: %d responses", step, reads)
				}
				if got := s.captured(); got != full || len(s.l.gaps) > 0 {
					t.Fatalf("step %d: captured\n%s want\n%s, gaps %+v", step, got, full, s.l.gaps)
				}
			}
		})
	}
}

func TestARotatedFileWhoseHeadEqualsTheOneBeforeIsPlaced(t *testing.T) {
	at := func(ns int, text string) string { return fmt.Sprintf("2026-11-22T10:00:00.%09dZ %s\n", ns, text) }
	first := at(1, "same") + at(1, "a") + at(1, "same") + at(1, "b") + at(2, "c")
	s := newTestSplicer()
	s.respond(t, first, true, false)
	rotated := at(1, "same") + at(1, "b") + at(2, "c") + at(3, "d") // from the third line on
	if a, _ := s.respond(t, rotated, false, false); a != kubelog.EOF {
		t.Fatal(a)
	}
	if got, want := s.captured(), first+at(3, "d"); got != want {
		t.Errorf("captured\n%s want\n%s", got, want)
	}
	if len(s.l.gaps) != 1 || s.l.gaps[0].AfterLine != 2 || s.l.gaps[0].Certain {
		t.Errorf("gaps %+v", s.l.gaps)
	}
}

func TestEqualLinesAreNoPlaceToGoOn(t *testing.T) {
	at := func(ns int, text string) string { return fmt.Sprintf("2026-11-22T10:00:00.%09dZ %s\n", ns, text) }
	same := strings.Repeat(at(5, ""), 6)
	s := newTestSplicer()
	s.respond(t, at(5, "a")+at(5, "b")+same, true, false)
	for range 3 { // a file that differs in its second line and then repeats itself
		s.respond(t, at(5, "a")+at(5, "x")+same+same, false, true)
	}
	if got, want := s.captured(), at(5, "a")+at(5, "b")+same; got != want {
		t.Errorf("captured\n%s want\n%s", got, want)
	}
	if len(s.l.gaps) != 1 || !s.l.gaps[0].Certain {
		t.Errorf("gaps %+v", s.l.gaps)
	}
}

func TestAHeadCutInItsTimestampIsNotTaken(t *testing.T) {
	full := body(numbered(3)...)
	for _, head := range []string{"2026", "2026-11-22T10:00rpc er", "x"} {
		s := newTestSplicer()
		s.respond(t, full, true, false)
		s.respond(t, head, false, true)
		if got := s.captured(); got != full || len(s.l.gaps) > 0 {
			t.Errorf("%q: captured %q, gaps %+v", head, got, s.l.gaps)
		}
	}
}
