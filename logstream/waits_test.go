package logstream

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// While a container waits to be restarted, the kubelet's previous run is its current one.
func TestTheNextRunsLogIsNotVerifiedForThisOneWhileTheContainerWaits(t *testing.T) {
	for name, c := range map[string]struct {
		second string
		told   bool // of the next one's end
		broken bool // looks at the current run break off
	}{
		"":                             {second: "two\n"},
		"its end is told":              {second: "two\n", told: true},
		"it printed nothing":           {},
		"nobody can look":              {second: "two\n", broken: true},
		"nor is there anything to see": {broken: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				ended := b.quick("a1", "one\n")
				b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
					if c.broken && o.LimitBytes != nil && !o.Previous {
						return &fault{with: refused()}
					}
					return nil
				}
				b.n.start("a", "a2")
				b.p.running("a", "a2")
				time.Sleep(time.Millisecond)
				if c.second != "" {
					b.n.raw("a", c.second)
				}
				b.n.exit("a")
				b.n.wait("a")
				b.c.Handle(ended)
				if next := b.p.ended("a", "a2"); c.told {
					time.Sleep(100 * time.Millisecond)
					b.c.Handle(next)
				}
				start := time.Now()
				certs, err := b.c.Drain(b.ctx, nil)
				if err != nil || certs[0].Proof == Verified || time.Since(start) > 2*time.Minute {
					t.Errorf("certificates %+v after %s, %v", certs, time.Since(start), err)
				}
			})
		})
	}
}

// The previous one was not silent when it was looked at first.
func TestTheSilenceOfTheNextRunIsNotTakenForThisOnesOnceItIsDoubted(t *testing.T) {
	inBubble(t, Options{}, &script{placeholders: map[string]bool{"pause": true}}, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.quick("pause", "")
		b.n.start("a", "a1")
		b.p.running("a", "a1")
		b.n.print("a", "one")
		b.n.exit("a")
		ended := b.p.ended("a", "a1")
		b.n.start("a", "a2")
		b.c.Handle(ended)
		time.Sleep(500 * time.Millisecond)
		b.n.exit("a")
		b.n.wait("a")
		if certs, err := b.c.Drain(b.ctx, nil); err != nil || certs[0].Proof == Verified {
			t.Errorf("certificates %+v, %v", certs, err)
		}
	})
}

// The kubelet may be at any run behind one that has ended.
func TestTheNextRunsLogIsNotVerifiedForThisOneWhenTheNextIsKnownToHaveEnded(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.quick("a1", "")
		b.n.start("a", "a2")
		b.p.running("a", "a2")
		b.n.print("a", "two")
		b.n.exit("a")
		ended := b.p.ended("a", "a2")
		time.Sleep(10 * time.Second)
		b.n.start("a", "a3")
		b.c.Handle(ended)
		for _, c := range b.drain() {
			if c.ContainerID == "a1" && c.Proof == Verified {
				t.Errorf("certificate %+v", c)
			}
		}
	})
}

// But for the first, a kubelet waits before it restarts them.
func TestTheSilentRunsOfACrashLoopAreVerified(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		for k := range 4 {
			id := fmt.Sprint("a", k)
			b.n.start("a", id)
			b.c.Handle(b.p.running("a", id))
			b.n.exit("a")
			b.c.Handle(b.p.ended("a", id))
			time.Sleep(time.Second)
			if k > 0 {
				b.n.wait("a")
				b.c.Handle(b.p.waiting("a", "CrashLoopBackOff"))
				time.Sleep(10 * time.Second)
			}
		}
		for _, c := range b.drain() {
			if c.Proof != Verified {
				t.Errorf("certificate %+v", c)
			}
		}
	})
}

// One that is two runs further answers with the silence of others.
func TestTheSilenceOfTheNextRunsIsNotTakenForThisOnesWhenNobodyAnswersInTime(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		away := true
		b.n.fault = func(int, *corev1.PodLogOptions) *fault {
			return map[bool]*fault{true: {err: refused()}}[away]
		}
		b.quick("a0", "zero\n")
		time.Sleep(10 * time.Second)
		b.c.Handle(b.quick("a1", "one\n"))
		b.n.start("a", "a2")
		b.n.exit("a")
		time.Sleep(10 * time.Second)
		b.n.start("a", "a3")
		b.n.change(func() { away = false })
		if c := b.drain()[1]; c.Proof != Unverified || c.Lines != 0 {
			t.Errorf("certificate %+v", c)
		}
	})
}
