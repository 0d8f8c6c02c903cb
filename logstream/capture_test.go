package logstream

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/google/go-cmp/cmp"
)

// bench is a Streamer, one pod's Capture and the node behind them, in a bubble.
type bench struct {
	*testing.T
	n    *node
	s    *Streamer
	c    *Capture
	p    *podScript
	ctx  context.Context
	stop func()

	cancel  context.CancelCauseFunc // of the readers' ctx
	readers []*Reader
}

func (b *bench) closeReaders() {
	for _, r := range b.readers {
		r.Close()
	}
}

func inBubble(t *testing.T, opt Options, r Runs, test func(b *bench)) {
	t.Helper()
	inBubbleBy(t, func(n *node) Opener { return n }, opt, r, test)
}

// inBubbleBy puts something between the Streamer and the node.
func inBubbleBy(t *testing.T, by func(*node) Opener, opt Options, r Runs, test func(b *bench)) {
	t.Helper()
	inBubbleOn(t, nil, by, opt, r, test)
}

// inBubbleOn has the Streamer spill to a disk of the test's.
func inBubbleOn(t *testing.T, create func() (spillFile, error), by func(*node) Opener, opt Options, r Runs, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNode()
		ctx, cancel := context.WithCancel(t.Context())
		s := New(by(n), opt)
		if create != nil {
			s.store.create = create
		}
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		b := &bench{T: t, n: n, s: s, c: s.Pod("n", "p", r), p: newPod(corev1.RestartPolicyNever, "a", "b"), ctx: ctx}
		b.stop = sync.OnceFunc(func() { cancel(); <-done })
		synctest.Wait() // the disk was looked at
		test(b)
		if err := b.c.Close(); err != nil {
			t.Error(err)
		}
		b.stop()
		if st := s.Stats(); st.Memory != 0 || st.Disk != 0 || st.Live != 0 || st.Captures != 0 {
			t.Errorf("after Close: %+v", st)
		}
	})
}

// begin starts a life of a slot, and has what it prints captured.
func (b *bench) begin(slot, id string, lines ...string) {
	b.n.start(slot, id)
	b.c.Handle(b.p.running(slot, id))
	b.n.print(slot, lines...)
	synctest.Wait()
}

// run plays a whole undisturbed life of a slot.
func (b *bench) run(slot, id string, lines ...string) {
	b.begin(slot, id, lines...)
	b.n.exit(slot)
	synctest.Wait()
	time.Sleep(500 * time.Millisecond)
	b.c.Handle(b.p.ended(slot, id))
}

func (b *bench) drain() []Certificate {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, time.Hour)
	defer cancel()
	certs, err := b.c.Drain(ctx, b.p.pod)
	if err != nil {
		b.Errorf("Drain: %v", err)
	}
	return certs
}

func (b *bench) readAll(slot string, o ReadOptions) (string, error) {
	return b.readAllIn(b.ctx, slot, o)
}

func (b *bench) readAllIn(ctx context.Context, slot string, o ReadOptions) (string, error) {
	r := b.c.Reader(ctx, slot, o)
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}

func (b *bench) wantText(slot, want string) {
	b.Helper()
	got, err := b.readAll(slot, ReadOptions{})
	if err != nil {
		b.Errorf("Read: %v", err)
	}
	if d := cmp.Diff(want, got); d != "" {
		b.Errorf("log (-want +got):\n%s", d)
	}
}

func TestAnUndisturbedRunCostsOneFollowAndOneRead(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.run("a", "a1", "one", "two")
		certs := b.drain()
		want := []Certificate{{Slot: "a", ContainerID: "a1", Proof: Verified, Lines: 2, Bytes: 8}}
		if d := cmp.Diff(want, certs); d != "" {
			t.Errorf("certificates (-want +got):\n%s", d)
		}
		if f, r := b.n.requests(); f != 1 || r != 1 {
			t.Errorf("%d follows, %d reads; want 1 and 1", f, r)
		}
		b.wantText("a", "one\ntwo\n")
	})
}

func TestReadersMadeBeforeDuringAndAfterARunGetTheSameBytes(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		type got struct {
			text string
			err  error
		}
		results := make(chan got, 3)
		read := func() {
			text, err := b.readAll("a", ReadOptions{})
			results <- got{text, err}
		}
		go read() // before
		synctest.Wait()
		b.begin("a", "a1", "one", "two")
		go read() // during
		synctest.Wait()
		b.n.print("a", "three")
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		b.drain()
		go read() // after
		for range 3 {
			if g := <-results; g.text != "one\ntwo\nthree\n" || g.err != nil {
				t.Errorf("read %q, %v", g.text, g.err)
			}
		}
	})
}

func TestARunSeenOnlyAfterItsEndIsCaptured(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.n.print("a", "quick")
		b.n.exit("a")
		b.p.ended("a", "a1")
		certs := b.drain() // Drain is the first to tell of it
		if len(certs) != 1 || certs[0].Proof != Verified || certs[0].Lines != 1 {
			t.Errorf("certificates %+v", certs)
		}
		if f, r := b.n.requests(); f != 0 || r != 2 {
			t.Errorf("%d follows, %d reads; want 0 and 2", f, r)
		}
	})
}

// script is a Runs whose answers are scripted.
type script struct {
	placeholders map[string]bool
	next         chan string
	err          error
}

func (s *script) IsPlaceholder(_, id string) bool { return s.placeholders[id] }

func (s *script) NextRun(ctx context.Context, _, after string) (string, error) {
	if after != "" {
		return "", io.EOF
	}
	select {
	case id, ok := <-s.next:
		if !ok {
			return "", s.err
		}
		return id, nil
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

func TestAPlaceholderIsNeverOpened(t *testing.T) {
	runs := &script{placeholders: map[string]bool{"pause": true}}
	inBubble(t, Options{}, runs, func(b *bench) {
		runs.next = make(chan string, 1)
		b.n.start("a", "pause")
		b.c.Handle(b.p.running("a", "pause"))
		r := b.c.Reader(b.ctx, "a", ReadOptions{})
		time.Sleep(time.Minute)
		if f, rd := b.n.requests(); f+rd != 0 {
			t.Errorf("%d requests for a placeholder", f+rd)
		}
		runs.next <- "step"
		b.run("a", "step", "hello")
		text, err := io.ReadAll(r)
		if string(text) != "hello\n" || err != nil {
			t.Errorf("read %q, %v", text, err)
		}
		if certs := b.drain(); len(certs) != 1 || certs[0].ContainerID != "step" {
			t.Errorf("certificates %+v", certs)
		}
	})
}

func TestAStepThatCannotRunEndsItsReadersWithItsFailure(t *testing.T) {
	failure := errors.New("no such image")
	runs := &script{err: failure}
	inBubble(t, Options{}, runs, func(b *bench) {
		runs.next = make(chan string)
		close(runs.next)
		for _, o := range []ReadOptions{{}, {Gap: func(g Gap) string { return g.Why }}} {
			if text, err := b.readAll("a", o); text != "" || !errors.Is(err, failure) {
				t.Errorf("read %q, %v", text, err)
			}
		}
	})
}

func TestACleanEndOfALivingStreamIsNoEnd(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
			if n <= 3 {
				return &fault{cut: 50 * n}
			}
			return nil
		}
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", "one", "two", "three", "four", "five")
		time.Sleep(time.Minute)
		b.n.print("a", "six")
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		if certs := b.drain(); certs[0].Proof != Verified {
			t.Errorf("certificates %+v", certs)
		}
		b.wantText("a", "one\ntwo\nthree\nfour\nfive\nsix\n")
		if f, r := b.n.requests(); f != 4 || r < 1 {
			t.Errorf("%d follows, %d reads", f, r)
		}
	})
}

func TestALiveRunIsListedByDrainAndNotWaitedFor(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.run("a", "a1", "done")
		b.n.start("b", "b1")
		b.c.Handle(b.p.running("b", "b1"))
		b.n.print("b", "serving")
		start := time.Now()
		certs := b.drain()
		if len(certs) != 2 || certs[0].Proof != Verified || certs[1].Proof != Live || time.Since(start) > time.Second {
			t.Errorf("certificates %+v after %v", certs, time.Since(start))
		}
	})
}

func TestClosingTheTrackingEndsTheReaders(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "serving")
		b.c.Handle(closedEvent())
		b.wantText("a", "serving\n") // a run that went on
		b.wantText("b", "")          // one that never came
	})
}

func TestAPodDeletedByOthersKeepsWhatStreamsAndSaysWhatIsNotProved(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "one")
		b.c.Handle(b.p.event(watch.Deleted))
		b.n.print("a", "two")
		synctest.Wait()
		b.n.exit("a")
		certs := b.drain()
		if len(certs) != 1 || certs[0].Proof != Incomplete || len(certs[0].Gaps) != 1 {
			t.Fatalf("certificates %+v", certs)
		}
		text, err := b.readAll("a", ReadOptions{})
		var inc *IncompleteError
		if text != "one\ntwo\n" || !errors.As(err, &inc) {
			t.Errorf("read %q, %v", text, err)
		}
		text, err = b.readAll("a", ReadOptions{Gap: func(g Gap) string { return "[" + g.Why + "]\n" }})
		if !strings.HasPrefix(text, "one\ntwo\n[the pod was deleted") || err != nil {
			t.Errorf("read %q, %v", text, err)
		}
	})
}

func TestCloseEndsReadersAndStreamsAndFreesAll(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", "one")
		ran, never := make(chan error, 1), make(chan error, 1)
		for slot, end := range map[string]chan error{"a": ran, "b": never} {
			go func() {
				_, err := b.readAll(slot, ReadOptions{})
				end <- err
			}()
		}
		synctest.Wait()
		b.c.Close()
		if err := <-ran; !errors.Is(err, ErrClosed) {
			t.Errorf("the reader of a run that goes on ends in %v", err)
		}
		if err := <-never; err != nil { // nothing ran, nothing is missing
			t.Errorf("the reader of a slot that never ran ends in %v, want io.EOF", err)
		}
	})
}

// It may have been written wrong; until the pod has finished, it may be an ephemeral
// container's.
func TestAReaderOfAContainerThatThePodNeverHadEndsInASentence(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		r := b.c.Reader(b.ctx, "typo", ReadOptions{Gap: func(Gap) string { return "" }})
		ended := make(chan error, 1)
		go func() { _, err := io.ReadAll(r); ended <- err }()
		b.run("a", "a1", "one")
		time.Sleep(time.Hour)
		select {
		case err := <-ended:
			t.Errorf("ended while the pod goes on: %v", err)
		default:
		}
		b.p.pod.Status.Phase = corev1.PodSucceeded
		b.c.Handle(b.p.event(watch.Modified))
		if err := <-ended; err == nil || !strings.Contains(err.Error(), `had no container "typo"`) {
			t.Errorf("ended in %v", err)
		}
		if _, err := b.readAll("typo", ReadOptions{}); err == nil {
			t.Error("made later, it ends in io.EOF")
		}
	})
}

func TestARestartedContainerIsReadRunByRun(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		r := b.c.Reader(b.ctx, "a", ReadOptions{})
		b.run("a", "a1", "first")
		time.Sleep(10 * time.Second)
		b.run("a", "a2", "second")
		time.Sleep(10 * time.Second)
		b.p.pod.Status.Phase = corev1.PodSucceeded
		b.c.Handle(b.p.event(watch.Modified))
		text, err := io.ReadAll(r)
		if string(text) != "first\nsecond\n" || err != nil {
			t.Errorf("read %q, %v", text, err)
		}
		for _, c := range b.drain() {
			if c.Proof != Verified {
				t.Errorf("certificate %+v", c)
			}
		}
	})
}
