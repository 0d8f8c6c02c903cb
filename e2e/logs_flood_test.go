package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/logstream"
)

var floodsFlag = flag.Int("floods", 0,
	"capture so many floods of a chatty step, and fail unless 9 of 10 are whole; 0: some smaller ones, for what holds of each")

// A step in a swapped slot prints as fast as it can, while the node rotates its log, and
// a service beside it lives on. On two cores a node loses lines of such a log by itself:
// the node's files, which are kept, and its answers say whose loss it was.
//
// It measures how long captures stall: no other test runs meanwhile.
func TestFloodsInSwappedSlotsAreWholeOrSayExactlyWhatTheyMiss(t *testing.T) {
	if world.client == nil {
		t.Skip("-short: needs a cluster")
	}
	var all []capture
	nodes := []node{
		{"10Mi, 10s", cluster.Config{}, []int{1}, 900_000}, // the kubelet's defaults
		{"10Mi, 3s", cluster.Config{LogMaxSize: "10Mi", LogMonitorInterval: 3 * time.Second}, []int{1}, 900_000},
		{"1Mi, 3s", cluster.Config{LogMaxSize: "1Mi", LogMonitorInterval: 3 * time.Second}, []int{3}, 300_000},
	}
	for i, n := range nodes {
		t.Run("rotated at "+n.size, func(t *testing.T) {
			s := bringUpSite(t, n.config)
			if *floodsFlag > 0 {
				n.slots, n.lines = split((*floodsFlag+i)/len(nodes)), 900_000
			}
			for _, slots := range n.slots {
				t.Run(fmt.Sprintf("%d slots", slots), func(t *testing.T) {
					all = append(all, newLab(t, s, logstream.Options{}).flood(t, n.size, slots, n.lines)...)
				})
			}
		})
	}
	t.Logf("floods:\n%s", table(all))
	wholes := 0
	for i := range all {
		if all[i].whole() {
			wholes++
		}
	}
	if wholes*10 < len(all)*9 && *floodsFlag > 0 {
		t.Errorf("of %d captures %d are whole, want 9 of 10", len(all), wholes)
	}
}

// node is one that rotates logs of some size, and looks at that so often; floods of so
// many slots at once, of so many lines each, are captured on it.
type node struct {
	size   string
	config cluster.Config
	slots  []int
	lines  int
}

// split splits captures into floods of one slot and of three.
func split(captures int) (floods []int) {
	for captures > 0 {
		n := min(captures, []int{1, 3}[len(floods)%2])
		floods, captures = append(floods, n), captures-n
	}
	return floods
}

// capture is how one flood was captured.
type capture struct {
	examined
	size  string // at which the node rotates
	slots int    // that flood at once
	lines int
	stall time.Duration // the longest time without a line while the node had one
	drain time.Duration // from the last status
	idle  time.Duration // of that, without a byte from the node
	loss  map[loss]int  // lines
	gap   int           // lines of the node's that gaps enclose
	blind int           // of them, those that were captured while the node answered too late for anybody to see its files
	looks int           // requests that showed the beginning of the node's file
	lacks map[int]bool  // the numbers of those that are missing; false: it came in pieces
}

// loss is whose fault it is that a line is missing.
type loss string

const (
	unwritten loss = "never written" // it is in none of the node's files
	rotated   loss = "rotated away"  // the node had rotated its file before any of that was read
	skipped   loss = "skipped"       // the node's stream went on with another file, or ended when it could not be read any more
	ours      loss = "ours"          // the node had it to be read
)

func (c *capture) missing() (n int) {
	for _, lines := range c.loss {
		n += lines
	}
	return n
}

func (c *capture) whole() bool { return c.missing() == 0 && c.ended && c.next == c.lines }

func table(all []capture) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "rotated at\tslots\tslot\tlines\twhole\tproof\tfiles\tgaps\tmissing\tof them in gaps of\tdoubted\tlooks\tlongest stall\tdrain\tof it silent\twhose loss")
	for i := range all {
		c := &all[i]
		fmt.Fprintf(w, "%s\t%d\t%s\t%d\t%t\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t%s\t%s\t%v\n", c.size, c.slots, c.truth.slot, c.lines, c.whole(), c.certificate.Proof,
			len(c.node.files), len(c.certificate.Gaps), c.missing(), c.gap, c.blind, c.looks, c.stall.Round(time.Millisecond), c.drain.Round(time.Millisecond), c.idle.Round(time.Millisecond), c.loss)
	}
	_ = w.Flush()
	return text.String()
}

// flood has slots print that many lines at once, and checks what was captured of each.
func (l *lab) flood(t *testing.T, size string, slots, lines int) (all []capture) {
	t.Helper()
	l.swapped = true
	service := truth{slot: "service", batch: 1, pause: 100 * time.Millisecond, gate: true}
	truths := []truth{service}
	// The first lines come some time before the others: of a log that was rotated before
	// it was first read nobody can know what it began with.
	var names []string
	for i := range slots {
		names = append(names, fmt.Sprintf("step%d", i))
		truths = append(truths, truth{slot: names[i], lines: lines, batch: 500, first: time.Second, width: 100, rush: true})
	}
	p := l.print(t, "flood", corev1.RestartPolicyNever, truths...)
	p.keepFiles(t)
	p.swap(t, "service")
	p.awaitLines(t, "service", 1)
	impatient := p.readUntilCanceled(t, truths[1], lines/3)
	p.swap(t, names...)

	last, certificates := p.drainSlots(t, names)
	drained, idle := time.Since(last), l.words.silence(p.pod.Name, last, time.Now())
	impatient(t)
	if i := slices.IndexFunc(certificates, func(c logstream.Certificate) bool { return c.Slot == "service" }); i < 0 || certificates[i].Proof != logstream.Live {
		t.Errorf("the service that lives on is not Live: %+v", certificates)
	}
	if idle > 5*time.Second {
		t.Errorf("Drain ended %s after the last status; for %s of that the node sent nothing, want 5 s at most", drained, idle)
	}
	p.openGate(t)
	var sum tally
	p.check(t, &sum, p.drain(t, hasEnded), nil)
	l.report(t, fmt.Sprintf("%d floods of %d lines, rotated at %s", slots, lines, size), sum)
	for _, e := range p.examined {
		if e.truth.slot == "service" {
			if e.certificate.Proof != logstream.Verified {
				t.Errorf("the service is %s (%s)", e.certificate.Proof, e.certificate.Why)
			}
			continue
		}
		c := capture{examined: e, size: size, slots: slots, lines: lines, drain: drained, idle: idle}
		c.weigh(t, p)
		all = append(all, c)
	}
	return all
}

// drainSlots waits until these slots' steps have ended and are captured. It returns when
// the last status of them came.
func (p *printing) drainSlots(t *testing.T, slots []string) (last time.Time, _ []logstream.Certificate) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	pod, err := p.news.await(ctx, func(pod *corev1.Pod) bool {
		ended := 0
		for i := range pod.Status.ContainerStatuses {
			st := &pod.Status.ContainerStatuses[i]
			if slices.Contains(slots, st.Name) && st.State.Terminated != nil && !p.split.IsPlaceholder(st.Name, st.State.Terminated.ContainerID) {
				ended++
			}
		}
		return ended == len(slots)
	})
	if err != nil {
		t.Fatal(err)
	}
	last = time.Now()
	certificates, err := p.logs.Drain(ctx, pod)
	if err != nil {
		t.Fatalf("draining the floods: %v", err)
	}
	p.sweep(t)
	return last, certificates
}

// readUntilCanceled reads a slot's log with a context that ends when another reader has
// got that many lines of it, and returns what checks that by its end all of these had
// been read.
func (p *printing) readUntilCanceled(t *testing.T, tr truth, lines int) (check func(*testing.T)) {
	t.Helper()
	enough := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	canceled, got := make(chan struct{}), make(chan int, 1)
	first := p.logs.Reader(t.Context(), tr.slot, logstream.ReadOptions{})
	impatient := p.logs.Reader(ctx, tr.slot, logstream.ReadOptions{})
	go func() {
		n := 0
		for range first.Lines() {
			if n++; n == lines {
				break
			}
		}
		_ = first.Close()
		cancel(enough)
		close(canceled)
	}()
	go func() {
		n := 0
		for _, err := range impatient.Lines() {
			if err != nil {
				break
			}
			if n++; n == lines/2 { // It is behind when its context ends.
				<-canceled
			}
		}
		_ = impatient.Close()
		got <- n
	}()
	return func(t *testing.T) {
		t.Helper()
		if n := <-got; n < lines {
			t.Errorf("a reader whose context ended early has read %d lines, of the %d that were captured by then", n, lines)
		}
	}
}

// weigh finds whose losses there are, measures gaps and stalls, and checks them.
func (c *capture) weigh(t *testing.T, p *printing) {
	t.Helper()
	name := fmt.Sprintf("%s, %d slots, %s", c.size, c.slots, c.truth.slot)
	if c.node == nil {
		t.Fatalf("%s: the node's files are not ours", name)
	}
	requests := p.lab.words.requests(p.pod.Name, c.truth.slot)
	c.lose(requests)
	looks := looksOf(requests)
	c.looks = len(looks)
	lastIsEmpty := len(c.node.firsts()) < len(c.node.files)
	for _, g := range c.certificate.Gaps {
		size, of := c.enclosed(g)
		c.gap += size
		switch captured := size - of; {
		case captured <= of:
		case nobodyLooked(looks, g):
			c.blind += captured
		default:
			t.Errorf("%s: a gap from %s to %s encloses %d lines, of which %d are missing: %+v", name, stamp(g.From), stamp(g.To), size, of, g)
		}
		if g.From.IsZero() && c.begin.Before(g.To) || g.To.IsZero() && c.ended && !lastIsEmpty {
			t.Errorf("%s: a gap has no bound: %+v", name, g)
		}
	}
	var where string
	if c.stall, where = c.longestStall(); c.stall > 2*time.Second {
		t.Errorf("%s: it stalled for %s, %s", name, c.stall, where)
	}
	if c.loss[ours] > 0 {
		t.Errorf("%s: %d lines that the node had to be read are missing", name, c.loss[ours])
	}
	if c.missing() > 0 || c.stall > 2*time.Second {
		t.Logf("%s: missing %v: %v, and after %d: %t; gaps %+v; its requests:", name, c.loss, c.account.missing, c.next, !c.ended, c.certificate.Gaps)
		for _, q := range requests {
			t.Logf("  %s", q)
		}
		for i, began := range c.node.files {
			t.Logf("  the node's file %d began at %s, with line %d", i, stamp(began), slices.IndexFunc(c.node.lines, func(l nodeLine) bool { return l.there() && l.file == i }))
		}
	}
}

// fileLives is for how long the node's file is the current one, at least: less than the
// shortest interval in which kubelets look at it, for one look may be late.
const fileLives = 2 * time.Second

// looksOf are when requests were made, and answered, that show how the node's file begins.
func looksOf(requests []*request) (looks [][2]time.Time) {
	for _, q := range requests {
		if begun, _, _ := q.lived(); !begun.IsZero() && !strings.Contains(q.options, "tail") && !strings.Contains(q.options, "since") {
			looks = append(looks, [2]time.Time{q.asked, begun})
		}
	}
	return looks
}

// nobodyLooked reports whether the gap is within a time in which nobody could see what
// files the node had: from a look on until another was answered it took so long that a file
// may have come and gone. The node's clock is this one.
func nobodyLooked(looks [][2]time.Time, g logstream.Gap) bool {
	const line = 500 * time.Millisecond // one is captured so much later than it is printed
	for _, from := range looks {
		next := time.Time{} // the first answer to a later request
		for _, l := range looks {
			if l[0].After(from[0]) && (next.IsZero() || l[1].Before(next)) {
				next = l[1]
			}
		}
		if next.Sub(from[0]) >= fileLives && !g.From.Before(from[0].Add(-line)) && !g.To.After(next) {
			return true
		}
	}
	return false
}

// lose finds which lines are missing, and whose loss each is. What was captured in pieces
// is not missing.
func (c *capture) lose(requests []*request) {
	c.loss, c.lacks = map[loss]int{}, map[int]bool{}
	missing := c.account.missing
	if !c.ended {
		missing = append(slices.Clip(missing), stretch{from: c.next, to: c.lines})
	}
	firsts := c.node.firsts()
	for _, s := range missing {
		for i := s.from; i < s.to; i++ {
			if c.lacks[i] = !s.torn; s.torn {
				continue
			}
			number := i
			if i > s.from && i == s.to-1 && (strings.Contains(s.pieces, strconv.Itoa(i)) || s.pieces != "" && slices.Contains(firsts, i)) {
				number-- // its end was captured: it began in the file that is missing
			}
			c.loss[c.whose(number, s, firsts, requests)]++
		}
	}
}

// enclosed counts the node's whole lines that a gap encloses, and those of them that are
// missing.
func (c *capture) enclosed(g logstream.Gap) (size, missing int) {
	from, to := int64(0), int64(math.MaxInt64)
	if !g.From.IsZero() {
		from = g.From.UnixNano()
	}
	if !g.To.IsZero() {
		to = g.To.UnixNano()
	}
	for number, line := range c.node.lines {
		missed, known := c.lacks[number]
		switch {
		case !line.there() || line.at <= from || line.at >= to || known && !missed:
		case missed:
			size, missing = size+1, missing+1
		default:
			size++
		}
	}
	return size, missing
}

// firsts returns the number of the first whole line of each of the node's files.
func (n *onNode) firsts() (all []int) {
	for number, line := range n.lines {
		for line.there() && line.file >= len(all) { // a file without a line begins with the next one's
			all = append(all, number)
		}
	}
	return all
}

// whose says whose loss a line of a missing stretch is.
func (c *capture) whose(number int, s stretch, firsts []int, requests []*request) loss {
	if number >= len(c.node.lines) || !c.node.lines[number].there() {
		return unwritten
	}
	file := c.node.lines[number].file
	if file == len(c.node.files)-1 {
		return ours // it was there to the end
	}
	over := c.node.files[file+1]
	if came, ok := c.came.at(firsts[file]); !ok || came.After(over) {
		return rotated
	}
	before, _ := c.came.at(max(0, s.from-1))
	behind, ok := c.came.at(s.to)
	for _, q := range requests {
		begun, ended, byCluster := q.lived()
		switch {
		case begun.IsZero() || begun.After(before):
		case ended.IsZero() || ok && ended.After(behind):
			return skipped // one stream brought the line before, and the one behind
		case byCluster && !ended.Before(before) && over.Sub(ended) < 200*time.Millisecond:
			return skipped // it ended where nobody could have read on
		}
	}
	return ours
}

// longestStall returns for how long no line came while the node had one.
func (c *capture) longestStall() (longest time.Duration, where string) {
	for _, s := range c.came.pauses {
		since := s.left
		// The next line that the node has, whether it was captured or not.
		for next := s.from + 1; next <= s.to && next < len(c.node.lines); next++ {
			if line := c.node.lines[next]; line.there() {
				if at := time.Unix(0, line.at); at.After(since) {
					since = at
				}
				break
			}
		}
		if d := s.came.Sub(since); d > longest {
			longest, where = d, fmt.Sprintf("from %s on, after line %d, until line %d came", stamp(since), s.from, s.to)
		}
	}
	return longest, where
}

// arrivals is when lines came.
type arrivals struct {
	last   mark
	marks  []mark  // some
	pauses []pause // the longer ones
}

type mark struct {
	number int
	at     time.Time
}

// pause is a time between two lines.
type pause struct {
	from, to   int // their numbers
	left, came time.Time
}

func (a *arrivals) note(number int, at time.Time) {
	if !a.last.at.IsZero() && at.Sub(a.last.at) > 50*time.Millisecond {
		a.pauses = append(a.pauses, pause{a.last.number, number, a.last.at, at})
		a.marks = append(a.marks, a.last)
	}
	if n := len(a.marks); n == 0 || number != a.last.number+1 || number-a.marks[n-1].number >= 100 {
		a.marks = append(a.marks, mark{number, at})
	}
	a.last = mark{number, at}
}

// at returns when the line of that number came, or one soon behind it; not ok: none did.
func (a *arrivals) at(number int) (_ time.Time, ok bool) {
	i := sort.Search(len(a.marks), func(i int) bool { return a.marks[i].number >= number })
	if i < len(a.marks) {
		return a.marks[i].at, true
	}
	return a.last.at, a.last.number >= number && !a.last.at.IsZero()
}

// The judge of floods is held to its word, too: lines come one a second, and the node has
// ten of them in three files, of which it rotated the first at 3 s, the second at 6 s.
func TestTheJudgeOfFloodsKnowsWhoseALossIs(t *testing.T) {
	at := func(seconds float64) time.Time { return time.Unix(1000, int64(seconds*1e9)) }
	node := &onNode{files: []time.Time{at(0), at(3), at(6)}}
	for i := range 10 {
		node.lines = append(node.lines, nodeLine{at: at(float64(i)).UnixNano(), file: min(i/3, 2)})
	}
	body := func(begun, ended float64, end error) *request {
		return &request{begun: at(begun), ended: at(ended), end: end}
	}
	follow := []*request{body(0, 100, io.EOF)}
	for name, c := range map[string]struct {
		came     map[int]float64 // when lines came; the others are missing
		pieces   []int           // that came in pieces
		never    []int           // that no file has
		requests []*request
		gap      [2]float64
		loss     map[loss]int
		enclosed [2]int
		stall    time.Duration
	}{
		"nothing": {
			came: map[int]float64{0: 0.1, 1: 1.1, 2: 2.1, 3: 3.1, 4: 4.1, 5: 5.1, 6: 6.1, 7: 7.1, 8: 8.1, 9: 9.1}, requests: follow,
			gap: [2]float64{2, 3}, loss: map[loss]int{}, stall: 100 * time.Millisecond,
		},
		"late, though the node had them": {
			came: map[int]float64{0: 0.1, 1: 1.1, 2: 2.1, 3: 8, 4: 8, 5: 8, 6: 8, 7: 8, 8: 8.1, 9: 9.1}, requests: follow,
			gap: [2]float64{0, 3}, loss: map[loss]int{}, enclosed: [2]int{2, 0}, stall: 5 * time.Second,
		},
		"a line in pieces": {
			came: map[int]float64{0: 0.1, 1: 1.1, 2: 2.1, 4: 4.1, 5: 5.1, 6: 6.1, 7: 7.1, 8: 8.1, 9: 9.1}, pieces: []int{3}, requests: follow,
			gap: [2]float64{2, 4}, loss: map[loss]int{}, stall: 1100 * time.Millisecond,
		},
		"never written": {
			came: map[int]float64{0: 0.1, 1: 1.1, 2: 2.1, 4: 4.1, 5: 5.1, 6: 6.1, 7: 7.1, 8: 8.1, 9: 9.1}, never: []int{3}, requests: follow,
			gap: [2]float64{2, 4}, loss: map[loss]int{unwritten: 1}, stall: 100 * time.Millisecond,
		},
		"a file that was rotated before it was read": {
			came: map[int]float64{0: 0.1, 1: 1.1, 2: 6.5, 6: 6.6, 7: 7.1, 8: 8.1, 9: 9.1}, requests: []*request{body(0, 6.5, io.EOF), body(6.5, 100, io.EOF)},
			gap: [2]float64{2, 6}, loss: map[loss]int{rotated: 3}, enclosed: [2]int{3, 3}, stall: 4500 * time.Millisecond,
		},
		"the end of a file that a stream went past": {
			came: map[int]float64{0: 0.1, 1: 1.1, 3: 3.1, 4: 4.1, 5: 5.1, 6: 6.1, 7: 7.1, 8: 8.1, 9: 9.1}, requests: follow,
			gap: [2]float64{1, 3}, loss: map[loss]int{skipped: 1}, enclosed: [2]int{1, 1}, stall: 1100 * time.Millisecond,
		},
		"the end of a file that a stream ended in when it was over": {
			came: map[int]float64{0: 0.1, 1: 1.1, 3: 3.2, 4: 4.1, 5: 5.1, 6: 6.1, 7: 7.1, 8: 8.1, 9: 9.1}, requests: []*request{body(0, 2.9, io.EOF), body(3.1, 100, io.EOF)},
			gap: [2]float64{1, 3}, loss: map[loss]int{skipped: 1}, enclosed: [2]int{1, 1}, stall: 1200 * time.Millisecond,
		},
		"the end of a file that nobody went on to read": {
			came: map[int]float64{0: 0.1, 3: 3.2, 4: 4.1, 5: 5.1, 6: 6.1, 7: 7.1, 8: 8.1, 9: 9.1}, requests: []*request{body(0, 0.5, io.EOF), body(3.1, 100, io.EOF)},
			gap: [2]float64{0, 3}, loss: map[loss]int{ours: 2}, enclosed: [2]int{2, 2}, stall: 2200 * time.Millisecond,
		},
		"the end of a file whose stream we closed": {
			came: map[int]float64{0: 0.1, 1: 1.1, 3: 3.2, 4: 4.1, 5: 5.1, 6: 6.1, 7: 7.1, 8: 8.1, 9: 9.1}, requests: []*request{body(0, 2.9, nil), body(3.1, 100, io.EOF)},
			gap: [2]float64{1, 3}, loss: map[loss]int{ours: 1}, enclosed: [2]int{1, 1}, stall: 1200 * time.Millisecond,
		},
		"the end": {
			came: map[int]float64{0: 0.1, 1: 1.1, 2: 2.1, 3: 3.1, 4: 4.1, 5: 5.1, 6: 6.1, 7: 7.1}, requests: []*request{body(0, 7.5, io.EOF)},
			gap: [2]float64{7, 100}, loss: map[loss]int{ours: 2}, enclosed: [2]int{2, 2}, stall: 100 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			lines := slices.Clone(node.lines)
			for _, i := range c.never {
				lines[i] = nodeLine{}
			}
			a := newAccount(truth{slot: "s"}, "")
			for i := range 10 {
				came, ok := c.came[i]
				if !ok {
					continue
				}
				if i > a.next {
					a.missing = append(a.missing, stretch{from: a.next, to: i, torn: slices.Contains(c.pieces, a.next)})
				}
				a.next = i + 1
				a.came.note(i, at(came))
			}
			a.ended = a.next == 10
			got := capture{examined: examined{a, nil, &onNode{files: node.files, lines: lines}}, lines: 10}
			got.lose(c.requests)
			if diff := cmp.Diff(c.loss, got.loss); diff != "" {
				t.Errorf("losses (-want +got):\n%s", diff)
			}
			size, missing := got.enclosed(logstream.Gap{From: at(c.gap[0]), To: at(c.gap[1])})
			if diff := cmp.Diff(c.enclosed, [2]int{size, missing}); diff != "" {
				t.Errorf("lines in the gap, and those of them that are missing (-want +got):\n%s", diff)
			}
			if stall, where := got.longestStall(); (stall - c.stall).Abs() > time.Millisecond {
				t.Errorf("it stalled for %s, %s; want %s", stall, where, c.stall)
			}
		})
	}
}
