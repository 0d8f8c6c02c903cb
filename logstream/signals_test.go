package logstream

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/google/go-cmp/cmp"
)

// The kubelet's server ends every connection after four hours: cleanly, to a client
// (kubernetes v1.36.3 pkg/kubelet/server/server.go:197).
func TestEveryStreamIsCutAfterFourHoursAndGoesOn(t *testing.T) {
	for name, every := range map[string]time.Duration{"chatty": 5 * time.Minute, "quiet": 5 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.n.most = 4 * time.Hour
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				// The two halves of a line have one time: a look at the last record sees no newer one.
				b.n.cur["a"].stamp = func(now time.Time, i int) time.Time { return inOrder(now, i/2) }
				want := ""
				for began := time.Now(); time.Since(began) < 21*time.Hour; {
					b.n.raw("a", "a line in ")
					synctest.Wait()
					b.n.more("a", "two\n")
					want += "a line in two\n"
					time.Sleep(every)
				}
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				if c := b.drain()[0]; c.Proof != Verified {
					t.Errorf("certificate %+v", c)
				}
				b.wantText("a", want)
				if follows, _ := b.n.requests(); follows < 6 || follows > 8 {
					t.Errorf("%d streams", follows)
				}
			})
		})
	}
}

// A filter by time hides what a clock that was set back stamps.
func TestAfterAClockWasSetBackNothingIsAskedForByTime(t *testing.T) {
	for name, back := range map[string]time.Duration{"two seconds": 2 * time.Second, "not at all": 0} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.s.filterFrom = 0
				cut := false
				b.n.fault = func(int, *corev1.PodLogOptions) *fault {
					if cut {
						cut = false
						return &fault{err: refused()}
					}
					return nil
				}
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				line := func(n int) {
					for i := range n {
						b.n.print("a", fmt.Sprint(i))
						time.Sleep(700 * time.Millisecond)
					}
				}
				line(20)
				b.n.change(func() {
					b.n.cur["a"].stamp = func(now time.Time, i int) time.Time { return now.Add(time.Duration(i) - back) }
				})
				line(20)
				b.c.order[0].kickStream()
				line(20)
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				if c := b.drain()[0]; c.Proof != Verified || c.Lines != 60 {
					t.Errorf("certificate %+v", c)
				}
				byTime := false
				for _, o := range b.n.log {
					byTime = byTime || o.SinceTime != nil
				}
				if byTime != (back == 0) {
					t.Errorf("asked by time: %v", byTime)
				}
			})
		})
	}
}

// A pod that is deleted may run on for its grace period, or longer: its stream ends by
// itself, and is not opened again.
func TestTheStreamOfAPodThatIsGoneIsKeptToItsEnd(t *testing.T) {
	for name, gone := range map[string]func(b *bench){
		"deleted": func(b *bench) { b.c.Handle(b.p.event(watch.Deleted)) },
		"replaced": func(b *bench) {
			next := newPod(corev1.RestartPolicyNever, "a")
			next.rv, next.pod.UID = b.p.rv, "another"
			b.c.Handle(next.event(watch.Modified))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", "one")
				time.Sleep(time.Minute)
				gone(b)
				for range 10 {
					time.Sleep(20 * time.Second)
					b.n.print("a", "more")
				}
				b.n.exit("a")
				time.Sleep(time.Second)
				certs, err := b.c.Drain(b.ctx, nil)
				if err != nil || certs[0].Proof != Unverified || certs[0].Lines != 11 {
					t.Errorf("certificates %+v, %v", certs, err)
				}
				if follows, reads := b.n.requests(); follows != 1 || reads > 3 { // probes
					t.Errorf("%d streams, %d reads", follows, reads)
				}
			})
		})
	}
}

// A kubelet that was restarted does not know its pods for a while.
func TestAKubeletThatSynchronisesIsWaitedForAMinute(t *testing.T) {
	for name, c := range map[string]struct {
		takes time.Duration
		want  Proof
	}{"50 s": {50 * time.Second, Verified}, "80 s": {80 * time.Second, Incomplete}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.begin("a", "a1", "one")
				b.n.exit("a")
				synctest.Wait()
				back := time.Now().Add(c.takes)
				b.n.change(func() {
					b.n.fault = func(int, *corev1.PodLogOptions) *fault {
						if time.Now().Before(back) {
							return &fault{err: notFound("pods/log", "p")}
						}
						return nil
					}
				})
				b.c.Handle(b.p.ended("a", "a1"))
				if cert := b.drain()[0]; cert.Proof != c.want || cert.Lines != 1 {
					t.Errorf("certificate %+v", cert)
				}
			})
		})
	}
}

// The node had to remove the run before, or its runtime does not answer at the moment:
// HTTP 200, and the kubelet's words.
func TestThePreviousRunsLogThatIsGoneIsAGap(t *testing.T) {
	for name, c := range map[string]struct {
		answers int
		want    Proof
	}{"for good": {1000, Incomplete}, "for a while": {3, Verified}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
					if c.answers--; o.Previous && c.answers >= 0 {
						return &fault{words: "unable to retrieve container logs for containerd://a1"}
					}
					return nil
				}
				b.begin("a", "a1", "of the first")
				b.n.start("a", "a2")
				b.c.Handle(b.p.running("a", "a2"))
				b.n.print("a", "of the second")
				certs := b.drain()
				if certs[0].Proof != c.want || certs[0].Lines != 1 || len(certs[0].Gaps) != map[Proof]int{Incomplete: 1}[c.want] {
					t.Errorf("certificate %+v", certs[0])
				}
			})
		})
	}
}

func TestRunsThatNobodySawAreCountedWhereTheyWere(t *testing.T) {
	state := func(restarts int32, cur, last string) corev1.ContainerStatus {
		st := corev1.ContainerStatus{Name: "a", RestartCount: restarts, ContainerID: cur}
		st.State.Running = &corev1.ContainerStateRunning{}
		if cur == "" {
			st.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
			st.ContainerID = last
		}
		if last != "" {
			st.LastTerminationState.Terminated = terminated(last)
		}
		return st
	}
	for name, c := range map[string]struct {
		seen []corev1.ContainerStatus
		want map[string]int32
	}{
		"none":                       {[]corev1.ContainerStatus{state(0, "a1", ""), state(1, "a2", "a1")}, map[string]int32{"a1": 0, "a2": 0}},
		"before the first":           {[]corev1.ContainerStatus{state(5, "a6", "a5")}, map[string]int32{"a5": 0, "a6": 0}},
		"all between":                {[]corev1.ContainerStatus{state(0, "a1", ""), state(3, "a4", "a3")}, map[string]int32{"a1": 0, "a3": 1, "a4": 0}},
		"none but the last":          {[]corev1.ContainerStatus{state(0, "a1", ""), state(2, "a3", "a2")}, map[string]int32{"a1": 0, "a2": 0, "a3": 0}},
		"the last is not known":      {[]corev1.ContainerStatus{state(0, "a1", ""), state(2, "a3", "")}, map[string]int32{"a1": 0, "a3": 1}},
		"while it waits":             {[]corev1.ContainerStatus{state(0, "a1", ""), state(2, "", "a3")}, map[string]int32{"a1": 0, "a3": 1}},
		"while it waits, none":       {[]corev1.ContainerStatus{state(0, "a1", ""), state(1, "", "a2")}, map[string]int32{"a1": 0, "a2": 0}},
		"it waits and then runs":     {[]corev1.ContainerStatus{state(0, "a1", ""), state(0, "", "a1"), state(2, "a3", "a2")}, map[string]int32{"a1": 0, "a2": 0, "a3": 0}},
		"while it waits to begin":    {[]corev1.ContainerStatus{state(0, "", ""), state(0, "a1", "")}, map[string]int32{"a1": 0}},
		"the first, and the last":    {[]corev1.ContainerStatus{state(0, "", ""), state(1, "a2", "a1")}, map[string]int32{"a1": 0, "a2": 0}},
		"the first":                  {[]corev1.ContainerStatus{state(0, "", ""), state(2, "a3", "a2")}, map[string]int32{"a2": 1, "a3": 0}},
		"since there was no status":  {[]corev1.ContainerStatus{{}, state(2, "a3", "a2")}, map[string]int32{"a2": 1, "a3": 0}},
		"a placeholder and no more":  {[]corev1.ContainerStatus{state(0, "", ""), state(1, "a2", "pause")}, map[string]int32{"a2": 0}},
		"it waits twice, seven more": {[]corev1.ContainerStatus{state(0, "", "a1"), state(8, "", "a9")}, map[string]int32{"a1": 0, "a9": 7}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, &script{placeholders: map[string]bool{"pause": true}}, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				for _, st := range c.seen {
					b.p.pod.Status.ContainerStatuses = []corev1.ContainerStatus{st}
					if st.Name == "" {
						b.p.pod.Status.ContainerStatuses = nil
					}
					b.c.Handle(b.p.event(watch.Modified))
				}
				got := map[string]int32{}
				for _, r := range b.c.order {
					got[r.id] = r.missed
				}
				if d := cmp.Diff(c.want, got); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
			})
		})
	}
}

// While a container waits to be started again, the kubelet answers with its last run's log.
func TestARunThatWaitsToBeStartedAgainIsReadOnce(t *testing.T) {
	for name, seen := range map[string]bool{"after it was seen to run": true, "of which nothing was seen": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				b.n.start("a", "a1")
				running := b.p.running("a", "a1")
				if seen {
					b.c.Handle(running)
				}
				b.n.print("a", "one")
				synctest.Wait()
				b.n.exit("a")
				synctest.Wait()
				time.Sleep(time.Second)
				st := b.p.status("a")
				st.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
				st.LastTerminationState.Terminated = terminated("a1")
				b.c.Handle(b.p.event(watch.Modified))
				time.Sleep(5 * time.Minute)
				if c := b.drain()[0]; c.Proof != Verified || c.Lines != 1 {
					t.Errorf("certificate %+v", c)
				}
				if f, r := b.n.requests(); f+r != 2 {
					t.Errorf("%d follows, %d reads; want two in all", f, r)
				}
			})
		})
	}
}

// Nobody tells of a pod that left the scope of its watch, which may run for long.
func TestARunOutOfScopeGoesOnUntilItsStreamsEndAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		deaf  bool
		pause time.Duration
		last  *fault
	}{
		"streamed":               {pause: time.Hour},
		"polled, pod deleted":    {deaf: true, pause: 2 * time.Minute, last: &fault{err: notFound("pods", "p")}},
		"polled, container gone": {deaf: true, pause: 2 * time.Minute, last: &fault{words: "unable to retrieve container logs for a1"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.n.deaf, b.n.most = c.deaf, 4*c.pause
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", "one")
				time.Sleep(5 * c.pause) // a stream was cut
				b.c.handleEnd(lifeBlind)
				time.Sleep(13 * c.pause) // and some more, with nothing new
				cut := true
				b.n.change(func() {
					b.n.fault = func(int, *corev1.PodLogOptions) *fault {
						if cut { // a kubelet that is restarted
							cut = false
							return &fault{cut: len(b.n.cur["a"].rendered())}
						}
						return nil
					}
				})
				b.c.order[0].kickStream()
				want := "one\n"
				for i := range 10 {
					time.Sleep(c.pause)
					b.n.print("a", fmt.Sprint(i))
					want += fmt.Sprintln(i)
					time.Sleep(10 * time.Second)
					if text, err := b.readAll("a", ReadOptions{Snapshot: true}); text != want || err != nil {
						t.Errorf("after %d lines: %q, %v", i, text, err)
					}
				}
				b.n.exit("a")
				time.Sleep(time.Minute)
				certs, _ := b.c.Drain(b.ctx, nil)
				// What is polled ends with its pod: nothing else tells.
				if w := map[bool]Proof{false: Unverified, true: Live}[c.deaf]; certs[0].Proof != w {
					t.Errorf("certificate %+v, want %s", certs[0], w)
				}
				b.n.change(func() { b.n.fault = func(int, *corev1.PodLogOptions) *fault { return c.last } })
				time.Sleep(time.Minute)
				if certs, _ = b.c.Drain(b.ctx, nil); certs[0].Proof == Live {
					t.Errorf("certificate %+v of a pod that is gone", certs[0])
				}
				if text, _ := b.readAll("a", ReadOptions{Snapshot: true}); text != want {
					t.Errorf("read %q", text)
				}
			})
		})
	}
}

// A stream that was silent while its container ran has its time to end, too.
func TestASilentStreamIsNotCutByItsContainersEnd(t *testing.T) {
	inBubble(t, Options{IdleProbe: -1}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", "one")
		time.Sleep(time.Minute)
		b.c.Handle(b.p.ended("a", "a1")) // a second before the kubelet notices
		time.Sleep(time.Second)
		b.n.print("a", "two")
		b.n.exit("a")
		if c := b.drain()[0]; c.Proof != Verified || c.Lines != 2 {
			t.Errorf("certificate %+v", c)
		}
		if f, r := b.n.requests(); f != 1 || r != 1 {
			t.Errorf("%d follows, %d reads; want 1 and 1", f, r)
		}
	})
}
