package logstream

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
)

// What a host hears of requests that fail, and of streams that break off.
func TestWhatTroublesARunIsSaidOnce(t *testing.T) {
	failed := func(err error) Notice { return Notice{Kind: NoticeFailed, Err: err} }
	resumed, polling := Notice{Kind: NoticeResumed}, Notice{Kind: NoticePolling}
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
		}, []Notice{polling}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var got []Notice // one run, one goroutine
			inBubble(t, Options{Notify: func(n Notice) { got = append(got, n) }}, nil, func(b *bench) {
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
