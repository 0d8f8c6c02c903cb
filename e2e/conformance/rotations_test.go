package conformance

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream"
)

// A follower that is still catching up when the log is rotated never turns to the new
// file.
func TestARotationBeforeTheFirstEndOfFileIsNoticed(t *testing.T) {
	play(t, logstream.Options{IdleProbe: 2 * time.Second, HeadProbe: -1}, func(r *rig, b *box) {
		r.n.fault = first(fault{after: 5000, stall: time.Second})
		b.say(numbered(0, 300)...)
		r.tell(b, nil)
		wait(500 * time.Millisecond)
		b.rotate()
		b.say(numbered(300, 330)...)
		r.last(b)
		r.wants(r.finish(b), b, logstream.Unverified)
	})
}

// A follower that is held up over two rotations skips a file and sends another twice.
func TestAReaderHeldUpOverTwoRotationsTellsOfTheSkippedFile(t *testing.T) {
	for name, o := range map[string]logstream.Options{
		"head probes":    quick,
		"no head probes": {IdleProbe: 2 * time.Second, HeadProbe: -1},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, o, func(r *rig, b *box) {
				r.n.fault = first(fault{after: 2000, stall: 4 * time.Second})
				b.say(numbered(0, 100)...)
				r.tell(b, nil)
				wait(100 * time.Millisecond)
				b.rotate()
				b.say(numbered(100, 110)...)
				wait(1900 * time.Millisecond)
				b.rotate()
				b.say(numbered(110, 112)...)
				wait(4 * time.Second)
				b.say(numbered(112, 120)...)
				r.last(b)
				if got := r.finish(b); got.cert.Proof == logstream.Verified || len(got.cert.Gaps) == 0 {
					t.Errorf("%+v", got.cert)
				}
			})
		})
	}
}

// Where the newest file has one line, nothing in its second copy tells it from output that
// repeats itself: but in a log of containerd's no two lines have one time.
func TestAFileOfOneLineThatIsOpenedTwiceIsCapturedOnce(t *testing.T) {
	play(t, logstream.Options{IdleProbe: -1, HeadProbe: -1}, func(r *rig, b *box) {
		b.say(numbered(0, 100)...)
		r.n.fault = first(fault{after: b.rendered() + 1, stall: time.Second})
		r.tell(b, nil)
		r.last(b) // at the end of a file, a follower begins to watch for the next
		for i := range 3 {
			if i > 0 {
				b.rotate()
			}
			wait(10 * time.Millisecond) // each has a time of its own
			b.say(numbered(100+i, 101+i)...)
		}
		wait(3 * time.Second)
		b.say(numbered(103, 110)...)
		r.last(b)
		got, skipped := r.finish(b), texts(linesOf(b.written()[101:102]))
		if want := strings.Replace(texts(linesOf(b.written())), skipped, "", 1); got.bytes != want || got.cert.Proof != logstream.Unverified {
			t.Errorf("%s, %+v", difference(got.bytes, want), got.cert)
		}
		if streams := r.s.Stats().Follows; streams != 2 {
			t.Errorf("%d streams", streams)
		}
	})
}

// What the runtime writes to the old file after it made the new one may be lost to
// followers. It is inside a gap.
func TestWritesToTheOldFileAreInsideAGap(t *testing.T) {
	play(t, quick, func(r *rig, b *box) {
		b.say(numbered(0, 20)...)
		r.tell(b, nil)
		for i := range 3 {
			r.last(b)
			wait(2 * time.Second)
			b.rotate(record{At: time.Now(), Text: "too late"})
			b.say(numbered(20+20*i, 40+20*i)...)
		}
		r.last(b)
		got := r.finish(b)
		if lost := 3 - strings.Count(got.bytes, "too late"); got.cert.Proof != logstream.Unverified || (virtual && lost == 0) {
			t.Errorf("%d lines lost, %+v", lost, got.cert)
		}
	})
}

// The kubelet gives a file its name back when the runtime could not make another, and
// its followers start over.
func TestAFailedRotationRepeatsNothing(t *testing.T) {
	play(t, quick, func(r *rig, b *box) {
		b.say(numbered(0, 50)...)
		r.tell(b, nil)
		r.last(b)
		b.FailToRotate(maxFiles)
		wait(time.Second)
		b.say(numbered(50, 60)...)
		r.last(b)
		if got := r.finish(b); got.bytes != texts(linesOf(b.written())) {
			t.Errorf("%+v\n%s", got.cert, listed(got.lines))
		}
	})
}

// Rotated while nobody could read: what is lost is inside a gap, and known to be.
func TestARotationWhileTheKubeletIsAwayIsAGap(t *testing.T) {
	play(t, quick, func(r *rig, b *box) {
		down := false
		r.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
			switch {
			case n == 1:
				return &fault{after: 1000, then: brokenly}
			case down:
				return &fault{refuse: refused}
			}
			return nil
		}
		down = true
		b.say(numbered(0, 30)...)
		r.tell(b, nil)
		wait(time.Second)
		b.rotate()
		b.say(numbered(30, 60)...)
		wait(time.Second)
		r.n.mu.Lock()
		down = false
		r.n.mu.Unlock()
		r.last(b)
		got := r.finish(b)
		if got.cert.Proof == logstream.Verified || len(got.cert.Gaps) == 0 || !strings.HasSuffix(got.bytes, texts(linesOf(b.written()[30:]))) {
			t.Errorf("%+v\n%s", got.cert, listed(got.lines))
		}
	})
}
