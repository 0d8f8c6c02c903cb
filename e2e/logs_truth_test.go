package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"hash"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream"
)

// truth is what a container prints: numbered lines, each of which can be told by
// its number alone, and at its end how many they were and their checksum.
type truth struct {
	slot  string
	batch int           // lines at a time; 0: all
	pause time.Duration // between batches
	first time.Duration // after the first one, more
	width int           // least length of a line, with its newline
	rush  bool          // it exits at once after its last word

	// The end: the first of them; zero values are none.
	lines int
	lasts time.Duration
	gate  bool // when the pod's gate is opened

	code int
}

// container runs cmd/print, which gate ends if it is to be waited for.
func (t truth) container(gate string) corev1.Container {
	batch := t.batch
	if batch == 0 {
		batch = t.lines
	}
	args := []string{
		"-slot=" + t.slot, fmt.Sprint("-batch=", batch), fmt.Sprint("-pause=", t.pause), fmt.Sprint("-first=", t.first),
		fmt.Sprint("-lines=", t.lines), fmt.Sprint("-lasts=", t.lasts), fmt.Sprint("-code=", t.code),
		fmt.Sprint("-width=", t.width), fmt.Sprint("-linger=", !t.rush),
	}
	c := corev1.Container{Name: t.slot, Image: *printImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: args}
	// No other container mounts the directory: a runtime makes the source of a mount
	// anew for a container that is restarted while the test cleans up.
	if t.gate {
		c.Args = append(c.Args, "-gate="+gate)
		c.VolumeMounts = []corev1.VolumeMount{{Name: "gate", MountPath: gates, ReadOnly: true}}
	}
	return c
}

// gates is where containers see the lab's directory of gates.
const gates = "/gate"

// appendLine appends the line of that number, newline included.
func (t truth) appendLine(b []byte, number int) []byte {
	begin := len(b)
	b = append(append(b, t.slot...), ' ')
	b = append(strconv.AppendInt(b, int64(number), 10), ' ')
	b = strconv.AppendInt(b, int64(number)*7919%100003, 10)
	b = append(b, " the quick brown fox jumps over the lazy dog"...)
	for len(b)-begin+1 < t.width {
		b = append(b, '.')
	}
	return append(b, '\n')
}

// number returns which of the lines text is.
func (t truth) number(text []byte) (int, bool) {
	fields := bytes.SplitN(text, []byte(" "), 3)
	if len(fields) < 3 || string(fields[0]) != t.slot {
		return 0, false
	}
	n, err := strconv.Atoi(string(fields[1]))
	if err != nil {
		return 0, false
	}
	var line [200]byte
	is := t.appendLine(line[:0], n)
	return n, bytes.Equal(text, is[:len(is)-1])
}

// account is what was captured of one run, held against the truth line by line.
type account struct {
	truth   truth
	id      string
	lines   uint64
	bytes   int64
	next    int // number of the line that should come
	missing []stretch
	flaws   []string
	pieces  int       // of lines that the runtime cut
	torn    []byte    // those since the last whole line
	begin   time.Time // of the first line
	last    time.Time // of the last one
	read    time.Time // when its first line was
	ended   bool      // the container's last word is there
	life    time.Duration
	sum     hash.Hash // of the lines but the last word
	text    hash.Hash // of all
	came    arrivals

	// The last line that is whole: lines up to it, and its time.
	wholes uint64
	whole  time.Time
	behind time.Time // of the line after it
}

// stretch is lines of the truth that were not captured, or not in one piece.
type stretch struct {
	from, to       int    // numbers; to < 0: nobody knows
	torn           bool   // it is one line, all the pieces of which were captured
	pieces         string // of lines that were captured in between
	after, upto    uint64 // lines captured before: between them are pieces
	before, behind time.Time
}

func (s stretch) String() string {
	text := fmt.Sprintf("[%d, %d) after %d captured lines, between %s and %s", s.from, s.to, s.after, stamp(s.before), stamp(s.behind))
	if s.pieces != "" {
		text += fmt.Sprintf(", where %.300q came", s.pieces)
	}
	return text
}

func stamp(at time.Time) string { return at.Format(time.RFC3339Nano) }

func newAccount(t truth, id string) *account {
	return &account{truth: t, id: id, sum: sha256.New(), text: sha256.New()}
}

func (a *account) flaw(format string, args ...any) {
	if len(a.flaws) < 5 {
		a.flaws = append(a.flaws, fmt.Sprintf(format, args...))
	}
}

// take takes the next line that a reader brought.
func (a *account) take(l logstream.Line) {
	if a.ended {
		a.flaw("%q comes after the container's last word", l.Text)
	}
	if a.lines == 0 {
		a.begin, a.read = l.Time, time.Now()
	}
	if a.wholes == a.lines {
		a.behind = l.Time
	}
	_, _ = a.text.Write(l.Text)
	if !l.Partial {
		_, _ = a.text.Write([]byte("\n"))
	}
	number, ok := a.truth.number(l.Text)
	switch {
	case bytes.HasPrefix(l.Text, []byte("end ")) && !l.Partial:
		a.end(l)
	case ok:
		a.numbered(number, l.Text)
		a.came.note(number, time.Now())
		a.wholes, a.whole = a.lines+1, l.Time
	case a.truth.isPiece(l.Text), a.truth.isJoined(l.Text):
		a.pieces++
		a.torn = append(a.torn, l.Text...)
	default:
		a.flaw("line %d was never printed: %.200q", a.lines, l.Text)
	}
	a.lines++
	a.bytes += int64(len(l.Text))
	if !l.Partial {
		a.bytes++
	}
	a.last = l.Time
}

// isPiece says whether text is a piece of a line. A runtime that turns to a new
// file while a line comes in makes two lines of it: seen with containerd 1.6.
func (t truth) isPiece(text []byte) bool {
	zero := []byte("0")
	line := digits.ReplaceAll(t.appendLine(nil, 0), zero)
	return len(text) > 0 && bytes.Contains(line[:len(line)-1], digits.ReplaceAll(text, zero))
}

// isJoined says whether text is the beginning of one line and a piece of another: a kubelet's
// stream that passes over a file joins the halves that are left of the lines around it.
func (t truth) isJoined(text []byte) bool {
	zero := []byte("0")
	line := digits.ReplaceAll(t.appendLine(nil, 0), zero)
	for i := range text {
		if i > 0 && bytes.HasPrefix(line, digits.ReplaceAll(text[:i], zero)) && t.isPiece(text[i:]) {
			return true
		}
	}
	return false
}

var digits = regexp.MustCompile("[0-9]+")

func (a *account) numbered(number int, text []byte) {
	if number < a.next {
		a.flaw("line %d has number %d, which came before or is out of order", a.lines, number)
		return
	}
	if number > a.next {
		a.miss(number)
	}
	a.next, a.torn = number+1, a.torn[:0]
	_, _ = a.sum.Write(text)
	_, _ = a.sum.Write([]byte("\n"))
}

// miss notes that the lines before to are missing, or in pieces.
func (a *account) miss(to int) {
	line := a.truth.appendLine(nil, a.next)
	torn := to == a.next+1 && bytes.Equal(a.torn, line[:len(line)-1])
	a.missing = append(a.missing, stretch{a.next, to, torn, string(a.torn), a.wholes, a.lines, a.whole, a.behind})
}

// end takes the container's last word.
func (a *account) end(l logstream.Line) {
	a.ended = true
	var count int
	var sum string
	if _, err := fmt.Sscanf(string(l.Text), "end %d %s %d", &count, &sum, &a.life); err != nil {
		a.flaw("the container's last word is %q", l.Text)
		return
	}
	switch {
	case a.next > count:
		a.flaw("line %d of only %d", a.next-1, count)
	case a.next < count:
		a.miss(count)
	case len(a.missing) == 0 && (a.pieces > 0 || fmt.Sprintf("%x", a.sum.Sum(nil)) != sum):
		a.flaw("the lines are not those that the container printed: their checksum is another one")
	}
}

// judge returns what contradicts the run's certificate. n is what the node's files
// have of it; nil: nobody knows.
func (a *account) judge(c *logstream.Certificate, n *onNode) []string {
	flaws := append([]string(nil), a.flaws...)
	if c.Lines != a.lines || c.Bytes != a.bytes {
		flaws = append(flaws, fmt.Sprintf("it certifies %d lines of %d bytes, read were %d of %d", c.Lines, c.Bytes, a.lines, a.bytes))
	}
	missing := a.missing
	if !a.ended {
		end := stretch{from: a.next, to: -1, after: a.wholes, upto: a.lines, before: a.whole}
		missing = append(slices.Clip(missing), end)
	}
	for _, s := range missing {
		covered := slices.ContainsFunc(c.Gaps, func(g logstream.Gap) bool {
			return s.within(g) || s.after <= g.AfterLine && g.AfterLine <= s.upto
		})
		switch {
		case c.Proof != logstream.Verified && !covered:
			flaws = append(flaws, fmt.Sprintf("no gap covers the missing %s", s))
		case c.Proof == logstream.Verified && n == nil: // else it has to equal the node's file
			flaws = append(flaws, "Verified, but missing are "+s.String())
		}
	}
	if n != nil {
		flaws = append(flaws, a.hold(n, c)...)
	}
	return flaws
}

// within says whether the gap is around the stretch, by time.
func (s stretch) within(g logstream.Gap) bool {
	return !g.From.IsZero() && !g.From.After(s.before) && (g.To.IsZero() || !s.behind.IsZero() && !g.To.Before(s.behind))
}

// The judge is held to its word, too.
func TestAnAccountFindsEveryFlaw(t *testing.T) {
	tr := truth{slot: "s", lines: 4}
	var text []byte
	for i := range tr.lines {
		text = tr.appendLine(text, i)
	}
	all := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	all = append(all, fmt.Sprintf("end 4 %x 1000", sha256.Sum256(text)))
	at := func(n int) time.Time { return time.Unix(int64(100+n), 0) }
	for name, c := range map[string]struct {
		take  []int // of all
		forge string
		cert  logstream.Certificate
		want  []string // words of the flaws
	}{
		"whole":        {take: []int{0, 1, 2, 3, 4}, cert: logstream.Certificate{Proof: logstream.Verified}},
		"twice":        {take: []int{0, 1, 1, 2, 3, 4}, want: []string{"came before"}},
		"out of order": {take: []int{0, 2, 1, 3, 4}, want: []string{"came before", "no gap"}},
		"cut at a gap": {
			take: []int{0, 1, 2, 3, 4}, forge: "dog",
			cert: logstream.Certificate{Proof: logstream.Unverified, Gaps: []logstream.Gap{{AfterLine: 4}}},
		},
		"cut":           {take: []int{0, 1, 2, 3, 4}, forge: "dog", want: []string{"no gap"}},
		"joined of two": {take: []int{0, 1, 2, 3, 4}, forge: "s 3 the quick brown fox", want: []string{"no gap"}},
		"joined at a gap": {
			take: []int{0, 1, 2, 3, 4}, forge: "s 3 the quick brown fox",
			cert: logstream.Certificate{Proof: logstream.Unverified, Gaps: []logstream.Gap{{AfterLine: 3}}},
		},
		"forged":          {take: []int{0, 1, 2, 3, 4}, forge: "s 3 1 the slow", want: []string{"never printed", "no gap"}},
		"foreign":         {take: []int{0, 1, 2, 3, 4}, forge: "hello", want: []string{"never printed", "no gap"}},
		"silent loss":     {take: []int{0, 3, 4}, cert: logstream.Certificate{Proof: logstream.Unverified}, want: []string{"no gap"}},
		"lost, verified":  {take: []int{0, 3, 4}, cert: logstream.Certificate{Proof: logstream.Verified}, want: []string{"Verified, but"}},
		"lost, and said":  {take: []int{0, 3, 4}, cert: logstream.Certificate{Gaps: []logstream.Gap{{AfterLine: 1}}}},
		"lost, elsewhere": {take: []int{0, 3, 4}, cert: logstream.Certificate{Gaps: []logstream.Gap{{AfterLine: 2, From: at(3), To: at(9)}}}, want: []string{"no gap"}},
		"lost, around":    {take: []int{0, 3, 4}, cert: logstream.Certificate{Gaps: []logstream.Gap{{AfterLine: 2, From: at(0), To: at(3)}}}},
		"no end":          {take: []int{0, 1, 2, 3}, cert: logstream.Certificate{Proof: logstream.Verified}, want: []string{"Verified, but"}},
		"no end, said":    {take: []int{0, 1, 2}, cert: logstream.Certificate{Gaps: []logstream.Gap{{From: at(0), AfterLine: 3}}}},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAccount(tr, "")
			for _, i := range c.take {
				line := all[i]
				if i == 3 && c.forge != "" {
					line = c.forge
				}
				a.take(logstream.Line{Text: []byte(line), Time: at(i)})
			}
			c.cert.Lines, c.cert.Bytes = a.lines, a.bytes
			got := a.judge(&c.cert, nil)
			if len(got) != len(c.want) {
				t.Fatalf("flaws (-want +got):\n%s", cmp.Diff(c.want, got))
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("flaw %d is %q, want it to say %q", i, got[i], want)
				}
			}
		})
	}
}
