package logstream

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// wantWithinGaps holds the certificates of runs against what their boxes printed, and what
// readers get of all.
func (b *bench) wantWithinGaps(certs []Certificate, boxes ...*box) {
	b.Helper()
	text, _ := b.readAll("a", ReadOptions{Snapshot: true})
	for i, x := range boxes {
		for _, line := range x.truth {
			ns, n := stamp.Parse([]byte(line))
			switch strings.Count("\n"+text, "\n"+line[n:]) {
			case 0:
				if !slices.ContainsFunc(certs[i].Gaps, func(g Gap) bool { return g.encloses(ns) }) {
					b.Errorf("%q is missing outside the gaps of %+v", line, certs[i])
				}
			case 1:
			default:
				b.Errorf("%q is read twice: %q", line, text)
			}
		}
	}
}

// removedPrevious answers for the previous container as a kubelet that has removed it.
func removedPrevious(id string) func(int, *corev1.PodLogOptions) *fault {
	return func(_ int, o *corev1.PodLogOptions) *fault {
		if o.Previous {
			return &fault{words: "unable to retrieve container logs for containerd://" + id}
		}
		return nil
	}
}

// The watch is late: when it tells of a run, the next one has ended, too.
func TestWhatARunPrintedThatIsGoneIsWithinAGap(t *testing.T) {
	for name, waits := range map[string]bool{"the next one ended": false, "and the container waits": true} {
		for second, text := range map[string]string{"that one printed": "two\n", "that one is silent": ""} {
			t.Run(name+", "+second, func(t *testing.T) {
				inBubble(t, Options{}, nil, func(b *bench) {
					b.p = newPod(corev1.RestartPolicyAlways, "a")
					if !waits {
						b.n.fault = removedPrevious("a0")
					}
					first := b.quick("a1", "one\n")
					gone := b.n.cur["a"]
					time.Sleep(60 * time.Millisecond)
					b.n.start("a", "a2")
					b.p.running("a", "a2")
					if text != "" {
						b.n.raw("a", text)
					}
					b.n.exit("a")
					next := b.p.ended("a", "a2")
					boxes := []*box{gone, b.n.cur["a"]}
					if waits {
						b.n.wait("a")
					}
					b.c.Handle(first)
					time.Sleep(60 * time.Millisecond)
					if waits {
						next = b.p.waiting("a", "CrashLoopBackOff")
					}
					b.c.Handle(next)
					certs := b.drain()
					if certs[0].Proof == Verified {
						t.Errorf("certificate %+v", certs[0])
					}
					b.wantWithinGaps(certs, boxes...)
				})
			})
		}
	}
}

// The kubelet keeps one dead container of a slot.
func TestARunWhoseSuccessorHasEndedIsNotAskedForForLong(t *testing.T) {
	for name, c := range map[string]struct {
		ended bool
		most  time.Duration
	}{
		"its successor has ended":                            {true, 2 * time.Second},
		"its successor runs: the runtime may have restarted": {false, 15 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyOnFailure, "a")
				b.n.fault = removedPrevious("a1")
				b.c.Handle(b.quick("a1", ""))
				b.n.start("a", "a2")
				next := b.p.running("a", "a2")
				if c.ended {
					b.n.exit("a")
					next = b.p.ended("a", "a2")
				}
				b.c.Handle(next)
				start := time.Now()
				certs := b.drain()
				if took := time.Since(start); certs[0].Proof != Incomplete || took < time.Second || took > c.most || !c.ended && took < 9*time.Second {
					t.Errorf("after %s: %+v", took, certs)
				}
			})
		})
	}
}

// A stream that a run's status calls its own may bring the next run's log, over rotations.
func TestTheNextRunsLogThatRotatesBeforeItsStatusIsReadOnceAndWhole(t *testing.T) {
	for _, quiet := range []bool{false, true} { // the next run prints nothing after a rotation until its status is there
		for _, lost := range []bool{false, true} {
			for i := range 6 {
				silent, broken, still := i%2 == 1, i > 1, i > 3 // the run before; its stream; the file of its second stream
				t.Run(fmt.Sprintf("quiet %t, a file lost %t, behind a silent one %t, in two streams %t, the second file is the last %t", quiet, lost, silent, broken, still), func(t *testing.T) {
					inBubble(t, Options{}, nil, func(b *bench) {
						b.p = newPod(corev1.RestartPolicyAlways, "a")
						live := b.live("a")
						b.begin("a", "a1")
						if !silent {
							b.n.print("a", "one")
						}
						time.Sleep(1500 * time.Millisecond)
						b.n.exit("a")
						boxes := []*box{b.n.cur["a"]}
						b.p.ended("a", "a1")
						time.Sleep(1200 * time.Millisecond)
						b.n.start("a", "a2")
						next := b.p.running("a", "a2")
						boxes = append(boxes, b.n.cur["a"])
						b.n.print("a", "two", "three")
						time.Sleep(3 * time.Second)
						if broken {
							b.n.breakStreams("a", "two and a half\n") // which rotates, too
							b.n.raw("a", "three and a half\n")
							time.Sleep(3 * time.Second)
						}
						switch {
						case lost && !still:
							b.n.rotate("a", "four\n")
						case !still:
							b.n.rotate("a")
						}
						if !quiet {
							b.n.print("a", "five", "six")
						}
						time.Sleep(100 * time.Millisecond)
						b.c.Handle(next)
						synctest.Wait()
						b.n.print("a", "seven")
						time.Sleep(10 * time.Second)
						b.n.print("a", "eight")
						time.Sleep(time.Second)
						endLast(b)
						certs := b.drain()
						b.wantWithinGaps(certs, boxes...)
						if certs[0].Proof == Verified || (lost && !still || broken) && certs[1].Proof == Verified {
							t.Errorf("certificates %+v", certs)
						}
						if text := live(); !strings.Contains(text, "three\n") || !strings.Contains(text, "seven\neight\n") {
							t.Errorf("read live: %q", text)
						}
					})
				})
			}
		}
	}
}

// Nothing of a run is held back because the one before is being asked for.
func TestTheNextRunsLinesAreReadSoonAfterItsStatus(t *testing.T) {
	for name, pause := range map[string]time.Duration{"which ends at once": 400 * time.Millisecond, "which ends before": -time.Second, "which goes on": time.Hour} {
		for _, text := range []string{"", "one\n"} {
			t.Run(fmt.Sprintf("%s, behind %q", name, text), func(t *testing.T) {
				inBubble(t, Options{}, nil, func(b *bench) {
					b.p = newPod(corev1.RestartPolicyAlways, "a")
					b.begin("a", "a1")
					if text != "" {
						b.n.raw("a", text)
					}
					time.Sleep(1500 * time.Millisecond)
					b.n.exit("a")
					b.p.ended("a", "a1")
					time.Sleep(1200 * time.Millisecond)
					b.n.start("a", "a2")
					next := b.p.running("a", "a2")
					b.n.print("a", "two")
					time.Sleep(3 * time.Second)
					remove := func() {
						b.n.exit("a")
						b.n.change(func() { b.n.fault = removedPrevious("a1") })
					}
					if pause < 0 {
						remove()
					}
					b.c.Handle(next)
					told := time.Now()
					b.n.print("a", "three")
					var at time.Time
					read := make(chan struct{})
					go func() {
						defer close(read)
						for l := range b.c.Reader(b.ctx, "a", ReadOptions{}).Lines() {
							if string(l.Text) == "three" {
								at = time.Now()
								return
							}
						}
					}()
					if pause > 0 && pause < time.Minute {
						time.Sleep(pause)
						remove()
					}
					<-read
					if late := at.Sub(told); late > 2*time.Second {
						t.Errorf("after %s", late)
					}
				})
			})
		}
	}
}

// Statuses have whole seconds, and the first restart comes at once.
func TestRunsOfWhichStatusesTellInTimeAreVerifiedWhereverInASecondTheyBegin(t *testing.T) {
	for _, began := range []int{0, 400, 850, 899, 901, 950, 990, 999} { // ms of a second
		for _, lived := range []int{0, 3, 60, 700, 1500} {
			for _, pause := range []int{1, 40, 300} {
				if lived+2*pause < 250 {
					continue // the node removes it before two reads of it can agree
				}
				t.Run(fmt.Sprintf("at %d, for %d, then after %d", began, lived, pause), func(t *testing.T) {
					inBubble(t, Options{}, nil, func(b *bench) {
						b.p = newPod(corev1.RestartPolicyAlways, "a")
						time.Sleep(10*time.Second + time.Duration(began)*time.Millisecond)
						var boxes []*box
						for i := range 3 {
							b.n.start("a", fmt.Sprint("a", i))
							boxes = append(boxes, b.n.cur["a"])
							b.c.Handle(b.p.running("a", fmt.Sprint("a", i)))
							b.n.print("a", fmt.Sprint("one of ", i), fmt.Sprint("two of ", i))
							time.Sleep(time.Duration(lived) * time.Millisecond)
							b.n.exit("a")
							b.c.Handle(b.p.ended("a", fmt.Sprint("a", i)))
							if time.Sleep(time.Duration(pause) * time.Millisecond); i > 0 {
								b.n.wait("a")
								b.c.Handle(b.p.waiting("a", "CrashLoopBackOff"))
								time.Sleep(10 * time.Second)
							}
						}
						certs := b.drain()
						for _, c := range certs {
							if c.Proof != Verified || len(c.Gaps) > 0 {
								t.Errorf("certificate %+v", c)
							}
						}
						b.wantWithinGaps(certs, boxes...)
					})
				})
			}
		}
	}
}

// slowNode takes a while to answer for a container, or for its previous one.
type slowNode struct {
	*node
	previous bool
	takes    *atomic.Int64
}

func (s slowNode) OpenLog(ctx context.Context, ns, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	if d := time.Duration(s.takes.Load()); d > 0 && o.Previous == s.previous {
		time.Sleep(d)
	}
	return s.node.OpenLog(ctx, ns, pod, o)
}

// The run before may end for good while the next run's first request is on its way.
func TestALogIsLeftToItsRunHoweverLateThatOnesFirstAnswerIs(t *testing.T) {
	for name, c := range map[string]struct {
		tell     func(b *bench)
		previous bool // the next run is
	}{
		"of a run that is gone": {func(b *bench) {
			b.n.exit("a")
			b.p.ended("a", "a2")
			b.n.start("a", "a3")
			b.c.Handle(b.p.running("a", "a3"))
		}, true},
		"of one whose successor has ended": {func(b *bench) {
			b.n.exit("a")
			b.n.change(func() { b.n.fault = removedPrevious("a1") })
			b.c.Handle(b.p.ended("a", "a2"))
		}, false},
		"of one that may be there still": {func(b *bench) {
			b.n.change(func() { b.n.fault = removedPrevious("a1") })
			b.c.Handle(b.p.event(watch.Modified))
		}, false},
	} {
		for _, takes := range []time.Duration{0, 300 * time.Millisecond, 1500 * time.Millisecond} {
			t.Run(fmt.Sprint(name, ", ", takes), func(t *testing.T) {
				var now atomic.Int64
				inBubbleBy(t, func(n *node) Opener { return slowNode{n, c.previous, &now} }, Options{}, nil, func(b *bench) {
					b.p = newPod(corev1.RestartPolicyAlways, "a")
					live := b.live("a")
					b.n.start("a", "a1")
					first := b.p.running("a", "a1")
					b.n.print("a", "one", "and more")
					b.n.exit("a")
					boxes := []*box{b.n.cur["a"]}
					b.p.ended("a", "a1")
					time.Sleep(10 * time.Millisecond)
					b.n.start("a", "a2")
					b.p.running("a", "a2")
					boxes = append(boxes, b.n.cur["a"])
					b.n.print("a", "two", "three")
					b.c.Handle(first)
					time.Sleep(3 * time.Second)
					now.Store(int64(takes))
					c.tell(b)
					time.Sleep(10 * time.Second)
					endLast(b)
					certs := b.drain()
					if certs[0].Proof == Verified || certs[0].Lines > 0 || certs[1].Lines != 2 {
						t.Errorf("certificates %+v", certs)
					}
					b.wantWithinGaps(certs, boxes...)
					if text := live(); text != "two\nthree\n" {
						t.Errorf("read live: %q", text)
					}
				})
			})
		}
	}
}

// A run took the next one's log while a status called it alive, and nothing proves it.
func TestTheLostLinesOfARunThatTookAnothersLogAreWithinAGap(t *testing.T) {
	for name, tell := range map[string]func(b *bench){
		"whose end no status told of, nor the next run": func(b *bench) {
			b.n.exit("a")
			b.p.ended("a", "a2")
			b.n.start("a", "a3")
			b.p.running("a", "a3")
			b.n.exit("a")
			b.p.ended("a", "a3")
			b.n.start("a", "a4")
			b.c.Handle(b.p.running("a", "a4"))
		},
		"whose next one is gone, too, before it was asked for": func(b *bench) {
			b.n.exit("a")
			b.p.ended("a", "a2")
			time.Sleep(10 * time.Second)
			b.n.start("a", "a3")
			running := b.p.running("a", "a3")
			b.n.print("a", "four")
			b.n.exit("a")
			b.p.ended("a", "a3")
			b.n.wait("a") // a3 is the previous one as well
			b.c.Handle(running)
		},
		"whose next one's first line was cut": func(b *bench) {
			b.n.change(func() {
				b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
					if o.Previous {
						return &fault{words: "unable to retrieve container logs for containerd://a1"}
					}
					return &fault{cut: 32, words: outOfWatchers}
				}
			})
			b.c.Handle(b.p.event(watch.Modified))
			time.Sleep(5 * time.Second)
			b.n.change(func() { b.n.fault = removedPrevious("a1") })
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.p = newPod(corev1.RestartPolicyAlways, "a")
				b.n.start("a", "a1")
				first := b.p.running("a", "a1")
				b.n.print("a", "one", "and more")
				b.n.exit("a")
				own := b.n.cur["a"]
				b.p.ended("a", "a1")
				time.Sleep(10 * time.Millisecond)
				b.n.start("a", "a2")
				b.p.running("a", "a2")
				b.n.print("a", "two", "three")
				b.c.Handle(first)
				time.Sleep(3 * time.Second)
				tell(b)
				time.Sleep(10 * time.Second)
				endLast(b)
				certs := b.drain()
				if certs[0].Proof == Verified {
					t.Errorf("certificates %+v", certs)
				}
				b.wantWithinGaps(certs, own)
			})
		})
	}
}

func TestHalfATimeIsNoFirstLineOfTheNextRuns(t *testing.T) {
	inBubble(t, Options{}, nil, func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
			switch {
			case o.Follow:
				return &fault{cut: 16, words: outOfWatchers}
			case !o.Previous:
				return &fault{err: refused()}
			}
			return nil
		}
		time.Sleep(300 * time.Millisecond)
		ended := b.quick("a1", "one\n")
		own := b.n.cur["a"]
		time.Sleep(10 * time.Millisecond)
		b.n.start("a", "a2")
		running := b.p.running("a", "a2")
		b.n.print("a", "two", "three")
		b.n.exit("a")
		b.n.wait("a") // and has removed the first one
		time.Sleep(2 * time.Second)
		b.c.Handle(ended)
		b.c.Handle(running)
		synctest.Wait()
		b.c.Handle(closedEvent())
		certs := b.drain()
		if certs[0].Proof == Verified {
			t.Errorf("certificates %+v", certs)
		}
		b.wantWithinGaps(certs, own)
	})
}
