package conformance

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/logstream"
)

// play runs one scene with a rig of its own.
func play(t *testing.T, o logstream.Options, f func(r *rig, b *box)) {
	t.Helper()
	t.Parallel()
	inTime(t, func(t *testing.T) {
		r := newRig(t, o)
		f(r, r.begin("a"))
		if t.Failed() {
			t.Log("what happened:\n" + r.n.told())
		}
	})
}

// first is the fault of the first request.
func first(f fault) func(int, *corev1.PodLogOptions) *fault {
	return func(n int, _ *corev1.PodLogOptions) *fault {
		if n > 1 {
			return nil
		}
		return &f
	}
}

func numbered(from, to int) (lines []string) {
	for i := from; i < to; i++ {
		lines = append(lines, fmt.Sprintf("line %d %s", i, strings.Repeat("x", 80)))
	}
	return lines
}

// finish ends the container and returns its capture, which must be proper.
func (r *rig) finish(b *box) caught {
	r.t.Helper()
	b.Exit()
	r.tell(b, nil)
	got := r.drain()[0]
	if err := got.proper(linesOf(b.written()), true); err != nil {
		r.t.Errorf("%v\n%+v\n%s", err, got.cert, listed(got.lines))
	}
	return got
}

// wants holds a capture against what was written, all of it.
func (r *rig) wants(got caught, b *box, p logstream.Proof) {
	r.t.Helper()
	if d := difference(got.bytes, texts(linesOf(b.written()))); d != "" || got.cert.Proof != p {
		r.t.Errorf("%+v: %s", got.cert, d)
	}
}

// last waits until readers can have the last line that was written.
func (r *rig) last(b *box) {
	r.t.Helper()
	ls := linesOf(b.written())
	r.until("the last line is captured", func() bool { return r.newest().Equal(ls[len(ls)-1].parts[0].At) })
}

// A record whose writing was cut short: followers drop it, plain reads have it.
func TestATornLastRecordIsCaptured(t *testing.T) {
	play(t, quick, func(r *rig, b *box) {
		b.say("one", "two")
		r.tell(b, nil)
		r.last(b)
		b.tear(record{At: time.Now(), Text: "torn"})
		r.wants(r.finish(b), b, logstream.Verified)
	})
}

// The kubelet ends a stream in the runtime's error when the container is removed,
// without the last lines.
func TestARemovedContainer(t *testing.T) {
	t.Run("that can still be read is Verified", func(t *testing.T) {
		play(t, quick, func(r *rig, b *box) {
			b.say("one", "two")
			r.tell(b, nil)
			r.last(b)
			asked := 0
			b.Answer(func() error {
				if asked++; asked > 1 {
					return nil
				}
				return notFound(b.id)()
			})
			b.say("three")
			r.last(b)
			r.wants(r.finish(b), b, logstream.Verified)
		})
	})
	t.Run("that cannot is Incomplete", func(t *testing.T) {
		play(t, quick, func(r *rig, b *box) {
			b.say("one", "two")
			r.tell(b, nil)
			r.last(b)
			b.Remove()
			wait(2 * time.Second)
			r.tell(b, nil)
			got := r.drain()[0]
			if got.cert.Proof != logstream.Incomplete || got.bytes != "one\ntwo\n" || len(got.cert.Gaps) != 1 {
				t.Errorf("%+v %q", got.cert, got.bytes)
			}
		})
	})
}

func TestAnExitEndsTheStreamWithinASecond(t *testing.T) {
	play(t, quick, func(r *rig, b *box) {
		b.say("one")
		r.tell(b, nil)
		r.last(b)
		wait(1300 * time.Millisecond)
		b.Exit()
		exit := time.Now()
		r.until("the stream ends", func() bool { return strings.Contains(r.n.told(), "request 1 ended") })
		if d := time.Since(exit); d > 2*time.Second {
			t.Errorf("the stream ended %s after the container", d)
		}
		r.wants(r.finish(b), b, logstream.Verified)
	})
}

// Each time the kubelet's connection ends: at its restarts, and every four hours.
func TestAStreamThatEndsCleanlyInALineGoesOn(t *testing.T) {
	play(t, quick, func(r *rig, b *box) {
		r.n.fault = func(n int, o *corev1.PodLogOptions) *fault {
			if !o.Follow || n > 6 {
				return nil
			}
			return &fault{after: 777 * n, then: cleanly}
		}
		b.say(numbered(0, 40)...)
		r.tell(b, nil)
		r.last(b)
		r.wants(r.finish(b), b, logstream.Verified)
	})
}

// A node without inotify instances says so in the body, with HTTP 200. Its logs are read
// from their ends then, and a line that two records make up may be cut there.
func TestANodeWithoutInotifyIsRead(t *testing.T) {
	play(t, quick, func(r *rig, b *box) {
		r.n.fault = func(int, *corev1.PodLogOptions) *fault { return &fault{deaf: true} }
		b.say(numbered(0, 400)...)
		r.tell(b, nil)
		for _, l := range numbered(400, 410) {
			r.last(b)
			wait(time.Millisecond) // the first lines' times are ahead of a clock that stands
			b.say(l)
			b.write(
				record{At: time.Now().Add(time.Microsecond), Text: "one ", Partial: true},
				record{At: time.Now().Add(2 * time.Microsecond), Text: "and two ", Partial: true},
				record{At: time.Now().Add(2 * time.Microsecond), Text: "and three"},
			)
		}
		r.last(b)
		if received, whole := r.s.Stats().Bytes, int64(b.rendered()); received > 2*whole {
			t.Errorf("%d bytes were received of a log of %d", received, whole)
		}
		follows := 0
		for _, o := range r.n.asked() {
			if o.Follow {
				follows++
			}
		}
		if follows > 2 {
			t.Errorf("%d streams were tried", follows)
		}
		r.wants(r.finish(b), b, logstream.Verified)
	})
}

// The last line, asked for as such, has the time of its last record: newer than what was
// captured of it.
func TestAQuietLogThatEndsInAJoinedLineIsLeftAlone(t *testing.T) {
	play(t, quick, func(r *rig, b *box) {
		b.say("one")
		b.write(record{At: time.Now().Add(time.Millisecond), Text: "jo", Partial: true}, record{At: time.Now().Add(2 * time.Millisecond), Text: "ined"})
		r.tell(b, nil)
		r.last(b)
		wait(10 * quick.IdleProbe)
		streams := 0
		for _, o := range r.n.asked() {
			if o.Follow {
				streams++
			}
		}
		if streams > 2 {
			t.Errorf("%d streams", streams)
		}
		r.wants(r.finish(b), b, logstream.Verified)
	})
}

// Nobody reads, and the kubelet is not held up: it blocks after 8 MiB, and misses what
// is rotated meanwhile.
func TestAnAbsentReaderDoesNotHoldUpTheKubelet(t *testing.T) {
	play(t, logstream.Options{Memory: 1 << 20}, func(r *rig, b *box) {
		rd := r.c.Reader(context.WithoutCancel(r.t.Context()), "c", logstream.ReadOptions{})
		defer rd.Close()
		r.tell(b, nil)
		text := strings.Repeat("x", 16<<10)
		for i := range 640 {
			b.write(record{At: time.Now().Add(time.Duration(i)), Text: text})
		}
		r.last(b)
		r.wants(r.finish(b), b, logstream.Verified)
	})
}

// The node keeps one dead container of a slot: its log is asked for as the previous one.
func TestTheRunBeforeIsReadAsThePreviousOne(t *testing.T) {
	play(t, quick, func(r *rig, a *box) {
		r.n.fault = first(fault{after: 200, then: brokenly})
		a.say(numbered(0, 10)...)
		a.Exit()
		b := r.begin("b")
		b.say(numbered(10, 20)...)
		r.tell(b, a)
		r.last(b)
		b.Exit()
		r.tell(b, a)
		got := r.drain()
		if len(got) != 2 {
			t.Fatalf("%d runs", len(got))
		}
		r.wants(got[0], a, logstream.Verified)
		r.wants(got[1], b, logstream.Verified)
	})
}

// A kubelet whose cached status is old answers with the log of the run before.
func TestTheLogOfAnotherRunIsNotTakenForThisOnes(t *testing.T) {
	play(t, quick, func(r *rig, a *box) {
		a.say(numbered(0, 10)...)
		r.tell(a, nil)
		r.last(a)
		a.Exit()
		b := newBox(r.t, "containerd://b")
		b.say(numbered(10, 20)...)
		r.tell(b, a) // the kubelet goes on to answer with a's log
		wait(time.Second)
		r.n.start(b)
		r.last(b)
		b.Exit()
		r.tell(b, a)
		got := r.drain()
		// The next run's requests were answered with it: nothing here tells that from a log of
		// the next run that was read before its status came.
		r.wants(got[0], a, logstream.Unverified)
		r.wants(got[1], b, logstream.Verified)
	})
}

// What logstream knows of the kubelet, said by the kubelet's code.
func TestTheKubeletRendersAsLogstreamBelieves(t *testing.T) {
	t0 := time.Date(2026, 11, 22, 10, 0, 0, 999, time.UTC)
	s := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Second) }
	b := newBox(t, "containerd://a")
	b.Exit()
	b.write(
		record{At: s(0), Text: "one"},
		record{At: s(1), Text: "left", Partial: true},
		record{At: s(2), Text: "right"},
		record{At: s(3).In(time.FixedZone("", 7*3600+1800)), Text: "east"},
	)
	one := int64(1)
	zero := t0.Add(2 * time.Second).Truncate(time.Second)
	for name, k := range map[string]struct {
		o    corev1.PodLogOptions
		want string
	}{
		"whole": {corev1.PodLogOptions{}, "2026-11-22T10:00:00.000000999Z one\n2026-11-22T10:00:01.000000999Z leftright\n2026-11-22T17:30:03.000000999+07:30 east\n"},
		"a filter that cuts a joined line leaves its end without a timestamp": {
			corev1.PodLogOptions{SinceTime: &metav1.Time{Time: zero}},
			"right\n2026-11-22T17:30:03.000000999+07:30 east\n",
		},
		"the last record": {corev1.PodLogOptions{TailLines: &one}, "2026-11-22T17:30:03.000000999+07:30 east\n"},
	} {
		var body bytes.Buffer
		k.o.Timestamps = true
		if err := getContainerLogs(context.WithoutCancel(t.Context()), b, &k.o, false, &body); err != nil || body.String() != k.want {
			t.Errorf("%s: %v %q, want %q", name, err, body.String(), k.want)
		}
	}
	two := int64(2)
	var body bytes.Buffer
	if err := getContainerLogs(context.WithoutCancel(t.Context()), b, &corev1.PodLogOptions{Timestamps: true, TailLines: &two}, false, &body); err != nil || !strings.HasPrefix(body.String(), "2026-11-22T10:00:02.000000999Z right\n") {
		t.Errorf("the end of a joined line has a timestamp of its own: %v %q", err, body.String())
	}
	b.tear(record{At: s(4), Text: "torn"})
	for follow, want := range map[bool]bool{false: true, true: false} {
		body.Reset()
		err := getContainerLogs(context.WithoutCancel(t.Context()), b, &corev1.PodLogOptions{Follow: follow}, false, &body)
		if got := strings.HasSuffix(body.String(), "torn"); err != nil || got != want {
			t.Errorf("follow %v: %v %q", follow, err, body.String())
		}
	}
	b.Answer(notFound("x"))
	if err := getContainerLogs(context.WithoutCancel(t.Context()), b, &corev1.PodLogOptions{}, false, io.Discard); err == nil || !strings.HasPrefix(err.Error(), "unable to retrieve container logs for ") {
		t.Error(err)
	}
}
