package logstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// seams are the gaps of a run at the places where the node rotated its log: not those that
// say that it may have done so unseen.
func seams(c Certificate) []Gap {
	return slices.DeleteFunc(slices.Clone(c.Gaps), func(g Gap) bool { return g.Why == whyUnseen })
}

// stamped is a line that the node printed at a second.
func stamped(second int) string {
	return fmt.Sprintf("2026-11-22T10:00:%02d.000000000Z line at %d\n", second, second)
}

func stampedAt(seconds ...int) (body string) {
	for _, s := range seconds {
		body += stamped(s)
	}
	return body
}

func between(why string, after uint64, from, to int, certain bool) Gap {
	at := func(second int) time.Time { return time.Date(2026, 11, 22, 10, 0, second, 0, time.UTC) }
	return Gap{ContainerID: "c", Why: why, AfterLine: after, From: at(from), To: at(to), Certain: certain}
}

const whyTwice = "the node sent lines twice here, and may have skipped a rotated file before them"

// Where it is known at which line one of the node's files began, lines are missing only
// there. Only since the last look at the file before may others have come and gone.
func TestAGapIsAtTheLineWhereTheNodesFileBegan(t *testing.T) {
	began := time.Now()
	answer := func(s *splicer, asked time.Duration, body string) {
		committed, _ := s.l.bounds()
		s.asked = look{asked: began.Add(asked), end: committed}
		s.respond(t, body, true, false)
	}
	first := stampedAt(1, 2, 3, 4, 5, 6)
	for name, c := range map[string]struct {
		play func(s *splicer)
		want []Gap
	}{
		"a response begins with the next file, soon after a look": {func(s *splicer) {
			answer(s, -time.Second, first)
			answer(s, 0, stampedAt(8, 9))
		}, []Gap{between(whyAway, 6, 6, 8, false)}},
		"long after, but the log had been read again": {func(s *splicer) {
			answer(s, -time.Hour, first)
			answer(s, -time.Hour+time.Minute, stampedAt(1, 2, 3)) // ended early
			answer(s, 0, stampedAt(8, 9))
		}, []Gap{between(whyAway, 6, 6, 8, false)}},
		"long after": {func(s *splicer) {
			answer(s, -time.Hour, stampedAt(1, 2))
			answer(s, -time.Minute, stampedAt(1, 2, 3, 4, 5, 6))
			answer(s, 0, stampedAt(8, 9))
		}, []Gap{between(whyUnseen, 2, 2, 6, false), between(whyAway, 6, 6, 8, false)}},
		"long after, but all within the time that a file is current": {func(s *splicer) {
			answer(s, -time.Hour, stampedAt(1))
			answer(s, 0, stampedAt(2, 3))
		}, []Gap{between(whyAway, 1, 1, 2, false)}},
		"a response was cut in the next file's first timestamp": {func(s *splicer) {
			answer(s, -time.Hour, first)
			answer(s, -time.Second, stamped(4)[:15])
			answer(s, 0, stampedAt(4, 5, 6))
		}, []Gap{between(whyUnseen, 1, 1, 3, false), between(whyRotated, 3, 3, 4, false)}},
		"a line was cut": {func(s *splicer) {
			answer(s, -time.Hour, first+stamped(7)[:40])
			answer(s, -time.Minute, stampedAt(1, 2, 3))
			answer(s, 0, stampedAt(8, 9))
		}, []Gap{between(whyAway, 6, 6, 8, true)}},
		"a response begins with the head of a file that a stream went over to": {func(s *splicer) {
			answer(s, -time.Second, first)
			answer(s, 0, stampedAt(4, 5, 6, 7))
		}, []Gap{between(whyRotated, 3, 3, 4, false)}},
		"and long after": {func(s *splicer) {
			answer(s, -time.Hour, first)
			answer(s, 0, stampedAt(4, 5, 6, 7))
		}, []Gap{between(whyUnseen, 1, 1, 3, false), between(whyRotated, 3, 3, 4, false)}},
		"a file was sent twice": {func(s *splicer) {
			answer(s, -time.Second, first+stampedAt(4, 5, 6, 7))
		}, []Gap{between(whyTwice, 3, 3, 4, false)}},
		"the file that is known was sent twice": {func(s *splicer) {
			answer(s, -time.Hour, first+first+stampedAt(7))
		}, nil},
		"two streams that are stamped apart": {func(s *splicer) {
			answer(s, -time.Second, stampedAt(1, 2, 3, 4, 5)+"2026-11-22T10:00:04.500000000Z of the other stream\n"+stampedAt(6))
			answer(s, 0, stampedAt(8, 9))
		}, []Gap{func() Gap {
			g := between(whyAway, 7, 6, 8, false)
			g.From, g.To = g.From.Add(-500*time.Millisecond), g.To.Add(500*time.Millisecond)
			return g
		}()}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestSplicer()
			c.play(s)
			var got []Gap
			for _, g := range s.l.gaps {
				got = append(got, g.Gap)
			}
			if d := cmp.Diff(c.want, got); d != "" {
				t.Errorf("gaps (-want +got):\n%s", d)
			}
		})
	}
}

// The runtime may turn to the next file in the middle of a line. The stream has the rest
// without its time; a look shows it with one.
func TestAStreamComesToAFileThatBeginsWithTheRestOfALine(t *testing.T) {
	long := strings.Repeat("x", 2*headLimit)
	for name, c := range map[string]struct {
		rest    string // of the line that is cut, as a look shows it
		line    string // as the stream has it
		over    bool   // another file was passed over before it
		behind  bool   // another file follows
		want    []Gap
		asksFor bool // a whole read
	}{
		"it is seen":                     {"of it\n", "the rest of it\n", false, false, []Gap{between(whyRotated, 3, 3, 5, false)}, false},
		"it may be that of another line": {"of it\n", "the rest of it\n", true, false, []Gap{between(whyRotated, 2, 2, 5, false)}, false},
		"a long one":                     {long[:headLimit-stamp.UTC], long + "\n", false, false, []Gap{between(whyRotated, 3, 3, 5, false)}, false},
		"another line":                   {"of another\n", "the rest of it\n", false, false, nil, true},
		"another line, and another file": {"of another\n", "the rest of it\n", false, true, []Gap{between(whyRotated, 3, 3, 5, false), between(whyRotated, 4, 5, 6, false)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newTestSplicer()
			s.begin(query{}, false)
			feed := func(text string) {
				if a, ok := s.feed([]byte(text)); !ok {
					t.Fatalf("the answer is %v", a)
				}
			}
			feed(stampedAt(1, 2) + stamped(3)[:stamp.UTC] + c.line)
			now := time.Now()
			shows := func(head string) {
				at, _ := s.clock.Parse([]byte(head))
				s.heads.look([]byte(head), at, look{asked: now, answered: now, aside: true})
			}
			if c.over {
				shows(strings.Replace(stamped(3), "3.0", "3.5", 1))
			}
			shows(stamped(4)[:stamp.UTC] + c.rest)
			if c.behind {
				shows(stamped(6))
			}
			feed(stampedAt(5))
			past := s.turn()
			if !past {
				feed(stampedAt(6))
				past = s.turn()
			}
			var got []Gap
			for _, g := range s.l.gaps {
				got = append(got, g.Gap)
			}
			if d := cmp.Diff(c.want, got); d != "" || past != c.asksFor {
				t.Errorf("a whole read is asked for: %t, want %t; gaps (-want +got):\n%s", past, c.asksFor, d)
			}
		})
	}
}

// A flood whose log is rotated again and again is looked at so often that no file comes and
// goes unseen, and each gap is at its line.
func TestGapsOfAFloodAreNarrow(t *testing.T) {
	inBubble(t, Options{RotateSize: 20_000}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		const rate, files, life = 1000, 5, 3 // lines a second, and seconds
		for i := range files * life * rate {
			if i > 0 && i%(life*rate) == 0 {
				b.n.rotate("a")
			}
			b.n.print("a", fmt.Sprintf("line %d", i))
			time.Sleep(time.Second / rate)
		}
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		cert := b.drain()[0]
		if cert.Proof != Unverified || cert.Lines != files*life*rate || len(cert.Gaps) != files-1 {
			t.Errorf("certificate %+v", cert)
		}
		for i, g := range cert.Gaps {
			if want := uint64((i + 1) * life * rate); g.AfterLine != want || g.To.Sub(g.From) > 2*time.Second/rate {
				t.Errorf("gap %+v, want one after line %d", g, want)
			}
		}
		if probes := b.s.Stats().Probes; probes > files*life+1 {
			t.Errorf("%d probes in %d s", probes, files*life)
		}
	})
}
