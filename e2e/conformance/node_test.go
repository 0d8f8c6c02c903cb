package conformance

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil/nodelog"
)

// A history is what happens to the log of one container, and who reads it: everything
// that a runtime, a kubelet and clients of all speeds may do.
type history struct {
	*box
	rng   *rand.Rand
	pen   *pen
	story strings.Builder
	reads []*comparedRead
	over  sync.WaitGroup
}

// A comparedRead is one request and its answers: that of the kubelet's own code, which
// reads the files on the disk, and those of the simulated node, pushed and pulled.
type comparedRead struct {
	o    corev1.PodLogOptions
	seed uint64 // of the client's speed
	slow int    // how often, in a hundred writes, the client lets the node wait

	kubelet, pushed, pulled strings.Builder
}

// client is who takes an answer. It lets the node wait now and then, and never takes
// anything at a moment at which something else happens.
type client struct {
	to   *strings.Builder
	rng  *rand.Rand
	slow int
}

func (c *client) Write(p []byte) (int, error) {
	if len(p) > 0 && c.rng.IntN(100) < c.slow {
		wake := time.Now().Add(time.Duration(c.rng.Int64N(int64(3 * time.Second)))).Truncate(time.Millisecond)
		wait(time.Until(wake.Add(500 * time.Microsecond)))
	}
	return c.to.Write(p)
}

func (h *history) note(format string, args ...any) {
	fmt.Fprintf(&h.story, "%s  %s\n", time.Now().UTC().Format("05.000"), fmt.Sprintf(format, args...))
}

// open asks for the log.
func (h *history) open() {
	r := &comparedRead{seed: h.rng.Uint64(), slow: []int{0, 0, 30, 100}[h.rng.IntN(4)]}
	few := func() *int64 { n := int64(h.rng.IntN(6)); return &n }
	r.o.Follow = h.rng.IntN(2) == 0
	r.o.Timestamps = h.rng.IntN(3) > 0
	if h.rng.IntN(4) == 0 {
		r.o.TailLines = few()
	}
	if h.rng.IntN(6) == 0 {
		n := 1 + h.rng.Int64N(3000)
		r.o.LimitBytes = &n
	}
	if h.rng.IntN(4) == 0 {
		r.o.SinceTime = &metav1.Time{Time: time.Now().Add(-time.Duration(h.rng.IntN(20)) * time.Second).Truncate(time.Second)}
	}
	h.note("read %d: %+v, slow %d%%", len(h.reads), r.o, r.slow)
	h.reads = append(h.reads, r)
	by := func(to *strings.Builder) *client { return &client{to, rand.New(rand.NewPCG(r.seed, 0)), r.slow} }
	ctx := context.WithoutCancel(h.t.Context())
	h.over.Go(func() {
		if err := getContainerLogs(ctx, h.box, &r.o, false, by(&r.kubelet)); err != nil {
			r.kubelet.WriteString(err.Error())
		}
	})
	h.over.Go(func() {
		if _, err := h.Open(ctx, nodelog.For(&r.o)).WriteTo(by(&r.pushed)); err != nil {
			h.t.Error(err)
		}
	})
	if r.slow > 0 {
		return // the pulled log goes no further than it is read
	}
	h.over.Go(func() {
		log := struct{ io.Reader }{h.Open(ctx, nodelog.For(&r.o))}
		if _, err := io.Copy(&r.pulled, log); err != nil {
			h.t.Error(err)
		}
	})
}

// prints writes a line, a record at a time: how much of it a follower finds when it
// looks is not left to chance.
func (h *history) prints() {
	for _, r := range h.pen.line() {
		h.write(r)
		synctest.Wait()
	}
}

// step is one thing that happens.
func (h *history) step() {
	turn := func(what string, f func()) {
		h.note("%s", what)
		f()
		synctest.Wait()
		if h.rng.IntN(2) == 0 {
			wait(time.Duration(h.rng.IntN(1500)) * time.Millisecond)
		}
		synctest.Wait()
	}
	switch k := h.rng.IntN(100); {
	case k < 50:
		turn("prints a line", h.prints)
	case k < 52:
		raw := h.pen.line()[0].Raw()
		turn("writes a piece of a record", func() { h.Tear(raw[:h.rng.IntN(len(raw))]) })
	case k < 54:
		turn("ends whatever was begun", func() { h.Tear("\n") })
	case k < 56:
		turn("writes an empty piece of a line", func() { h.write(record{At: time.Now(), Partial: true}) })
	case k < 68:
		turn("rename", func() { h.Rename(2 + h.rng.IntN(4)) })
		if h.rng.IntN(2) == 0 {
			turn("prints to the old file", h.prints)
		}
		if h.rng.IntN(4) == 0 {
			turn("a read in between", h.open)
		}
		if h.rng.IntN(5) == 0 {
			turn("renamed back", h.RenameBack)
			break
		}
		turn("reopen", func() { h.Reopen() })
		for h.rng.IntN(2) == 0 {
			turn("prints to the old file", h.prints)
		}
		turn("turn", h.Turn)
		h.pen.file++
	case k < 70:
		turn("truncated", h.Truncate)
	default:
		if len(h.reads) < 12 {
			turn("a read", h.open)
		}
	}
}

func playHistory(t *testing.T, seed uint64) (bytes int) {
	rng := rand.New(rand.NewPCG(seed, seed))
	clocks := []func(*rand.Rand) nodelog.Clock{
		nodelog.Containerd, nodelog.Conmon, nodelog.BothStreams, nodelog.SetBack, nodelog.Zoned, nodelog.SummerTime,
	}
	k := life{clock: clocks[rng.IntN(len(clocks))], texts: mixed, parts: rng.IntN(2) == 0, bulky: rng.IntN(3) == 0}
	h := &history{box: newBox(t, "containerd://a"), rng: rng}
	h.pen = &pen{life: k, rng: rng, clock: k.clock(rng)}
	for range 10 + rng.IntN(60) {
		h.step()
	}
	switch rng.IntN(4) {
	case 0:
		h.note("removed")
		h.Remove()
	case 1:
		h.note("the runtime fails")
		h.Answer(notFound("a"))
		synctest.Wait()
		wait(2 * time.Second)
		h.Answer(nil)
	}
	h.note("exit")
	h.Exit()
	h.over.Wait()
	for i, r := range h.reads {
		bytes += r.kubelet.Len()
		d := difference(r.pushed.String(), r.kubelet.String())
		if d == "" && r.slow == 0 {
			d = difference(r.pulled.String(), r.kubelet.String())
		}
		if d != "" {
			t.Errorf("seed %d, read %d: the simulated node sent %s\n%s", seed, i, d, h.story.String())
			break
		}
	}
	return bytes
}

// The node that other tests run on is this one: what it sends is what the kubelet's code
// sends, byte by byte.
func TestTheSimulatedNodeSendsWhatTheKubeletSends(t *testing.T) {
	if !virtual {
		t.Skip("in real time, two followers are never at the same place")
	}
	first, each := seeded(0, 300)
	bytes := 0
	for i := range each {
		inTime(t, func(t *testing.T) { bytes += playHistory(t, first+uint64(i)) })
		if t.Failed() {
			t.Fatalf("play it again with -run '%s' -trials 1 -seed %d", t.Name(), first+uint64(i))
		}
	}
	t.Logf("seed %d, %d histories, %d bytes compared", first, each, bytes)
}
