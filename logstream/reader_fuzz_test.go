package logstream

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// model is a log that a script writes, with readers at its heels.
type model struct {
	*testing.T
	c     *Capture
	r     *run
	start []int64 // of the lines
	raw   string  // all of them
	lines int
	gaps  int
}

func newModel(t *testing.T, o Options) *model {
	s := New(nil, o)
	c := s.Pod("n", "p", nil)
	m := &model{T: t, c: c, r: newRun(c, "a", "a1", 0)}
	c.slots["a"] = &slot{}
	c.order = append(c.order, m.r)
	close(m.r.done)
	m.r.sp.begin(query{}, false)
	return m
}

func (m *model) write(text string) {
	m.lines++
	if _, end := m.r.log.bounds(); end == m.r.sp.lineAt {
		m.start = append(m.start, end)
	}
	m.print(time.Unix(1e9, int64(m.lines)).UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + text)
}

func (m *model) print(text string) {
	m.raw += text
	m.r.sp.feed([]byte(text))
}

// words are n bytes, no two places of which are equal.
func (m *model) words(n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "%d,", len(m.raw)+b.Len())
	}
	return b.String()[:n]
}

func (m *model) gap(at int64, certain bool) {
	m.r.sp.gap(fmt.Sprint("g", m.gaps), 0, 0, at, certain)
	m.gaps++
}

// tear ends the log inside its last line, as a rotation does that nobody saw.
func (m *model) tear() {
	sp := &m.r.sp
	if committed, end := m.r.log.bounds(); committed != sp.lineAt || end != sp.lineAt {
		sp.l.truncate(committed)
		m.raw = m.raw[:committed]
		m.gap(committed, true)
		sp.startLine(committed)
	}
}

func (m *model) finish() {
	m.r.sp.end(true)
	m.r.finish(Unverified, "")
	m.c.slots["a"].final = true
	m.c.changed()
}

// text is what a reader gets that has all gaps in their places.
func (m *model) text() string {
	l := &m.r.log
	marks := slices.Clone(l.gaps)
	slices.SortStableFunc(marks, func(a, b gapMark) int { return int(a.at - b.at) })
	var b strings.Builder
	at := int64(0)
	for _, g := range append(marks, gapMark{at: l.committed}) {
		b.WriteString(stripped(m.raw[at:g.at]))
		at = g.at
		if g.Why == "" {
			break
		}
		if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
			b.WriteByte('\n')
		}
		b.WriteString("<" + g.Why + ">\n")
	}
	return b.String()
}

// split takes the gaps out of a text.
func split(text string) (output string, gaps map[string]int) {
	gaps = map[string]int{}
	var b strings.Builder
	for _, l := range strings.SplitAfter(text, "\n") {
		if name, ok := strings.CutPrefix(l, "<g"); ok {
			gaps["<g"+name]++
			continue
		}
		if l != "<dropped>\n" {
			b.WriteString(l)
		}
	}
	return b.String(), gaps
}

// FuzzReader: whenever they read, in pieces of any size, readers get every byte
// once, and every gap once, in its place or, if it was noticed behind them, on a
// line of its own.
func FuzzReader(f *testing.F) {
	for _, ops := range []string{
		"abcRabcRgR\x00tRPgaRRRbG", "PRtRPnPqRgRRtaGRRP", "PPPPPPRabPqqRRlqRRntPRnR", "aRpgRGRp", "Pn`\x97\x14RRp",
		"aPRRRGR", "PtaPRtbP", "PRqqqqqRRRRRRRRRRnaRR", "aPqqqqRRRRnaqqPqqqqRqqqqqRRRRRRq", "PqqqRRRRRRRRRRRRRRqqqqqqqqqq",
	} {
		for _, size := range []uint16{999, 40_000} {
			f.Add([]byte(ops), size, false)
			f.Add([]byte(ops), size, true)
		}
	}
	f.Add([]byte("aRpgRGRp"), uint16(2), false)
	f.Fuzz(func(t *testing.T, ops []byte, size uint16, drops bool) {
		if len(ops) > 60 {
			t.Skip()
		}
		o := Options{}
		if drops {
			o = Options{Memory: 1, Disk: -1}
		}
		synctest.Test(t, func(t *testing.T) { playReaders(newModel(t, o), ops, int(size)+1, drops) })
	})
}

func playReaders(m *model, ops []byte, size int, drops bool) {
	step := map[string]chan bool{"Read": make(chan bool), "Lines": make(chan bool)}
	got := map[string]chan reading{"Read": make(chan reading, 1), "Lines": make(chan reading, 1)}
	o := ReadOptions{Gap: func(g Gap) string {
		if g.Why == whyDropped {
			return "<dropped>"
		}
		return "<" + g.Why + ">"
	}}
	early := m.c.Reader(context.Background(), "a", o)
	lines := m.c.Reader(context.Background(), "a", o)
	go readSlowly(early, step["Read"], size, got["Read"])
	go func() {
		<-step["Lines"]
		got["Lines"] <- readLines(lines)
	}()
	for _, op := range ops {
		committed, end := m.r.log.bounds()
		switch {
		case op == 'R':
			select {
			case step["Read"] <- true:
			default:
			}
			synctest.Wait()
		case op == 'l':
			select {
			case step["Lines"] <- true:
			default:
			}
			synctest.Wait()
		case op == 'G' && len(m.start) > 0:
			if at := m.start[len(m.start)/2]; at <= committed {
				m.gap(at, false)
			}
		case op == 'g' && committed == end && committed == m.r.sp.lineAt:
			m.gap(committed, false)
		case op == 't':
			m.tear()
		case op == 'p':
			m.write("part")
		case op == 'P':
			m.write(m.words(longLine + 1000))
		case op == 'q' && end > m.r.sp.lineAt:
			m.print(m.words(40_000))
		case op == 'n' && end > m.r.sp.lineAt:
			m.print("\n")
		default:
			m.write(strings.Repeat(string('a'+op%26), int(op)%50) + "\n")
		}
	}
	m.finish()
	close(step["Read"])
	close(step["Lines"])
	want := m.text()
	output, gaps := split(want)
	for name, c := range got {
		text := (<-c).text
		o, g := split(text)
		if !isIn(o, output) {
			m.Errorf("%s: text that is not in the log:\n%.300q ... %q", name, o, o[max(0, len(o)-400):])
		}
		if !strings.HasSuffix(output, "\n") {
			o = strings.TrimSuffix(o, "\n") // a gap noticed behind the reader is told after it
		}
		if !drops && o != output {
			m.Errorf("%s: %d bytes, want %d\n%.300q\n%.300q", name, len(o), len(output), o, output)
		}
		if o != output && !strings.Contains(text, "<dropped>") {
			m.Errorf("%s: something is missing untold", name)
		}
		for gap := range gaps {
			if g[gap] != 1 {
				m.Errorf("%s tells %d times of %q", name, g[gap], gap)
			}
		}
	}
	if late, err := io.ReadAll(m.c.Reader(context.Background(), "a", o)); !drops && string(late) != want || err != nil {
		m.Errorf("late: %v, %d bytes, want %d\n%.300q\n%.300q", err, len(late), len(want), late, want)
	}
	if n := len(m.c.readers); n > 0 {
		m.Errorf("%d readers are remembered after their end", n)
	}
	m.c.Close()
	if mem, _, _ := m.c.s.store.usage(); mem != 0 {
		m.Errorf("%d bytes are held after Close", mem)
	}
}

// readSlowly makes one Read at each step, then all.
func readSlowly(r *Reader, step chan bool, size int, got chan reading) {
	var text strings.Builder
	p := make([]byte, size)
	for {
		<-step
		n, err := r.Read(p)
		text.Write(p[:n])
		if err != nil {
			got <- reading{text.String(), endOf(err)}
			return
		}
	}
}

// isIn says whether the lines of a, or pieces of long ones, are in b in their order.
func isIn(a, b string) bool {
	lines := strings.SplitAfter(b, "\n")
	for _, l := range strings.SplitAfter(a, "\n") {
		for len(lines) > 0 && lines[0] != l && lines[0]+"\n" != l && (len(lines[0]) < longLine || !strings.Contains(lines[0], strings.TrimSuffix(l, "\n"))) {
			lines = lines[1:]
		}
		switch {
		case len(lines) == 0 && l != "":
			return false
		case len(lines) > 0 && lines[0] == l:
			lines = lines[1:]
		}
	}
	return true
}

// A reader in a long line, of which a piece was dropped, then what it had of the rest.
func TestAPieceBetweenTwoThatWereDroppedIsSkippedWithThem(t *testing.T) {
	m := newModel(t, Options{Memory: 4 * chunkSize, Disk: -1})
	var lost []Gap
	r := m.c.Reader(t.Context(), "a", ReadOptions{Gap: func(g Gap) string { lost = append(lost, g); return "<dropped>" }})
	r.enter(m.r)
	text, p := "", make([]byte, 1<<20)
	read := func() {
		for range 100 {
			n := r.strip(p, false)
			text += string(p[:n])
			switch r.fill(false) {
			case wouldBlock:
				return
			case flushFirst:
				n = r.strip(p, true)
				text += string(p[:n])
			}
		}
		t.Fatal("the reader gets nowhere")
	}
	m.write(m.words(2 * longLine))
	read()
	m.c.s.store.memLimit = 1 // no whole chunk is kept from here on
	for range 20 {
		for range 6 {
			m.print(m.words(33_000))
		}
		read()
	}
	m.finish()
	rest, err := io.ReadAll(r)
	if err != nil || len(lost) == 0 {
		t.Errorf("%v, %d gaps", err, len(lost))
	}
	if o, _ := split(text + string(rest)); !isIn(o, stripped(m.raw)) {
		t.Error("text that is not in the log")
	}
}
