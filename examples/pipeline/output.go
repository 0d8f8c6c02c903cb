package main

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
)

// printer writes what the pipeline does, as text or as one JSON object a line. An out
// that takes nothing does not hold up what goes to err. It is safe for concurrent use.
type printer struct {
	out, err io.Writer
	json     bool
	terminal bool // err is a terminal: show a progress line

	outMu  sync.Mutex // held while out is written to; before mu
	broken error      // why out takes no more

	mu    sync.Mutex
	shown bool // a progress line stands there
	pod   bool // there is one: remarks are said as they come
	held  []string
}

type logLine struct {
	Type string `json:"type"`
	Step string `json:"step"`
	Line string `json:"line"`
}

// gapLine stands where lines are missing, or may be.
type gapLine struct {
	Type string `json:"type"`
	Step string `json:"step"`
	cli.Gap
}

type eventLine struct {
	Type    string `json:"type"`
	Step    string `json:"step"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

type resultLine struct {
	Type  string       `json:"type"`
	Steps []StepResult `json:"steps"`
}

// StepResult is how one step ended.
type StepResult struct {
	Name     string   `json:"name"`
	Image    string   `json:"image"`
	Outcome  string   `json:"outcome"`  // succeeded, failed, error or skipped
	ExitCode *int32   `json:"exitCode"` // null: unknown
	Failure  *Problem `json:"failure"`
	Lines    uint64   `json:"lines"` // captured
	Gaps     int      `json:"gaps"`  // printed among them: places where lines are missing, or may be
	Log      string   `json:"log"`   // verified, unverified, incomplete or none

	printed uint64 // lines
}

// gaps says how many there are, if any.
func (r *StepResult) gaps() string {
	if r.Gaps == 0 {
		return ""
	}
	return fmt.Sprintf(", %d gaps", r.Gaps)
}

// Problem is why a step could not run.
type Problem struct {
	Class   string `json:"class"`
	Reason  string `json:"reason"`
	Message string `json:"message"`
}

func (p *printer) log(step, line string) {
	if p.json {
		p.object(logLine{"log", step, line})
		return
	}
	p.text("[%s] %s\n", step, line)
}

func (p *printer) gap(step string, g logstream.Gap) {
	if p.json {
		p.object(gapLine{"gap", step, cli.GapOf(g)})
		return
	}
	p.text("[%s] [log gap: %s]\n", step, g.Why)
}

// event prints every Event as JSON; a person reads the Warnings only.
func (p *printer) event(step, reason, message string, warning bool) {
	switch {
	case p.json:
		p.object(eventLine{"event", step, reason, message})
	case warning && step == "":
		p.say("pod: %s: %s", reason, message)
	case warning:
		p.say("[%s] %s: %s", step, reason, message)
	}
}

func (p *printer) result(steps []StepResult) {
	if p.json {
		p.object(resultLine{"result", steps})
		return
	}
	for _, s := range steps {
		code := "-"
		if s.ExitCode != nil {
			code = fmt.Sprint(*s.ExitCode)
		}
		p.text("%-20s %-9s exit %-3s %6d lines, log %s%s\n", s.Name, s.Outcome, code, s.Lines, s.Log, s.gaps())
	}
}

// say prints a sentence for people, never mixed into the output.
func (p *printer) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintf(p.err, format+"\n", args...)
}

// remark says a sentence about the pod's surroundings. Before there is a pod it is
// held: if the pod is refused, that alone is what a person should read.
func (p *printer) remark(format string, args ...any) {
	p.mu.Lock()
	held := !p.pod
	if held {
		p.held = append(p.held, fmt.Sprintf(format, args...))
	}
	p.mu.Unlock()
	if !held {
		p.say(format, args...)
	}
}

// sayHeld says the remarks so far: there is a pod.
func (p *printer) sayHeld() {
	p.mu.Lock()
	held := p.held
	p.pod, p.held = true, nil
	p.mu.Unlock()
	for _, text := range held {
		p.say("%s", text)
	}
}

// progress replaces the progress line; "" removes it.
func (p *printer) progress(step, what string, since time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.terminal {
		return
	}
	p.clear()
	if what != "" {
		fmt.Fprintf(p.err, "[%s] %s, %d s …", step, what, int(since.Seconds()))
		p.shown = true
	}
}

// clear removes the progress line; it needs mu held.
func (p *printer) clear() {
	if p.shown {
		fmt.Fprint(p.err, "\r\x1b[K")
		p.shown = false
	}
}

func (p *printer) text(format string, args ...any) {
	p.print(func() error { _, err := fmt.Fprintf(p.out, format, args...); return err })
}

func (p *printer) object(v any) {
	p.print(func() error { return cli.Object(p.out, v) })
}

// print writes to out by write, up to the first error: nothing follows the half of a
// line. A stdout that fails must not stop the pipeline from cleaning up.
func (p *printer) print(write func() error) {
	p.outMu.Lock()
	defer p.outMu.Unlock()
	if p.broken != nil {
		return
	}
	p.mu.Lock()
	p.clear()
	p.mu.Unlock()
	p.broken = write()
}

// failure is why out took no more; nil: it took all.
func (p *printer) failure() error {
	p.outMu.Lock()
	defer p.outMu.Unlock()
	return p.broken
}
