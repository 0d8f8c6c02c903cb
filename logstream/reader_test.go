package logstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/google/go-cmp/cmp"
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
					want := strings.Repeat("x", n*chunkSize-stampUTC+d)
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
		inBubble(t, Options{}, nil, func(b *bench) {
			b.n.start("a", "a1")
			b.n.cur["a"].file.data = []byte(text)
			b.n.exit("a")
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
