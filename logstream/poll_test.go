package logstream

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// polled plays a run on a node that has no inotify instances for followers.
func polled(t *testing.T, test func(b *bench)) {
	t.Helper()
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.deaf = true
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		test(b)
	})
}

// received is what f costs in bytes.
func (b *bench) received(f func()) int {
	before := b.s.Stats().Bytes
	f()
	return int(b.s.Stats().Bytes - before)
}

func (b *bench) endsAs(want Proof, lines int) {
	b.Helper()
	b.n.exit("a")
	b.c.Handle(b.p.ended("a", "a1"))
	cert := b.drain()[0]
	if cert.Proof != want || cert.Lines != uint64(lines) {
		b.Errorf("certificate %+v, want %s of %d lines", cert, want, lines)
	}
}

func TestAPolledLogCostsWhatIsNew(t *testing.T) {
	text := strings.Repeat("x", 100)
	for name, c := range map[string]struct {
		before, times, each int // lines
		every               time.Duration
		most                int // times the new bytes
	}{
		"5 MiB, a line a second":       {40_000, 60, 1, time.Second, 12},
		"1 MiB, a thousand a second":   {8_000, 20, 1000, time.Second, 6},
		"1 MiB, bursts":                {8_000, 6, 3000, 10 * time.Second, 8},
		"small":                        {30, 60, 1, time.Second, 12},
		"from nothing":                 {0, 60, 1, time.Second, 12},
		"1 MiB, more than tails bring": {8_000, 1, 30_000, time.Minute, 4},
	} {
		t.Run(name, func(t *testing.T) {
			polled(t, func(b *bench) {
				for range c.before {
					b.n.print("a", text)
				}
				time.Sleep(5 * time.Second)
				added := 0
				got := b.received(func() {
					for range c.times {
						for range c.each {
							b.n.print("a", text)
							added += stamp.UTC + len(text) + 1
						}
						time.Sleep(c.every)
					}
				})
				follows, reads := b.n.requests()
				t.Logf("%d bytes for %d, %d follows, %d reads", got, added, follows, reads)
				if got > c.most*added {
					t.Errorf("received %d bytes for %d that were new", got, added)
				}
				b.endsAs(Verified, c.before+c.times*c.each)
			})
		})
	}
}

func TestAQuietPolledLogCostsNextToNothing(t *testing.T) {
	polled(t, func(b *bench) {
		for range 100 {
			b.n.print("a", numbered(40)...)
		}
		time.Sleep(5 * time.Second)
		got := b.received(func() { time.Sleep(time.Hour) })
		follows, reads := b.n.requests()
		t.Logf("%d bytes, %d follows, %d reads", got, follows, reads)
		if reads > 1900 || got > reads*500 {
			t.Errorf("in an hour %d reads brought %d bytes", reads, got)
		}
		b.endsAs(Verified, 4_000)
	})
}

func TestAPolledLineIsReadSoon(t *testing.T) {
	polled(t, func(b *bench) {
		r := b.c.Reader(b.ctx, "a", ReadOptions{})
		for i := range 100 {
			broken := i%10 == 9
			if time.Sleep(time.Duration(i%10) * time.Second); broken {
				time.Sleep(time.Minute)
			}
			b.n.change(func() {
				b.n.fault = func(int, *corev1.PodLogOptions) *fault {
					if broken { // one poll, after some that brought nothing
						broken = false
						return &fault{with: io.ErrUnexpectedEOF}
					}
					return nil
				}
			})
			b.n.print("a", fmt.Sprint(i))
			start, p := time.Now(), make([]byte, 10)
			n, err := r.Read(p)
			if took := time.Since(start); err != nil || string(p[:n]) != fmt.Sprintln(i) || took > 2600*time.Millisecond {
				t.Errorf("read %q, %v after %v", p[:n], err, took)
			}
		}
	})
}

func TestAStreamIsTriedAgainAndKept(t *testing.T) {
	polled(t, func(b *bench) {
		b.n.print("a", numbered(2000)...)
		time.Sleep(10 * time.Second)
		got := b.received(func() { time.Sleep(5*time.Minute + 20*time.Second) })
		follows, _ := b.n.requests()
		if follows < 4 || follows > 6 { // one stream, and a look each minute or so
			t.Errorf("%d streams were tried", follows)
		}
		if whole := len(body(numbered(2000)...)); got > whole {
			t.Errorf("received %d bytes of a log of %d, which has nothing new", got, whole)
		}
		b.n.change(func() { b.n.deaf = false })
		time.Sleep(2 * time.Minute)
		var reads int
		got = b.received(func() {
			_, before := b.n.requests()
			b.n.print("a", numbered(10)...)
			time.Sleep(5 * time.Second)
			_, reads = b.n.requests()
			reads -= before
		})
		if want := len(body(numbered(10)...)); reads != 0 || got != want {
			t.Errorf("%d reads, %d bytes received, want none and %d: it is not streamed", reads, got, want)
		}
		b.endsAs(Verified, 2010)
	})
}

// Kubelets to come answer 400 instead of writing into the body (kubernetes#142259).
func TestANodeThatRefusesStreamsIsPolled(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
			if o.Follow {
				return &fault{err: statusError(http.StatusBadRequest, outOfWatchers)}
			}
			return nil
		}
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", numbered(100)...)
		time.Sleep(10 * time.Minute)
		if follows, reads := b.n.requests(); follows > 11 || reads < 250 {
			t.Errorf("%d streams, %d reads", follows, reads)
		}
		b.endsAs(Verified, 100)
	})
}

func TestAPolledLogThatIsRotatedHasAGap(t *testing.T) {
	polled(t, func(b *bench) {
		b.n.print("a", numbered(300)...)
		time.Sleep(5 * time.Second)
		for i := range 3 {
			b.n.rotate("a")
			time.Sleep(time.Duration(i) * 3 * time.Second) // the new file is empty for a while
			b.n.print("a", numbered(100)...)
			_, before := b.n.requests()
			time.Sleep(20 * time.Second)
			if _, after := b.n.requests(); after-before > 40 {
				t.Errorf("%d reads in 20 s", after-before)
			}
		}
		text, err := b.readAll("a", ReadOptions{Snapshot: true})
		if lines := strings.Count(text, "\n"); lines != 600 || err != nil {
			t.Errorf("%d lines, %v", lines, err)
		}
		b.endsAs(Unverified, 600)
		if gaps := b.drain()[0].Gaps; len(gaps) != 3 || gaps[0].AfterLine != 300 {
			t.Errorf("gaps %+v", gaps)
		}
	})
}

// A poll must not wait for what does not come, nor come to a halt.
func TestPollsThatFailGoOn(t *testing.T) {
	for name, f := range map[string]*fault{
		"kubelet down":      {err: refused()},
		"nothing":           {},
		"cut":               {cut: 50},
		"broken":            {cut: 50, with: io.ErrUnexpectedEOF},
		"hangs":             {cut: 50, hang: true},
		"words":             {words: "unable to retrieve container logs for containerd://a1"},
		"words in a line":   {cut: 50, words: "failed to read log file \"x\": input/output error"},
		"still no watchers": {words: outOfWatchers},
	} {
		t.Run(name, func(t *testing.T) {
			polled(t, func(b *bench) {
				b.n.print("a", numbered(100)...)
				time.Sleep(10 * time.Second)
				_, before := b.n.requests()
				b.n.change(func() { b.n.fault = func(int, *corev1.PodLogOptions) *fault { return f } })
				time.Sleep(3 * time.Minute)
				_, after := b.n.requests()
				if n := after - before; n > 400 {
					t.Errorf("%d requests", n)
				}
				b.n.change(func() { b.n.fault = nil })
				b.n.print("a", numbered(10)...)
				time.Sleep(90 * time.Second)
				synctest.Wait()
				if text, _ := b.readAll("a", ReadOptions{Snapshot: true}); strings.Count(text, "\n") != 110 {
					t.Errorf("%d lines", strings.Count(text, "\n"))
				}
				b.endsAs(Verified, 110)
			})
		})
	}
}

// at is a line of the kubelet's at so many nanoseconds.
func at(ns int, text string) string { return fmt.Sprintf("2026-11-22T10:00:00.%09dZ %s\n", ns, text) }

func TestATailIsPlacedByWhatWasCapturedOrNotAtAll(t *testing.T) {
	same := strings.Repeat(at(4, "same"), 3)
	for name, c := range map[string]struct {
		captured, tail string
		edge           string // of the capture, from the place on; empty: none
		joined         bool
		added          string
		answer         kubelog.Answer
	}{
		"overlaps": {
			captured: at(1, "a") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(3, "c"),
			tail: at(1, "a") + at(2, "b") + at(3, "c") + at(4, "d"), joined: true, added: at(4, "d"),
		},
		"brings nothing": {
			captured: at(1, "a") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(3, "c"),
			tail: at(1, "a") + at(2, "b") + at(3, "c"), joined: true,
		},
		"begins with the rest of a line, which has a time of its own": {
			captured: at(1, "a") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(3, "c"),
			tail: at(1, "rest") + at(2, "b") + at(3, "c") + at(4, "d"), joined: true, added: at(4, "d"),
		},
		"its first line may be a rest that looks like the line to find": {
			captured: at(1, "a") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(3, "c"),
			tail: at(2, "b") + at(3, "c") + at(4, "d"),
		},
		"too short": {
			captured: at(1, "a") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(3, "c"),
			tail: at(3, "c") + at(4, "d"),
		},
		"of another file": {
			captured: at(1, "a") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(3, "c"),
			tail: at(5, "e") + at(6, "f") + at(7, "g"),
		},
		"equal lines, all of them": {
			captured: at(1, "a") + at(3, "b") + same, edge: at(3, "b") + same,
			tail: at(1, "a") + at(3, "b") + same + at(4, "same") + at(5, "c"), joined: true, added: at(4, "same") + at(5, "c"),
		},
		"equal lines, some of them": {
			captured: at(1, "a") + at(3, "b") + same, edge: at(3, "b") + same,
			tail: same + at(4, "same") + at(5, "c"),
		},
		"nothing but equal lines to go by":    {captured: same, tail: same + at(5, "c")},
		"two times, but no line before them":  {captured: at(3, "b") + same, tail: at(3, "b") + same + at(5, "c")},
		"the line to find was printed before": {captured: at(2, "b") + at(1, "a") + at(2, "b") + at(3, "c"), tail: "x"},
		"the same line at equal times in the place": {
			captured: at(1, "a") + at(2, "b") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(2, "b") + at(3, "c"),
			tail: at(2, "rest") + at(2, "b") + at(3, "c") + at(4, "d"), answer: kubelog.Astray,
		},
		"not stamped": {captured: "a\nb\nc\n", tail: "x"},
		"ends in a prompt": {
			captured: at(1, "a") + at(2, "b") + at(3, "c") + strings.TrimSuffix(at(4, "$ "), "\n"), edge: at(2, "b") + at(3, "c"),
			tail: at(1, "a") + at(2, "b") + at(3, "c") + at(4, "$ ls") + at(5, "x"), joined: true, added: at(4, "$ ls") + at(5, "x"),
		},
		"long lines": {
			captured: at(1, "a") + at(2, strings.Repeat("b", 10_000)) + at(3, strings.Repeat("c", 10_000)),
			edge:     at(2, strings.Repeat("b", 10_000)) + at(3, strings.Repeat("c", 10_000)),
			tail: at(1, strings.Repeat("x", 10_000)) + at(2, strings.Repeat("b", 10_000)) + at(3, strings.Repeat("c", 10_000)) +
				at(4, "d"), joined: true, added: at(4, "d"),
		},
		"a forgery inside a long line": { // where a piece of it begins
			captured: at(1, "a") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(3, "c"),
			tail: at(0, "x") + at(1, strings.Repeat("x", lineLen-stamp.UTC)+at(2, "b")) + at(3, "c") + at(4, "d"),
		},
		"words alone": {
			captured: at(1, "a") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(3, "c"),
			tail: "unable to retrieve container logs for containerd://a", answer: kubelog.Absent,
		},
		"words in the end": {
			captured: at(1, "a") + at(2, "b") + at(3, "c"), edge: at(2, "b") + at(3, "c"),
			tail: at(1, "a") + at(2, "b") + at(3, "c") + at(4, "d") + "rpc error: code = Unavailable", joined: true, added: at(4, "d"),
			answer: kubelog.Failed,
		},
	} {
		t.Run(name, func(t *testing.T) {
			for step := 1; step <= len(c.tail); step = step*3 + 1 {
				s := newTestSplicer()
				s.oneFile = true // what is printed twice is no doubt
				s.respond(t, c.captured, true, false)
				before := s.captured()
				off := s.edge()
				if off < 0 != (c.edge == "") || off >= 0 && before[off:] != c.edge {
					t.Fatalf("the place is %d", off)
				}
				if off < 0 {
					return
				}
				s.begin(query{tail: 10, expect: off}, true)
				a, ok := kubelog.EOF, true
				for p := []byte(c.tail); len(p) > 0 && ok; {
					n := min(step, len(p))
					a, ok = s.feed(p[:n])
					p = p[n:]
				}
				if ok {
					a, _ = s.end(false)
				}
				if a != c.answer || s.joined != c.joined || s.captured() != before+c.added || len(s.l.gaps) > 0 {
					t.Fatalf("by %d bytes: answer %v, joined %v, captured %q, gaps %+v", step, a, s.joined, s.captured(), s.l.gaps)
				}
			}
		})
	}
}

// The look whether a stream can be had again takes a while.
func TestATrackingThatEndsWhileAStreamIsTriedEndsTheRun(t *testing.T) {
	polled(t, func(b *bench) {
		b.n.change(func() {
			b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
				if o.Follow && o.TailLines != nil {
					b.n.deaf = false
					b.c.Handle(closedEvent())
				}
				return nil
			}
		})
		for range 200 { // never silent
			b.n.print("a", "x")
			time.Sleep(time.Second)
		}
		if cert := b.drain()[0]; cert.Proof != Unverified || cert.Lines > 100 {
			b.Errorf("certificate %+v", cert)
		}
	})
}

// What a container prints between two reads may be rotated away before the second.
func TestALogThatWasEmptyWhenItWasFirstReadIsNotVerifiedWithoutItsBeginning(t *testing.T) {
	for name, c := range map[string]struct {
		lines  int
		rotate bool
		proof  Proof
	}{
		"it was rotated":                      {40, true, Unverified},
		"it may have been":                    {40, false, Unverified},
		"it is smaller than the node rotates": {3, false, Verified},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{RotateSize: 400, HeadProbe: -1}, nil, func(b *bench) {
				b.n.deaf = true
				b.begin("a", "a1")
				time.Sleep(time.Second)
				for i := range c.lines {
					if b.n.print("a", fmt.Sprint("line ", i)); c.rotate && i == c.lines/2 {
						b.n.rotate("a")
					}
				}
				time.Sleep(10 * time.Second)
				first := b.n.cur["a"]
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				certs := b.drain()
				if certs[0].Proof != c.proof || certs[0].Proof == Verified && len(certs[0].Gaps) > 0 {
					t.Errorf("certificate %+v", certs[0])
				}
				b.wantWithinGaps(certs, first)
			})
		})
	}
}
