package logstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/google/go-cmp/cmp"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

func TestASnapshotEndsAndAReaderFromTheEndBeginsWithWhatIsThereNow(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "old")
		snapshot := b.c.Reader(b.ctx, "a", ReadOptions{Snapshot: true})
		fromEnd := b.c.Reader(b.ctx, "a", ReadOptions{FromEnd: true})
		nothing := b.c.Reader(b.ctx, "a", ReadOptions{FromEnd: true, Snapshot: true})
		b.n.print("a", "new")
		synctest.Wait()
		for _, c := range []struct {
			r    *Reader
			want string
		}{{snapshot, "old\n"}, {nothing, ""}} {
			if text, err := io.ReadAll(c.r); string(text) != c.want || err != nil {
				t.Errorf("read %q, %v; want %q", text, err, c.want)
			}
		}
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		if text, err := io.ReadAll(fromEnd); string(text) != "new\n" || err != nil {
			t.Errorf("read %q, %v", text, err)
		}
		if text, err := b.readAll("b", ReadOptions{Snapshot: true}); text != "" || err != nil {
			t.Errorf("read %q, %v", text, err)
		}
	})
}

func TestAReaderReadsInPiecesOfAnySize(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.run("a", "a1", "one", "", "three "+strings.Repeat("x", 100_000), "four")
		b.drain()
		want := b.n.truth("a")
		if err := iotest.TestReader(b.c.Reader(b.ctx, "a", ReadOptions{}), []byte(want)); err != nil {
			t.Error(err)
		}
		r := iotest.OneByteReader(b.c.Reader(b.ctx, "a", ReadOptions{}))
		if text, err := io.ReadAll(r); string(text) != want || err != nil {
			t.Errorf("byte by byte: %d bytes, %v", len(text), err)
		}
	})
}

func TestLinesAreWholeAndLongOnesComeInPieces(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		long := strings.Repeat("x", 150_000)
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", "one", "", long, "four\r", "\x1b[31mfive\x00\xff")
		b.n.raw("a", "six")
		synctest.Wait()
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		b.drain()
		var got []string
		text := ""
		for l, err := range b.c.Reader(b.ctx, "a", ReadOptions{}).Lines() {
			if err != nil {
				t.Fatal(err)
			}
			if text == "" && l.Time.IsZero() {
				t.Errorf("line %q has no time", l.Text)
			}
			if len(l.Text) > longLine || l.ContainerID != "a1" {
				t.Errorf("a piece of %d bytes of %q", len(l.Text), l.ContainerID)
			}
			if text += string(l.Text); l.More {
				continue
			}
			if l.Partial != (text == "six") {
				t.Errorf("partial %v: %.20q", l.Partial, text)
			}
			got, text = append(got, text), ""
		}
		want := []string{"one", "", long, "four\r", "\x1b[31mfive\x00\xff", "six"}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("lines (-want +got):\n%s", d)
		}
	})
}

// Whatever the length: of a piece that fills the buffer to the last byte, too.
func TestAPieceSaysWhetherItsLineGoesOn(t *testing.T) {
	for _, end := range []string{"", "\n"} {
		for _, n := range []int{1, 2} {
			for d := -2; d <= 2; d++ {
				inBubble(t, Options{}, nil, func(b *bench) {
					want := strings.Repeat("x", n*chunkSize-stamp.UTC+d)
					b.n.start("a", "a1")
					b.c.Handle(b.p.running("a", "a1"))
					b.n.raw("a", want+end)
					synctest.Wait()
					b.n.exit("a")
					b.c.Handle(b.p.ended("a", "a1"))
					b.drain()
					got, more, over := "", true, false
					for l, err := range b.c.Reader(b.ctx, "a", ReadOptions{}).Lines() {
						if err != nil || !more || (l.More && !l.Partial) {
							t.Errorf("%d%+d %q: %d bytes, partial %v, more %v, before it %v; %v", n, d, end, len(l.Text), l.Partial, l.More, more, err)
						}
						got, more, over = got+string(l.Text), l.More, !l.Partial
					}
					if got != want || more || over != (end != "") {
						t.Errorf("%d%+d %q: got %d bytes of %d; more %v, newline %v", n, d, end, len(got), len(want), more, over)
					}
				})
			}
		}
	}
}

func TestManyReadersAtOnceAllGetEverything(t *testing.T) {
	inBubble(t, Options{Memory: 64 << 10}, nil, func(b *bench) {
		const readers = 20
		texts := make(chan string, readers)
		b.n.start("a", "a1")
		for i := range readers {
			r := b.c.Reader(b.ctx, "a", ReadOptions{})
			go func() {
				var text strings.Builder
				p := make([]byte, 1000*(i+1))
				for {
					n, err := r.Read(p)
					text.Write(p[:n])
					if err != nil {
						break
					}
					time.Sleep(time.Duration(i) * time.Millisecond) // some are slow
				}
				texts <- text.String()
			}()
		}
		b.c.Handle(b.p.running("a", "a1"))
		for range 10 {
			b.n.bulk("a", 50)
			time.Sleep(time.Second)
		}
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		for range readers {
			if text := <-texts; text != b.n.truth("a") {
				t.Errorf("read %d bytes", len(text))
			}
		}
	})
}

func TestAClosedReaderEndsAndTheCaptureGoesOn(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		r := b.c.Reader(b.ctx, "a", ReadOptions{})
		errs := make(chan error)
		go func() {
			_, err := io.ReadAll(r)
			errs <- err
		}()
		synctest.Wait()
		r.Close()
		if err := <-errs; !errors.Is(err, ErrClosed) {
			t.Errorf("read ends in %v", err)
		}
		why := errors.New("the build was cancelled")
		ctx, cancel := context.WithCancelCause(b.ctx)
		r = b.c.Reader(ctx, "a", ReadOptions{})
		cancel(why)
		for _, err := range r.Lines() {
			if !errors.Is(err, why) {
				t.Errorf("lines end in %v", err)
			}
		}
		b.n.print("a", "still here")
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		b.wantText("a", "still here\n")
	})
}

// Whoever uploads a log when its time is up has all of it by then, however far the reader
// was, from memory and disk, and no more, however much comes meanwhile.
func TestAReaderWhoseContextEndsGetsAllThatIsCapturedAndNoMore(t *testing.T) {
	why := errors.New("the build was cancelled")
	for how, read := range map[string]func(*Reader, int) (string, error){
		"Read": func(r *Reader, n int) (string, error) {
			text, err := io.ReadAll(io.LimitReader(r, int64(n)))
			return string(text), err
		},
		"Lines": func(r *Reader, n int) (string, error) {
			var text strings.Builder
			for l, err := range r.Lines() {
				if err != nil {
					return text.String(), err
				}
				if fmt.Fprintf(&text, "%s\n", l.Text); text.Len() >= n {
					break
				}
			}
			return text.String(), nil
		},
	} {
		t.Run(how, func(t *testing.T) {
			inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
				b.begin("a", "a1")
				b.n.bulk("a", 4096)
				synctest.Wait()
				ctx, cancel := context.WithCancelCause(b.ctx)
				r := b.c.Reader(ctx, "a", ReadOptions{})
				start, err := read(r, 100_000)
				if err != nil {
					t.Fatal(err)
				}
				want := b.n.truth("a")
				cancel(why)
				more, err := read(r, 1000) // it notices
				if err != nil {
					t.Fatal(err)
				}
				b.n.bulk("a", 4096)
				synctest.Wait()
				rest, err := read(r, math.MaxInt)
				if got := start + more + rest; got != want || !errors.Is(err, why) {
					t.Errorf("%d bytes of %d, then %v", len(got), len(want), err)
				}
				if rest, err := read(r, 1000); rest != "" || !errors.Is(err, why) {
					t.Errorf("and then %q, %v", rest, err)
				}
				if len(b.c.readers) > 0 || r.hold != nil {
					t.Error("it holds on to something")
				}
			})
		})
	}
}

// Whatever gives up, whoever prints a log has each captured byte and each gap in its place:
// as text, or as values.
func TestWhateverGivesUpEveryByteAndEveryGapIsPrintedInItsPlace(t *testing.T) {
	for name, giveUp := range map[string]func(b *bench){
		"the reader's ctx": func(b *bench) { b.cancel(errCause) },
		"a Drain that takes too long": func(b *bench) {
			b.n.change(func() {
				b.n.fault = func(int, *corev1.PodLogOptions) *fault { return &fault{err: refused()} }
			})
			b.n.exit("a")
			ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
			defer cancel()
			b.c.Handle(b.p.ended("a", "a1"))
			if certs, err := b.c.Drain(ctx, nil); err == nil || certs[0].Proof != Live {
				b.Errorf("%+v, %v", certs, err)
			}
			b.cancel(errCause)
		},
		"the Streamer":   func(b *bench) { b.stop() },
		"a deleted pod":  func(b *bench) { b.c.Handle(b.p.event(watch.Deleted)); b.n.exit("a"); b.drain() },
		"a tracking end": func(b *bench) { b.c.Handle(closedEvent()); b.drain() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Memory: 256 << 10, Disk: -1, RotateSize: 200 << 10, HeadProbe: time.Second}, nil, func(b *bench) {
				ctx, cancel := context.WithCancelCause(context.WithoutCancel(b.ctx))
				b.cancel = cancel
				b.begin("a", "a1")
				b.n.bulk("a", 1024) // of which most is dropped
				synctest.Wait()
				b.n.rotate("a")
				b.n.bulk("a", 50)
				time.Sleep(time.Minute)
				b.n.raw("a", "half a line")
				synctest.Wait()
				text := b.c.Reader(ctx, "a", ReadOptions{Gap: gapText})
				values := b.c.Reader(ctx, "a", ReadOptions{})
				giveUp(b)
				cert := b.c.order[0].certificate()
				want, _ := io.ReadAll(text)
				var got strings.Builder
				var gaps []Gap
				for l, err := range values.Lines() {
					switch {
					case err != nil:
					case l.Gap != nil:
						gaps = append(gaps, *l.Gap)
						fmt.Fprintf(&got, "%s\n", gapText(*l.Gap))
					default:
						got.Write(l.Text)
						if !l.Partial {
							got.WriteByte('\n')
						}
					}
				}
				if d := cmp.Diff(cert.Gaps, gaps); d != "" || len(gaps) < 2 {
					t.Errorf("gaps (-certified +yielded):\n%s", d)
				}
				printed := strings.ReplaceAll(strings.ReplaceAll(string(want), "<lost>\n", ""), "<perhaps lost>\n", "")
				whole := func(s string) string {
					return strings.TrimRight(strings.TrimSuffix(strings.TrimSpace(s), "half a line"), "\n")
				}
				if !strings.HasSuffix(whole(b.n.truth("a")), whole(printed)) || len(printed) < 100<<10 {
					t.Errorf("%d bytes printed", len(printed))
				}
				if d := cmp.Diff(withoutPartial(string(want)), withoutPartial(got.String())); d != "" {
					t.Errorf("as text and as values (-text +values):\n%.2000s", d)
				}
			})
		})
	}
}

// withoutPartial leaves out the newline that ends half a line before a gap in words.
func withoutPartial(s string) string { return strings.ReplaceAll(s, "half a line\n", "half a line") }

func TestAReaderThatNobodyReadsDoesNotStopTheStream(t *testing.T) {
	inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
		_ = b.c.Reader(b.ctx, "a", ReadOptions{})
		if cert := b.flooded(); cert.Proof != Verified {
			t.Errorf("certificate %+v", cert)
		}
	})
}

func TestAnUntimestampedBodyIsOutput(t *testing.T) {
	for _, text := range []string{"fake logs", "one\ntwo\n", "2026 is no timestamp\n", "2026-11-22T10:00:0", "one\n2026-11-22T10:00:00.000000001Z two\n"} {
		plain := bodies(func(context.Context, *corev1.PodLogOptions) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(text)), nil
		})
		inBubbleBy(t, func(*node) Opener { return plain }, Options{}, nil, func(b *bench) {
			b.c.Handle(b.p.ended("a", "a1"))
			if cert := b.drain()[0]; cert.Proof != Verified || cert.Bytes != int64(len(text)) {
				t.Errorf("%q: certificate %+v", text, cert)
			}
			b.wantText("a", text)
			if got := readLines(b.c.Reader(b.ctx, "a", ReadOptions{})); got.text != text {
				t.Errorf("%q by lines: %q", text, got.text)
			}
		})
	}
}

func TestForgedTimestampsAreOutput(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		forged := "2001-01-01T00:00:00.000000000Z I was never here"
		b.run("a", "a1", forged, "  "+forged)
		b.drain()
		b.wantText("a", fmt.Sprintf("%s\n  %[1]s\n", forged))
	})
}

func TestDrainIsBoundedByItsContext(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.n.exit("a")
		b.n.fault = func(int, *corev1.PodLogOptions) *fault { return &fault{err: refused()} }
		b.p.ended("a", "a1")
		why := errors.New("no more time")
		ctx, cancel := context.WithTimeoutCause(b.ctx, 10*time.Second, why)
		defer cancel()
		certs, err := b.c.Drain(ctx, b.p.pod)
		if !errors.Is(err, why) || len(certs) != 1 || certs[0].Proof != Live {
			t.Errorf("%+v, %v", certs, err)
		}
	})
}

func TestAStreamerThatStopsSaysWhatItDidNotProve(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "one")
		b.stop()
		text, err := b.readAllIn(context.WithoutCancel(b.ctx), "a", ReadOptions{})
		var inc *IncompleteError
		if text != "one\n" || !errors.As(err, &inc) {
			t.Errorf("read %q, %v", text, err)
		}
		if err := b.s.Run(context.WithoutCancel(b.ctx)); err == nil {
			t.Error("Run runs twice")
		}
	})
}

func TestAReaderThatWaitsHoldsNoBuffer(t *testing.T) {
	for how, read := range map[string]func(*Reader) reading{"Read": readBytes, "Lines": readLines} {
		inBubble(t, Options{}, nil, func(b *bench) {
			b.begin("a", "a1", "one", "two")
			r := b.c.Reader(b.ctx, "a", ReadOptions{})
			got := make(chan reading, 1)
			go func() { got <- read(r) }()
			synctest.Wait()
			if r.hold != nil {
				t.Errorf("%s: %d bytes are held", how, cap(r.hold))
			}
			b.n.print("a", "three")
			b.n.exit("a")
			b.c.Handle(b.p.ended("a", "a1"))
			if g := <-got; g != (reading{"one\ntwo\nthree\n", "EOF"}) {
				t.Errorf("%s: %+v", how, g)
			}
		})
	}
}

// None of these is closed: each has ended.
func TestReadersThatComeAndGoLeaveNothing(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "one")
		log := &b.c.order[0].log
		var wg sync.WaitGroup
		for i := range 100 {
			ctx, cancel := context.WithTimeout(b.ctx, time.Second)
			wg.Go(func() {
				defer cancel()
				r := b.c.Reader(ctx, "a", ReadOptions{})
				read := []func(*Reader) reading{readBytes, readLines}[i%2]
				if got := read(r); got.text != "one\n" || got.end != context.DeadlineExceeded.Error() {
					t.Errorf("read %q, %v", got.text, got.end)
				}
				r = b.c.Reader(b.ctx, "a", ReadOptions{Snapshot: true}) //nolint:contextcheck // the test's own
				if _, err := io.ReadAll(r); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if len(log.waiting) > 0 || len(b.c.readers) > 0 {
			t.Errorf("%d wait, %d are remembered", len(log.waiting), len(b.c.readers))
		}
	})
}
