package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-vela/podlife/logstream"
)

// keeper holds on to the log files that the node has of a pod's runs: by links, so
// that they outlive their rotation, the next run and the pod.
type keeper struct {
	from, to string // directories

	mu    sync.Mutex
	seen  map[uint64]bool   // inodes
	links map[string][]link // by run: slot/attempt
}

// link is one to a file, and when that was seen first.
type link struct {
	name string
	seen time.Time
}

func newKeeper(from, to string) *keeper {
	return &keeper{from: from, to: to, seen: map[uint64]bool{}, links: map[string][]link{}}
}

// sweep links what files are new. A kubelet compresses a rotated file when it
// rotates the next one, seconds later.
func (k *keeper) sweep() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	found, err := filepath.Glob(filepath.Join(k.from, "*", "*.log*"))
	if err != nil {
		return err
	}
	for _, file := range found {
		if strings.HasSuffix(file, ".gz") || strings.HasSuffix(file, ".tmp") {
			continue
		}
		if n, err := inode(file); err != nil || k.seen[n] {
			continue // renamed just now: the next sweep finds it
		}
		to := filepath.Join(k.to, fmt.Sprint(len(k.seen)))
		if err := os.Link(file, to); errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		n, err := inode(to)
		if err != nil {
			return err
		}
		if k.seen[n] { // a file of that name took its place meanwhile
			if err := os.Remove(to); err != nil {
				return err
			}
			continue
		}
		k.seen[n] = true
		attempt, _, _ := strings.Cut(filepath.Base(file), ".log")
		run := filepath.Join(filepath.Base(filepath.Dir(file)), attempt)
		k.links[run] = append(k.links[run], link{to, time.Now()})
	}
	return nil
}

func inode(file string) (uint64, error) {
	st, err := os.Lstat(file)
	if err != nil {
		return 0, err
	}
	return st.Sys().(*syscall.Stat_t).Ino, nil
}

// keepFiles sweeps while the test runs, for runs that are rotated or restarted.
func (p *printing) keepFiles(t *testing.T) {
	if p.kept == nil {
		return
	}
	over, joined := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(joined)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.sweep(t)
			case <-over:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(over)
		<-joined
	})
}

func (p *printing) sweep(t *testing.T) {
	t.Helper()
	if p.kept == nil {
		return
	}
	if err := p.kept.sweep(); err != nil {
		t.Errorf("keeping the log files of %s: %v", p.pod.Name, err)
	}
}

// onNode returns what the node's files have of a run; nil if they are not ours to read.
func (p *printing) onNode(t *testing.T, tr truth, id string) *onNode {
	t.Helper()
	if p.kept == nil {
		return nil
	}
	p.kept.mu.Lock()
	links := p.kept.links[filepath.Join(tr.slot, fmt.Sprint(p.news.attempt(id)))]
	p.kept.mu.Unlock()
	n, err := tr.readFiles(links)
	if err != nil {
		t.Errorf("%s: run %.8s: %v", tr.slot, id, err)
	}
	return n
}

// onNode is what all the files that a node had of one run hold, together.
type onNode struct {
	files []time.Time // when each began: its first line, or when it was seen if it has none
	text  hash.Hash   // as kubectl logs would show it
	bytes int64
	lines []nodeLine // by number
	seams []stretch
	begin time.Time // of the first line
}

// nodeLine is where a line is, whole; without a time it is nowhere.
type nodeLine struct {
	at   int64 // nanoseconds since 1970
	file int   // from the oldest
}

func (l nodeLine) there() bool { return l.at != 0 }

// readFiles reads the files of one run.
func (tr truth) readFiles(links []link) (*onNode, error) {
	type file struct {
		link
		first, last time.Time
	}
	var files []file
	for _, l := range links {
		f := file{link: l}
		err := eachRecord(f.name, func(at time.Time, _ bool, _ []byte) {
			if f.first.IsZero() {
				f.first = at
			}
			f.last = at
		})
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b file) int { // an empty one is the last
		if a.first.IsZero() != b.first.IsZero() {
			return cmp.Compare(b.first.Unix(), a.first.Unix())
		}
		return a.first.Compare(b.first)
	})
	n := &onNode{text: sha256.New()}
	if len(files) > 0 {
		n.begin = files[0].first
	}
	var line []byte
	for i, f := range files {
		if n.files = append(n.files, f.first); f.first.IsZero() {
			n.files[i] = f.seen
		}
		if i > 0 {
			n.seams = append(n.seams, stretch{before: files[i-1].last, behind: f.first})
		}
		err := eachRecord(f.name, func(at time.Time, partial bool, text []byte) {
			line = append(line, text...)
			n.bytes += int64(len(text))
			_, _ = n.text.Write(text)
			if partial {
				return
			}
			n.bytes++
			_, _ = n.text.Write([]byte("\n"))
			if number, ok := tr.number(line); ok {
				n.lines = append(n.lines, make([]nodeLine, max(0, number+1-len(n.lines)))...)
				n.lines[number] = nodeLine{at.UnixNano(), i}
			}
			line = line[:0]
		})
		if err != nil {
			return nil, err
		}
	}
	return n, nil
}

// eachRecord reads a file as a runtime writes it: time, stream, P or F, text.
func eachRecord(name string, take func(at time.Time, partial bool, text []byte)) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := bytes.SplitN(lines.Bytes(), []byte(" "), 4)
		if len(fields) < 4 {
			return fmt.Errorf("no log record: %q", lines.Bytes())
		}
		at, err := time.Parse(time.RFC3339Nano, string(fields[0]))
		if err != nil {
			return err
		}
		take(at, fields[2][0] == 'P', fields[3])
	}
	return lines.Err()
}

// hold holds what was captured against the node's files. A line that is missing is
// lost, if a file has it; else the runtime never wrote it.
func (a *account) hold(n *onNode, c *logstream.Certificate) (flaws []string) {
	if c.Proof == logstream.Verified {
		if len(n.files) != 1 {
			flaws = append(flaws, fmt.Sprintf("Verified, but the node had %d files", len(n.files)))
		}
		if !bytes.Equal(a.text.Sum(nil), n.text.Sum(nil)) {
			flaws = append(flaws, fmt.Sprintf("Verified, but the %d bytes are not the %d in the node's file", a.bytes, n.bytes))
		}
	}
	for _, s := range n.seams {
		if !slices.ContainsFunc(c.Gaps, s.within) {
			flaws = append(flaws, fmt.Sprintf("no gap is where the node rotated, between %s and %s", stamp(s.before), stamp(s.behind)))
		}
	}
	return flaws
}

// lost counts the lines that are known to be missing: all, and those of them that no
// file of the node's has. Without the files nothing is known to be in none.
func (a *account) lost(n *onNode) (all, unwritten int) {
	for _, s := range a.missing {
		if s.torn {
			continue
		}
		for i := s.from; i < s.to; i++ {
			if all++; n != nil && (i >= len(n.lines) || !n.lines[i].there()) {
				unwritten++
			}
		}
	}
	if n != nil && !a.ended {
		for _, line := range n.lines[min(a.next, len(n.lines)):] {
			if line.there() {
				all++
			}
		}
	}
	return all, unwritten
}

// The node's files are a judge, too.
func TestWhatTheNodeHasTellsALossFromWhatWasNeverWritten(t *testing.T) {
	tr := truth{slot: "s", lines: 4}
	at := func(n int) time.Time { return time.Date(2026, 11, 22, 10, 0, n, 0, time.UTC) }
	line := func(n int) string { return strings.TrimSuffix(string(tr.appendLine(nil, n)), "\n") }
	file := func(numbers ...int) (text string) {
		for _, n := range numbers {
			text += at(n).Format(time.RFC3339Nano) + " stdout F " + line(n) + "\n"
		}
		return text
	}
	halves := at(1).Format(time.RFC3339Nano) + " stdout P " + line(1)[:9] + "\n" + at(1).Format(time.RFC3339Nano) + " stdout F " + line(1)[9:] + "\n"
	gap := logstream.Gap{From: at(0), To: at(2), AfterLine: 9}
	for name, c := range map[string]struct {
		files          []string
		proof          logstream.Proof
		gaps           []logstream.Gap
		take           []int
		want           []string // words of the flaws
		all, unwritten int
	}{
		"whole":                      {files: []string{file(0, 1, 2)}, take: []int{0, 1, 2}, proof: logstream.Verified},
		"in halves":                  {files: []string{file(0) + halves}, take: []int{0, 1}, proof: logstream.Verified},
		"never written":              {files: []string{file(0, 2)}, take: []int{0, 2}, proof: logstream.Verified, all: 1, unwritten: 1},
		"lost, verified":             {files: []string{file(0, 1, 2)}, take: []int{0, 2}, proof: logstream.Verified, want: []string{"are not the"}, all: 1},
		"the end lost":               {files: []string{file(0, 1, 2)}, take: []int{0}, proof: logstream.Incomplete, gaps: []logstream.Gap{{AfterLine: 1}}, all: 2},
		"rotated, verified":          {files: []string{file(0, 1), file(2)}, take: []int{0, 1, 2}, proof: logstream.Verified, gaps: []logstream.Gap{gap}, want: []string{"2 files"}},
		"rotated":                    {files: []string{file(2), file(0, 1)}, take: []int{0, 1, 2}, proof: logstream.Unverified, gaps: []logstream.Gap{gap, {AfterLine: 3}}},
		"rotated, unnoticed":         {files: []string{file(0, 1), file(2)}, take: []int{0, 1, 2}, proof: logstream.Unverified, gaps: []logstream.Gap{{AfterLine: 3}}, want: []string{"where the node rotated"}},
		"rotated, noticed elsewhere": {files: []string{file(0), file(1), ""}, take: []int{0, 1}, proof: logstream.Unverified, gaps: []logstream.Gap{gap}, want: []string{"where the node rotated"}},
		"no file":                    {take: []int{0}, proof: logstream.Verified, want: []string{"0 files", "are not the"}},
	} {
		t.Run(name, func(t *testing.T) {
			var links []link
			for i, text := range c.files {
				links = append(links, link{name: filepath.Join(t.TempDir(), fmt.Sprint(i))})
				if err := os.WriteFile(links[i].name, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			n, err := tr.readFiles(links)
			if err != nil {
				t.Fatal(err)
			}
			a := newAccount(tr, "")
			for _, i := range c.take {
				a.take(logstream.Line{Text: []byte(line(i)), Time: at(i)})
			}
			got := a.hold(n, &logstream.Certificate{Proof: c.proof, Gaps: c.gaps})
			if len(got) != len(c.want) {
				t.Fatalf("flaws %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				if !strings.Contains(got[i], want) {
					t.Errorf("flaw %d is %q, want it to say %q", i, got[i], want)
				}
			}
			if all, unwritten := a.lost(n); all != c.all || unwritten != c.unwritten {
				t.Errorf("%d lines lost, %d never written; want %d, %d", all, unwritten, c.all, c.unwritten)
			}
		})
	}
}
