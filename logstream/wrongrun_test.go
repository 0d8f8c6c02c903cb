package logstream

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// The host's watch may be blind for as long as a dead connection goes unnoticed, 45 s
// with client-go's pings; the kubelet answers for the run that it knows meanwhile.
const blindness = 45 * time.Second

func TestTheNextRunsLogIsNotVerifiedForThisOneNorReadTwiceHoweverLateItsStatus(t *testing.T) {
	const first, second = "of the first\nof the first, too\n", "of the second\n"
	for name, c := range map[string]struct {
		told, rotated bool
		live          string // what is read meanwhile
	}{
		"a run that is known to have ended":   {told: true, live: first + second},
		"one that is not":                     {live: first[:9] + second + first[9:]}, // its stream ended within a line
		"one whose log was rotated by the by": {rotated: true, live: first + second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
					if n == 1 && !c.rotated {
						return &fault{cut: 40} // not all of it was streamed
					}
					return nil
				}
				live := b.live("a")
				b.begin("a", "a1", "of the first")
				if c.rotated {
					b.n.rotate("a")
				}
				b.n.print("a", "of the first, too")
				synctest.Wait()
				b.n.exit("a")
				if c.told {
					b.c.Handle(b.p.ended("a", "a1"))
				} else {
					b.p.ended("a", "a1")
				}
				time.Sleep(100 * time.Millisecond)
				b.n.start("a", "a2")
				running := b.p.running("a", "a2")
				b.n.print("a", "of the second")
				time.Sleep(blindness)
				b.c.Handle(running)
				time.Sleep(20 * time.Second)
				endLast(b)
				for _, cert := range b.drain() {
					if (cert.Proof == Verified) == (!c.told && cert.ContainerID == "a1") {
						t.Errorf("certificate %+v", cert)
					}
				}
				b.wantText("a", first+second)
				if text := live(); text != c.live {
					t.Errorf("read %q", text)
				}
			})
		})
	}
}

func TestTheNextRunsLogIsNotVerifiedForOneThatWasNeverRead(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.n.start("a", "a1")
		b.n.print("a", "of the first")
		b.n.exit("a")
		ended := b.p.ended("a", "a1")
		time.Sleep(3 * time.Second)
		b.n.start("a", "a2")
		running := b.p.running("a", "a2")
		b.n.print("a", "of the second")
		b.c.Handle(ended)
		time.Sleep(blindness)
		b.c.Handle(running)
		time.Sleep(5 * time.Second)
		endLast(b)
		for _, c := range b.drain() {
			if c.Proof != Verified {
				t.Errorf("certificate %+v", c)
			}
		}
		b.wantText("a", "of the first\nof the second\n")
	})
}

// A StatefulSet's next pod has the name of the one before.
func TestTheNextPodsLogIsNotTakenForThisOnes(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.begin("a", "a1", "of the first")
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		b.n.start("a", "a2")
		b.n.change(func() { delete(b.n.prev, "a") })
		time.Sleep(3 * time.Second)
		b.n.print("a", "of another pod")
		time.Sleep(20 * time.Second)
		b.c.Handle(b.p.event(watch.Deleted))
		c := b.drain()[0]
		if text, _ := b.readAll("a", ReadOptions{Snapshot: true}); text != "of the first\n" || c.Proof != Incomplete {
			t.Errorf("read %q, certificate %+v", text, c)
		}
	})
}

// wantSecondVerified drains b and checks that of a1 and a2, which printed a line each, a2 alone
// is Verified, and that a reader got both lines once.
func (b *bench) wantSecondVerified(live func() string) {
	b.Helper()
	for _, c := range b.drain() {
		if (c.Proof == Verified) != (c.ContainerID == "a2") || c.ContainerID == "a2" && c.Lines != 1 {
			b.Errorf("certificate %+v", c)
		}
	}
	if text := live(); text != "of the first\nof the second\n" {
		b.Errorf("read %q", text)
	}
}

// The next one has ended, too, and is the previous one as well as the current one.
func TestTheNextRunsLogIsNotVerifiedForThisOneNorReadTwiceWhileTheContainerWaits(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		live := b.live("a")
		b.begin("a", "a1", "of the first")
		b.n.exit("a")
		b.n.start("a", "a2")
		b.p.running("a", "a2")
		time.Sleep(time.Second)
		b.n.print("a", "of the second")
		b.n.exit("a")
		b.n.wait("a")
		time.Sleep(blindness)
		endLast(b)
		b.wantSecondVerified(live)
	})
}

// Nor when nobody can be asked.
func TestALogThatBeginsAnewIsNotVerifiedNorReadTwiceWhereTheKubeletDoesNotSayWhose(t *testing.T) {
	for name, answer := range map[string]*fault{
		"refused":           {err: refused()},
		"removed, or is it": {words: "unable to retrieve container logs for containerd://a1"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
					if o.Previous {
						return answer
					}
					return nil
				}
				live := b.live("a")
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				b.n.print("a", "of the first")
				time.Sleep(100 * time.Millisecond)
				b.n.start("a", "a2")
				running := b.p.running("a", "a2")
				b.n.print("a", "of the second")
				time.Sleep(blindness)
				b.c.Handle(running)
				time.Sleep(time.Minute)
				endLast(b)
				b.wantSecondVerified(live)
			})
		})
	}
}

// The run before the previous one is gone: what is asked for as the previous run's is
// another's when the status is late.
func TestThePreviousRunIsNotAnotherOne(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
			if n == 1 {
				return &fault{cut: 50}
			}
			return nil
		}
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", "of the first", "of the first, too")
		time.Sleep(100 * time.Millisecond)
		b.n.start("a", "a2")
		b.n.print("a", "of the second")
		b.n.start("a", "a3")
		b.c.Handle(b.p.running("a", "a2"))
		time.Sleep(blindness)
		b.c.Handle(b.p.running("a", "a3"))
		certs := b.drain()
		first := b.c.order[0].log.peek(make([]byte, 200), 0, 200)
		if stripped(string(first)) != "of the first\n" || certs[0].Proof != Incomplete {
			t.Errorf("captured %q, certificate %+v", first, certs[0])
		}
	})
}

// The times in a status are whole seconds, and the first restart comes at once.
func TestTheNextRunsLogIsNotTakenForThisOnesHoweverSoonItBegins(t *testing.T) {
	for name, c := range map[string]struct {
		before        string        // what the run before this one printed; empty: this is the first one
		captured      bool          // that one was
		first, second string        // what this one and the next one print
		late          time.Duration // what the next one prints comes so much later
	}{
		"":                                {first: "one\n", second: "two\n"},
		"nor is its silence":              {first: "one\n", second: "two\n", late: time.Minute},
		"this one is silent":              {second: "two\n"},
		"both are":                        {},
		"behind a run that was captured":  {before: "zero\n", captured: true, first: "one\n", second: "two\n"},
		"behind a run that nobody read":   {before: "zero\n", first: "one\n", second: "two\n"},
		"all of them print the same text": {before: "zero\n", captured: true, first: "zero\n", second: "zero\n"},
		"a silent one behind a captured":  {before: "zero\n", captured: true, second: "two\n"},
		"a silent one behind one unread":  {before: "zero\n", second: "two\n"},
	} {
		for _, began := range []time.Duration{time.Millisecond, 500 * time.Millisecond, 1900 * time.Millisecond} { // after this one's end
			for _, told := range []time.Duration{50 * time.Millisecond, 300 * time.Millisecond, 10 * time.Second} { // after its beginning
				t.Run(fmt.Sprint(name, " ", began, " ", told), func(t *testing.T) {
					inBubble(t, Options{}, nil, func(b *bench) {
						b.p = newPod(corev1.RestartPolicyAlways, "a")
						if c.before != "" {
							if ended := b.quick("a0", c.before); c.captured {
								b.c.Handle(ended)
								b.drain()
							}
							time.Sleep(10 * time.Second)
						}
						ended := b.quick("a1", c.first)
						time.Sleep(began)
						b.n.start("a", "a2")
						running := b.p.running("a", "a2")
						time.AfterFunc(c.late, func() { b.n.raw("a", c.second) })
						time.Sleep(time.Nanosecond)
						b.c.Handle(ended)
						time.Sleep(told)
						b.c.Handle(running)
						time.Sleep(2 * time.Minute)
						endLast(b)
						for _, cert := range b.drain() {
							proof := Verified
							if (c.late > 0 && began < time.Second || c.first+c.second == "") && cert.ContainerID == "a1" {
								proof = Unverified // nothing tells whether the container waits again, or whose silence it is
							}
							if cert.ContainerID != "a0" && cert.Proof != proof {
								t.Errorf("certificate %+v", cert)
							}
						}
						want := c.first + c.second
						if c.captured {
							want = c.before + want
						}
						if text, _ := b.readAll("a", ReadOptions{}); text != want {
							t.Errorf("captured %q, want %q", text, want)
						}
					})
				})
			}
		}
	}
}

func TestTheLogOfARunThatEndedBeforeThisOneBeganIsNotTaken(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
			if o.Previous {
				return &fault{err: notFound("pods/log", "p")}
			}
			return nil
		}
		b.n.start("a", "a1")
		b.n.print("a", "of the first")
		b.n.exit("a")
		time.Sleep(5 * time.Second)
		b.p.ended("a", "a1")
		time.Sleep(5 * time.Second)
		b.c.Handle(b.p.running("a", "a2")) // the kubelet does not know of it yet
		time.Sleep(10 * time.Second)
		b.n.start("a", "a2")
		b.n.print("a", "of the second")
		time.Sleep(10 * time.Second)
		endLast(b)
		c := b.drain()[1]
		if c.Proof != Verified || c.Lines != 1 {
			t.Errorf("certificate %+v", c)
		}
	})
}

// Clocks are set, so the suspicion does not last; but it costs the proof.
func TestALogWhoseTimesAreNotItsRunsIsTakenInTheEndButNotVerified(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.n.cur["a"].stamp = func(now time.Time, i int) time.Time { return now.Add(time.Minute + time.Duration(i)) }
		b.n.print("a", "one", "two")
		b.n.exit("a")
		b.p.ended("a", "a1")
		start := time.Now()
		if c := b.drain()[0]; c.Proof != Unverified || c.Lines != 2 || time.Since(start) > time.Minute {
			t.Errorf("certificate %+v after %s", c, time.Since(start))
		}
	})
}

// However long the kubelet takes to know of a run: the log of the one before it is known.
func TestALogThatWasCapturedIsNotCapturedAsAnotherRuns(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.run("a", "a1", "of the first")
		b.drain()
		b.c.Handle(b.p.running("a", "a2"))
		time.Sleep(10 * time.Minute)
		if text, _ := b.readAll("a", ReadOptions{Snapshot: true}); text != "of the first\n" {
			t.Errorf("captured %q", text)
		}
	})
}

// The kubelet's words name the previous container, which it removed: one after the run that
// is asked for, of which no status told. So is the silence another's.
func TestTheSilenceOfALaterRunIsNotVerifiedForOneThatPrinted(t *testing.T) {
	for name, before := range map[string]bool{"the first run": false, "a later one": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				if before {
					b.c.Handle(b.quick("a0", "zero\n"))
					b.drain()
					time.Sleep(10 * time.Second)
				}
				late := b.quick("a1", "one\n")
				for _, id := range []string{"a2", "a3"} {
					time.Sleep(10 * time.Second)
					b.n.start("a", id)
					b.p.running("a", id)
					b.n.exit("a")
					b.p.ended("a", id)
				}
				b.n.fault = removedPrevious("a2")
				b.c.Handle(late)
				time.Sleep(blindness)
				b.c.Handle(b.p.event(watch.Modified))
				for _, c := range b.drain() {
					if c.ContainerID == "a1" && c.Proof == Verified {
						t.Errorf("certificate %+v", c)
					}
				}
			})
		})
	}
}
