package logstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// fuzzNode is a node whose container, log files and answers a script plays.
type fuzzNode struct {
	*testing.T
	r       *run
	now     time.Duration
	clock   byte
	truth   []string
	files   []string // the last is current
	at, pos int      // of the follower: file and place
	open    bool
	foreign int
	first   map[string]int // how often each line was printed
	drops   bool
}

// print writes a line.
func (n *fuzzNode) print(text string) {
	switch n.clock % 4 {
	case 0:
		n.now += 1001
	case 1: // one time for some lines
		if len(n.truth)%3 == 0 {
			n.now += 1001
		}
	case 2: // stdout and stderr
		n.now += []time.Duration{3003, -1001}[len(n.truth)%2]
	case 3:
		n.now += time.Second / 2
	}
	line := time.Unix(1e9, 0).Add(n.now).UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + text
	n.truth = append(n.truth, line)
	n.first[line]++
	n.files[len(n.files)-1] += line
}

func (n *fuzzNode) rotate() {
	if n.r.sp.lineAt > 0 { // what is rotated before it was ever read is lost untold
		n.files = append(n.files, "")
	}
}

// begin starts a response.
func (n *fuzzNode) begin(follow bool) {
	n.end("")
	sp := &n.r.sp
	_, end := n.r.log.bounds()
	accept := n.foreign > 2 || n.foreign > 0 && end > 0
	sp.oneFile = !follow
	n.at, n.pos, n.open = len(n.files)-1, 0, true
	q := query{follow: follow}
	if follow {
		q.expect, q.since, q.filtered = sp.cut()
	}
	sp.begin(q, accept)
	if q.filtered {
		from := q.since.UTC().Format("2006-01-02T15:04:05")
		for _, l := range strings.SplitAfter(n.files[n.at], "\n") {
			if l >= from || l == "" {
				break
			}
			n.pos += len(l)
		}
	}
}

// deliver brings up to k bytes of the response; over says that there are no more.
func (n *fuzzNode) deliver(k int) (over bool) {
	for n.open && k > 0 {
		text := n.files[n.at][n.pos:]
		if text == "" {
			if n.at == len(n.files)-1 || n.r.sp.oneFile {
				return true
			}
			n.at, n.pos = n.at+1, 0
			continue
		}
		text = text[:min(k, len(text))]
		k, n.pos = k-len(text), n.pos+len(text)
		if a, ok := n.r.sp.feed([]byte(text)); !ok {
			n.answer(a)
			n.open = false
		}
	}
	return !n.open
}

func (n *fuzzNode) answer(a kubelog.Answer) {
	switch {
	case a == kubelog.Foreign:
		n.foreign++
	case n.r.sp.joined:
		n.foreign = 0
	}
}

// end ends the response, perhaps with the kubelet's words.
func (n *fuzzNode) end(words string) (equal bool) {
	if !n.open {
		return false
	}
	n.open = false
	sp := &n.r.sp
	a, ok := kubelog.EOF, true
	if words != "" {
		a, ok = sp.feed([]byte(words))
	}
	if ok {
		a, equal = sp.end(!sp.oneFile)
	}
	n.answer(a)
	if c := cap(sp.hold) + cap(sp.skipped); c > 8*longLine {
		n.Errorf("the splicer holds %d bytes", c)
	}
	return equal && a == kubelog.EOF
}

// again has the follower start its file over, which it has read to the end, as
// after a rotation that failed, or that it lagged behind. What cannot be told from
// repeated output, as the docs say, is left out.
func (n *fuzzNode) again() {
	if !n.open || n.r.sp.oneFile || n.at < len(n.files)-1 || n.pos == 0 || n.pos < len(n.files[n.at]) {
		return
	}
	text := n.files[n.at]
	line := text[:strings.IndexByte(text, '\n')+1]
	if line == "" || n.first[line] > 1 || n.clock%4 != 0 && n.clock%4 != 3 || n.r.sp.mode != modeAppend || strings.Count(text, "\n") < 2 {
		return
	}
	n.pos = 0
}

// FuzzResponses: whatever the node answers, in pieces of any size, the capture
// holds no line twice and none that was not printed; what is missing is in a gap;
// and Verified means equal.
func FuzzResponses(f *testing.F) {
	for _, ops := range []string{
		"papbfzpcfzprz", "papbpcfzRpdpezpffzRpgfzw", "papbfz!pcz", "pafzpbpcRpdzRpezs!zpfz", "f\x04papbzRpcpdzrzRpepfzfz",
		"papbpcpdfzcpepfpgfzcfzRphpizcfzc", "pafzRpbRpczs!zpdz", "k2papbpcpdpepfzfzRpgzfz", "k1papbpcpdpefzcphfzcrzpifz", "k3papbpcpdpefzcphfzcpifzcpjf",
		"BfzBzRBzBrzBzfz", "BBBBfzBBBzRBBzs!zpa", "fd\x04\xc4\xe8\x8cpebpc\x8cpebpzR",
	} {
		for _, size := range []uint8{5, 40, 255} {
			f.Add([]byte(ops), size, false)
		}
		f.Add([]byte(ops), uint8(255), true)
	}
	f.Fuzz(func(t *testing.T, ops []byte, size uint8, drops bool) {
		if len(ops) > 100 {
			t.Skip()
		}
		synctest.Test(t, func(t *testing.T) { playResponses(t, ops, 1+int(size)*int(size), drops) })
	})
}

func playResponses(t *testing.T, ops []byte, size int, drops bool) {
	o := Options{Disk: -1}
	if drops {
		o.Memory = 1
	}
	m := newModel(t, o)
	n := &fuzzNode{T: t, r: m.r, files: []string{""}, first: map[string]int{}, drops: drops}
	n.r.sp.filterFrom = 100
	arg := func(i int) byte {
		if i+1 < len(ops) {
			return ops[i+1]
		}
		return 0
	}
	for i := 0; i < len(ops); i++ {
		switch ops[i] {
		case 'p':
			n.print(fmt.Sprint(len(n.truth), strings.Repeat("x", int(arg(i)))) + "\n")
			i++
		case 'e':
			n.print("\n")
		case 'k':
			n.clock, i = arg(i), i+1
		case 'B':
			for range 100 {
				n.print(fmt.Sprint(len(n.truth), strings.Repeat("y", 900), "\n"))
			}
		case 'R':
			n.rotate()
		case 'f':
			n.begin(true)
		case 'r':
			n.begin(false)
		case 'c':
			n.end("")
		case 'w':
			n.end("rpc error: code = Unknown desc = closing")
		case '!':
			n.again()
		case 's': // the follower lags: it passes over files
			if n.open && !n.r.sp.oneFile && n.at < len(n.files)-1 && n.pos == len(n.files[n.at]) {
				n.at, n.pos = len(n.files)-1, 0
			}
		case 'z':
			for !n.deliver(size) {
			}
		default:
			n.deliver(int(ops[i]))
		}
		if mem, _, _ := n.r.log.st.usage(); drops && mem > 3*chunkSize {
			t.Errorf("%d bytes are held", mem)
		}
	}
	n.finish(size)
	n.check(m)
}

// finish makes the final reads.
func (n *fuzzNode) finish(size int) {
	n.end("")
	for range 8 {
		n.begin(false)
		for !n.deliver(size) {
		}
		if n.end("") {
			n.r.prove(lifeEnded)
			return
		}
	}
	n.r.incomplete("no read agrees")
}

func (n *fuzzNode) check(m *model) {
	cert := n.r.certificate()
	m.c.slots["a"].final = true
	m.c.changed()
	text, err := io.ReadAll(m.c.Reader(context.Background(), "a", ReadOptions{Gap: func(Gap) string { return "" }}))
	if err != nil {
		n.Error(err)
	}
	if n.drops {
		whole := string(text[:strings.LastIndexByte(string(text), '\n')+1]) // the last may be torn
		if all := stripped(strings.Join(n.truth, "")); !isIn(whole, all) {
			n.Errorf("text that was not printed, or twice: %.1500q\nprinted %.1500q; %+v", text, all, cert)
		}
		return
	}
	committed, _ := n.r.log.bounds()
	captured := string(n.r.log.peek(make([]byte, committed), 0, committed))
	if err := check(n.truth, captured, cert); err != nil {
		n.Errorf("%v\ncertificate %+v\ncaptured %.2000q\nprinted  %.2000q", err, cert, captured, strings.Join(n.truth, ""))
	}
	if string(text) != stripped(captured) {
		n.Errorf("read %d bytes of %d", len(text), len(captured))
	}
}

// FuzzSplice: whatever the bytes, a response cut anywhere and then sent whole
// twice is captured exactly.
func FuzzSplice(f *testing.F) {
	f.Add([]byte(body("a", "b", "b")), uint16(40), uint8(3))
	f.Add([]byte("plain\ntext"), uint16(3), uint8(1))
	f.Add([]byte("2026-11-22T10:00:00.000000001Z a\nno stamp\n"), uint16(36), uint8(7))
	f.Fuzz(func(t *testing.T, full []byte, cut uint16, step uint8) {
		last := full[bytes.LastIndexByte(full, '\n')+1:]
		if _, text := kubelog.WordsAtEnd(last); text || kubelog.TornWords(last) || stamp.Len(full) > 0 && stamp.Len(last) == 0 && len(last) > 0 {
			t.Skip() // not output
		}
		s := newTestSplicer()
		s.respond(t, string(full[:min(int(cut), len(full))]), true, false)
		s.oneFile = true
		var equal bool
		for range 2 {
			s.begin(query{}, false)
			for p := full; len(p) > 0; {
				n := min(int(step)+1, len(p))
				if a, ok := s.feed(p[:n]); !ok {
					t.Fatalf("answer %v", a)
				}
				p = p[n:]
			}
			_, equal = s.end(false)
		}
		s.seal(true)
		if got := s.captured(); got != string(full) || !equal {
			t.Fatalf("equal %v, captured %q, want %q (gaps %+v)", equal, got, full, s.l.gaps)
		}
	})
}
