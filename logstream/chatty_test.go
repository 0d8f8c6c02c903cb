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
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// A chattyPod plays runs of one slot that print for some seconds each, behind a placeholder
// or one another. Streams end cleanly or break off, the node rotates the log, and statuses
// are late or lost.
type chattyPod struct {
	*bench
	rng   *rand.Rand
	late  time.Duration // of statuses, at most
	lossy bool          // some of them are lost
	due   time.Time     // when the last of them comes
	gone  bool          // previous runs are removed
	runs  []*box
	early map[string]bool // whose log was rotated before any of it was captured

	captured  int64     // bytes in all logs
	since     time.Time // when they changed, or when nothing could be captured last
	longest   time.Duration
	longestAt time.Time
}

func (c *chattyPod) oneIn(n int) bool { return c.rng.IntN(n) == 0 }

func (c *chattyPod) tell(ev watch.Event) {
	if c.lossy && c.oneIn(3) {
		return
	}
	if at := time.Now().Add(time.Duration(c.rng.Int64N(int64(c.late) + 1))); at.After(c.due) {
		c.due = at
	}
	time.AfterFunc(time.Until(c.due), func() { c.c.Handle(ev) })
}

// look notes for how long nothing was captured though a status says that a run is alive.
func (c *chattyPod) look() {
	now, captured, alive := time.Now(), int64(0), false
	c.c.mu.Lock()
	for _, r := range c.c.order {
		alive = r.life == lifeAlive
		_, end := r.log.bounds()
		captured += end + 1<<40*int64(r.log.retreated())
	}
	c.c.mu.Unlock()
	if !alive || captured != c.captured {
		c.captured, c.since = captured, now
	}
	if d := now.Sub(c.since); d > c.longest {
		c.longest, c.longestAt = d, now
	}
}

// live plays the life of one run.
func (c *chattyPod) live(k int, placeholder bool) {
	id := fmt.Sprint("a", k)
	c.n.start("a", id)
	c.since = time.Now()
	box := c.n.cur["a"]
	c.runs = append(c.runs, box)
	c.tell(c.p.running("a", id))
	if placeholder {
		time.Sleep(time.Duration(c.rng.Int64N(int64(2 * time.Second))))
		c.n.exit("a")
		return
	}
	pause := time.Duration(1+c.rng.IntN(100)) * time.Millisecond
	for i := range c.rng.IntN(200) {
		c.n.print("a", fmt.Sprintf("run %d, line %d", k, i))
		time.Sleep(pause)
		c.look()
		switch c.rng.IntN(60) {
		case 0: // a clean end
			synctest.Wait()
			c.n.change(func() { c.n.breaks, c.n.cleanly = c.n.breaks+1, true; box.wake() })
		case 1:
			synctest.Wait()
			c.n.change(func() { c.n.breaks, c.n.cleanly = c.n.breaks+1, c.oneIn(2) })
			c.rotate(box)
		case 2:
			c.rotate(box)
		}
	}
	c.n.exit("a")
	c.tell(c.p.ended("a", id))
}

func (c *chattyPod) rotate(b *box) {
	i := slices.IndexFunc(c.c.order, func(r *run) bool { return r.id == b.id })
	if i < 0 || !c.c.order[i].log.began() {
		c.early[b.id] = true // what is rotated before it was ever read is lost untold
	}
	c.n.rotate("a")
}

func playChattyPod(t *testing.T, seed uint64) (proofs map[Proof]int, longest time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 0))
	l := &chattyPod{rng: rng, early: map[string]bool{}}
	proofs = map[Proof]int{}
	l.late, l.lossy = []time.Duration{0, time.Second, 10 * time.Second, blindness}[rng.IntN(4)], l.oneIn(3)
	var runs Runs
	swapped := l.oneIn(2)
	if swapped {
		runs = &slotRuns{placeholder: "a0"}
	}
	policy, lives := corev1.RestartPolicyAlways, 1+rng.IntN(3)
	if l.oneIn(2) {
		policy, lives = corev1.RestartPolicyNever, 1
	}
	if swapped {
		lives++
	}
	inBubble(t, Options{RotateSize: 1000, HeadProbe: time.Second}, runs, func(b *bench) {
		l.bench, b.p = b, newPod(policy, "a")
		if swapped {
			runs.(*slotRuns).c = b.c
		}
		l.gone = l.oneIn(2)
		b.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
			if prev := b.n.prev["a"]; o.Previous && l.gone && prev != nil && !b.n.cur["a"].waits {
				return &fault{words: "unable to retrieve container logs for containerd://" + prev.id}
			}
			return nil
		}
		live := b.live("a")
		for k := range lives {
			l.live(k, swapped && k == 0)
			time.Sleep(time.Duration(rng.Int64N(int64(time.Second))))
			if k > 0 && (!swapped || k > 1) && k < lives-1 {
				b.n.wait("a")
				l.tell(b.p.waiting("a", "CrashLoopBackOff"))
				time.Sleep(10 * time.Second)
			}
		}
		b.p.pod.Status.Phase = corev1.PodFailed
		l.late, l.lossy = 0, false
		l.tell(b.p.event(watch.Modified))
		time.Sleep(time.Until(l.due) + time.Second)
		verified := map[string]bool{}
		for i, cert := range b.drain() {
			proofs[cert.Proof]++
			if cert.Proof != Verified || l.early[cert.ContainerID] {
				continue
			}
			verified[cert.ContainerID] = true
			log := &b.c.order[i].log
			_, end := log.bounds()
			k := slices.IndexFunc(l.runs, func(b *box) bool { return b.id == cert.ContainerID })
			if got, want := string(log.peek(make([]byte, end), 0, end)), strings.Join(l.runs[k].truth, ""); got != want {
				t.Errorf("seed %d: %+v has\n%s want\n%s", seed, cert, got, want)
			}
		}
		text, err := b.readAll("a", ReadOptions{Gap: func(Gap) string { return "" }})
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		seen := map[string]bool{}
		for line := range strings.Lines(text) {
			if seen[line] {
				t.Errorf("seed %d: %q is read twice in the end", seed, line)
				break
			}
			seen[line] = true
		}
		live()
		for _, box := range l.runs { // of a run that is Verified, nothing may be missing
			for _, line := range box.truth {
				if line = line[stamp.Len([]byte(line)):]; verified[box.id] && !seen[line] {
					t.Errorf("seed %d: %q is missing", seed, line)
				}
			}
		}
		if l.longest > 2*time.Second {
			t.Errorf("seed %d: nothing was captured for %s before %s", seed, l.longest, l.longestAt)
		}
	})
	return proofs, l.longest
}

// slotRuns are the runs of a slot but for its placeholder, in the order in which they
// were found.
type slotRuns struct {
	placeholder string
	c           *Capture
}

func (s *slotRuns) IsPlaceholder(_, id string) bool { return id == s.placeholder }

func (s *slotRuns) NextRun(ctx context.Context, slot, after string) (string, error) {
	return s.c.nextFound(ctx, slot, after)
}

func TestRandomChattyRunsAreCapturedWithoutAStallAndNothingIsReadTwice(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	proofs, longest := map[Proof]int{}, time.Duration(0)
	many := 10 * *trials / slowed
	for i := range many {
		ps, d := playChattyPod(t, first+uint64(i))
		for p, n := range ps {
			proofs[p] += n
		}
		if longest = max(longest, d); t.Failed() {
			t.Fatalf("run again with -seed %d -trials 1", first+uint64(i))
		}
	}
	t.Logf("seed %d, %d pods: %v, nothing was captured for %s at most", first, many, proofs, longest)
}
