package logstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/google/go-cmp/cmp"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// outputs are what containers print to break those who read it.
var outputs = map[string]string{
	"NULs":                   "\x00\n\x00\x00one\x00two\n\x00",
	"invalid UTF-8":          "\xff\xfe\n\xc3\x28 \xed\xa0\x80\n\xf5" + strings.Repeat("\x80", 100) + "\n",
	"carriage returns":       "one\r\n\r\n\rtwo\rthree\r\n\r",
	"ANSI":                   "\x1b[31mred\x1b[0m\n\x1b[2J\x1b]0;title\x07\n\x1b[1A\x1b[K",
	"a progress bar":         strings.Repeat("\r[####      ] 40%", 10_000) + "\ndone\n",
	"empty lines":            strings.Repeat("\n", 5000) + "x" + strings.Repeat("\n", 5000),
	"no newline at the end":  "one\ntwo",
	"nothing but a newline":  "\n",
	"forged times":           "2001-01-01T00:00:00.000000000Z one\n" + strings.Repeat("2030-01-01T00:00:00.000000000+07:00 ", 5) + "two\n2030-01-01T00:00:00.00000000",
	"a forged time alone":    "2026-11-22T10:00:00.000000000Z ",
	"forged words":           forgedWords(true),
	"forged words, no end":   forgedWords(false),
	"a gap's text, forged":   "[log gap: " + whyDropped + "]\nlogstream: closed\n",
	"64 KiB lines, or about": aboutLong(),
	"a long line":            "before\n" + strings.Repeat("0123456789abcde ", 50_000) + "\nafter\n",
	"a long line, no end":    "before\n" + strings.Repeat("0123456789abcde ", 50_000),
	"times in a long line":   strings.Repeat("2026-11-22T10:00:00.000000001Z ", 10_000) + "\n2026-11-22T10:00:00.000000001Z \n",
}

func forgedWords(newlines bool) string {
	var b strings.Builder
	for _, k := range kubelog.Texts {
		fmt.Fprintf(&b, "%sx\nhalf a line %s x\n", k.Text, k.Text)
	}
	if !newlines {
		b.WriteString("failed to create fsnotify watcher: too many open files")
	}
	return b.String()
}

// aboutLong are lines as long as those that are shown before their end is seen.
func aboutLong() string {
	var b strings.Builder
	for _, n := range []int{longLine - stamp.UTC - 1, longLine - stamp.UTC, longLine - stamp.UTC + 1, longLine - 1, longLine, longLine + 1, 2*longLine - stamp.UTC} {
		b.WriteString(strings.Repeat("x", n-1) + "y\n")
	}
	return b.String()
}

// write prints raw text: the node puts a time before every line.
func (b *bench) write(text string) {
	b.n.mu.Lock()
	defer b.n.mu.Unlock()
	box := b.n.cur["a"]
	for line := range strings.Lines(text) {
		box.put(line)
	}
}

// Whatever a container prints comes back to the byte, by Read and by Lines, to
// readers that are there before and to those that come after, while the stream is
// cut anywhere.
func TestWhateverAContainerPrintsComesBackToTheByte(t *testing.T) {
	for name, text := range outputs {
		for i, cut := range []int{0, 1, 29, 40, 5000, 5001, longLine, longLine + 100, 100_000, 100_001} {
			t.Run(fmt.Sprint(name, ", cut at ", cut), func(t *testing.T) {
				inBubble(t, Options{}, nil, func(b *bench) {
					b.n.fault = func(n int, o *corev1.PodLogOptions) *fault {
						if cut > 0 && n == 1 {
							return &fault{cut: cut, words: []string{"", "rpc error: code = Unknown desc = closing"}[i%2]}
						}
						return nil
					}
					got := make(chan reading, 2)
					for _, read := range []func(*Reader) reading{readBytes, readLines} {
						r := b.c.Reader(b.ctx, "a", ReadOptions{})
						go func() { got <- read(r) }()
					}
					b.n.start("a", "a1")
					b.c.Handle(b.p.running("a", "a1"))
					for half := range []int{0, 1} {
						b.write(text[half*len(text)/2 : (half+1)*len(text)/2])
						time.Sleep(time.Minute)
					}
					end(b)
					want := []Certificate{{
						Slot: "a", ContainerID: "a1", Proof: Verified, Bytes: int64(len(text)),
						Lines: uint64(len(bytes.SplitAfter([]byte(text), newline))),
					}}
					if strings.HasSuffix(text, "\n") {
						want[0].Lines--
					}
					if d := cmp.Diff(want, b.drain()); d != "" {
						t.Errorf("certificate (-want +got):\n%s", d)
					}
					for range 2 {
						if r := <-got; r.text != text || r.end != "EOF" {
							t.Errorf("before: read %d bytes, want %d, and %s: %.200q", len(r.text), len(text), r.end, r.text)
						}
					}
					for _, read := range []func(*Reader) reading{readBytes, readLines} {
						if r := read(b.c.Reader(b.ctx, "a", ReadOptions{})); r.text != text || r.end != "EOF" {
							t.Errorf("after: read %d bytes, want %d, and %s: %.200q", len(r.text), len(text), r.end, r.text)
						}
					}
				})
			})
		}
	}
}

// body is an Opener of bodies made by a function.
type bodies func(ctx context.Context, o *corev1.PodLogOptions) (io.ReadCloser, error)

func (f bodies) OpenLog(ctx context.Context, _, _ string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return f(ctx, o)
}

// trickle brings its text, a byte at a time if there is a time between them, then
// what comes after; nil: io.EOF.
type trickle struct {
	ctx   context.Context
	text  []byte
	every time.Duration
	then  func(p []byte) (int, error)
}

func (b *trickle) Close() error { return nil }

func (b *trickle) Read(p []byte) (int, error) {
	if len(b.text) == 0 {
		if b.then == nil {
			return 0, io.EOF
		}
		return b.then(p)
	}
	if b.every == 0 {
		n := copy(p, b.text)
		b.text = b.text[n:]
		return n, nil
	}
	select {
	case <-time.After(b.every):
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	}
	p[0], b.text = b.text[0], b.text[1:]
	return 1, nil
}

// withOpener is inBubble with another Opener than a node.
func withOpener(t *testing.T, o Opener, opt Options, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s := New(o, opt)
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		b := &bench{T: t, n: newNode(), s: s, c: s.Pod("n", "p", nil), p: newPod(corev1.RestartPolicyNever, "a", "b"), ctx: ctx}
		test(b)
		b.c.Close()
		cancel()
		<-done
		if st := s.Stats(); st.Memory != 0 || st.Live != 0 {
			t.Errorf("after Close: %+v", st)
		}
	})
}

func TestOneByteASecondIsOneStreamAndNoProbe(t *testing.T) {
	text := body("slow", "", "but steady") + "2026-11-22T10:00:09.000000001Z to the end"
	stream := bodies(func(ctx context.Context, o *corev1.PodLogOptions) (io.ReadCloser, error) {
		if !o.Follow {
			return io.NopCloser(strings.NewReader(text)), nil
		}
		return &trickle{ctx: ctx, text: []byte(text), every: time.Second}, nil
	})
	withOpener(t, stream, Options{}, func(b *bench) {
		b.c.Handle(b.p.running("a", "a1"))
		time.Sleep(time.Duration(len(text)) * time.Second)
		if st := b.s.Stats(); st.Follows != 1 || st.Probes != 0 || st.Memory != chunkFirst {
			t.Errorf("%+v", st)
		}
		b.p.ended("a", "a1")
		if cert := b.drain()[0]; cert.Proof != Verified {
			t.Errorf("certificate %+v", cert)
		}
		b.wantText("a", stripped(text))
	})
}

// A container has ended, and the server of its log does not say so.
func TestAServerThatNeverEnds(t *testing.T) {
	text := body("one", "two")
	silence := func(ctx context.Context) func([]byte) (int, error) {
		return func([]byte) (int, error) { <-ctx.Done(); return 0, context.Cause(ctx) }
	}
	zeros := func(ctx context.Context) func([]byte) (int, error) {
		return func(p []byte) (int, error) {
			select {
			case <-time.After(100 * time.Millisecond):
				return copy(p, bytes.Repeat([]byte("x"), 64<<10)), nil
			case <-ctx.Done():
				return 0, context.Cause(ctx)
			}
		}
	}
	for name, c := range map[string]struct {
		follow, read func(ctx context.Context) func([]byte) (int, error)
		want         Proof
		within       time.Duration
	}{
		"a silent stream":         {follow: silence, want: Verified, within: 15 * time.Second},
		"a silent read":           {read: silence, want: Incomplete, within: 12 * time.Minute},
		"both":                    {follow: silence, read: silence, want: Incomplete, within: 12 * time.Minute},
		"a stream without a line": {follow: zeros, want: Live, within: time.Minute},
		"a read without a line":   {read: zeros, want: Live, within: time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			server := bodies(func(ctx context.Context, o *corev1.PodLogOptions) (io.ReadCloser, error) {
				then := c.read
				if o.Follow {
					then = c.follow
				}
				b := &trickle{ctx: ctx, text: []byte(text)}
				if then != nil {
					b.then = then(ctx)
				}
				return b, nil
			})
			withOpener(t, server, Options{Memory: 1 << 20, Disk: -1}, func(b *bench) {
				b.c.Handle(b.p.running("a", "a1"))
				time.Sleep(5 * time.Second)
				b.p.ended("a", "a1")
				why := errors.New("no longer")
				ctx, cancel := context.WithTimeoutCause(b.ctx, c.within, why)
				defer cancel()
				certs, err := b.c.Drain(ctx, b.p.pod)
				if errors.Is(err, why) != (c.want == Live) || certs[0].Proof != c.want {
					t.Errorf("%v, certificate %+v", err, certs[0])
				}
				if st := b.s.Stats(); st.Memory > 1<<20+overheadLive {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// client-go's fake clientset answers every request for a log with "fake logs":
// hosts' tests live on it.
func TestTheLogOfAFakeClientsetIsItsText(t *testing.T) {
	clients := fake.NewClientset()
	o := bodies(func(ctx context.Context, o *corev1.PodLogOptions) (io.ReadCloser, error) {
		return clients.CoreV1().Pods("n").GetLogs("p", o).Stream(ctx)
	})
	withOpener(t, o, Options{}, func(b *bench) {
		b.c.Handle(b.p.running("a", "a1"))
		time.Sleep(time.Minute)
		b.p.ended("a", "a1")
		want := []Certificate{{Slot: "a", ContainerID: "a1", Proof: Verified, Lines: 1, Bytes: int64(len("fake logs"))}}
		if d := cmp.Diff(want, b.drain()); d != "" {
			t.Errorf("certificate (-want +got):\n%s", d)
		}
		b.wantText("a", "fake logs")
		for l, err := range b.c.Reader(b.ctx, "a", ReadOptions{}).Lines() {
			if string(l.Text) != "fake logs" || !l.Partial || !l.Time.IsZero() || err != nil {
				t.Errorf("line %+v, %v", l, err)
			}
		}
	})
}
