package logstream

import (
	"testing"
	"testing/synctest"
	"time"
)

// The runtime is turned to a new file in the middle of a line: the old file ends in its
// first half, the new one begins with the other, which has a timestamp of its own.
func TestALineThatARotationCutsInTwoIsCapturedWhole(t *testing.T) {
	for name, c := range map[string]struct {
		broken bool // the stream broke off: what is missing of the line is not known
		want   Proof
		text   string
		lines  uint64 // as readers get them: a half is one
	}{
		"and its stream ended cleanly": {want: Unverified, text: "one\nhalf\nnext\n", lines: 4},
		"and its stream broke off":     {broken: true, want: Incomplete, text: "one\nlf\nnext\n", lines: 3},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.begin("a", "a1", "one")
				time.Sleep(10 * time.Second)
				b.n.raw("a", "ha")
				synctest.Wait()
				b.n.change(func() { b.n.cleanly = !c.broken })
				b.n.breakStreams("a")
				b.n.raw("a", "lf\n")
				b.n.print("a", "next")
				time.Sleep(10 * time.Second)
				text, _ := b.readAll("a", ReadOptions{Snapshot: true})
				if text != c.text {
					t.Errorf("captured %q, want %q", text, c.text)
				}
				if partial := 0; !c.broken {
					for l := range b.c.Reader(b.ctx, "a", ReadOptions{Snapshot: true}).Lines() {
						if l.Partial {
							partial++
						}
					}
					if partial != 1 {
						t.Errorf("%d lines are said to be in part", partial)
					}
				}
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				cert := b.drain()[0]
				if g := seams(cert)[0]; cert.Proof != c.want || len(seams(cert)) != 1 || g.Certain != c.broken || g.AfterLine != c.lines-2 || cert.Lines != c.lines {
					t.Errorf("certificate %+v", cert)
				}
				if cert.Bytes != int64(len(c.text)) {
					t.Errorf("%d bytes certified, %d read", cert.Bytes, len(c.text))
				}
			})
		})
	}
}
