package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

func TestTextHasAPrefixAndColoursOnATerminalAlone(t *testing.T) {
	s := play(t, options{output: "text"}, func(s *stage) {
		s.create("default", never(newPod("web", script("a", "echo hello"))))
		time.Sleep(5 * time.Second)
	})
	if want := "web a#0 | hello\n"; s.stdout.String() != want {
		t.Errorf("got %q, want %q", s.stdout.String(), want)
	}
	var b strings.Builder
	p := newPrinter(t.Context(), false, &b, io.Discard)
	p.colour = true
	p.line(source{"default", "web", "a", 0}, time.Time{}, []byte("hello"))
	if got := b.String(); !strings.HasPrefix(got, "\x1b[3") || !strings.HasSuffix(got, "web a#0 |\x1b[0m hello\n") {
		t.Errorf("on a terminal: %q", got)
	}
}

func TestTheSummaryIsBounded(t *testing.T) {
	var b strings.Builder
	p := newPrinter(t.Context(), false, io.Discard, &b)
	for i := range 10_000 {
		p.keep(source{"default", "web", "a", i}, logstream.Certificate{Proof: logstream.Verified, Lines: 2}, 2)
	}
	p.summary()
	if n := strings.Count(b.String(), "\n"); n != kept+2 {
		t.Errorf("%d lines", n)
	}
	if !strings.Contains(b.String(), "0 lines of 10000 runs: 10000 verified") {
		t.Error(b.String())
	}
}

func TestAGapSaysBetweenWhichTimes(t *testing.T) {
	from := time.Date(2026, 11, 22, 10, 0, 0, 1_500_000, time.UTC)
	to := from.Add(2 * time.Second)
	for name, c := range map[string]struct {
		gap  logstream.Gap
		want string
	}{
		"none":  {logstream.Gap{AfterLine: 3, Why: "why"}, "gap after line 3, lines may be missing: why\n"},
		"from":  {logstream.Gap{From: from, Why: "why"}, "gap after line 0 after 2026-11-22T10:00:00.001Z, lines may be missing: why\n"},
		"until": {logstream.Gap{To: to, Why: "why"}, "gap after line 0 before 2026-11-22T10:00:02.001Z, lines may be missing: why\n"},
		"both": {
			logstream.Gap{From: from, To: to, Certain: true, Why: "why"},
			"gap after line 0 between 2026-11-22T10:00:00.001Z and 2026-11-22T10:00:02.001Z, lines are missing: why\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var b strings.Builder
			newPrinter(t.Context(), false, io.Discard, &b).gap(source{"default", "web", "a", 0}, c.gap)
			if d := cmp.Diff("default/web a#0: "+c.want, b.String()); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// pipe is a stdout that takes some bytes a second, and after so many writes nothing
// until it is opened, or an error.
type pipe struct {
	io.Writer
	speed  int
	writes int // 0: any number
	err    error
	opened chan struct{}
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.speed > 0 {
		time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(p.speed))
	}
	if p.writes > 0 {
		if p.writes--; p.writes == 0 {
			if p.err != nil {
				return 0, p.err
			}
			<-p.opened
		}
	}
	return p.Writer.Write(b)
}

// clog makes the stage's stdout take some lines, and then no more.
func (s *stage) clog(lines int) *pipe {
	p := &pipe{Writer: &s.stdout, writes: lines + 1, opened: make(chan struct{})}
	s.out = p
	return p
}

func TestAFrozenStdoutHoldsUpNeitherWatchNorCaptureNorNotice(t *testing.T) {
	var p *pipe
	s := playOn(t, options{}, func(s *stage) { p = s.clog(1) }, func(s *stage) {
		s.create("default", never(newPod("web", script("a", "seq 5", "sleep 60", "seq 5"))))
		time.Sleep(10 * time.Second)
		if err := s.RestartServer(s.t.Context(), 20*time.Second); err != nil {
			t.Error(err)
		}
		s.create("default", never(newPod("later", script("a", "seq 5"))))
		time.Sleep(60 * time.Second)
		synctest.Wait()
		s.says("lost contact")
		s.says("contact again")
		s.says("read again after a break")
		if st := s.tail.logs.Stats(); st.Verified != 2 {
			t.Errorf("behind a frozen stdout: %+v", st)
		}
		close(p.opened)
	})
	if s.status != 0 {
		t.Errorf("exit status %d", s.status)
	}
	s.expect(map[string][]string{"default/web a#0": append(numbers(5), numbers(5)...), "default/later a#0": numbers(5)})
}

func TestAFrozenStderrHoldsUpNoNotice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b strings.Builder
		stderr := &pipe{Writer: &b, writes: 1, opened: make(chan struct{})}
		h := newHealth(newPrinter(t.Context(), false, io.Discard, stderr))
		var work sync.WaitGroup
		ctx, over := context.WithCancel(t.Context())
		work.Go(func() { h.run(ctx) })
		h.ofWatch(podwatch.Notice{Kind: podwatch.NoticeStale, Resource: "pods", Err: errors.New("gone")})
		synctest.Wait() // that one is being written
		for i := range 10_000 {
			h.ofWatch(podwatch.Notice{Kind: podwatch.NoticeFresh, Resource: "pods"})
			h.ofLog(logstream.Notice{Kind: logstream.NoticeResumed, ContainerID: fmt.Sprint(i)})
		}
		close(stderr.opened)
		over()
		work.Wait()
		want := "watch of pods: lost contact with the API server, trying again: gone\n" +
			strings.Repeat("watch of pods: contact again\n", mostNotes) + "9900 more such notices\n" +
			"logs that are read again after a break: 10000\n"
		if d := cmp.Diff(want, b.String()); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

func TestAfterAnInterruptASlowStdoutGetsEverything(t *testing.T) {
	for name, c := range map[string]struct {
		speed int
		pod   string
		want  []string
	}{
		"lines":       {20, "demo/sh", numbers(20)}, // of some 130 bytes each
		"a long line": {1000, "demo/long", []string{strings.Repeat("x", 200_000), strings.Repeat("y", 130_000)}},
	} {
		t.Run(name, func(t *testing.T) {
			s := playOn(t, options{}, func(s *stage) { s.out = &pipe{Writer: &s.stdout, speed: c.speed} }, func(s *stage) {
				p := never(newPod("web", script("a", "seq 20")))
				p.Spec.Containers[0].Image = c.pod
				s.create("default", p)
				time.Sleep(3 * time.Second)
			})
			if s.status != 0 || s.took < time.Minute {
				t.Errorf("exit status %d after %v", s.status, s.took)
			}
			s.expect(map[string][]string{"default/web a#0": c.want})
			s.says("default/web a#0: Verified", "lines")
			if strings.Contains(s.stderr.String(), "gap") {
				t.Error(s.stderr.String())
			}
		})
	}
}

func TestAfterAnInterruptAStdoutThatTakesNothingIsGivenUpAndTheRestIsAGap(t *testing.T) {
	for name, since := range map[string]time.Duration{"for a minute": time.Minute, "from now on": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			var p *pipe
			s := playOn(t, options{}, func(s *stage) { p = s.clog(3) }, func(s *stage) {
				s.create("default", never(newPod("web", script("a", "seq 10"))))
				s.create("default", never(newPod("db", script("a", "seq 10", "sleep 600"))))
				time.Sleep(since)
				go func() { <-s.ended; close(p.opened) }()
			})
			if s.status != exitFailed || s.took < drainAll || s.took > drainAll+2*time.Second {
				t.Errorf("exit status %d after %v", s.status, s.took)
			}
			s.says("gap: 17 lines were captured and not printed")
			s.says("default/web a#0: Verified, 10 lines", "printed")
			s.says("3 lines of 2 runs", "1 verified", "1 unverified", "0 incomplete")
			s.says("tail: stdout: nothing was taken for 10s")
		})
	}
}

func TestAnErrorOfStdoutEndsTheTail(t *testing.T) {
	s := playOn(t, options{}, func(s *stage) {
		p := s.clog(3)
		p.err, p.speed = syscall.ENOSPC, 100
	}, func(s *stage) {
		s.create("default", newPod("web", script("a", "seq 10", "sleep 600")))
		select {
		case <-s.ended:
		case <-time.After(time.Minute):
			t.Error("the tail goes on")
		}
	})
	if s.status != exitFailed {
		t.Errorf("exit status %d", s.status)
	}
	s.expect(map[string][]string{"default/web a#0": numbers(3)})
	s.says("tail: stdout: no space left on device")
	s.says("gap: 7 lines were captured and not printed")
	s.says("3 lines of 1 runs")
}

func TestEveryRunThatIsIncompleteAtTheInterruptHasAGapOnce(t *testing.T) {
	for name, frozen := range map[string]bool{"its reader tells of it": false, "its reader is cut off": true} {
		t.Run(name, func(t *testing.T) {
			var p *pipe
			s := playOn(t, options{}, func(s *stage) {
				if p = s.clog(3); !frozen {
					s.out = &s.stdout
				}
				s.Fault(func(r *http.Request) testutil.Fault { // of final reads
					if strings.HasSuffix(r.URL.Path, "/log") && r.URL.Query().Get("follow") != "true" {
						return testutil.Fault{Status: http.StatusServiceUnavailable, Message: "no kubelet"}
					}
					return testutil.Fault{}
				})
			}, func(s *stage) {
				s.create("default", never(newPod("web", script("a", "seq 10", "sleep 3"))))
				time.Sleep(10 * time.Second)
				go func() { <-s.ended; close(p.opened) }()
			})
			s.says("default/web a#0: Incomplete, 10 lines")
			s.says("default/web a#0: gap after line 10 after 20", "may be missing", "Streamer stopped")
			if n := strings.Count(s.stderr.String(), ": gap"); n != 1 {
				t.Errorf("%d gaps:\n%s", n, s.stderr.String())
			}
			if want := map[bool]int{false: 0, true: exitFailed}[frozen]; s.status != want {
				t.Errorf("exit status %d, want %d", s.status, want)
			}
		})
	}
}

func TestWhatIsDroppedBehindAFrozenStdoutIsAGapOnce(t *testing.T) {
	var p *pipe
	s := playOn(t, options{}, func(s *stage) { p, s.memory = s.clog(3), 256<<10 }, func(s *stage) {
		s.create("default", never(newPod("web", script("a", "seq 5000"))))
		time.Sleep(10 * time.Second)
		s.remove("web", 0) // all of it is captured, and not much printed
		for i := range 4 {
			s.create("default", never(newPod(fmt.Sprint("more-", i), script("a", "seq 3000"))))
		}
		time.Sleep(10 * time.Second)
		close(p.opened)
	})
	if s.status != 0 {
		t.Errorf("exit status %d", s.status)
	}
	got := s.messages()["default/web a#0"]
	if n := len(got); n < 4 || n >= 5000 {
		t.Errorf("%d lines", n)
	}
	s.says("default/web a#0", "Incomplete", "5000 lines", fmt.Sprintf(", %d printed", len(got)))
	if n := strings.Count(s.stderr.String(), "default/web a#0: gap"); n != 1 {
		t.Errorf("%d gaps:\n%s", n, s.stderr.String())
	}
	for line := range strings.Lines(s.stderr.String()) {
		if of, _, ok := strings.Cut(line, ": Incomplete"); ok {
			s.says(of+": gap", "lines are missing")
		}
	}
}

// What the reader told is not told again when it is cut off later.
func TestAGapIsToldOnce(t *testing.T) {
	var b strings.Builder
	f := &follower{t: &tailer{out: newPrinter(t.Context(), false, io.Discard, &b)}, told: map[any]bool{}}
	g := logstream.Gap{ContainerID: "a1", AfterLine: 3, Why: "rotated", From: time.Now().UTC()}
	f.gap("a", g)
	f.gap("a", g)
	g.AfterLine = 5
	f.gap("a", g)
	// Two containers that the node gave no ID have equal gaps.
	g = logstream.Gap{Why: "no ID"}
	f.gap("a", g)
	f.gap("a", g)
	f.gap("b", g)
	if n := strings.Count(b.String(), "gap after"); n != 4 {
		t.Errorf("%d gaps, want 4:\n%s", n, b.String())
	}
}

func TestWhatThereIsOfALongLineIsPrintedWhenTheReaderEndsInAnError(t *testing.T) {
	s := &stage{t: t}
	f := &follower{t: &tailer{out: newPrinter(t.Context(), true, &s.stdout, io.Discard)}, namespace: "default", name: "web", tallies: map[string]*tally{}}
	f.printLines("a", func(yield func(logstream.Line, error) bool) {
		now := time.Now().UTC()
		_ = yield(logstream.Line{ContainerID: "a1", Time: now, Text: []byte("whole")}, nil) &&
			yield(logstream.Line{ContainerID: "a1", Time: now, Text: []byte("the first piece, "), Partial: true, More: true}, nil) &&
			yield(logstream.Line{ContainerID: "a1", Text: []byte("the second"), Partial: true, More: true}, nil) &&
			yield(logstream.Line{}, logstream.ErrClosed)
	})
	s.expect(map[string][]string{"default/web a#0": {"whole", "the first piece, the second"}})
	if n := f.tally("a1").lines.Load(); n != 2 {
		t.Errorf("%d lines are counted", n)
	}
}

func TestALineWithoutATimeIsPrinted(t *testing.T) {
	var b strings.Builder
	f := &follower{t: &tailer{out: newPrinter(t.Context(), false, &b, io.Discard)}, name: "web", tallies: map[string]*tally{}}
	f.printLines("a", func(yield func(logstream.Line, error) bool) {
		yield(logstream.Line{ContainerID: "a1", Text: []byte("plain")}, nil)
	})
	if want := "web a#0 | plain\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
}

func TestALineOfMoreThanAMebibyteIsPrintedInPiecesAndCountsOnce(t *testing.T) {
	s := &stage{t: t}
	f := &follower{t: &tailer{out: newPrinter(t.Context(), true, &s.stdout, io.Discard)}, namespace: "default", name: "web", tallies: map[string]*tally{}}
	line, piece := strings.Repeat("0123456789abcdef", 3*longest/16), 64<<10
	f.printLines("a", func(yield func(logstream.Line, error) bool) {
		for at := 0; at < len(line); at += piece {
			l := logstream.Line{ContainerID: "a1", Text: []byte(line[at : at+piece]), Partial: true, More: at+piece < len(line)}
			if at == 0 {
				l.Time = time.Now().UTC()
			}
			if !yield(l, nil) {
				return
			}
		}
	})
	got := s.messages()["default/web a#0"]
	if len(got) != 3 || strings.Join(got, "") != line || f.tally("a1").lines.Load() != 1 {
		t.Errorf("%d pieces of %d bytes, counted as %d lines", len(got), len(strings.Join(got, "")), f.tally("a1").lines.Load())
	}
}
