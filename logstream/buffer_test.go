package logstream

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
)

// bulk prints n lines of 1 KiB at once.
func (n *node) bulk(slot string, lines int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.cur[slot]
	for range lines {
		b.put(fmt.Sprintf("%06d %s\n", len(b.truth), strings.Repeat("x", 960)))
	}
}

func (n *node) truth(slot string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return stripped(strings.Join(n.cur[slot].truth, ""))
}

// flooded plays a run of 8 MiB.
func (b *bench) flooded() Certificate {
	b.n.start("a", "a1")
	b.c.Handle(b.p.running("a", "a1"))
	for range 8 {
		b.n.bulk("a", 1024)
		synctest.Wait()
	}
	b.n.exit("a")
	b.c.Handle(b.p.ended("a", "a1"))
	certs := b.drain()
	return certs[0]
}

func TestOutputPastTheMemoryGoesToDiskAndComesBack(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
		if cert := b.flooded(); cert.Proof != Verified {
			t.Errorf("certificate %+v", cert)
		}
		st := b.s.Stats()
		if st.Memory > 1<<20+2*chunkSize || st.Disk < 6<<20 || st.Dropped != 0 {
			t.Errorf("stats %+v", st)
		}
		if files, _ := os.ReadDir(os.Getenv("TMPDIR")); len(files) > 0 {
			t.Errorf("%v can be seen in the temporary directory", files)
		}
		text, err := b.readAll("a", ReadOptions{})
		if text != b.n.truth("a") || err != nil {
			t.Errorf("read %d bytes, %v", len(text), err)
		}
	})
}

func TestPastTheDiskTheOldestIsDroppedAndSaidToBe(t *testing.T) {
	for name, opt := range map[string]Options{
		"no disk":    {Memory: 1 << 20, Disk: -1},
		"small disk": {Memory: 1 << 20, Disk: 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			inBubble(t, opt, nil, func(b *bench) { checkDropped(b, b.flooded()) })
		})
	}
}

func TestADiskThatIsFullIsAGapNotACrash(t *testing.T) {
	t.Setenv("TMPDIR", "/proc/no/such/place")
	inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) { checkDropped(b, b.flooded()) })
}

func checkDropped(b *bench, cert Certificate) {
	b.Helper()
	if cert.Proof != Incomplete || len(cert.Gaps) != 1 || !cert.Gaps[0].Certain || cert.Lines != 8192 {
		b.Fatalf("certificate %+v", cert)
	}
	if st := b.s.Stats(); st.Memory > 1<<20+2*chunkSize || st.Disk > 1<<20 || st.Dropped == 0 {
		b.Errorf("stats %+v", st)
	}
	truth := b.n.truth("a")
	text, err := b.readAll("a", ReadOptions{})
	var inc *IncompleteError
	if !errors.As(err, &inc) || len(text) < 512<<10 || !strings.HasSuffix(truth, text) || text[6] != ' ' {
		b.Errorf("read %d bytes, %v", len(text), err)
	}
	var told []Gap
	withGap, err := b.readAll("a", ReadOptions{Gap: func(g Gap) string { told = append(told, g); return "[" + g.Why + "]\n" }})
	if d := cmp.Diff(cert.Gaps, told); d != "" {
		b.Errorf("gaps told (-want +got):\n%s", d)
	}
	if want := "[" + cert.Gaps[0].Why + "]\n" + text; err != nil || withGap != want {
		b.Errorf("with gaps: %v (-want +got):\n%s", err, cmp.Diff(want[:200], withGap[:200]))
	}
}

func TestAReaderThatKeepsUpSeesWhatIsDroppedLater(t *testing.T) {
	inBubble(t, Options{Memory: 256 << 10, Disk: -1}, nil, func(b *bench) {
		texts := make(chan string)
		r := b.c.Reader(b.ctx, "a", ReadOptions{Gap: func(g Gap) string { return "GAP" }})
		go func() {
			text, _ := io.ReadAll(r)
			texts <- string(text)
		}()
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		for range 100 {
			b.n.bulk("a", 32)
			synctest.Wait()
		}
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		if text := <-texts; text != b.n.truth("a") {
			t.Errorf("read %d bytes of %d", len(text), len(b.n.truth("a")))
		}
	})
}

func TestALineWithoutEndTakesNoMoreThanTheBudget(t *testing.T) {
	inBubble(t, Options{Memory: 1 << 20, Disk: -1}, nil, func(b *bench) {
		got := make(chan int)
		r := b.c.Reader(b.ctx, "a", ReadOptions{Gap: func(Gap) string { return "" }})
		go func() {
			n := 0
			for l, err := range r.Lines() {
				if err != nil || len(l.Text) > longLine {
					t.Error(len(l.Text), err)
				}
				n += len(l.Text)
			}
			got <- n
		}()
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.raw("a", "start")
		most := int64(0)
		for range 64 {
			b.n.more("a", strings.Repeat("y", 256<<10))
			synctest.Wait()
			most = max(most, b.s.Stats().Memory)
		}
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		if n := <-got; n != 5+64<<18 {
			t.Errorf("read %d bytes of %d", n, 5+64<<18)
		}
		if most > 1<<20+2*chunkSize {
			t.Errorf("held %d bytes", most)
		}
	})
}
