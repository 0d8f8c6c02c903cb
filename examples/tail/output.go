package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
)

// kept is how many certificates the summary lists, the newest.
const kept = 200

// piece is how much is written at a time, so that one can see whether a slow out
// takes anything at all: what a pipe takes as a whole (PIPE_BUF, pipe(7)).
const piece = 4096

// printer writes logs to out and everything else to err. Neither waits for the
// other, but that a log waits for its gaps to be told. It is safe for concurrent use.
type printer struct {
	json, colour bool
	ctx          context.Context // ends when out fails; its cause says how
	fail         context.CancelCauseFunc
	writes       atomic.Uint64 // begun and ended: odd while one goes on
	lines        atomic.Uint64 // printed

	turn chan struct{} // has one place, for who writes to out
	out  io.Writer
	text bytes.Buffer // the line that is being made

	errMu     sync.Mutex
	err       io.Writer
	proofs    map[logstream.Proof]int
	unprinted uint64   // lines captured only
	summed    []string // of certificates, the newest
	forgets   int      // those before
}

func newPrinter(ctx context.Context, json bool, stdout, stderr io.Writer) *printer {
	p := &printer{out: stdout, err: stderr, json: json, colour: cli.IsTerminal(stdout), turn: make(chan struct{}, 1)}
	p.ctx, p.fail = context.WithCancelCause(context.WithoutCancel(ctx))
	return p
}

// source is where a line comes from: one run of one container.
type source struct {
	namespace, pod, container string
	run                       int // 0 is the first; below 0: of none in particular
}

func (s source) String() string {
	return s.namespace + "/" + s.pod + " " + s.slot()
}

func (s source) slot() string {
	if s.run < 0 {
		return s.container
	}
	return fmt.Sprintf("%s#%d", s.container, s.run)
}

type logLine struct {
	Namespace     string `json:"namespace"`
	PodName       string `json:"podName"`
	ContainerName string `json:"containerName"`
	Run           int    `json:"run"`
	Timestamp     string `json:"timestamp"`
	Message       string `json:"message"`
}

// gapLine stands where lines are missing, or may be.
type gapLine struct {
	Namespace     string `json:"namespace"`
	PodName       string `json:"podName"`
	ContainerName string `json:"containerName"`
	Run           int    `json:"run"`
	Gap           gap    `json:"gap"`
}

type gap struct {
	AfterLine uint64     `json:"afterLine"`
	From      *time.Time `json:"from"` // the times of the lines before and behind it; null: not known
	To        *time.Time `json:"to"`
	Certain   bool       `json:"certain"` // lines are known to be missing
	Why       string     `json:"why"`
}

// line prints a line of a log, and says whether it did.
func (p *printer) line(s source, at time.Time, text []byte) bool {
	printed := p.print(func(b *bytes.Buffer) {
		if p.json {
			object(b, logLine{s.namespace, s.pod, s.container, s.run, at.Format(time.RFC3339Nano), string(text)})
			return
		}
		fmt.Fprintf(b, "%s%s %s |%s ", p.paint(s), s.pod, s.slot(), p.unpaint())
		b.Write(text)
		b.WriteByte('\n')
	})
	if printed {
		p.lines.Add(1)
	}
	return printed
}

func object(b *bytes.Buffer, v any) {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // cannot fail
}

// print writes what make makes to out, and says whether it did.
func (p *printer) print(make func(*bytes.Buffer)) bool {
	select {
	case p.turn <- struct{}{}:
	case <-p.ctx.Done(): // a write may never return
		return false
	}
	defer func() { <-p.turn }()
	if p.ctx.Err() != nil {
		return false
	}
	p.text.Reset()
	make(&p.text)
	for some := range slices.Chunk(p.text.Bytes(), piece) {
		p.writes.Add(1)
		_, err := p.out.Write(some) // when nobody reads any more, SIGPIPE ends the program
		p.writes.Add(1)
		if err != nil {
			p.fail(err)
			return false
		}
	}
	return true
}

// watch fails out when a write takes nothing for drainAll, until ctx ends.
func (p *printer) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	last, since := p.writes.Load(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if n := p.writes.Load(); n != last || n%2 == 0 {
			last, since = n, time.Now()
		} else if time.Since(since) >= drainAll {
			p.fail(fmt.Errorf("nothing was taken for %v", drainAll))
			return
		}
	}
}

// paint gives every container a colour of its own, more or less.
func (p *printer) paint(s source) string {
	if !p.colour {
		return ""
	}
	h := fnv.New32a()
	_, _ = io.WriteString(h, s.pod+"/"+s.container)
	return fmt.Sprintf("\x1b[%dm", 31+h.Sum32()%6)
}

func (p *printer) unpaint() string {
	if !p.colour {
		return ""
	}
	return "\x1b[0m"
}

// say prints a sentence for people, never mixed into the logs.
func (p *printer) say(format string, args ...any) {
	p.errMu.Lock()
	defer p.errMu.Unlock()
	fmt.Fprintf(p.err, format+"\n", args...)
}

// gap says that lines are missing, or may be: to err, and as an object in its place.
func (p *printer) gap(s source, g logstream.Gap) {
	if p.json {
		p.print(func(b *bytes.Buffer) {
			object(b, gapLine{s.namespace, s.pod, s.container, s.run, gap{g.AfterLine, cli.Known(g.From), cli.Known(g.To), g.Certain, g.Why}})
		})
	}
	what := "lines may be missing"
	if g.Certain {
		what = "lines are missing"
	}
	const milliseconds = "2006-01-02T15:04:05.000Z07:00"
	when, from, to := "", g.From.Format(milliseconds), g.To.Format(milliseconds)
	switch {
	case !g.From.IsZero() && !g.To.IsZero():
		when = " between " + from + " and " + to
	case !g.From.IsZero():
		when = " after " + from
	case !g.To.IsZero():
		when = " before " + to
	}
	p.say("%s: gap after line %d%s, %s: %s", s, g.AfterLine, when, what, g.Why)
}

// keep notes what a log is worth, for the summary, and how much of it was printed.
func (p *printer) keep(s source, c logstream.Certificate, printed uint64) {
	p.errMu.Lock()
	defer p.errMu.Unlock()
	if p.proofs == nil {
		p.proofs = map[logstream.Proof]int{}
	}
	p.proofs[c.Proof]++
	text := fmt.Sprintf("%s: %s, %d lines", s, c.Proof, c.Lines)
	if printed < c.Lines {
		p.unprinted += c.Lines - printed
		text += fmt.Sprintf(", %d printed", printed)
	}
	if c.Why != "" {
		text += ": " + c.Why
	}
	if p.summed = append(p.summed, text); len(p.summed) > kept {
		p.summed = p.summed[1:]
		p.forgets++
	}
}

// summary says what the logs are worth.
func (p *printer) summary() {
	p.errMu.Lock()
	defer p.errMu.Unlock()
	if p.ctx.Err() != nil && p.unprinted > 0 {
		fmt.Fprintf(p.err, "gap: %d lines were captured and not printed\n", p.unprinted)
	}
	if p.forgets > 0 {
		fmt.Fprintf(p.err, "(%d runs before these)\n", p.forgets)
	}
	total := 0
	for _, text := range p.summed {
		fmt.Fprintln(p.err, text)
	}
	for _, n := range p.proofs {
		total += n
	}
	fmt.Fprintf(p.err, "%d lines of %d runs: %d verified, %d unverified, %d incomplete\n", p.lines.Load(), total,
		p.proofs[logstream.Verified], p.proofs[logstream.Unverified], p.proofs[logstream.Incomplete]+p.proofs[logstream.Live])
}
