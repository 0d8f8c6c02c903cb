package e2e

import (
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/logstream"
)

// A node follows as many logs as it has inotify instances, and refuses the others.
// So that they run out on every machine, this process takes what is too many. It has
// the machine for itself meanwhile: no other test runs, no cluster comes up.
func TestLogsOfMoreContainersThanTheNodeCanFollowAreWhole(t *testing.T) {
	if world.client == nil {
		t.Skip("-short: needs a cluster")
	}
	release, err := cluster.Quiet(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	const pods, slots, follows = 15, 10, 100
	defer takeWatchers(t, follows)()

	l := newLab(t, site{world.config, world.client, world.cluster}, logstream.Options{})
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
	refused := l.words.refused.Load()
	if refused == 0 && world.cluster != nil { // Another node has what it has.
		t.Error("the kubelet let everybody follow")
	}
	// Whoever does not follow reads in intervals.
	for _, p := range all {
		for _, tr := range p.truths {
			p.awaitLines(t, tr.slot, 4*tr.batch)
		}
	}
	t.Logf("%d containers run, the kubelet refused to follow %d times: %+v", pods*slots, refused, l.logs.Stats())
	var sum tally
	for _, p := range all {
		p.openGate(t)
	}
	for _, p := range all {
		certificates := p.drain(t, hasEnded)
		p.check(t, &sum, certificates, p.plains(t))
	}
	l.report(t, fmt.Sprintf("%d containers at once", pods*slots), sum)
	sum.wantAll(t, pods*slots)
}

// takeWatchers takes all inotify instances that this user may have but some, until
// it is told to give them back.
func takeWatchers(t *testing.T, but int) (giveBack func()) {
	t.Helper()
	var taken []int
	for {
		fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC)
		if err != nil {
			if f, err := os.Open(os.DevNull); err != nil {
				t.Fatalf("files ran out before inotify instances, after %d: %v", len(taken), err)
			} else {
				f.Close()
			}
			break
		}
		taken = append(taken, fd)
	}
	t.Logf("%d inotify instances are free, the node's followers can have %d", len(taken), min(but, len(taken)))
	free := taken[:min(but, len(taken))]
	taken = taken[len(free):]
	giveUp := func(all []int) {
		for _, fd := range all {
			if err := syscall.Close(fd); err != nil {
				t.Error(err)
			}
		}
	}
	giveUp(free)
	return func() { giveUp(taken) }
}
