package logstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// state gives a slot's status a state without an ID, as kwok and other virtual kubelets do.
func (s *podScript) state(slot string, restarts int32, st corev1.ContainerState) watch.Event {
	cs := s.status(slot)
	cs.ContainerID, cs.RestartCount, cs.State = "", restarts, st
	return s.event(watch.Modified)
}

var (
	runsNow  = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	exited   = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	inferred = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		Reason: "Completed", Message: "Unable to get init container status from container runtime and pod has been initialized, treat it as exited normally",
	}}
	notFoundByNode = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: -137, Reason: "NotFound"}}
	neverStarted   = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ExitCode: 137, Reason: "ContainerStatusUnknown", Message: "The container could not be located when the pod was terminated",
	}}
)

func TestARunThatTheNodeGaveNoIDHasACertificateAndNoSilentLog(t *testing.T) {
	for name, c := range map[string]struct {
		play func(b *bench)
		runs []int // of the certificates
	}{
		"ended":                           {func(b *bench) { b.c.Handle(b.p.state("a", 0, exited)) }, []int{0}},
		"only Drain knows":                {func(b *bench) { b.p.state("a", 0, exited) }, []int{0}},
		"an init container's lost status": {func(b *bench) { b.c.Handle(b.p.state("a", 0, inferred)) }, []int{0}},
		"lost by a virtual kubelet":       {func(b *bench) { b.c.Handle(b.p.state("a", 0, notFoundByNode)) }, []int{0}},
		"seen to run, then ended": {func(b *bench) {
			b.c.Handle(b.p.state("a", 0, runsNow))
			time.Sleep(time.Minute)
			b.c.Handle(b.p.state("a", 0, exited))
			b.c.Handle(b.p.event(watch.Modified))
		}, []int{0}},
		"seen to run, then lost": {func(b *bench) { b.c.Handle(b.p.state("a", 0, runsNow)); b.c.Handle(b.p.state("a", 0, neverStarted)) }, []int{0}},
		"seen to run, then the pod failed": {func(b *bench) {
			b.c.Handle(b.p.state("a", 0, runsNow))
			b.p.pod.Status.Phase = corev1.PodFailed
			b.c.Handle(b.p.event(watch.Modified))
		}, []int{0}},
		"seen to run, then the pod deleted": {func(b *bench) { b.c.Handle(b.p.state("a", 0, runsNow)); b.c.Handle(b.p.event(watch.Deleted)) }, []int{0}},
		"seen to run, then the watch ended": {func(b *bench) { b.c.Handle(b.p.state("a", 0, runsNow)); b.c.Handle(closedEvent()) }, []int{0}},
		"seen to run, then to restart": {func(b *bench) {
			b.p.pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
			b.c.Handle(b.p.state("a", 0, runsNow))
			b.c.Handle(b.p.state("a", 1, runsNow))
			b.p.pod.Spec.RestartPolicy = corev1.RestartPolicyNever
			b.c.Handle(b.p.state("a", 1, exited))
		}, []int{0, 1}},
		"the pod succeeded, and no status says more": {func(b *bench) {
			b.p.pod.Status.ContainerStatuses = b.p.pod.Status.ContainerStatuses[1:]
			b.p.pod.Status.Phase = corev1.PodSucceeded
			b.c.Handle(b.p.event(watch.Modified))
		}, []int{0}},
		"with another container beside it": {func(b *bench) {
			b.c.Handle(b.p.state("a", 0, exited))
			b.run("b", "b1", "one")
		}, []int{0}},
	} {
		for how, runs := range map[string]Runs{"alone": nil, "with a Runs": noRuns{}} {
			t.Run(name+", "+how, func(t *testing.T) {
				inBubble(t, Options{}, runs, func(b *bench) {
					before := make(chan reading, 1)
					early := b.c.Reader(b.ctx, "a", ReadOptions{Gap: func(g Gap) string { return "<" + g.Why + ">" }})
					c.play(b)
					certs := b.drain()
					var got []int
					for _, cert := range certs {
						if cert.Slot != "a" {
							if cert.Proof != Verified {
								t.Errorf("beside it %+v", cert)
							}
							continue
						}
						got = append(got, cert.Run)
						if cert.ContainerID != "" || cert.Proof != Incomplete || cert.Why != whyNameless || len(cert.Gaps) != 1 || cert.Gaps[0].Certain {
							t.Errorf("certificate %+v", cert)
						}
					}
					if d := cmp.Diff(c.runs, got); d != "" {
						t.Errorf("runs (-want +got):\n%s", d)
					}
					if st := b.s.Stats(); st.Incomplete != int64(len(c.runs)) || st.Gaps != int64(len(c.runs)) || st.Live != 0 {
						t.Errorf("%+v", st)
					}
					for _, o := range b.n.log {
						if o.Container == "a" {
							t.Errorf("the log is asked for: %+v", o)
						}
					}
					want := strings.Repeat("<"+whyNameless+">\n", len(c.runs))
					go func() { before <- readBytes(early) }()
					for how, got := range map[string]reading{
						"before":          <-before,
						"after, by lines": readLines(b.c.Reader(b.ctx, "a", ReadOptions{Gap: func(g Gap) string { return "<" + g.Why + ">" }})),
						"a snapshot":      readBytes(b.c.Reader(b.ctx, "a", ReadOptions{Snapshot: true, Gap: func(g Gap) string { return "<" + g.Why + ">" }})),
					} {
						if got != (reading{want, "EOF"}) {
							t.Errorf("%s: %+v", how, got)
						}
					}
					text, err := b.readAll("a", ReadOptions{})
					var inc *IncompleteError
					if text != "" || !errors.As(err, &inc) || inc.Why != whyNameless {
						t.Errorf("read %q, %v", text, err)
					}
					if text, err := b.readAll("a", ReadOptions{FromEnd: true}); text != "" || err != nil {
						t.Errorf("read from the end %q, %v", text, err)
					}
				})
			})
		}
	}
}

// noRuns is a Runs of a slot of which no run is known, nor will be.
type noRuns struct{}

func (noRuns) IsPlaceholder(string, string) bool { return false }

func (noRuns) NextRun(ctx context.Context, _, after string) (string, error) { return "", io.EOF }

// Of runs of which no status told at all, the next one's Gap says how many there were.
func TestRunsWithoutAnIDThatNobodySawAreCounted(t *testing.T) {
	type want struct {
		run  int
		gaps []string
	}
	earlier := func(n int) string {
		return fmt.Sprintf("%d earlier runs of container \"a\" ended before they were seen", n)
	}
	for name, c := range map[string]struct {
		play func(b *bench)
		want []want
	}{
		"between two that ended": {
			func(b *bench) { b.c.Handle(b.p.state("a", 0, exited)); b.c.Handle(b.p.state("a", 3, exited)) },
			[]want{{0, []string{whyNameless}}, {3, []string{earlier(2), whyNameless}}},
		},
		"between two that were seen to run": {
			func(b *bench) {
				b.c.Handle(b.p.state("a", 0, runsNow))
				b.c.Handle(b.p.state("a", 2, runsNow))
				b.c.Handle(b.p.state("a", 3, exited))
			},
			[]want{{0, []string{whyNameless}}, {2, []string{earlier(1), whyNameless}}, {3, []string{whyNameless}}},
		},
		"before the pod was first seen": {
			func(b *bench) { b.c.Handle(b.p.state("a", 3, exited)) },
			[]want{{3, []string{whyNameless}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p.pod.Spec.RestartPolicy = corev1.RestartPolicyAlways
				c.play(b)
				var got []want
				for _, cert := range b.drain() {
					w := want{run: cert.Run}
					for _, g := range cert.Gaps {
						w.gaps = append(w.gaps, g.Why)
					}
					got = append(got, w)
				}
				if d := cmp.Diff(c.want, got, cmp.AllowUnexported(want{})); d != "" {
					t.Errorf("certificates (-want +got):\n%s", d)
				}
			})
		})
	}
}

// A reader of a container that runs misses something when the capture is closed, whether
// the tracking ends before, at the same time or later.
func TestCloseWhileARunWithoutAnIDGoesOnIsNotTheEndOfItsLog(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		ends := map[string]chan reading{}
		for _, slot := range []string{"a", "b"} {
			r, end := b.c.Reader(b.ctx, slot, ReadOptions{}), make(chan reading, 1)
			ends[slot] = end
			go func() { end <- readBytes(r) }()
		}
		b.c.Handle(b.p.state("a", 0, runsNow))
		synctest.Wait()
		go b.c.Handle(closedEvent())
		_ = b.c.Close()
		b.c.Handle(closedEvent())
		if got := (<-ends["a"]).end; got != "closed" && got != "incomplete" {
			t.Errorf("the reader of a, which ran, ends in %s", got)
		}
		if got := (<-ends["b"]).end; got != "EOF" {
			t.Errorf("the reader of b, which never ran, ends in %s", got)
		}
		if got := readBytes(b.c.Reader(b.ctx, "a", ReadOptions{})).end; got != "closed" {
			t.Errorf("a later reader of a ends in %s", got)
		}
	})
}

// What is heard after Close makes no run.
func TestAClosedCaptureFindsNoRuns(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.c.Handle(b.p.state("a", 0, runsNow))
		_ = b.c.Close()
		b.c.Handle(closedEvent())
		b.c.Handle(b.p.event(watch.Deleted))
		certs, err := b.c.Drain(b.ctx, nil)
		if st := b.s.Stats(); len(certs) != 0 || !errors.Is(err, ErrClosed) || st.Runs != 0 {
			t.Errorf("%v, %v, %+v", certs, err, st)
		}
	})
}

// No certificate for what never ran, none twice for what has an ID after all.
func TestAContainerThatNeverRanOrGetsItsIDLaterHasNoCertificateWithoutOne(t *testing.T) {
	for name, c := range map[string]struct {
		play func(b *bench)
		want []Certificate
	}{
		"never ran":           {func(b *bench) { b.c.Handle(b.p.event(watch.Modified)) }, []Certificate{}},
		"ended before it ran": {func(b *bench) { b.p.pod.Status.Phase = corev1.PodFailed; b.c.Handle(b.p.state("a", 0, neverStarted)) }, []Certificate{}},
		"failed, and no status says more": {func(b *bench) {
			b.p.pod.Status.ContainerStatuses = nil
			b.p.pod.Status.Phase = corev1.PodFailed
			b.c.Handle(b.p.event(watch.Modified))
		}, []Certificate{}},
		"deleted before it ran":        {func(b *bench) { b.c.Handle(b.p.event(watch.Modified)); b.c.Handle(b.p.event(watch.Deleted)) }, []Certificate{}},
		"runs, and no ID is known yet": {func(b *bench) { b.c.Handle(b.p.state("a", 0, runsNow)) }, []Certificate{}},
		"its ID comes when it runs": {func(b *bench) {
			b.c.Handle(b.p.state("a", 0, runsNow))
			b.run("a", "a1", "one")
		}, []Certificate{{Slot: "a", ContainerID: "a1", Proof: Verified, Lines: 1, Bytes: 4}}},
		"its ID comes when it has ended": {func(b *bench) {
			b.c.Handle(b.p.state("a", 0, runsNow))
			b.n.start("a", "a1")
			b.n.print("a", "one")
			b.n.exit("a")
			b.c.Handle(b.p.ended("a", "a1"))
		}, []Certificate{{Slot: "a", ContainerID: "a1", Proof: Verified, Lines: 1, Bytes: 4}}},
		"its ID goes when it has ended": {func(b *bench) {
			b.begin("a", "a1", "one")
			b.n.exit("a")
			b.c.Handle(b.p.ended("a", "a1"))
			b.drain()
			b.c.Handle(b.p.state("a", 0, exited))
		}, []Certificate{{Slot: "a", ContainerID: "a1", Proof: Verified, Lines: 1, Bytes: 4}}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				c.play(b)
				synctest.Wait()
				if d := cmp.Diff(c.want, b.drain()); d != "" {
					t.Errorf("certificates (-want +got):\n%s", d)
				}
			})
		})
	}
}
