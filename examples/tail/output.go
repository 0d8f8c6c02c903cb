package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"sync"
	"time"

	"github.com/go-vela/podlife/logstream"
)

// kept is how many certificates the summary lists, the newest.
const kept = 200

// printer writes logs to out and everything else to err. It is safe for
// concurrent use.
type printer struct {
	mu           sync.Mutex
	out, err     io.Writer
	json, colour bool
	text         bytes.Buffer // the line that is being made

	proofs  map[logstream.Proof]int
	lines   uint64
	summed  []string // of certificates, the newest
	forgets int      // those before
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

// line prints a line of a log.
func (p *printer) line(s source, at time.Time, text []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text.Reset()
	if p.json {
		enc := json.NewEncoder(&p.text)
		enc.SetEscapeHTML(false)
		_ = enc.Encode(logLine{s.namespace, s.pod, s.container, s.run, at.Format(time.RFC3339Nano), string(text)}) // cannot fail
	} else {
		fmt.Fprintf(&p.text, "%s%s %s |%s ", p.paint(s), s.pod, s.slot(), p.unpaint())
		p.text.Write(text)
		p.text.WriteByte('\n')
	}
	_, _ = p.out.Write(p.text.Bytes()) // when nobody reads any more, SIGPIPE ends the program
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
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.err, format+"\n", args...)
}

// gap says that lines are missing, or may be.
func (p *printer) gap(s source, g logstream.Gap) {
	what := "lines may be missing"
	if g.Certain {
		what = "lines are missing"
	}
	p.say("%s: gap after line %d, %s: %s", s, g.AfterLine, what, g.Why)
}

// keep notes what a log is worth, for the summary.
func (p *printer) keep(s source, c logstream.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.proofs == nil {
		p.proofs = map[logstream.Proof]int{}
	}
	p.proofs[c.Proof]++
	p.lines += c.Lines
	text := fmt.Sprintf("%s: %s, %d lines", s, c.Proof, c.Lines)
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
	p.mu.Lock()
	defer p.mu.Unlock()
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
	fmt.Fprintf(p.err, "%d lines of %d runs: %d verified, %d unverified, %d incomplete\n", p.lines, total,
		p.proofs[logstream.Verified], p.proofs[logstream.Unverified], p.proofs[logstream.Incomplete]+p.proofs[logstream.Live])
}
