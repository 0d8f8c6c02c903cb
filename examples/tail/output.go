package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// printer writes logs to out and everything else to err; neither waits for the other.
// It is safe for concurrent use.
type printer struct {
	json bool
	ctx  context.Context // ends when out fails; its cause says how
	fail context.CancelCauseFunc

	turn   chan struct{} // has one place, for who writes to out
	out    io.Writer
	writes atomic.Uint64 // begun and ended: odd while one goes on
	lines  atomic.Uint64 // printed

	mu       sync.Mutex
	err      io.Writer
	proofs   map[logstream.Proof]int
	captured uint64 // lines
}

func newPrinter(ctx context.Context, json bool, stdout, stderr io.Writer) *printer {
	p := &printer{json: json, out: stdout, err: stderr, turn: make(chan struct{}, 1), proofs: map[logstream.Proof]int{}}
	p.ctx, p.fail = context.WithCancelCause(context.WithoutCancel(ctx))
	return p
}

// source is one run of one container.
type source struct {
	Namespace     string `json:"namespace"`
	PodName       string `json:"podName"`
	ContainerName string `json:"containerName"`
	Run           int    `json:"run"` // 0 is the first; below 0: of none in particular
}

func (s source) String() string { return s.Namespace + "/" + s.short() }

func (s source) short() string {
	if s.Run < 0 {
		return s.PodName + " " + s.ContainerName
	}
	return fmt.Sprintf("%s %s#%d", s.PodName, s.ContainerName, s.Run)
}

// logLine and gapLine are what is printed with -o json.
type logLine struct {
	source
	Timestamp string `json:"timestamp"`
	Message   string `json:"message"`
}

type gapLine struct {
	source
	Gap cli.Gap `json:"gap"`
}

// line prints a line of a log, or a piece of one that has not ended.
func (p *printer) line(s source, l logstream.Line, ended bool) {
	object := logLine{s, l.Time.Format(time.RFC3339Nano), string(l.Text)}
	if p.print(object, s.short()+" | "+string(l.Text)+"\n") && ended {
		p.lines.Add(1)
	}
}

// gap says that lines are missing, or may be: to err, and as an object in its place.
func (p *printer) gap(s source, g logstream.Gap) {
	if p.json {
		p.print(gapLine{s, cli.GapOf(g)}, "")
	}
	p.say("%s: gap: %s", s, g)
}

// print writes the object, or the text, to out, and reports whether it did.
func (p *printer) print(object any, text string) bool {
	select {
	case p.turn <- struct{}{}:
	case <-p.ctx.Done(): // a write may never return
		return false
	}
	defer func() { <-p.turn }()
	if p.ctx.Err() != nil {
		return false
	}
	p.writes.Add(1)
	defer p.writes.Add(1)
	var err error
	if p.json {
		err = cli.Object(p.out, object)
	} else {
		_, err = io.WriteString(p.out, text) // when nobody reads any more, SIGPIPE ends the program
	}
	if err != nil {
		p.fail(err)
	}
	return err == nil
}

// expectProgress fails out when one write takes longer than drainTime, until ctx ends.
func (p *printer) expectProgress(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last, since := p.writes.Load(), time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-p.ctx.Done():
			return
		case <-tick.C:
		}
		if n := p.writes.Load(); n != last || n%2 == 0 {
			last, since = n, time.Now()
		} else if time.Since(since) >= drainTime {
			p.fail(fmt.Errorf("nothing was taken for %v", drainTime))
		}
	}
}

// say prints a sentence for people, never mixed into the logs.
func (p *printer) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.err, format+"\n", args...)
}

// watchNotice says what troubles the watch.
func (p *printer) watchNotice(n podwatch.Notice) {
	switch n.Kind {
	case podwatch.NoticeStale, podwatch.NoticeFresh, podwatch.NoticeForbidden, podwatch.NoticeGranted:
		p.say("%s", n)
	}
}

// logNotice says what troubles a log. The end of a capture is said by its certificate.
func (p *printer) logNotice(n logstream.Notice) {
	if n.Kind != logstream.NoticeFinal {
		p.say("%s", n)
	}
}

// certificate says what a log is worth, and counts it.
func (p *printer) certificate(s source, c logstream.Certificate) {
	why := ""
	if c.Why != "" {
		why = ": " + c.Why
	}
	p.say("%s: %s, %d lines%s", s, c.Proof, c.Lines, why)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proofs[c.Proof]++
	p.captured += c.Lines
}

// summary says what all logs are worth, and returns the exit status.
func (p *printer) summary() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	verified, unverified, incomplete := p.proofs[logstream.Verified], p.proofs[logstream.Unverified], p.proofs[logstream.Incomplete]+p.proofs[logstream.Live]
	fmt.Fprintf(p.err, "%d lines of %d runs: %d verified, %d unverified, %d incomplete\n",
		p.lines.Load(), verified+unverified+incomplete, verified, unverified, incomplete)
	if p.ctx.Err() == nil {
		return 0
	}
	if printed := p.lines.Load(); printed < p.captured {
		fmt.Fprintf(p.err, "gap: %d lines were captured and not printed\n", p.captured-printed)
	}
	fmt.Fprintf(p.err, "tail: stdout: %s\n", cli.OneLine(context.Cause(p.ctx)))
	return cli.Failed
}
