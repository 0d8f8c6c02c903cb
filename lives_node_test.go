package podlife_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/internal/testutil"
)

// The node of a life, the way to it, and who notes what is true of it.

const (
	placeholderImage = "placeholder:1"
	stepImage        = "step:1"
	placeholderSays  = "the placeholder's words"
)

func placeholder(ctx context.Context, _ []string, out io.Writer) int {
	fmt.Fprintln(out, placeholderSays)
	<-ctx.Done()
	return 0
}

// step is the program of every step; its argument is the slot.
func (l *life) step(ctx context.Context, args []string, out io.Writer) int {
	slot, truth := args[0], &printed{}
	plan := l.slot(slot)
	l.mu.Lock()
	n := len(l.printed[slot])
	l.printed[slot] = append(l.printed[slot], truth)
	l.mu.Unlock()
	run := plan.runs[min(n, len(plan.runs)-1)]
	l.note("run %d of %s begins", n, slot)
	out = &recorder{life: l, truth: truth, out: out}
	for i, x := range run.parts {
		if !pause(ctx, x.pause) {
			break
		}
		testutil.Flood(ctx, out, fmt.Sprintf("%s/%d/%02d/", slot, n, i), x.lines, x.rate)
	}
	if plan.service {
		<-ctx.Done()
	}
	if ctx.Err() != nil {
		run.code = 143 // SIGTERM
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked("run %d of %s ends with %d after %d lines", n, slot, run.code, len(truth.lines))
	truth.ended, truth.code = time.Now(), run.code
	return run.code
}

// recorder notes what a program prints, with the time that its runtime gives each
// line: no two of one container have the same.
type recorder struct {
	life  *life
	truth *printed
	out   io.Writer
}

func (r *recorder) Write(p []byte) (int, error) {
	n, err := r.out.Write(p)
	if err != nil {
		return n, err
	}
	r.life.mu.Lock()
	defer r.life.mu.Unlock()
	t := r.truth
	for line := range bytesLines(p) {
		at := time.Now()
		if k := len(t.times); k > 0 && !at.After(t.times[k-1]) {
			at = t.times[k-1].Add(1)
		}
		t.lines, t.times = append(t.lines, line), append(t.times, at)
	}
	return n, nil
}

func (l *life) reopen(id string) (makes, turns time.Duration, err error) {
	n := l.count("rotation")
	makes, turns = 2*time.Millisecond, l.upTo(l.turns, "turn", n)
	if l.chance("bad turn", n).IntN(100) < l.badTurns {
		err = errors.New("no space left on device")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.noteLocked("%s is rotated: %s, %v", short(id), makes+turns, err)
	l.rotations[id] = append(l.rotations[id], rotation{time.Now(), makes + turns, err != nil})
	return makes, turns, err
}

func (l *life) statusTakes(types.NamespacedName) time.Duration {
	return 10*time.Millisecond + l.upTo(l.status, "status", l.count("status"))
}

func (l *life) fault(r *http.Request) (f testutil.Fault) {
	q := r.URL.Query()
	if q.Get("watch") != "" {
		f.Lag = l.upTo(l.lag, "lag", l.count("watch"))
		return f
	}
	slot, follow := q.Get("container"), q.Get("follow") == "true"
	if slot == "" {
		return f
	}
	kind := slot + " read"
	if follow {
		kind = slot + " follow"
		f.EndAfter, f.Rate = l.ends, l.slowLink
	}
	n := l.count(kind)
	if n > 40 { // in the end the node recovers
		return f
	}
	rng := l.chance(kind, n)
	if n%4 == 0 && rng.IntN(100) < l.cuts { // not two in a row: a stream that brings nothing is waited with
		f.CutAfter = 200 + rng.Int64N(30_000) // two reads that end at one byte, cleanly, agree
		if rng.IntN(2) == 0 {
			f.CutErr = io.ErrUnexpectedEOF
		}
	}
	if rng.IntN(100) < l.refusals {
		l.refuse(&f, rng)
	}
	f.NoWatcher = follow && rng.IntN(100) < l.deaf
	f.LostAtRotation = follow && rng.IntN(100) < l.lost
	q.Del("container")
	q.Del("timestamps")
	l.note("request: %s %s; cut after %d, %v, %q, deaf %t, lost %t, answers %d after %s", slot, q.Encode(), f.CutAfter, f.CutErr, f.CutText, f.NoWatcher, f.LostAtRotation, f.Status, f.Delay)
	if f.CutAfter > 0 || f.NoWatcher || f.Status > 0 || f.Delay > 0 {
		l.mu.Lock()
		l.lastFault = time.Now()
		l.mu.Unlock()
	}
	return f
}

// refuse has a log request refused, answered late, or ended in the middle of a line.
func (l *life) refuse(f *testutil.Fault, rng *rand.Rand) {
	switch rng.IntN(8) {
	case 0:
		f.Status, f.Reason, f.RetryAfter = http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, time.Duration(1+rng.IntN(2))*time.Second
	case 1:
		f.Status, f.Reason = http.StatusInternalServerError, metav1.StatusReasonInternalError
		f.Message = `Get "https://10.0.0.1:10250/containerLogs/default/p/a": dial tcp 10.0.0.1:10250: connect: connection refused`
	case 2:
		f.Status, f.Message = http.StatusNotImplemented, "Not Implemented"
	case 3:
		f.Status = http.StatusServiceUnavailable
	case 4:
		f.Status, f.Message = http.StatusOK, "failed to create fsnotify watcher: too many open files"
	case 5:
		f.Delay = time.Duration(rng.Int64N(int64(3 * time.Second)))
	default:
		f.CutAfter = 1 + rng.Int64N(20_000)
		f.CutText = `failed to open log file "/var/log/pods/default_p_u/a/0.log": no such file or directory`
	}
}

// spy is the last of the pod's handlers: it notes what the others were told.
type spy struct{ *life }

func (s spy) Handle(ev watch.Event) {
	p, ok := ev.Object.(*corev1.Pod)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lastStatus, s.deleted = time.Now(), ev.Type == watch.Deleted
	for _, c := range p.Status.ContainerStatuses {
		s.saw(c.Name, c.ContainerID, int(c.RestartCount))
		if t := c.State.Terminated; t != nil {
			s.saw(c.Name, t.ContainerID, int(c.RestartCount))
		}
		if t := c.LastTerminationState.Terminated; t != nil {
			s.saw(c.Name, t.ContainerID, int(c.RestartCount)-1)
		}
	}
}

func (s spy) saw(slot, id string, run int) {
	if id != "" && s.shown[id] == nil {
		s.noteLocked("a status shows run %d of %s: %s", run, slot, short(id))
		s.shown[id] = &shown{slot, run, time.Now()}
	}
}
