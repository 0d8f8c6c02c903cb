package logstream

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// A crashLoop plays short lives of one container, some of them silent, as a kubelet does:
// it restarts the container at once when it has ended for the first time, and else waits.
// Statuses come late, some of them not at all, requests fail, and other things happen to
// the pod.
type crashLoop struct {
	*bench
	rng    *rand.Rand
	late   time.Duration // of statuses, at most
	due    time.Time     // when the last of them comes
	swaps  bool          // the first run is a placeholder
	over   bool          // its tracking ended
	faulty int           // every how many requests fails; 0: none
	gone   map[string]bool
	lives  map[string]*box
	cut    map[string]bool // whose log was rotated
}

// upTo picks a duration, up to one of the choices.
func (c *crashLoop) upTo(choices ...time.Duration) time.Duration {
	return time.Duration(c.rng.Int64N(int64(choices[c.rng.IntN(len(choices))]) + 1))
}

func (c *crashLoop) oneIn(n int) bool { return c.rng.IntN(n) == 0 }

// tell has the capture hear of ev, late, but not before what it heard of already.
func (c *crashLoop) tell(ev watch.Event) {
	if at := time.Now().Add(c.upTo(0, time.Millisecond, c.late)); at.After(c.due) {
		c.due = at
	}
	time.AfterFunc(time.Until(c.due), func() { c.c.Handle(ev) })
}

// fault is what happens to a request.
func (c *crashLoop) fault(rng *rand.Rand, o *corev1.PodLogOptions) *fault {
	if c.faulty > 0 && rng.IntN(c.faulty) == 0 {
		switch rng.IntN(5) {
		case 0:
			return &fault{err: refused()}
		case 1:
			return &fault{err: notFound("pods/log", "p")}
		case 2:
			return &fault{words: `failed to open log file "/var/log/pods/n_p_u/a/0.log": no such file or directory`}
		case 3:
			return &fault{cut: rng.IntN(90), with: refused()}
		case 4:
			if o.Follow {
				return &fault{cut: rng.IntN(90), words: outOfWatchers}
			}
		}
	}
	b := c.n.cur["a"]
	if o.Previous && !b.waits {
		b = c.n.prev["a"]
	}
	if b != nil && c.gone[b.id] {
		return &fault{words: "unable to retrieve container logs for " + b.id}
	}
	return nil
}

// live plays the life of one run.
func (c *crashLoop) live(k int) {
	id := fmt.Sprint("a", k)
	if c.swaps && k < 2 {
		c.p.status("a").ImageID = fmt.Sprint("image ", k)
	}
	c.n.start("a", id)
	c.lives[id] = c.n.cur["a"]
	if ev := c.p.running("a", id); c.oneIn(2) {
		c.tell(ev)
	}
	lines := c.rng.IntN(4)
	if c.swaps && k == 0 {
		lines = 0
	}
	for i := range lines {
		time.Sleep(c.upTo(0, time.Millisecond, time.Second))
		c.n.print("a", fmt.Sprintf("run %d, line %d", k, i))
		if c.oneIn(50) {
			c.n.rotate("a")
			c.cut[id] = true
		}
	}
	time.Sleep(c.upTo(0, 50*time.Millisecond, 3*time.Second))
	c.n.exit("a")
	c.n.change(func() { // it keeps one dead container
		if p := c.n.prev["a"]; p != nil {
			c.gone[p.id] = true
		}
	})
	if ev := c.p.ended("a", id); !c.oneIn(4) {
		c.tell(ev)
	}
}

// between is what happens between two runs.
func (c *crashLoop) between(k int) {
	if c.swaps && k == 0 {
		return // the image was patched: the next one begins at once
	}
	time.Sleep(time.Millisecond + c.upTo(0, time.Millisecond, time.Second))
	if k > 0 && (!c.swaps || k > 1) {
		c.n.wait("a")
		if ev := c.p.waiting("a", "CrashLoopBackOff"); !c.oneIn(4) {
			c.tell(ev)
		}
		time.Sleep(10 * time.Second)
	}
	switch c.rng.IntN(30) {
	case 0:
		c.tell(closedEvent())
		c.over = true
	case 1:
		c.tell(watch.Event{Type: watch.Error, Object: outOfScope()})
	case 2, 3, 4:
		c.p.pod.Labels = map[string]string{"after": fmt.Sprint(k)}
		c.tell(c.p.event(watch.Modified))
	}
}

func playCrashLoop(t *testing.T, seed uint64) (proofs map[Proof]int) {
	rng := rand.New(rand.NewPCG(seed, 0))
	l := crashLoop{rng: rng, gone: map[string]bool{}, lives: map[string]*box{}, cut: map[string]bool{}}
	proofs = map[Proof]int{}
	var runs Runs
	if l.swaps = l.oneIn(3); l.swaps {
		runs = &script{placeholders: map[string]bool{"a0": true}}
	}
	inBubble(t, Options{}, runs, func(b *bench) {
		l.bench, b.p = b, newPod(corev1.RestartPolicyAlways, "a")
		l.late, l.faulty = l.upTo(0, 20*time.Millisecond, 500*time.Millisecond, 5*time.Second), []int{0, 0, 3, 10}[rng.IntN(4)]
		faults := rand.New(rand.NewPCG(seed, 1))
		b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault { return l.fault(faults, o) }
		time.Sleep(l.upTo(time.Second))
		live := b.listen("a")
		most := 1 + rng.IntN(4)
		for k := range most {
			l.live(k)
			l.between(k)
		}
		l.live(most)
		if l.oneIn(4) {
			b.p.pod.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		} else {
			b.p.pod.Status.Phase = corev1.PodFailed
		}
		l.tell(b.p.event(watch.Modified))
		time.Sleep(time.Until(l.due) + l.upTo(0, 10*time.Second))
		start := time.Now()
		certs := b.drain()
		if took := time.Since(start); took > 5*time.Minute { // a run may wait more than once for a status: 3m15s was seen
			t.Errorf("seed %d: Drain took %s", seed, took)
		}
		l.checkReaders(t, seed, certs, live())
		for i, cert := range certs {
			proofs[cert.Proof]++
			log := &b.c.order[i].log
			end, _ := log.bounds()
			got, want := string(log.peek(make([]byte, end), 0, end)), strings.Join(l.lives[cert.ContainerID].truth, "")
			if (cert.Proof == Verified || cert.Why == whyNexts) && got != want && !l.cut[cert.ContainerID] {
				t.Errorf("seed %d, late %s: %+v has\n%s want\n%s", seed, l.late, cert, got, want)
			}
		}
	})
	return proofs
}

// linesOf are the lines that a reader brings.
func linesOf(r *Reader) string {
	var text strings.Builder
	for line, err := range r.Lines() {
		if err == nil && line.Gap == nil {
			text.Write(line.Text)
			text.WriteByte('\n')
		}
	}
	return text.String()
}

// listen reads a slot as it is captured, until it is asked for what it got.
func (b *bench) listen(slot string) (text func() string) {
	ctx, cancel := context.WithCancel(b.ctx)
	read := make(chan string, 1)
	go func() {
		read <- linesOf(b.c.Reader(ctx, slot, ReadOptions{Gap: func(Gap) string { return "" }}))
	}()
	return func() string {
		synctest.Wait()
		cancel()
		return <-read
	}
}

// checkReaders: no line is read twice, whenever it is read, and one that is not read is in a
// Gap of its run. What was rotated before it was read is lost untold.
func (c *crashLoop) checkReaders(t *testing.T, seed uint64, certs []Certificate, live string) {
	late := linesOf(c.c.Reader(c.ctx, "a", ReadOptions{Snapshot: true, Gap: func(Gap) string { return "" }}))
	if c.swaps || c.over {
		live = late // a script knows no runs
	}
	for name, text := range map[string]string{"live": live, "late": late} {
		seen := map[string]bool{}
		for line := range strings.Lines(text) {
			if seen[line] {
				t.Errorf("seed %d, late %s: the %s reader got %q twice: %q; %+v", seed, c.late, name, line, text, certs)
			}
			seen[line] = true
		}
		for _, cert := range certs {
			if strings.Contains(cert.Why, "while the container ran") {
				continue
			}
			for _, line := range c.lives[cert.ContainerID].truth {
				ns, n := stamp.Parse([]byte(line))
				hasIt := func(g Gap) bool { return g.ContainerID != "" && g.encloses(ns) }
				if !seen[line[n:]] && !c.cut[cert.ContainerID] && !slices.ContainsFunc(cert.Gaps, hasIt) {
					t.Errorf("seed %d, late %s: the %s reader did not get %q, which is in no gap: %q; %+v", seed, c.late, name, line, text, certs)
				}
			}
		}
	}
}

// encloses reports whether the line of a time may be in the gap.
func (g Gap) encloses(ns int64) bool {
	at := time.Unix(0, ns)
	return !at.Before(g.From) && (g.To.IsZero() || !at.After(g.To))
}

func TestRandomCrashLoopsVerifyNoRunWithTheLogOfAnother(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	proofs := map[Proof]int{}
	many := 50 * *trials / slowed // they are short
	for i := range many {
		for p, n := range playCrashLoop(t, first+uint64(i)) {
			proofs[p] += n
		}
		if t.Failed() {
			t.Fatalf("run again with -seed %d -trials 1", first+uint64(i))
		}
	}
	t.Logf("seed %d, %d crash loops: %v", first, many, proofs)
}
