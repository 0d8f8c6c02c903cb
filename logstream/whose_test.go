package logstream

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// quick is a run that has ended before a status tells of it: of its end. A kubelet
// restarts one at once that is the first, or that ran for long.
func (b *bench) quick(id, text string) (ended watch.Event) {
	again := b.p.status("a").ContainerID != ""
	b.n.start("a", id)
	b.p.running("a", id)
	if again {
		time.Sleep(time.Hour)
	}
	if text != "" {
		b.n.raw("a", text)
	}
	b.n.exit("a")
	return b.p.ended("a", id)
}

// Nobody tells then that the next one runs.
func TestTheNextRunsLogIsNotTakenForThisOnesAfterTheTracking(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		ended := b.quick("a1", "one\n")
		b.n.start("a", "a2")
		b.n.print("a", "two")
		b.c.Handle(ended)
		b.c.Handle(closedEvent())
		certs, err := b.c.Drain(b.ctx, nil)
		if err != nil || certs[0].Proof != Verified {
			t.Errorf("%+v, %v", certs, err)
		}
		b.wantText("a", "one\n")
	})
}

// The request was made when this one was the last that was known.
func TestTheNextRunsLogIsNotTakenForThisOnesWhenItsStatusComesWithTheAnswer(t *testing.T) {
	for name, second := range map[string]string{"": "two\n", "nor is its silence": ""} {
		for after := 10 * time.Millisecond; after < 600*time.Millisecond; after += 20 * time.Millisecond {
			t.Run(fmt.Sprint(name, " ", after), func(t *testing.T) {
				inBubble(t, Options{}, nil, func(b *bench) {
					b.p = newPod(corev1.RestartPolicyAlways, "a")
					ended := b.quick("a1", "one\n")
					b.n.start("a", "a2")
					if second != "" {
						b.n.raw("a", second)
					}
					b.n.change(func() { b.n.slow = 100 * time.Millisecond })
					b.c.Handle(ended)
					time.Sleep(after)
					b.c.Handle(b.p.running("a", "a2"))
					want := Verified
					if second == "" {
						want = Unverified // nothing tells whether the container waits again
					}
					if c := b.drain()[0]; c.Proof != want || c.Lines != 1 {
						t.Errorf("certificate %+v", c)
					}
					time.Sleep(time.Minute)
					if text, _ := b.readAll("a", ReadOptions{Snapshot: true}); text != "one\n"+second {
						t.Errorf("captured %q", text)
					}
				})
			})
		}
	}
}

// Of two runs that printed nothing, and a placeholder does not, either may be the previous one.
func TestTheNextRunsLogIsNotVerifiedForASilentOneBehindAPlaceholder(t *testing.T) {
	for name, told := range map[string]bool{"and no status comes": false, "": true} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, &script{placeholders: map[string]bool{"pause": true}}, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				b.quick("pause", "")
				time.Sleep(10 * time.Second)
				ended := b.quick("a1", "")
				b.n.start("a", "a2")
				b.n.print("a", "two")
				b.c.Handle(ended)
				time.Sleep(10 * time.Second)
				if told {
					b.c.Handle(b.p.running("a", "a2"))
				}
				if c := b.drain()[0]; (c.Proof == Verified) != told || told && c.Lines != 0 {
					t.Errorf("certificate %+v", c)
				}
			})
		})
	}
}

// One that printed something is not the previous one.
func TestTheNextRunsLogIsNotTakenForASilentOneBehindOneThatPrinted(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.c.Handle(b.quick("a0", "zero\n"))
		b.drain()
		time.Sleep(10 * time.Second)
		ended := b.quick("a1", "")
		b.n.start("a", "a2")
		b.n.print("a", "two")
		b.c.Handle(ended)
		if c := b.drain()[1]; c.Proof != Verified || c.Lines != 0 {
			t.Errorf("certificate %+v", c)
		}
	})
}

// The node keeps the run before, whose log is known to be older.
func TestALongRunThatPrintsAtItsEndIsVerified(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.quick("a0", "zero\n")
		time.Sleep(10 * time.Second)
		ended := b.quick("a1", "one\n")
		b.p.status("a").LastTerminationState = corev1.ContainerState{} // a0 is not known
		ended.Object.(*corev1.Pod).Status.ContainerStatuses[0].LastTerminationState = corev1.ContainerState{}
		b.c.Handle(ended)
		start := time.Now()
		if c := b.drain()[0]; c.Proof != Verified || c.Lines != 1 || time.Since(start) > time.Second {
			t.Errorf("certificate %+v after %s", c, time.Since(start))
		}
	})
}

// The kubelet keeps one dead container of a slot; of one that it has removed it has words.
func TestAPreviousContainerThatWasRemovedIsTheOneThatTheWordsName(t *testing.T) {
	for removed, want := range map[string]Proof{"a0": Verified, "a1": Incomplete} {
		t.Run(removed, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
					if o.Previous {
						return &fault{words: "unable to retrieve container logs for " + removed}
					}
					return nil
				}
				b.quick("a0", "zero\n")
				time.Sleep(10 * time.Second)
				ended := b.quick("a1", "one\n")
				if removed == "a1" {
					b.n.start("a", "a2")
					b.n.print("a", "two")
				}
				b.c.Handle(ended)
				if c := b.drain()[1]; c.Proof != want || c.Proof != Verified && c.Lines > 0 {
					t.Errorf("certificate %+v", c)
				}
			})
		})
	}
}

func TestAQuestionWhoseALogIsThatHangsHoldsUpNoDrain(t *testing.T) {
	for name, text := range map[string]string{"of a log": "one\n", "of an empty one": ""} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
					return map[bool]*fault{true: {hang: true}}[o.Previous]
				}
				b.n.start("a", "a0")
				b.c.Handle(b.quick("a1", text))
				if c := b.drain()[0]; c.Proof == Verified || c.Bytes != int64(len(text)) {
					t.Errorf("certificate %+v", c)
				}
			})
		})
	}
}

// live reads a slot as it is captured. When the slot is at its end, what was read is
// returned; a line that was read twice is an error.
func (b *bench) live(slot string) (text func() string) {
	read := make(chan string, 1)
	go func() {
		text, _ := b.readAll(slot, ReadOptions{Gap: func(Gap) string { return "" }})
		read <- text
	}()
	return func() string {
		b.Helper()
		text, seen := <-read, map[string]bool{}
		for line := range strings.Lines(text) {
			if seen[line] {
				b.Errorf("%q was read twice", line)
				break
			}
			seen[line] = true
		}
		return text
	}
}

// No status says then when it ended.
func TestARunThatIsThePreviousOneByItsLogAloneIsNotVerified(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		text := b.live("a")
		b.begin("a", "a0")
		b.n.start("a", "a1")
		b.n.print("a", "one")
		time.Sleep(10 * time.Second)
		b.n.exit("a")
		time.Sleep(10 * time.Second)
		b.n.start("a", "a2")
		b.n.print("a", "two")
		time.Sleep(time.Minute)
		if c := b.drain()[0]; c.Proof != Live {
			t.Errorf("before a status tells of an end: %+v", c)
		}
		b.c.Handle(b.p.running("a", "a2"))
		time.Sleep(time.Minute)
		endLast(b)
		for _, c := range b.drain() {
			if c.Proof == Verified && (c.ContainerID != "a2" || c.Lines != 1) {
				t.Errorf("certificate %+v", c)
			}
		}
		if got := text(); got != "one\ntwo\n" {
			t.Errorf("read %q", got)
		}
	})
}

// The kubelet knows of the next run before the status does that tells of this one.
func TestTheNextRunsLogThatWasTakenForThisOnesIsToldFromIt(t *testing.T) {
	for name, c := range map[string]struct{ ended, quiet bool }{
		"the next status is its end":            {ended: true},
		"the next status is that of the next":   {},
		"nothing more is printed":               {quiet: true},
		"its end is told, nothing more printed": {ended: true, quiet: true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				live := b.live("a")
				b.n.start("a", "a1")
				first := b.p.running("a", "a1")
				b.n.print("a", "one")
				b.n.exit("a")
				ended := b.p.ended("a", "a1")
				b.n.start("a", "a2")
				next := b.p.running("a", "a2")
				b.n.print("a", "two")
				b.c.Handle(first)
				time.Sleep(50 * time.Millisecond)
				if c.ended {
					b.c.Handle(ended)
					time.Sleep(10 * time.Second)
				}
				b.c.Handle(next)
				time.Sleep(10 * time.Second)
				more := ""
				if !c.quiet {
					b.n.print("a", "three")
					more = "three\n"
				}
				time.Sleep(time.Second)
				endLast(b)
				certs := b.drain()
				if certs[0].Proof != Unverified || len(certs[0].Gaps) != 1 || certs[0].Gaps[0].AfterLine != 0 || certs[1].Proof != Verified {
					t.Errorf("certificates %+v", certs)
				}
				text, _ := b.readAll("a", ReadOptions{Gap: func(g Gap) string { return "[" + g.Why + "]" }})
				if want := "[" + whyNexts + "]\none\ntwo\n" + more; text != want {
					t.Errorf("read %q, want %q", text, want)
				}
				if got, want := live(), "two\none\n"+more; got != want {
					t.Errorf("read live: %q, want %q", got, want)
				}
			})
		})
	}
}

// A deletion is in the pod before the kubelet's status of the run that it had begun.
func TestTheNextRunsLogIsNotTakenForThisOnesInAPodThatIsBeingDeleted(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.quick("a1", "one\n")
		b.n.start("a", "a2")
		b.n.print("a", "two")
		b.p.pod.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		b.c.Handle(b.p.event(watch.Modified))
		if c := b.drain()[0]; c.Proof != Verified {
			t.Errorf("certificate %+v", c)
		}
		b.wantText("a", "one\n")
	})
}

// Whatever the policy of its own container is.
func TestTheNextRunsLogIsNotTakenForThisOnesWhereAnExitRestartsAllContainers(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyNever, "a", "b")
		b.p.pod.Spec.Containers[1].RestartPolicyRules = []corev1.ContainerRestartRule{{
			Action: corev1.ContainerRestartRuleActionRestartAllContainers,
		}}
		ended := b.quick("a1", "one\n")
		b.n.start("a", "a2")
		b.n.print("a", "two")
		b.c.Handle(ended)
		if c := b.drain()[0]; c.Proof != Verified {
			t.Errorf("certificate %+v", c)
		}
		r := b.c.Reader(b.ctx, "a", ReadOptions{Snapshot: true})
		defer r.Close()
		if text, _ := io.ReadAll(r); string(text) != "one\n" {
			t.Errorf("captured %q", text)
		}
	})
}

// What the kubelet says of its troubles with the previous container's log says nothing of whose the current one is.
func TestTheNextRunsLogIsNotTakenForThisOnesWhenThePreviousOneCannotBeRead(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
			if o.Previous {
				return &fault{words: `failed to open log file "/var/log/pods/n_p_u/a/1.log": no such file or directory`}
			}
			return nil
		}
		b.quick("a0", "zero\n")
		time.Sleep(10 * time.Second)
		ended := b.quick("a1", "one\n")
		b.n.start("a", "a2")
		b.n.print("a", "two")
		b.c.Handle(ended)
		if c := b.drain()[1]; c.Proof == Verified {
			t.Errorf("certificate %+v", c)
		}
	})
}

// Numbers are those of one pod.
func TestTheRunsOfAnotherPodOfThisNameAreNotBeforeThoseOfThisOne(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.c.Handle(b.quick("a0", "of the pod before\n"))
		b.drain()
		b.c.Handle(b.p.event(watch.Deleted))
		b.n.change(func() { clear(b.n.cur); clear(b.n.prev) })
		rv := b.p.rv
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.p.pod.UID, b.p.rv = "v", rv
		b.quick("b0", "")
		b.c.Handle(b.quick("b1", "one\n"))
		for _, c := range b.drain() {
			if c.ContainerID == "b1" && c.Lines != 1 {
				t.Errorf("certificate %+v", c)
			}
		}
	})
}

// A patch of the image starts the kubelet's backoff anew.
func TestTheNextRunsLogIsNotTakenForThatOfTheFirstOneOfAnImage(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.n.start("a", "a0")
		b.p.status("a").ImageID = "x"
		b.c.Handle(b.p.running("a", "a0"))
		time.Sleep(time.Minute)
		b.n.start("a", "a1")
		b.p.status("a").ImageID = "y"
		b.p.running("a", "a1")
		b.n.print("a", "one")
		b.n.exit("a")
		ended := b.p.ended("a", "a1")
		b.n.start("a", "a2")
		b.n.print("a", "two")
		b.c.Handle(ended)
		certs := b.drain()
		for i, want := range []string{"", "one\n"} {
			l := &b.c.order[i].log
			_, end := l.bounds()
			if text := stripped(string(l.peek(make([]byte, end), 0, end))); certs[i].Proof == Verified && text != want {
				t.Errorf("captured %q, want %q, certificate %+v", text, want, certs[i])
			}
		}
	})
}

// One that was taken for the run's before, of which nothing can be proved any more.
func TestALogThatWasTakenForThatOfARunThatIsGoneIsCapturedForItsOwn(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
			if o.Previous {
				return &fault{words: "unable to retrieve container logs for a1"}
			}
			return nil
		}
		b.n.start("a", "a1")
		first := b.p.running("a", "a1")
		b.n.print("a", "one")
		b.n.exit("a")
		b.n.start("a", "a2")
		b.n.print("a", "two")
		b.c.Handle(first)
		time.Sleep(50 * time.Millisecond)
		b.n.exit("a")
		b.p.ended("a", "a1")
		b.p.running("a", "a2")
		b.c.Handle(b.p.ended("a", "a2"))
		start := time.Now()
		certs := b.drain()
		if certs[0].Proof == Verified || certs[0].Lines != 0 || certs[1].Proof != Verified || certs[1].Lines != 1 || time.Since(start) > 5*time.Second {
			t.Errorf("certificates %+v after %s", certs, time.Since(start))
		}
	})
}
