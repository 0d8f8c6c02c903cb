package logstream

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// crashLoop plays a random crash loop: short lives, some of them silent, whose statuses
// come late, and not all of them. As a kubelet does, the node restarts the container at
// once after its first end, and 10 s or more after the others.
func crashLoop(t *testing.T, seed uint64) (proofs map[Proof]int) {
	rng := rand.New(rand.NewPCG(seed, seed))
	pick := func(choices ...time.Duration) time.Duration {
		return time.Duration(rng.Int64N(int64(choices[rng.IntN(len(choices))]) + 1))
	}
	proofs = map[Proof]int{}
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		late := pick(0, 20*time.Millisecond, 500*time.Millisecond, 5*time.Second)
		time.Sleep(pick(0, time.Second))
		var due time.Time // of the last status
		tell := func(ev watch.Event) {
			if at := time.Now().Add(pick(0, time.Millisecond, late)); at.After(due) {
				due = at
			}
			time.AfterFunc(time.Until(due), func() { b.c.Handle(ev) })
		}
		lives := map[string]*box{}
		for k := range 2 + rng.IntN(4) {
			id := fmt.Sprint("a", k)
			b.n.start("a", id)
			lives[id] = b.n.cur["a"]
			if ev := b.p.running("a", id); rng.IntN(2) == 0 {
				tell(ev)
			}
			for i := range rng.IntN(4) {
				time.Sleep(pick(0, time.Millisecond, time.Second))
				b.n.print("a", fmt.Sprintf("run %d, line %d", k, i))
			}
			time.Sleep(pick(0, 50*time.Millisecond, 3*time.Second))
			b.n.exit("a")
			if ev := b.p.ended("a", id); rng.IntN(4) > 0 {
				tell(ev)
			}
			time.Sleep(time.Millisecond + pick(0, time.Millisecond, time.Second))
			if k > 0 {
				b.n.wait("a")
				if ev := b.p.waiting("a", "CrashLoopBackOff"); rng.IntN(4) > 0 {
					tell(ev)
				}
				time.Sleep(10 * time.Second)
			}
		}
		b.p.pod.Status.Phase = corev1.PodFailed
		tell(b.p.event(watch.Modified))
		time.Sleep(time.Until(due) + time.Second)
		for i, cert := range b.drain() {
			proofs[cert.Proof]++
			log := &b.c.order[i].log
			end, _ := log.bounds()
			got, want := string(log.peek(make([]byte, end), log.base, end)), strings.Join(lives[cert.ContainerID].truth, "")
			if (cert.Proof == Verified || cert.Why == whyNexts) && got != want {
				t.Errorf("seed %d: %+v has\n%s want\n%s", seed, cert, got, want)
			}
		}
	})
	return proofs
}

func TestNoRunIsVerifiedWithTheLogOfAnother(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	proofs := map[Proof]int{}
	many := 50 * *trials / slowed // they are short
	for i := range many {
		for p, n := range crashLoop(t, first+uint64(i)) {
			proofs[p] += n
		}
		if t.Failed() {
			t.Fatalf("run again with -seed %d -trials 1", first+uint64(i))
		}
	}
	t.Logf("seed %d, %d crash loops: %v", first, many, proofs)
}
