package logstream

import (
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/google/go-cmp/cmp"
)

// A node rotates a large log though nothing more is printed.
func TestALogRotatedAfterItsLastLineIsSettledSoon(t *testing.T) {
	inBubble(t, Options{RotateSize: 1000}, nil, func(b *bench) {
		b.begin("a", "a1", numbered(60)...)
		b.n.rotate("a")
		time.Sleep(time.Minute)
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		start := time.Now()
		cert := b.drain()[0]
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("Drain took %s", took)
		}
		if cert.Proof != Unverified || cert.Lines != 60 || len(cert.Gaps) != 1 {
			t.Errorf("certificate %+v", cert)
		}
	})
}

// A log too small to be rotated is not empty: whoever says so is waited for.
func TestEmptyAnswersOfASmallLogAreWaitedOut(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
			if n > 1 && n < 10 {
				return &fault{}
			}
			return nil
		}
		b.run("a", "a1", "one")
		if cert := b.drain()[0]; cert.Proof != Verified {
			t.Errorf("certificate %+v", cert)
		}
	})
}

// What a stream has still to bring of a rotated file is nowhere else to be had.
func TestAStreamThatIsBehindARotationIsNotCut(t *testing.T) {
	for name, c := range map[string]struct {
		lines int
		back  time.Duration // the node's clock was set back, soon after the start
	}{"a little": {60, 0}, "far": {600, 0}, "of a clock set back": {600, time.Hour}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{RotateSize: 1000}, nil, func(b *bench) {
				b.n.lag = 100 * time.Millisecond
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", "first")
				time.Sleep(time.Second) // who has not been at the end of its file stays with it
				if c.back > 0 {
					b.n.cur["a"].stamp = func(now time.Time, i int) time.Time { return inOrder(now, i).Add(-c.back) }
				}
				b.n.print("a", numbered(c.lines)...)
				time.Sleep(time.Second)
				b.n.rotate("a")
				b.n.print("a", numbered(10)...)
				time.Sleep(2 * time.Minute)
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				cert := b.drain()[0]
				if cert.Proof != Unverified || len(seams(cert)) != 1 || seams(cert)[0].AfterLine != uint64(c.lines+1) || cert.Lines != uint64(c.lines+11) {
					t.Errorf("certificate %+v", cert)
				}
				if follows, _ := b.n.requests(); follows != 1 {
					t.Errorf("it took %d streams", follows)
				}
			})
		})
	}
}

// But one that is silent would miss the file that is current now.
func TestAStreamThatDoesNotGetToTheNextFileIsCut(t *testing.T) {
	inBubble(t, Options{RotateSize: 1000, IdleProbe: -1}, nil, func(b *bench) {
		b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
			if n == 1 {
				return &fault{cut: 2000, hang: true}
			}
			return nil
		}
		b.begin("a", "a1", numbered(60)...)
		b.n.rotate("a")
		b.n.print("a", "of the next file")
		time.Sleep(10 * time.Second)
		if text, _ := b.readAll("a", ReadOptions{Snapshot: true}); !strings.HasSuffix(text, "of the next file\n") {
			t.Errorf("the capture ends in %q", text[max(0, len(text)-50):])
		}
	})
}

// Times before and after a gap in which the node's clock was set back enclose nothing.
func TestAGapInWhichTheClockWasSetBackHasNoTimes(t *testing.T) {
	for name, back := range map[string]time.Duration{"behind the file's first line": -time.Hour, "not so far": -time.Minute} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
					if n == 1 {
						return &fault{cut: 2 * len(body("one")), with: io.ErrUnexpectedEOF}
					}
					return map[bool]*fault{true: {err: refused()}}[n < 12]
				}
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", "one")
				time.Sleep(10 * time.Minute)
				b.n.print("a", "two", "lost")
				b.n.cur["a"].stamp = func(now time.Time, i int) time.Time { return inOrder(now, i).Add(back) }
				b.n.print("a", "lost")
				b.n.rotate("a")
				b.n.print("a", "four")
				time.Sleep(2 * time.Minute)
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				cert := b.drain()[0]
				want := []Gap{{ContainerID: "a1", Why: "the node rotated the log while it was not being read", AfterLine: 2}}
				if d := cmp.Diff(want, seams(cert)); d != "" {
					t.Errorf("gaps (-want +got):\n%s", d)
				}
			})
		})
	}
}

// A node that is too busy to deliver was silent before it answered the probe, too.
func TestAStreamIsNotCutForASilenceBeforeTheProbesAnswer(t *testing.T) {
	inBubble(t, Options{RotateSize: 1000, HeadProbe: 2 * time.Second}, nil, func(b *bench) {
		lag := func(d time.Duration) {
			b.n.mu.Lock()
			defer b.n.mu.Unlock()
			b.n.lag = d
		}
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", numbered(60)...)
		time.Sleep(time.Second)
		lag(2300 * time.Millisecond)
		b.n.print("a", "the last one in time")
		time.Sleep(1300 * time.Millisecond)
		lag(0)
		b.n.print("a", numbered(10)...)
		b.n.rotate("a")
		b.n.print("a", "of the next file") // the next probe is at 2.5 s
		time.Sleep(time.Second)
		for range 30 {
			b.n.print("a", "of the next file")
			time.Sleep(300 * time.Millisecond)
		}
		if follows, _ := b.n.requests(); follows != 1 {
			t.Errorf("it took %d streams", follows)
		}
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		if cert := b.drain()[0]; cert.Proof != Unverified || cert.Lines != 102 {
			t.Errorf("certificate %+v", cert)
		}
	})
}

// The kubelet's follower passes over a file that came and went while it was behind. The
// stream goes on, never silent; but looks have shown what it passed over. Where they have not
// shown what it went on with, the log is read again.
func TestAStreamThatPassesOverAFileLeavesAGap(t *testing.T) {
	for name, c := range map[string]struct {
		unseen  bool // the file that the stream goes on with
		streams int
	}{
		"and both were looked at":         {false, 1},
		"and the later was not looked at": {true, 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{RotateSize: 1000, HeadProbe: time.Second}, nil, func(b *bench) {
				b.n.lag = 100 * time.Millisecond
				refuses := false
				b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
					return map[bool]*fault{true: {err: refused()}}[refuses && o.LimitBytes != nil]
				}
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", "first")
				time.Sleep(time.Second) // at the end of a file, a follower begins to watch for the next
				b.n.print("a", numbered(120)...)
				time.Sleep(4 * time.Second)
				b.n.rotate("a")
				b.n.print("a", "passed over")
				time.Sleep(1500 * time.Millisecond)
				b.n.change(func() { refuses = c.unseen })
				b.n.rotate("a")
				for range 100 {
					b.n.print("a", "goes on")
					time.Sleep(50 * time.Millisecond)
				}
				if follows, _ := b.n.requests(); follows != c.streams {
					t.Errorf("it took %d streams, want %d", follows, c.streams)
				}
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				cert := b.drain()[0]
				if gaps := seams(cert); cert.Proof != Unverified || len(gaps) != 1 || gaps[0].AfterLine != 121 || cert.Lines != 221 {
					t.Errorf("certificate %+v", cert)
				}
			})
		})
	}
}
