package logstream

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// What a host hears of requests that fail, and of streams that break off.
func TestWhatTroublesARunIsSaidOnce(t *testing.T) {
	failed := func(err error) Notice { return Notice{Kind: NoticeFailed, Err: err} }
	resumed, polling, streaming := Notice{Kind: NoticeResumed}, Notice{Kind: NoticePolling}, Notice{Kind: NoticeStreaming}
	final := Notice{Kind: NoticeFinal}
	down, denied := refused(), statusError(403, "no")
	at := func(faults map[int]*fault) func(int, *corev1.PodLogOptions) *fault {
		return func(n int, _ *corev1.PodLogOptions) *fault { return faults[n] }
	}
	for name, c := range map[string]struct {
		faults  func(int, *corev1.PodLogOptions) *fault
		want    []Notice
		resumed int64 // streams
	}{
		"nothing": {nil, nil, 0},
		"a clean end, as a kubelet's death shows": {at(map[int]*fault{1: {cut: 10}}), []Notice{resumed}, 1},
		"a broken connection":                     {at(map[int]*fault{1: {cut: 10, with: io.ErrUnexpectedEOF}}), []Notice{resumed}, 1},
		"and nobody answers":                      {at(map[int]*fault{1: {cut: 10}, 2: {err: down}, 3: {err: down}}), []Notice{failed(down), resumed}, 1},
		"nobody answers at all":                   {at(map[int]*fault{1: {err: down}, 2: {err: down}}), []Notice{failed(down), resumed}, 0},
		"denied":                                  {at(map[int]*fault{1: {err: denied}}), []Notice{failed(denied), resumed}, 0},
		"not there yet":                           {at(map[int]*fault{1: {err: notFound("pods/log", "p")}, 2: {err: statusError(400, "is waiting to start")}}), nil, 0},
		"out of inotify instances": {func(n int, o *corev1.PodLogOptions) *fault {
			if o.Follow && n < 200 {
				return &fault{words: "failed to create fsnotify watcher: too many open files"}
			}
			return nil
		}, []Notice{polling, streaming}, 0},
		"out of inotify instances to the end": {func(_ int, o *corev1.PodLogOptions) *fault {
			if o.Follow {
				return &fault{words: "failed to create fsnotify watcher: too many open files"}
			}
			return nil
		}, []Notice{polling, final}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var told told
			inBubble(t, Options{Notify: told.notify}, nil, func(b *bench) {
				b.n.fault = c.faults
				b.n.start("a", "a1")
				b.n.print("a", "one", "two")
				b.c.Handle(b.p.running("a", "a1"))
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				b.drain()
				b.wantText("a", "one\ntwo\n")
				got := told.since()
				for i, n := range got {
					if n.Namespace != "n" || n.Name != "p" || n.Slot != "a" || n.ContainerID != "a1" || n.Run != 0 {
						t.Errorf("notice %d is about %+v", i, n)
					}
					got[i] = Notice{Kind: n.Kind, Err: n.Err}
				}
				if d := cmp.Diff(c.want, got, cmpopts.EquateErrors()); d != "" {
					t.Errorf("notices (-want +got):\n%s", d)
				}
				if st := b.s.Stats(); st.Resumed != c.resumed {
					t.Errorf("%+v; want %d resumed", st, c.resumed)
				}
			})
		})
	}
}

func TestATroubleOfARunIsOverWhenTheRunIsFinal(t *testing.T) {
	for name, c := range map[string]struct {
		err error
		end func(b *bench)
	}{
		"given up":               {statusError(403, "no"), end},
		"the pod deleted":        {refused(), func(b *bench) { b.c.Handle(b.p.event(watch.Deleted)) }},
		"the tracking closed":    {refused(), func(b *bench) { b.c.Handle(closedEvent()) }},
		"the capture closed":     {refused(), func(b *bench) { b.c.Close() }},
		"the Streamer's ctx end": {refused(), func(b *bench) { b.stop() }},
	} {
		t.Run(name, func(t *testing.T) {
			var told told
			inBubble(t, Options{Notify: told.notify}, nil, func(b *bench) {
				b.n.fault = func(int, *corev1.PodLogOptions) *fault { return &fault{err: c.err} }
				b.begin("a", "a1")
				b.begin("b", "b1")
				time.Sleep(time.Minute)
				if d := cmp.Diff([]NoticeKind{NoticeFailed, NoticeFailed}, told.kinds()); d != "" {
					t.Fatalf("notices (-want +got):\n%s", d)
				}
				c.end(b)
				time.Sleep(time.Hour)
				final := map[string]bool{}
				for _, n := range told.since() {
					if n.Kind != NoticeFinal || final[n.ContainerID] || n.Err != nil {
						t.Errorf("notice %v", n)
					}
					final[n.ContainerID] = true
				}
				if !final["a1"] {
					t.Error("the trouble of a1 is still open")
				}
			})
		})
	}
}

// Who graphs the counters sees losses, and no loss where a service simply goes on when
// its build is over.
func TestStatsCountGapsAsTheyAreNoticedAndRunsThatGoOnApart(t *testing.T) {
	for name, c := range map[string]struct {
		play func(b *bench)
		want Stats
	}{
		"a service is closed":                 {func(b *bench) { b.c.Close() }, Stats{Closed: 1}},
		"out of sight, and closed":            {func(b *bench) { b.c.Handle(watch.Event{Type: watch.Error, Object: outOfScope()}); b.c.Close() }, Stats{Closed: 1}},
		"the Streamer stops":                  {func(b *bench) { b.stop() }, Stats{Closed: 1, Gaps: 1}},
		"ended, and closed before the proof":  {func(b *bench) { b.n.change(func() { b.n.fault = always(refused()) }); end(b); b.c.Close() }, Stats{Incomplete: 1, Gaps: 1}},
		"ended and verified, and then closed": {func(b *bench) { end(b); b.drain(); b.c.Close() }, Stats{Verified: 1}},
		"rotated, and goes on": {func(b *bench) {
			b.n.print("a", strings.Repeat("x", 100))
			synctest.Wait()
			b.n.rotate("a")
			b.n.print("a", "two")
			time.Sleep(time.Minute)
		}, Stats{Gaps: 1}},
		"lost a line, and is closed": {func(b *bench) {
			b.n.bulk("a", 4096)
			time.Sleep(time.Minute)
			b.c.Close()
		}, Stats{Incomplete: 1, Gaps: 1}},
		"runs that nobody saw": {func(b *bench) {
			end(b)
			b.drain()
			for _, id := range []string{"a2", "a3"} {
				b.n.start("a", id)
				b.p.running("a", id)
				b.p.ended("a", id)
			}
			b.begin("a", "a4")
			time.Sleep(time.Minute)
		}, Stats{Verified: 1, Unverified: 1, Gaps: 2}}, // a3 may have printed something, too
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{RotateSize: 100, HeadProbe: time.Second, Memory: 1 << 20, Disk: -1}, nil, func(b *bench) {
				b.begin("a", "a1", "one")
				c.play(b)
				synctest.Wait()
				st := b.s.Stats()
				certs, _ := b.c.Drain(b.ctx, nil)
				gaps := 0
				for _, cert := range certs {
					gaps += len(cert.Gaps)
				}
				if got := (Stats{Verified: st.Verified, Unverified: st.Unverified, Incomplete: st.Incomplete, Closed: st.Closed, Gaps: st.Gaps}); got != c.want {
					t.Errorf("%+v, want %+v; %+v", got, c.want, certs)
				}
				if st.Gaps != int64(gaps) {
					t.Errorf("%d gaps are counted, %d certified: %+v", st.Gaps, gaps, certs)
				}
				if done := st.Verified + st.Unverified + st.Incomplete + st.Closed; st.Runs != st.Live+done {
					t.Errorf("%d runs, %d live, %d done", st.Runs, st.Live, done)
				}
			})
		})
	}
}

// always is a fault of every request.
func always(err error) func(int, *corev1.PodLogOptions) *fault {
	return func(int, *corev1.PodLogOptions) *fault { return &fault{err: err} }
}

func TestAServiceThatGoesOnWhenItsCaptureIsClosedIsNotIncomplete(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "one")
		b.c.Close()
		certs, err := b.c.Drain(b.ctx, nil)
		want := []Certificate{{Slot: "a", ContainerID: "a1", Proof: Unverified, Why: whyLeft, Lines: 1, Bytes: 4}}
		if d := cmp.Diff(want, certs); d != "" || !errors.Is(err, ErrClosed) {
			t.Errorf("%v; certificates (-want +got):\n%s", err, d)
		}
	})
	// Of one that nobody could read, what was printed until then is lost.
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.fault = always(statusError(403, "no"))
		b.begin("a", "a1", "one")
		b.c.Close()
		if certs, _ := b.c.Drain(b.ctx, nil); certs[0].Proof != Incomplete || b.s.Stats().Closed != 1 {
			t.Errorf("certificates %+v", certs)
		}
	})
}

// A Notify that is slow sees no notice before an earlier one, holds up no capture, and may
// use the Streamer.
func TestASlowNotifyIsToldInOrderOneAtATimeAndHoldsNothingUp(t *testing.T) {
	var s *Streamer
	var got []Notice
	calls := 0
	slow := func(n Notice) {
		if calls++; calls > 1 {
			t.Error("two at a time")
		}
		time.Sleep(time.Minute)
		_ = s.Stats()
		got = append(got, n)
		calls--
	}
	inBubble(t, Options{Notify: slow}, nil, func(b *bench) {
		s = b.s
		b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
			if n%2 == 1 {
				return &fault{err: refused()}
			}
			return &fault{cut: 50}
		}
		start := time.Now()
		b.begin("a", "a1", "one", "two")
		for range 5 {
			b.n.print("a", "more")
			time.Sleep(10 * time.Second)
		}
		b.n.change(func() { b.n.fault = nil })
		end(b)
		if cert := b.drain()[0]; cert.Proof != Verified || time.Since(start) > 5*time.Minute {
			t.Errorf("certificate %+v after %s", cert, time.Since(start))
		}
		b.stop() // after all was told
		told := len(got)
		time.Sleep(time.Hour)
		if told < 4 || len(got) != told {
			t.Errorf("%d told, %d after Run's return", told, len(got)-told)
		}
		for i, n := range got {
			if want := []NoticeKind{NoticeFailed, NoticeResumed}[i%2]; n.Kind != want {
				t.Errorf("notice %d is %v", i, n)
			}
		}
	})
}

// However long a Notify blocks, what waits for it is bounded by what is open, and every
// trouble that it is told of ends.
func TestANotifyThatBlocksCostsNoMoreThanWhatIsOpen(t *testing.T) {
	var got []Notice
	q := newNotices(func(n Notice) { got = append(got, n) })
	rng := rand.New(rand.NewPCG(1, 2))
	open := map[string]bool{}
	for range 200_000 {
		n := Notice{Kind: NoticeFailed, Slot: "a", ContainerID: fmt.Sprint(rng.IntN(100))}
		if open[n.ContainerID] {
			n.Kind = NoticeResumed
		}
		open[n.ContainerID] = !open[n.ContainerID]
		q.say(n)
		if rng.IntN(10) == 0 { // a stream broke off and was opened again
			q.say(Notice{Kind: NoticeResumed, Slot: "a", ContainerID: n.ContainerID})
			open[n.ContainerID] = false
		}
	}
	if len(q.queue) > manyNotices+2*100 {
		t.Errorf("%d notices wait", len(q.queue))
	}
	done := make(chan struct{})
	close(done)
	q.deliver(done)
	is := map[string]bool{}
	for _, n := range got {
		if n.Kind == NoticeFailed && is[n.ContainerID] {
			t.Errorf("%s fails twice", n.ContainerID)
		}
		is[n.ContainerID] = n.Kind == NoticeFailed
	}
	for id, want := range open {
		if is[id] != want {
			t.Errorf("run %s is told to fail: %v, want %v", id, is[id], want)
		}
	}
}

// A run is told to lose output to the budget, and once more when the disk is to blame.
func TestTheGraverReasonForALossIsToldHoweverManyNoticesWait(t *testing.T) {
	var last error
	q := newNotices(func(n Notice) { last = n.Err })
	for i := range manyNotices {
		q.say(Notice{Kind: NoticeFailed, Slot: "a", ContainerID: fmt.Sprint(i)})
	}
	for _, id := range []string{"0", "last"} { // in the midst of them, and behind them
		q.say(Notice{Kind: NoticeDropped, Slot: "a", ContainerID: id, Err: errBudget})
		q.say(Notice{Kind: NoticeDropped, Slot: "a", ContainerID: id, Err: syscall.EIO})
	}
	done := make(chan struct{})
	close(done)
	q.deliver(done)
	if !errors.Is(last, syscall.EIO) {
		t.Errorf("the last notice says %v", last)
	}
}

func TestANoticeReadsAsALineOfALog(t *testing.T) {
	run := Notice{Namespace: "n", Name: "p", Slot: "a", ContainerID: "containerd://1", Run: 2}
	of := func(k NoticeKind, err error) Notice { n := run; n.Kind, n.Err = k, err; return n }
	for want, n := range map[string]Notice{
		`pod n/p, container "a", run 2: the log cannot be read, trying again: no`:           of(NoticeFailed, errors.New("no")),
		`pod n/p, container "a", run 2: the log is read again`:                              of(NoticeResumed, nil),
		`the disk for captured output does not work, trying again: no space left on device`: {Kind: NoticeDiskFailed, Err: syscall.ENOSPC},
		`the disk for captured output works again`:                                          {Kind: NoticeDiskResumed},
	} {
		if got := n.String(); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	for k := range noticeText {
		if opening, ok := opens[k]; ok && noticeText[opening] == "" {
			t.Errorf("%s closes what is not said", k)
		}
	}
}

func TestRunsAreNumberedAsTheirRestartCountsAre(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.run("a", "a0", "first")
		time.Sleep(10 * time.Second)
		b.n.start("a", "a1") // seen for the first time when it is the last one
		b.n.print("a", "second")
		b.n.exit("a")
		b.p.running("a", "a1")
		b.p.ended("a", "a1")
		b.n.start("a", "a2")
		b.n.print("a", "third")
		b.c.Handle(b.p.running("a", "a2"))
		time.Sleep(10 * time.Second)
		b.n.exit("a")
		b.p.status("a").LastTerminationState.Terminated = terminated("a2")
		b.p.status("a").State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
		b.c.Handle(b.p.event("MODIFIED"))
		for i, c := range b.drain() {
			if c.Run != i || c.Proof != Verified {
				t.Errorf("certificate %d: %+v", i, c)
			}
		}
		next := 0
		for l, err := range b.c.Reader(b.ctx, "a", ReadOptions{Snapshot: true}).Lines() {
			if l.Run != next || err != nil {
				t.Errorf("line %q is of run %d, want %d (%v)", l.Text, l.Run, next, err)
			}
			next++
		}
		if next != 3 {
			t.Errorf("%d lines", next)
		}
	})
}

// A capture that begins while a container waits to be started again.
func TestTheRunOfAContainerThatWaitsHasTheNumberOfItsRestarts(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.n.start("a", "a4")
		b.n.exit("a")
		st := b.p.status("a")
		st.RestartCount, st.LastTerminationState.Terminated = 4, terminated("a4")
		b.c.Handle(b.p.event("MODIFIED"))
		if certs := b.drain(); len(certs) != 1 || certs[0].Run != 4 {
			t.Errorf("certificates %+v", certs)
		}
	})
}
