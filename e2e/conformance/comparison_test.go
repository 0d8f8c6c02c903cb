package conformance

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil/nodelog"
	"github.com/go-vela/podlife/logstream"
)

// A resumer is a way to go on with a log whose stream broke: it asks for the log from a
// time on, and says of every line that it gets whether it is new.
type resumer struct {
	begin func() (since time.Time)
	isNew func(at time.Time, text string) bool
}

// The ways to resume by the timestamps of lines. They are known to be taken by others.
var resumers = map[string]func() resumer{
	"count/s": func() resumer { // what a stream brought of its last second is counted, and then skipped
		var second time.Time
		count, skip := 0, 0
		return resumer{
			func() time.Time { count, skip = 0, count; return second },
			func(at time.Time, _ string) bool {
				switch s := at.Truncate(time.Second); {
				case !s.Equal(second):
					second, count, skip = s, 0, 0
				case skip > 0:
					skip--
					return false
				}
				count++
				return true
			},
		}
	},
	"ts<last":  func() resumer { return byTime(time.Time.Before) },
	"ts<=last": func() resumer { return byTime(func(at, last time.Time) bool { return !at.After(last) }) },
	"set": func() resumer { // of time and text
		var last time.Time
		seen := map[string]bool{}
		return resumer{func() time.Time { return last }, func(at time.Time, text string) bool {
			key := at.String() + text
			was := seen[key]
			last, seen[key] = at, true
			return !was
		}}
	},
}

func byTime(known func(at, last time.Time) bool) resumer {
	var last time.Time
	return resumer{func() time.Time { return last }, func(at time.Time, _ string) bool {
		if known(at, last) {
			return false
		}
		last = at
		return true
	}}
}

// A scene is a log that is read in streams: each finds a part of it on the node, and is
// cut somewhere in that.
type scene struct {
	records []record
	streams []stream
}

type stream struct {
	from, to int     // the records in the node's file
	cut      float64 // of what is to be sent; 1: all is
}

// newScene makes up 400 lines, read in nine streams. rotated: the file begins anew
// between streams now and then, wherever.
func newScene(k life, rotated bool, rng *rand.Rand) (s scene) {
	now, runtime := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), k.clock(rng)
	p := &pen{life: k, rng: rng, clock: func(_ time.Time, i, file int) time.Time {
		now = now.Add(time.Duration(rng.ExpFloat64() * float64(50*time.Millisecond)))
		return runtime(now, i, file)
	}}
	const most, streams = 400, 9
	for n := 1; n <= streams; n++ {
		w := stream{to: most, cut: rng.Float64()}
		if n == 1 {
			w.cut = max(w.cut, 0.3) // what is rotated before the first read is lost untold
		}
		if n == streams {
			w.cut = 1
		}
		if had := len(s.records); rotated {
			w.to = most * n / streams
			if had > 0 {
				w.from = s.streams[n-2].from
			}
			if n > 1 && rng.IntN(2) == 0 {
				w.from = had + rng.IntN(w.to-had)
			}
		}
		for len(s.records) < w.to {
			if len(s.records) >= w.from {
				p.file = w.from
			}
			s.records = append(s.records, p.line()...)
		}
		w.to = len(s.records)
		s.streams = append(s.streams, w)
	}
	return s
}

// plays plays r in a scene.
func (s scene) plays(t *testing.T, b *box, r resumer) (c caught) {
	for _, w := range s.streams {
		b.replace(s.records[w.from:w.to])
		o := &corev1.PodLogOptions{Timestamps: true}
		if since := r.begin(); !since.IsZero() {
			o.SinceTime = &metav1.Time{Time: since.Truncate(time.Second)}
		}
		body := b.read(t, o)
		for line := range strings.Lines(body[:int(w.cut*float64(len(body)))]) {
			stamp, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			at, err := time.Parse(stampFormat, stamp)
			if err == nil && strings.HasSuffix(line, "\n") && r.isNew(at, text) { // what is cut comes again
				c.lines = append(c.lines, logstream.Line{Time: at, Text: []byte(text)})
			}
		}
	}
	return c
}

// playsLogstream plays the library in a scene.
func (s scene) playsLogstream(t *testing.T) caught {
	r := newRig(t, quick)
	b := r.begin("a")
	next, written := 0, 0
	r.n.fault = func(_ int, o *corev1.PodLogOptions) *fault {
		if !o.Follow || next == len(s.streams) {
			return nil
		}
		w := s.streams[next]
		next++
		if w.from >= written && w.from > 0 {
			b.write(s.records[written:w.from]...)
			b.rotate()
			written = w.from
		}
		b.write(s.records[written:w.to]...)
		if written = w.to; w.cut == 1 {
			return nil
		}
		body := b.read(t, &corev1.PodLogOptions{Timestamps: true, SinceTime: o.SinceTime})
		return &fault{after: int(w.cut * float64(len(body))), then: brokenly}
	}
	r.tell(b, nil)
	r.until("all is written", func() bool { return len(b.written()) == len(s.records) })
	b.Exit()
	r.tell(b, nil)
	return r.drain()[0]
}

// The claim of the library, and what becomes of logs without it: streams cut at random
// bytes (E15), and logs rotated while nobody reads (E16, where lines inside a gap do not
// count as lost). The table is for the reader of the test's output.
func TestOnlyComparingBytesResumesALog(t *testing.T) {
	t.Parallel()
	distinct := func(rng *rand.Rand, i int) string { return fmt.Sprint("line ", i, strings.Repeat(" x", rng.IntN(300))) }
	same := func(rng *rand.Rand, _ int) string {
		return []string{"", ".", strings.Repeat("the same ", 60)}[rng.IntN(3)]
	}
	first, each := seeded(1, 12)
	table := fmt.Sprintf("seed %d, %d logs of each kind of 400 lines in 9 streams: logs with a difference, lines lost and twice\n%-22s", first, each, "")
	names := slices.Sorted(maps.Keys(resumers))
	for _, name := range append(names, "logstream") {
		table += fmt.Sprintf("%20s", name)
	}
	for _, w := range []struct {
		name    string
		rotated bool
		life
	}{
		{"containerd", false, life{clock: nodelog.Containerd, texts: distinct}},
		{"conmon", false, life{clock: nodelog.Conmon, texts: same}},
		{"both streams", false, life{clock: nodelog.BothStreams, texts: distinct}},
		{"partial", false, life{clock: nodelog.Containerd, texts: distinct, parts: true}},
		{"clock set back", false, life{clock: nodelog.SetBack, texts: distinct}},
		{"rotated, containerd", true, life{clock: nodelog.Containerd, texts: distinct}},
		{"rotated, conmon", true, life{clock: nodelog.Conmon, texts: same}},
		{"rotated, both streams", true, life{clock: nodelog.BothStreams, texts: distinct}},
	} {
		tally := map[string][3]int{}
		for i := range each {
			s := newScene(w.life, w.rotated, rand.New(rand.NewPCG(first+uint64(i), 0)))
			truth := linesOf(s.records)
			count := func(name string, c caught) {
				n := tally[name]
				if lost, odd := c.flaws(truth); lost+odd > 0 {
					n = [3]int{n[0] + 1, n[1] + lost, n[2] + odd}
				}
				tally[name] = n
			}
			for name, r := range resumers {
				count(name, s.plays(t, newBox(t, "x"), r()))
			}
			inTime(t, func(t *testing.T) {
				c := s.playsLogstream(t)
				if err := c.proper(truth, false); err != nil || !w.rotated && c.cert.Proof != logstream.Verified {
					t.Errorf("%s, seed %d: %v, %+v", w.name, first+uint64(i), err, c.cert)
				}
				count("logstream", c)
			})
		}
		table += fmt.Sprintf("\n%-22s", w.name)
		for _, name := range append(names, "logstream") {
			n := tally[name]
			table += fmt.Sprintf("%20s", fmt.Sprintf("%d (%d, %d)", n[0], n[1], n[2]))
		}
	}
	t.Log(table)
}
