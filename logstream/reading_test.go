package logstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/google/go-cmp/cmp"
)

var (
	errFailure = errors.New("no such image")
	errCause   = errors.New("the build was cancelled")
)

// reading is what a reader got, and how it ended.
type reading struct{ text, end string }

// wanted is what a reader gets with gaps as text; without, the lines in <> are
// missing, and the end is noGap.
type wanted struct{ text, end, noGap string }

func eof(text string) wanted { return wanted{text, "EOF", "EOF"} }

func endOf(err error) string {
	var inc *IncompleteError
	switch {
	case err == nil || errors.Is(err, io.EOF):
		return "EOF"
	case errors.As(err, &inc):
		return "incomplete"
	case errors.Is(err, errFailure):
		return "failure"
	case errors.Is(err, errCause):
		return "cause"
	case errors.Is(err, ErrClosed):
		return "closed"
	}
	return err.Error()
}

func readBytes(r *Reader) reading {
	text, err := io.ReadAll(r)
	return reading{string(text), endOf(err)}
}

// readLines puts together what Lines yields: the same text.
func readLines(r *Reader) reading {
	var text strings.Builder
	torn := false
	for l, err := range r.Lines() {
		if err != nil {
			return reading{text.String(), endOf(err)}
		}
		switch {
		case (l.Gap != nil) != (l.ContainerID == ""):
			return reading{text.String(), fmt.Sprintf("output or a gap? %+v", l)}
		case l.Gap != nil && r.opt.Gap == nil: // as a reader of bytes has it
			if string(l.Text) != "["+l.Gap.String()+"]" || l.Partial {
				return reading{text.String(), fmt.Sprintf("gap %q: %+v", l.Text, l)}
			}
			continue
		case l.Gap != nil && torn: // a gap in a line
			text.WriteByte('\n')
		}
		text.Write(l.Text)
		if torn = l.Partial; !torn {
			text.WriteByte('\n')
		}
	}
	return reading{text.String(), "EOF"}
}

// gapText has no newline: the reader puts a gap on a line of its own.
func gapText(g Gap) string {
	if g.Certain {
		return "<lost>"
	}
	return "<perhaps lost>"
}

// situation is a life of slot a, in which readers are made.
type situation struct {
	opt    Options
	runs   func() Runs
	before func(b *bench) // the readers are made
	after  func(b *bench)
	// What a reader of everything gets, one from the end, and a snapshot.
	all, fromEnd, snapshot wanted
}

var whole = func(b *bench) { b.run("a", "a1", "one", "two"); b.drain() }

func live(b *bench) {
	b.begin("a", "a1", "one")
}

func end(b *bench) {
	b.n.exit("a")
	b.c.Handle(b.p.ended("a", b.p.status("a").ContainerID))
}

// endLast is the end of the pod, too: no run follows.
func endLast(b *bench) {
	b.p.pod.Status.Phase = corev1.PodFailed
	end(b)
}

// lostFirst has two runs, the log of the first of which is removed.
func lostFirst(b *bench) {
	b.p = newPod(corev1.RestartPolicyAlways, "a")
	b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
		if o.Previous {
			return &fault{words: "unable to retrieve container logs for containerd://a1"}
		}
		return nil
	}
	live(b)
	b.n.start("a", "a2")
	b.n.print("a", "two")
	b.c.Handle(b.p.running("a", "a2"))
	time.Sleep(time.Minute)
}

// unseen has a run print text, and then two of which no handler hears before the next.
func unseen(text string) func(b *bench) {
	return func(b *bench) {
		b.p = newPod(corev1.RestartPolicyAlways, "a")
		b.begin("a", "a1")
		b.n.raw("a", text)
		end(b)
		time.Sleep(10 * time.Second)
		for _, id := range []string{"a2", "a3"} {
			b.n.start("a", id)
			b.n.print("a", id)
			b.n.exit("a")
			b.p.running("a", id)
			b.p.ended("a", id)
		}
		b.begin("a", "a4", "four")
		time.Sleep(10 * time.Second)
	}
}

// failing is a Runs whose slot has had the runs given, and can have no other.
type failing struct{ ids []string }

func (f failing) IsPlaceholder(string, string) bool { return false }

func (f failing) NextRun(_ context.Context, _, after string) (string, error) {
	if i := slices.Index(f.ids, after) + 1; i < len(f.ids) {
		return f.ids[i], nil
	}
	return "", errFailure
}

var situations = map[string]situation{
	"verified": {before: whole, all: eof("one\ntwo\n"), fromEnd: eof(""), snapshot: eof("one\ntwo\n")},
	"made before the run": {
		after: whole,
		all:   eof("one\ntwo\n"), fromEnd: eof("one\ntwo\n"), snapshot: eof(""),
	},
	"made during the run": {
		before: live, after: func(b *bench) { b.n.print("a", "two"); end(b) },
		all: eof("one\ntwo\n"), fromEnd: eof("two\n"), snapshot: eof("one\n"),
	},
	"no newline at the end": {
		before: live, after: func(b *bench) { b.n.raw("a", "tw"); b.n.exit("a"); end(b) },
		all: eof("one\ntw"), fromEnd: eof("tw"), snapshot: eof("one\n"),
	},
	"rotated": {
		opt: Options{RotateSize: 100, HeadProbe: time.Second},
		before: func(b *bench) {
			live(b)
			b.n.print("a", strings.Repeat("x", 100))
			synctest.Wait()
			b.n.rotate("a")
			b.n.print("a", "two")
			time.Sleep(time.Minute)
		},
		after:    end,
		all:      eof("one\n" + strings.Repeat("x", 100) + "\n<perhaps lost>\ntwo\n"),
		fromEnd:  eof(""),
		snapshot: eof("one\n" + strings.Repeat("x", 100) + "\n<perhaps lost>\ntwo\n"),
	},
	"incomplete": {
		before: live, after: func(b *bench) { b.c.Handle(b.p.event(watch.Deleted)); b.n.print("a", "two"); b.n.exit("a") },
		all: wanted{"one\ntwo\n<perhaps lost>\n", "EOF", "incomplete"}, fromEnd: wanted{"two\n<perhaps lost>\n", "EOF", "incomplete"}, snapshot: eof("one\n"),
	},
	"incomplete, with half a line": {
		before: live, after: func(b *bench) { b.n.raw("a", "tw"); b.c.Handle(b.p.event(watch.Deleted)); b.n.exit("a") },
		all: wanted{"one\ntw\n<perhaps lost>\n", "EOF", "incomplete"}, fromEnd: wanted{"tw\n<perhaps lost>\n", "EOF", "incomplete"}, snapshot: eof("one\n"),
	},
	"incomplete, made after it": {
		before: func(b *bench) { live(b); b.n.exit("a"); b.c.Handle(b.p.event(watch.Deleted)); b.drain() },
		all:    wanted{"one\n<perhaps lost>\n", "EOF", "incomplete"}, fromEnd: wanted{"", "EOF", "incomplete"}, snapshot: eof("one\n<perhaps lost>\n"),
	},
	"the first of two runs is incomplete": {
		before: lostFirst,
		after:  endLast,
		all:    wanted{"one\n<perhaps lost>\ntwo\n", "EOF", "incomplete"}, fromEnd: eof(""), snapshot: eof("one\n<perhaps lost>\ntwo\n"),
	},
	"cannot run": {
		runs: func() Runs { return failing{} },
		all:  wanted{"", "failure", "failure"}, fromEnd: wanted{"", "failure", "failure"}, snapshot: eof(""),
	},
	"cannot run again": {
		runs: func() Runs { return failing{[]string{"a1"}} }, before: live, after: end,
		all: wanted{"one\n", "EOF", "failure"}, fromEnd: wanted{"", "EOF", "failure"}, snapshot: eof("one\n"),
	},
	"never ran": {
		after: func(b *bench) { b.p.pod.Status.Phase = corev1.PodSucceeded; b.c.Handle(b.p.event(watch.Modified)) },
		all:   eof(""), fromEnd: eof(""), snapshot: eof(""),
	},
	"never ran, the tracking closed": {
		after: func(b *bench) { b.c.Handle(closedEvent()) },
		all:   eof(""), fromEnd: eof(""), snapshot: eof(""),
	},
	"never ran, the pod deleted": {
		after: func(b *bench) { b.c.Handle(b.p.event(watch.Deleted)) },
		all:   eof(""), fromEnd: eof(""), snapshot: eof(""),
	},
	"never ran, the capture closed": {
		after: func(b *bench) { b.c.Close() },
		all:   eof(""), fromEnd: eof(""), snapshot: eof(""),
	},
	"never ran, made after the capture was closed": {
		before: func(b *bench) { b.c.Close() },
		all:    eof(""), fromEnd: eof(""), snapshot: eof(""),
	},
	"said to run, and never seen": {
		runs: func() Runs { return failing{[]string{"a1"}} }, after: func(b *bench) { b.c.Handle(closedEvent()) },
		all: wanted{"<lost>\n", "EOF", "incomplete"}, fromEnd: wanted{"<lost>\n", "EOF", "incomplete"}, snapshot: eof(""),
	},
	"said to run again, and not seen to": {
		runs: func() Runs { return failing{[]string{"a1", "a2"}} }, before: live,
		after: func(b *bench) { b.n.raw("a", "tw"); end(b); b.drain(); b.c.Handle(closedEvent()) },
		all:   wanted{"one\ntw\n<lost>\n", "EOF", "incomplete"}, fromEnd: wanted{"tw\n<lost>\n", "EOF", "incomplete"}, snapshot: eof("one\n"),
	},
	"a service goes on, the tracking closed": {
		before: live, after: func(b *bench) { b.c.Handle(closedEvent()) },
		all: eof("one\n"), fromEnd: eof(""), snapshot: eof("one\n"),
	},
	"a service goes on out of sight, then the tracking closed": {
		before: live, after: func(b *bench) {
			b.c.Handle(watch.Event{Type: watch.Error, Object: outOfScope()})
			b.n.print("a", "two")
			b.n.exit("a")
			time.Sleep(time.Minute)
			b.c.Handle(closedEvent())
		},
		all: eof("one\ntwo\n"), fromEnd: eof("two\n"), snapshot: eof("one\n"),
	},
	"a service goes on, the reader's ctx ended": {
		before: live, after: func(b *bench) { b.n.print("a", "two"); synctest.Wait(); b.cancel(errCause) },
		all: wanted{"one\ntwo\n", "cause", "cause"}, fromEnd: wanted{"two\n", "cause", "cause"}, snapshot: eof("one\n"),
	},
	"a service goes on, the readers' ctx has ended": {
		before: func(b *bench) {
			live(b)
			b.n.raw("a", "tw") // the end of which is not captured
			synctest.Wait()
			b.cancel(errCause)
		},
		after: func(b *bench) { b.n.more("a", "o\n"); end(b); b.drain() },
		all:   wanted{"one\n", "cause", "cause"}, fromEnd: wanted{"", "cause", "cause"}, snapshot: eof("one\n"),
	},
	"a service goes on after a run that was lost, the readers' ctx has ended": {
		before: func(b *bench) {
			lostFirst(b)
			b.cancel(errCause)
		},
		all: wanted{"one\n<perhaps lost>\ntwo\n", "cause", "cause"}, fromEnd: wanted{"", "cause", "cause"}, snapshot: eof("one\n<perhaps lost>\ntwo\n"),
	},
	"rotated, the readers' ctx has ended": {
		opt: Options{RotateSize: 100, HeadProbe: time.Second},
		before: func(b *bench) {
			live(b)
			b.n.print("a", strings.Repeat("x", 100))
			synctest.Wait()
			b.n.rotate("a")
			b.n.print("a", "two")
			time.Sleep(time.Minute)
			b.cancel(errCause)
		},
		all:      wanted{"one\n" + strings.Repeat("x", 100) + "\n<perhaps lost>\ntwo\n", "cause", "cause"},
		fromEnd:  wanted{"", "cause", "cause"},
		snapshot: eof("one\n" + strings.Repeat("x", 100) + "\n<perhaps lost>\ntwo\n"),
	},
	"never ran, the readers' ctx has ended": {
		before: func(b *bench) { b.cancel(errCause) },
		all:    wanted{"", "cause", "cause"}, fromEnd: wanted{"", "cause", "cause"}, snapshot: eof(""),
	},
	"a service goes on, the reader closed": {
		before: live, after: func(b *bench) { b.n.print("a", "two"); synctest.Wait(); b.closeReaders() },
		all: wanted{"one\ntwo\n", "closed", "closed"}, fromEnd: wanted{"two\n", "closed", "closed"}, snapshot: eof("one\n"),
	},
	"a service goes on, the capture closed": {
		before: live, after: func(b *bench) { b.n.print("a", "two"); synctest.Wait(); b.c.Close() },
		all: wanted{"one\ntwo\n", "closed", "closed"}, fromEnd: wanted{"two\n", "closed", "closed"}, snapshot: eof("one\n"),
	},
	"a service goes on, the Streamer stopped": {
		before: live, after: func(b *bench) { b.n.print("a", "two"); synctest.Wait(); b.stop() },
		all: wanted{"one\ntwo\n<perhaps lost>\n", "EOF", "incomplete"}, fromEnd: wanted{"two\n<perhaps lost>\n", "EOF", "incomplete"}, snapshot: eof("one\n"),
	},
	"the Streamer stopped, with two runs at a time": {
		before: func(b *bench) {
			b.p = newPod(corev1.RestartPolicyAlways, "a")
			b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
				if o.Previous {
					return &fault{err: refused()}
				}
				return nil
			}
			live(b)
			b.n.start("a", "a2")
			b.n.print("a", "two")
			b.c.Handle(b.p.running("a", "a2"))
			time.Sleep(time.Minute)
			b.stop()
		},
		all: wanted{"one\n<perhaps lost>\ntwo\n<perhaps lost>\n", "EOF", "incomplete"}, fromEnd: wanted{"", "EOF", "incomplete"},
		snapshot: eof("one\n<perhaps lost>\ntwo\n<perhaps lost>\n"),
	},
	"runs that nobody saw": {
		before: unseen("one\n"),
		after:  func(b *bench) { b.n.print("a", "more"); endLast(b) },
		all:    eof("one\n<lost>\na3\nfour\nmore\n"), fromEnd: eof("more\n"), snapshot: eof("one\n<lost>\na3\nfour\n"),
	},
	"runs that nobody saw, after one without a newline at its end": {
		before: unseen("tw"),
		after:  endLast,
		all:    eof("tw\n<lost>\na3\nfour\n"), fromEnd: eof(""), snapshot: eof("tw\n<lost>\na3\nfour\n"),
	},
	"runs that nobody saw before the last": {
		before: func(b *bench) {
			b.p = newPod(corev1.RestartPolicyAlways, "a")
			b.run("a", "a1", "one")
			time.Sleep(10 * time.Second)
			b.n.start("a", "a3")
			b.n.print("a", "three")
			b.n.exit("a")
			for _, id := range []string{"a2", "a3"} {
				b.p.running("a", id)
				b.p.ended("a", id)
			}
			st := b.p.status("a")
			st.LastTerminationState, st.State = st.State, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}
			st.RestartCount++
			b.c.Handle(b.p.event(watch.Modified))
			time.Sleep(10 * time.Second)
		},
		after: func(b *bench) { b.p.pod.Status.Phase = corev1.PodFailed; b.c.Handle(b.p.event(watch.Modified)) },
		all:   eof("one\n<lost>\nthree\n"), fromEnd: eof(""), snapshot: eof("one\n<lost>\nthree\n"),
	},
	"the beginning was dropped": {
		opt: Options{Memory: 1, Disk: -1},
		before: func(b *bench) {
			live(b)
			b.n.bulk("a", 100)
			b.n.print("a", "two")
			synctest.Wait()
		},
		after: func(b *bench) { b.n.print("a", "three"); end(b) },
		all:   wanted{"<lost>\n" + keptOfBulk + "two\nthree\n", "EOF", "incomplete"}, fromEnd: wanted{"three\n", "EOF", "incomplete"},
		snapshot: eof("<lost>\n" + keptOfBulk + "two\n"),
	},
}

// keptOfBulk is what a chunk keeps of a hundred lines of 1 KiB.
var keptOfBulk = func() string {
	var b strings.Builder
	for i := 67; i < 101; i++ {
		fmt.Fprintf(&b, "%06d %s\n", i, strings.Repeat("x", 960))
	}
	return b.String()
}()

// Every way in which a slot's log can end ends every kind of reader as the docs of
// Reader say.
func TestEveryReaderEndsAsDocumentedInEverySituation(t *testing.T) {
	for name, s := range situations {
		t.Run(name, func(t *testing.T) {
			var runs Runs
			if s.runs != nil {
				runs = s.runs()
			}
			inBubble(t, s.opt, runs, func(b *bench) { s.play(b) })
		})
	}
}

func (s situation) play(b *bench) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(b.ctx))
	defer cancel(nil)
	b.cancel = cancel
	if s.before != nil {
		s.before(b)
	}
	got := map[string]chan reading{}
	want := map[string]reading{}
	for kind, o := range map[string]ReadOptions{"all": {}, "from end": {FromEnd: true}, "snapshot": {Snapshot: true}} {
		for how, read := range map[string]func(*Reader) reading{"Read": readBytes, "Lines": readLines} {
			for _, gap := range []func(Gap) string{nil, gapText} {
				name := fmt.Sprintf("%s of %s, gaps as text: %v", how, kind, gap != nil)
				o.Gap = gap
				r := b.c.Reader(ctx, "a", o)
				b.readers = append(b.readers, r)
				end := make(chan reading, 1)
				go func() { end <- read(r) }()
				got[name] = end
				want[name] = s.want(kind, gap != nil)
			}
		}
	}
	synctest.Wait()
	if s.after != nil {
		s.after(b)
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if d := cmp.Diff(want[name], <-got[name], cmp.AllowUnexported(reading{})); d != "" {
			b.Errorf("%s (-want +got):\n%.2000s", name, d)
		}
	}
}

func (s situation) want(kind string, gap bool) reading {
	w := map[string]wanted{"all": s.all, "from end": s.fromEnd, "snapshot": s.snapshot}[kind]
	if gap {
		return reading{w.text, w.end}
	}
	for _, gap := range []string{"<lost>\n", "<perhaps lost>\n"} {
		w.text = strings.ReplaceAll(w.text, "tw\n"+gap, "tw") // an end without newline
		w.text = strings.ReplaceAll(w.text, gap, "")
	}
	return reading{w.text, w.noGap}
}
