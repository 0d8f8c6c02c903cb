package main

import (
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
)

func TestTextHasAPrefix(t *testing.T) {
	c := tailed(t, func(c *cluster) { c.text = true }, func(c *cluster) {
		c.create("default", cli.Once(cli.Pod("web", cli.Script("a", "echo hello"))))
		time.Sleep(5 * time.Second)
	})
	if want := "web a#0 | hello\n"; c.stdout.String() != want {
		t.Errorf("got %q, want %q", c.stdout.String(), want)
	}
}

func TestAfterAnInterruptASlowStdoutGetsEverything(t *testing.T) {
	c := tailed(t, func(c *cluster) { c.out = &pipe{Writer: &c.stdout, speed: 20} }, func(c *cluster) { // lines of some 130 bytes
		c.create("default", cli.Once(cli.Pod("web", cli.Script("a", "seq 20"))))
		time.Sleep(3 * time.Second)
	})
	if c.status != 0 || c.took < time.Minute {
		t.Errorf("exit status %d after %v", c.status, c.took)
	}
	c.expect(map[string][]string{"default/web a#0": numbers(20)})
	if strings.Contains(c.stderr.String(), "gap") {
		t.Error(c.stderr.String())
	}
}

func TestAfterAnInterruptAStdoutThatTakesNothingIsGivenUpAndTheRestIsAGap(t *testing.T) {
	for name, since := range map[string]time.Duration{"for a minute": time.Minute, "from now on": 3 * time.Second} {
		t.Run(name, func(t *testing.T) {
			var p *pipe
			c := tailed(t, func(c *cluster) { p = c.clog(3) }, func(c *cluster) {
				c.create("default", cli.Once(cli.Pod("web", cli.Script("a", "seq 10"))))
				c.create("default", cli.Once(cli.Pod("db", cli.Script("a", "seq 10", "sleep 600"))))
				time.Sleep(since)
				go func() { <-c.ended; close(p.opened) }()
			})
			if c.status != cli.Failed || c.took < drainTime || c.took > drainTime+2*time.Second {
				t.Errorf("exit status %d after %v", c.status, c.took)
			}
			c.says("gap: 17 lines were captured and not printed")
			c.says("default/web a#0: Verified, 10 lines")
			c.says("3 lines of 2 runs", "1 verified", "1 unverified", "0 incomplete")
			c.says("tail: stdout: nothing was taken for 10s")
		})
	}
}

func TestAnErrorOfStdoutEndsTheTail(t *testing.T) {
	c := tailed(t, func(c *cluster) {
		p := c.clog(3)
		p.err, p.speed = syscall.ENOSPC, 100
	}, func(c *cluster) {
		c.create("default", cli.Pod("web", cli.Script("a", "seq 10", "sleep 600")))
		select {
		case <-c.ended:
		case <-time.After(time.Minute):
			t.Error("the tail goes on")
		}
	})
	if c.status != cli.Failed {
		t.Errorf("exit status %d", c.status)
	}
	c.expect(map[string][]string{"default/web a#0": numbers(3)})
	c.says("tail: stdout: no space left on device")
	c.says("gap: 7 lines were captured and not printed")
	c.says("3 lines of 1 runs")
}

func TestAPieceOfALineIsNotGluedToWhatIsNotItsRest(t *testing.T) {
	now := time.Now().UTC()
	piece := logstream.Line{Time: now, Text: []byte("piece"), Partial: true, More: true}
	for name, c := range map[string]struct {
		then []logstream.Line
		err  error
		want []string
	}{
		"its rest":     {[]logstream.Line{{Text: []byte(" and rest")}}, nil, []string{"piece and rest"}},
		"another line": {[]logstream.Line{{Time: now.Add(1), Text: []byte("next")}}, nil, []string{"piece", "next"}},
		"a gap":        {[]logstream.Line{{Gap: &logstream.Gap{Why: "dropped"}}, {Time: now.Add(1), Text: []byte("next")}}, nil, []string{"piece", "next"}},
		"an error":     {nil, logstream.ErrClosed, []string{"piece"}},
		"the end":      {nil, nil, []string{"piece"}},
	} {
		t.Run(name, func(t *testing.T) {
			k := &cluster{t: t}
			f := &follower{t: &tailer{out: newPrinter(t.Context(), true, &k.stdout, io.Discard)}, namespace: "default", name: "web"}
			f.printLines("a", func(yield func(logstream.Line, error) bool) {
				for _, l := range append([]logstream.Line{piece}, c.then...) {
					if !yield(l, nil) {
						return
					}
				}
				if c.err != nil {
					yield(logstream.Line{}, c.err)
				}
			})
			k.expect(map[string][]string{"default/web a#0": c.want})
			if n := f.t.out.lines.Load(); int(n) != len(c.want) {
				t.Errorf("%d lines are counted, want %d", n, len(c.want))
			}
		})
	}
}
