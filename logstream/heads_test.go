package logstream

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// fileBegan is the first line of a file whose first line the node printed at that second of
// its clock, which is 100 s ahead of this one.
func fileBegan(second float64) (head []byte, ns int64) {
	at := nodeTime(second)
	return []byte(at.Format("2006-01-02T15:04:05.000000000Z07:00") + " first line\n"), at.UnixNano()
}

func nodeTime(second float64) time.Time { return ourTime(second).Add(100 * time.Second) }

func ourTime(second float64) time.Time {
	return time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC).Add(time.Duration(second * float64(time.Second)))
}

func TestWhatLooksTellOfTheNodesFiles(t *testing.T) {
	type seen struct {
		file, asked, answered float64 // seconds; file: of its first line; 0: it was empty
	}
	const tight = 0.0 // a line came at once
	unseen := func(ns, from, upTo float64) step {
		k := step{unseen: true}
		for v, at := range map[*int64]float64{&k.ns: ns, &k.from: from, &k.upTo: upTo} {
			if at != 0 {
				*v = nodeTime(at).UnixNano()
			}
		}
		return k
	}
	for name, c := range map[string]struct {
		looks   []seen
		late    float64 // by which all lines came late
		reached float64 // the file; 0: it is empty
		now     float64
		want    []step
		waiting int // files that the capture has still to come to
	}{
		"the next file":                            {[]seen{{1, 1, 1}, {1, 9, 9}, {10, 10, 10.5}}, tight, 10, 11, []step{{ns: nodeTime(10).UnixNano()}}, 0},
		"nothing":                                  {[]seen{{1, 1, 1}}, tight, 1, 11, nil, 0},
		"it was passed over":                       {[]seen{{1, 9, 9}, {10, 10, 10.5}, {13, 12, 13.5}}, tight, 13, 14, []step{{ns: nodeTime(10).UnixNano()}, unseen(13, 10, 11)}, 0},
		"others are still to come":                 {[]seen{{1, 9, 9}, {10, 10, 10.5}, {12, 11.5, 12}}, tight, 10, 14, []step{{ns: nodeTime(10).UnixNano()}}, 1},
		"nobody looked for long":                   {[]seen{{1, 1, 1}, {10, 10, 10.5}}, tight, 10, 11, []step{unseen(10, 1, 8)}, 0},
		"an answer took long, and shows it":        {[]seen{{1, 9, 9}, {10.5, 10, 13}}, tight, 10.5, 14, []step{{ns: nodeTime(10.5).UnixNano()}}, 0},
		"it took long, and may show a third":       {[]seen{{1, 9, 9}, {12.5, 10, 13}}, tight, 12.5, 14, []step{unseen(12.5, 9, 10.5)}, 0},
		"lines came late, the clock is not known":  {[]seen{{1, 9, 9}, {12.5, 10, 13}}, 3, 12.5, 14, []step{unseen(12.5, 6, 10.5)}, 0},
		"no look showed it":                        {[]seen{{1, 9, 9}}, tight, 10, 15, []step{{ns: nodeTime(10).UnixNano()}}, 0},
		"no look showed it, and long ago":          {[]seen{{1, 1, 1}}, tight, 10, 15, []step{unseen(10, 1, 8)}, 0},
		"no look showed it, but those around it":   {[]seen{{1, 1, 1}, {20, 20, 20}}, tight, 10, 25, []step{unseen(10, 1, 8)}, 1},
		"an answer that comes too late":            {[]seen{{1, 9, 9}, {10, 10, 10}, {5, 8, 11}}, tight, 10, 14, []step{{ns: nodeTime(10).UnixNano()}}, 0},
		"the file before is back":                  {[]seen{{1, 9, 9}, {10, 10, 10}, {1, 11, 11}, {12, 12, 12}}, tight, 12, 14, []step{unseen(12, 10-1e-9, 0)}, 0},
		"the file before again, by an older look":  {[]seen{{1, 9, 9}, {10, 9.6, 10}, {1, 9.5, 11}}, tight, 10, 14, []step{{ns: nodeTime(10).UnixNano()}}, 0},
		"the clock was set back":                   {[]seen{{20, 20, 20}, {5, 25, 25}}, tight, 5, 26, []step{unseen(5, 0, 0)}, 0},
		"the last one is empty":                    {[]seen{{1, 9, 9}}, tight, 0, 10, []step{{}}, 0},
		"it is empty, and nobody looked":           {[]seen{{1, 9, 9}}, tight, 0, 15, []step{unseen(0, 9, 0)}, 0},
		"it is empty, and nothing was shown first": {[]seen{{1, 9, 9}, {0, 10, 10}}, tight, 0, 15, []step{{}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := heads{life: 2 * time.Second}
			for _, l := range c.looks {
				if l.file == 0 {
					h.lookedEmpty(ourTime(l.answered))
					continue
				}
				head, ns := fileBegan(l.file)
				h.note(nodeTime(l.answered-c.late).UnixNano(), ourTime(l.answered))
				h.look(head, ns, look{asked: ourTime(l.asked), answered: ourTime(l.answered + c.late)})
			}
			f := nodeFile{found: ourTime(c.now)}
			if c.reached != 0 {
				f.head, f.ns = fileBegan(c.reached)
			}
			got := h.reach(f)
			for i := range got {
				if !got[i].unseen {
					got[i].from, got[i].upTo = 0, 0
				}
			}
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(step{})); d != "" {
				t.Errorf("steps (-want +got):\n%s", d)
			}
			if n := len(h.files) - 1; n != c.waiting {
				t.Errorf("it is to come to %d files, want %d", n, c.waiting)
			}
		})
	}
}

// However seldom, and however slowly, a node is looked at: where a file began that no look
// showed is within what the steps name.
func TestNoFileBeginsUnseenBetweenTheStepsOfRandomLooks(t *testing.T) {
	first := *seed
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for i := range uint64(200 * *trials / 60) {
		rng := rand.New(rand.NewPCG(first+i, 0))
		upTo := func(most float64) float64 { return most * rng.Float64() }
		// The node's files, by when they began; a line is printed every 10 ms, and is captured
		// some time later.
		began, lag := []float64{1}, upTo(5)
		for range 2 + rng.IntN(10) {
			began = append(began, began[len(began)-1]+2+upTo(3))
		}
		current := func(at float64) (file float64) {
			for _, b := range began {
				if b <= at {
					file = b
				}
			}
			return file
		}
		offset := func(printed float64) int64 { return int64(max(0, printed-1) * 100) }
		h := heads{life: fileLife}
		shown := map[float64]bool{}
		for at, every := 1.0, 0.1+upTo(4); at < began[len(began)-1]+10; at += 0.01 + upTo(every) {
			answered := at + upTo(0.5) + upTo(float64(rng.IntN(3)))
			file := current(at + upTo(answered-at))
			shown[file] = true
			head, ns := fileBegan(file)
			if printed := answered - lag; printed > 1 {
				h.note(nodeTime(printed).UnixNano(), ourTime(answered))
			}
			h.look(head, ns, look{asked: ourTime(at), answered: ourTime(answered), end: offset(at - lag)})
		}
		// The capture comes to some of them.
		var steps []step
		for k, b := range began {
			if k == 0 || k == len(began)-1 || shown[b] && rng.IntN(2) == 0 {
				head, ns := fileBegan(b)
				steps = append(steps, h.reach(nodeFile{head: head, ns: ns, found: ourTime(began[len(began)-1] + 12)})...)
			}
		}
		for _, b := range began[1:] {
			ns := nodeTime(b).UnixNano()
			in := func(k step) bool {
				return k.ns == ns || k.unseen && k.end <= offset(b) && k.from < ns && ns <= max(k.upTo, map[bool]int64{true: math.MaxInt64}[k.upTo == 0])
			}
			found := false
			for _, k := range steps {
				found = found || in(k)
			}
			if !found {
				t.Fatalf("seed %d: a file began at %s, unseen; steps %s", first+i, nodeTime(b), spellSteps(steps))
			}
		}
	}
}

func spellSteps(steps []step) (text string) {
	for _, k := range steps {
		text += fmt.Sprintf("\nto %s, unseen %t from %s (%d) up to %s", stamp.Time(k.ns), k.unseen, stamp.Time(k.from), k.end, stamp.Time(k.upTo))
	}
	return text
}
