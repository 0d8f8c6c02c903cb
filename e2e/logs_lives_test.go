package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
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
	for i, p := range all {
		certificates := p.drain(t, hasEnded)
		var plains map[string][]byte
		if i == 0 { // The others are not even looked at.
			plains = p.plains(t)
		}
		p.delete(t)
		sum.plus(p.check(t, certificates, plains))
	}
	l.report(t, "containers gone in milliseconds", sum)
	sum.wantVerified(t, pods*slots)
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
		all = append(all, l.print(t, "crash", corev1.RestartPolicyAlways,
			truth{slot: "few", lines: 1, code: 1}, truth{slot: "many", lines: 2000, code: 1}))
	}
	var sum tally
	for _, p := range all {
		certificates := p.drain(t, func(pod *corev1.Pod) bool {
			for i := range pod.Status.ContainerStatuses {
				s := &pod.Status.ContainerStatuses[i]
				if s.RestartCount < restarts || s.State.Waiting == nil {
					return false
				}
			}
			return len(pod.Status.ContainerStatuses) == slots
		})
		plains := p.plains(t)
		p.delete(t)
		sum.plus(p.check(t, certificates, plains))
	}
	l.report(t, "crash loops", sum)
	if n := sum.runs(); n < pods*slots*int(restarts+1) { // One container may be ahead of the other.
		t.Errorf("%d runs were captured, want %d at least", n, pods*slots*int(restarts+1))
	}
}

// A node has some 100 inotify instances for those who follow logs, and past them
// refuses. This machine's other clusters need them, too: the refusal is played, with
// the kubelet's words.
func TestLogsOfManyContainersAtOnceAreWhole(t *testing.T) {
	l := newLab(t, sharedSite(t), logstream.Options{})
	pods, slots, follows := 5, 10, 30
	if *fullSize {
		pods, follows = 15, 60
	}
	l.latency.follows = make(chan struct{}, follows)
	var all []*printing
	for range pods {
		var truths []truth
		for i := range slots {
			truths = append(truths, truth{slot: fmt.Sprintf("c%d", i), batch: 5, pause: 2 * time.Second, gate: true})
		}
		all = append(all, l.print(t, "many", corev1.RestartPolicyNever, truths...))
	}
	for _, p := range all {
		p.await(t, allRun)
	}
	t.Logf("%d containers run: %+v", pods*slots, l.logs.Stats())
	after(t, 3*time.Second)
	l.openGate(t)
	var sum tally
	for _, p := range all {
		certificates := p.drain(t, hasEnded)
		sum.plus(p.check(t, certificates, p.plains(t)))
	}
	l.report(t, fmt.Sprintf("%d containers at once, %d follows refused", pods*slots, l.latency.refused.Load()), sum)
	sum.wantVerified(t, pods*slots)
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
	onNode := 0
	for _, p := range all {
		p.await(t, allRun)
		after(t, time.Second)
		files := p.keepFiles(t)
		p.delete(t)
		p.awaitGone(t)
		sum.plus(p.check(t, p.drain(t, anything), nil))
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Error(err)
			}
			onNode += bytes.Count(text, []byte("\n"))
		}
	}
	l.report(t, fmt.Sprintf("pods deleted by force (the node's files, in the end: %d lines)", onNode), sum)
	if n := sum.proofs[logstream.Verified]; n > 0 {
		t.Errorf("%d runs are Verified, though they went on after their pod was deleted", n)
	}
}

// keepFiles links the pod's logs on its node, so that they outlive it.
func (p *printing) keepFiles(t *testing.T) (files []string) {
	t.Helper()
	if p.lab.cluster == nil {
		return nil
	}
	dir := filepath.Join(p.lab.cluster.PodLogs(), p.pod.Namespace+"_"+p.pod.Name+"_"+string(p.pod.UID))
	for _, tr := range p.truths {
		file := filepath.Join(p.lab.cluster.PodLogs(), "..", "log", p.pod.Name+"-"+tr.slot)
		if err := os.Link(filepath.Join(dir, tr.slot, "0.log"), file); err != nil {
			t.Error(err)
		}
		files = append(files, file)
	}
	return files
}
