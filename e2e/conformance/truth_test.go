package conformance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream"
)

// stampFormat is the kubelet's (k8s.io/cri-client v0.36.3 pkg/logs/logs.go:52).
const stampFormat = "2006-01-02T15:04:05.000000000Z07:00"

// line is a line of output: the records it is made of.
type line struct {
	parts []record
	open  bool // without a newline
}

func (l line) text(from int) string {
	var b strings.Builder
	for _, r := range l.parts[from:] {
		b.WriteString(r.Text)
	}
	if !l.open {
		b.WriteByte('\n')
	}
	return b.String()
}

// linesOf joins records as the kubelet does, whatever their stream.
func linesOf(rs []record) []line {
	var ls []line
	open := false
	for _, r := range rs {
		if !open {
			ls = append(ls, line{open: true})
		}
		l := &ls[len(ls)-1]
		l.parts = append(l.parts, r)
		open, l.open = r.Partial, r.Partial
	}
	return ls
}

// render is the log as one read of one file, never rotated.
func render(ls []line) string {
	var b strings.Builder
	for _, l := range ls {
		b.WriteString(l.parts[0].At.Format(stampFormat) + " " + l.text(0))
	}
	return b.String()
}

// rendered is the same by the kubelet's own code.
func rendered(t *testing.T, rs []record) string {
	t.Helper()
	b := newBox(t, "x")
	b.write(rs...)
	return b.read(t, &corev1.PodLogOptions{Timestamps: true})
}

// caught is what a capture has of a run.
type caught struct {
	lines []logstream.Line
	bytes string // as Read delivers them
	cert  logstream.Certificate
}

// proper says what is wrong with a capture: bytes that were not written, or not in
// their order, or twice; bytes that are missing outside its gaps; a Verified that is not
// equal to what was written. garbled allows lines in gaps that are made of pieces of two:
// the kubelet glues what it reads from two files.
func (c caught) proper(truth []line, garbled bool) error {
	if c.cert.Proof == logstream.Verified {
		if d := difference(c.bytes, texts(truth)); d != "" {
			return fmt.Errorf("Verified, but %s", d)
		}
		if len(c.cert.Gaps) > 0 {
			return fmt.Errorf("Verified with gaps %+v", c.cert.Gaps)
		}
	}
	at, whole, pieces := 0, make([]bool, len(truth)), make([]uint64, len(truth))
	for _, l := range c.lines {
		i, full := find(truth, at, l)
		switch {
		case i >= 0 && full:
			whole[i], at = true, i+1
			pieces[i]++
		case i >= 0:
			at = i
			pieces[i]++
		case !garbled || !c.covers(l.Time, 0):
			return fmt.Errorf("%s %s is in the capture twice, or not in its place (after %d of %d lines)", l.Time.Format(stampFormat), shortened(string(l.Text)), at, len(truth))
		}
	}
	before := uint64(0)
	for i, l := range truth {
		before += pieces[i]
		if !whole[i] && !c.covers(l.parts[0].At, before) {
			return fmt.Errorf("line %d of %d, %s %s, is missing outside the gaps %+v", i, len(truth), l.parts[0].At.Format(stampFormat), shortened(l.text(0)), c.cert.Gaps)
		}
	}
	return nil
}

// flaws counts the lines that are missing outside the gaps, and those that are there
// twice or out of place.
func (c caught) flaws(truth []line) (lost, odd int) {
	got, at := make([]bool, len(truth)), 0
	for _, l := range c.lines {
		if i, full := find(truth, at, l); i >= 0 {
			got[i], at = got[i] || full, i+1
		} else {
			odd++
		}
	}
	for i, l := range truth {
		if !got[i] && !c.covers(l.parts[0].At, 0) {
			lost++
		}
	}
	return lost, odd
}

// find finds a captured line among the lines written, from the at-th one on: all of
// one, or some of one from the start of a record on.
func find(truth []line, at int, l logstream.Line) (i int, full bool) {
	text := string(l.Text)
	if !l.Partial {
		text += "\n"
	}
	for i := at; i < len(truth); i++ {
		if truth[i].parts[0].At.Equal(l.Time) && truth[i].text(0) == text {
			return i, true
		}
	}
	for i := at; i < len(truth); i++ {
		for j, r := range truth[i].parts {
			if r.At.Equal(l.Time) && strings.HasPrefix(truth[i].text(j), strings.TrimSuffix(text, "\n")) {
				return i, false
			}
		}
	}
	return -1, false
}

// covers says whether a gap accounts for what was printed at t, after so many captured
// lines: one at the end has no end, whatever the clock of the node.
func (c caught) covers(t time.Time, after uint64) bool {
	const skew = 10 * time.Millisecond // between stdout and stderr
	for _, g := range c.cert.Gaps {
		if g.To.IsZero() && after > 0 && after >= g.AfterLine ||
			!t.Before(g.From.Add(-skew)) && (g.To.IsZero() || !t.After(g.To.Add(skew))) {
			return true
		}
	}
	return false
}

func texts(ls []line) string {
	var b strings.Builder
	for _, l := range ls {
		b.WriteString(l.text(0))
	}
	return b.String()
}

// difference is the first place where got is not want.
func difference(got, want string) string {
	if got == want {
		return ""
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	around := func(s string) string { return s[max(i-40, 0):min(i+40, len(s))] }
	return fmt.Sprintf("%d bytes instead of %d, from byte %d on %q instead of %q", len(got), len(want), i, around(got), around(want))
}

// listed is a log for the reader of a failed test.
func listed(ls []logstream.Line) string {
	var b strings.Builder
	for i, l := range ls {
		fmt.Fprintf(&b, "%5d  %s %s\n", i, l.Time.UTC().Format("15:04:05.000000000"), shortened(string(l.Text)))
	}
	return b.String()
}

// asCaptured are the lines as a capture that misses none has them.
func asCaptured(ls []line) []logstream.Line {
	var all []logstream.Line
	for _, l := range ls {
		all = append(all, logstream.Line{Time: l.parts[0].At, Text: []byte(strings.TrimSuffix(l.text(0), "\n"))})
	}
	return all
}

func shortened(s string) string {
	if len(s) > 50 {
		return fmt.Sprintf("%q... (%d bytes)", s[:40], len(s))
	}
	return fmt.Sprintf("%q", s)
}
