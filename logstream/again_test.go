package logstream

import (
	"fmt"
	"testing"
	"time"
)

// The times of lines that are sent again go back, and the node's clock does not.
func TestAFileThatIsSentAgainLeavesTheGapsTheirTimes(t *testing.T) {
	inBubble(t, Options{IdleProbe: 2 * time.Second, HeadProbe: time.Second, RotateSize: 400}, nil, func(b *bench) {
		again := false
		b.n.again = func() bool {
			defer func() { again = false }()
			return again
		}
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		for i := range 40 {
			time.Sleep(500 * time.Millisecond)
			switch i {
			case 10, 30:
				b.n.rotate("a")
			case 20:
				b.n.change(func() { again = true })
			}
			b.n.print("a", fmt.Sprintf("line %d", i))
		}
		b.n.exit("a")
		time.Sleep(time.Second)
		b.c.Handle(b.p.ended("a", "a1"))
		c := b.drain()[0]
		if c.Proof != Unverified || c.Lines != 40 || len(c.Gaps) < 2 {
			t.Errorf("certificate %+v", c)
		}
		for _, g := range c.Gaps {
			if g.From.IsZero() || g.To.IsZero() || g.To.Sub(g.From) > 11*time.Second {
				t.Errorf("gap %+v", g)
			}
		}
	})
}
