package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream"
)

// Containers that live some milliseconds; their pods are deleted as soon as Drain
// says that they can be.
func TestLogsOfContainersGoneInMillisecondsAreWhole(t *testing.T) {
	l := newLab(t, sharedSite(t), logstream.Options{})
	const pods, slots = 10, 20
	var all []*printing
	for range pods {
		var truths []truth
		for i := range slots {
			truths = append(truths, truth{slot: fmt.Sprintf("c%d", i), lines: 1 + i%5})
		}
		all = append(all, l.print(t, "short", corev1.RestartPolicyNever, truths...))
	}
	var sum tally
	var recorded []time.Duration
	for i, p := range all {
		certificates := p.drain(t, hasEnded)
		recorded = append(recorded, p.recorded(t, certificates)...)
		var plains map[string][]byte
		if i == 0 { // The others are not even looked at.
			plains = p.plains(t)
		}
		p.delete(t)
		p.check(t, &sum, certificates, plains)
	}
	l.report(t, "containers gone in milliseconds", sum)
	t.Logf("containerd's record of their lives: %s", spread(recorded))
	sum.wantAll(t, pods*slots)
	slices.Sort(sum.lives)
	if n := len(sum.lives); n > 0 && sum.lives[n/2] > 50*time.Millisecond {
		t.Errorf("half of the containers lived for more than 50 ms: %s", spread(sum.lives))
	}
}

// recorded is how long the runs lived, as their runtime says.
func (p *printing) recorded(t *testing.T, certificates []logstream.Certificate) (lives []time.Duration) {
	t.Helper()
	for i := range certificates {
		if p.lab.cluster == nil {
			return nil
		}
		life, err := p.lab.cluster.Lived(certificates[i].ContainerID)
		if err != nil {
			t.Error(err)
		}
		lives = append(lives, life)
	}
	return lives
}

// The runs of a crash loop print the same lines: only their times tell them apart.
func TestLogsOfACrashLoopAreThoseOfAllItsRuns(t *testing.T) {
	l := newLab(t, sharedSite(t), logstream.Options{})
	restarts := int32(2) // The kubelet waits 10 s before the second, then 20, 40.
	if *fullSize {
		restarts = 4
	}
	const pods, slots = 3, 2
	var all []*printing
	for range pods {
		p := l.print(t, "crash", corev1.RestartPolicyAlways,
			truth{slot: "few", lines: 1, code: 1}, truth{slot: "many", lines: 2000, code: 1})
		p.keepFiles(t)
		all = append(all, p)
	}
	var sum tally
	for _, p := range all {
		certificates := p.drain(t, restarted(restarts))
		plains := p.plains(t)
		p.delete(t)
		p.check(t, &sum, certificates, plains)
	}
	l.report(t, "crash loops", sum)
	if n := sum.runs() + sum.brief; n < pods*slots*int(restarts+1) { // One container may be ahead of the other.
		t.Errorf("%d runs were captured, want %d at least", n, pods*slots*int(restarts+1))
	}
	if sum.brief > pods*slots { // The first restart comes at once, the others do not.
		t.Errorf("%d runs could not be read in time", sum.brief)
	}
	sum.wantAll(t, sum.runs())
}

// The kubelet is further then than the newest status: the follow of a run may be
// answered with the log of the next one.
func TestNoRunOfACrashLoopIsVerifiedWithTheLogOfAnother(t *testing.T) {
	l := newLab(t, sharedSite(t), logstream.Options{})
	lates := []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 2 * time.Second, 5 * time.Second}
	var all []*printing
	for _, l.late = range lates {
		p := l.print(t, "late", corev1.RestartPolicyAlways,
			truth{slot: "few", lines: 1, code: 1}, truth{slot: "many", lines: 2000, code: 1}, truth{slot: "slow", lasts: 700 * time.Millisecond, batch: 1, pause: 100 * time.Millisecond, code: 1})
		p.keepFiles(t)
		all = append(all, p)
	}
	verified := 0
	for i, p := range all {
		proofs, astray := map[logstream.Proof]int{}, 0
		certificates := p.drain(t, restarted(1))
		p.delete(t)
		runs := map[string]*account{}
		for _, live := range p.live {
			select {
			case got := <-live:
				for _, a := range got.runs {
					runs[a.id] = a
				}
			case <-time.After(time.Minute):
				t.Fatal("a reader does not end")
			}
		}
		for _, c := range certificates {
			proofs[c.Proof]++
			n, a := p.onNode(t, truth{slot: c.Slot}, c.ContainerID), runs[c.ContainerID]
			switch {
			case n == nil || a == nil:
			case !a.begin.Equal(n.begin):
				if astray++; c.Proof == logstream.Verified {
					t.Errorf("run %d of %s is Verified with what was printed from %s on, its own log begins at %s", c.Run, c.Slot, stamp(a.begin), stamp(n.begin))
				}
			case c.Proof == logstream.Verified && c.Bytes != n.bytes:
				t.Errorf("run %d of %s is Verified with %d bytes of %d", c.Run, c.Slot, c.Bytes, n.bytes)
			}
		}
		t.Logf("statuses late by %s: %v, %d begin with the log of another run", lates[i], proofs, astray)
		verified += proofs[logstream.Verified]
	}
	if verified == 0 {
		t.Error("no run is Verified")
	}
}

// restarted says whether all containers of a pod wait for a restart after so many.
func restarted(times int32) func(*corev1.Pod) bool {
	return func(pod *corev1.Pod) bool {
		for i := range pod.Status.ContainerStatuses {
			s := &pod.Status.ContainerStatuses[i]
			if s.RestartCount < times || s.State.Waiting == nil {
				return false
			}
		}
		return len(pod.Status.ContainerStatuses) == len(pod.Spec.Containers)
	}
}

// A pod that others delete by force while it prints: what streams is kept, and
// nothing claims to be whole.
func TestLogsOfAPodDeletedByForceSayWhatTheyMiss(t *testing.T) {
	l := newLab(t, sharedSite(t), logstream.Options{})
	const pods = 4
	var all []*printing
	for range pods {
		all = append(all, l.print(t, "force", corev1.RestartPolicyNever,
			truth{slot: "a", batch: 50, pause: 100 * time.Millisecond, gate: true},
			truth{slot: "b", batch: 50, pause: 100 * time.Millisecond, gate: true}))
	}
	var sum tally
	for _, p := range all {
		p.await(t, allRun)
		after(t, time.Second)
		p.sweep(t)
		p.delete(t)
		p.awaitGone(t)
		p.check(t, &sum, p.drain(t, anything), nil)
	}
	l.report(t, "pods deleted by force", sum)
	if n := sum.proofs[logstream.Verified]; n > 0 {
		t.Errorf("%d runs are Verified, though they went on after their pod was deleted", n)
	}
}
