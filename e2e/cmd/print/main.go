// Command print is what the tests of log capture run in their containers: it
// prints numbered lines and, as its last word, how many they were, their checksum
// and how long it lived, in nanoseconds.
//
//	c0 0 0 the quick brown fox jumps over the lazy dog
//	c0 1 7919 the quick brown fox jumps over the lazy dog
//	end 2 3f0e…c1 412345
//
// It is one small static program, not a shell with its tools, so that it can be
// gone within a few milliseconds.
package main

import (
	"bufio"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

// lingerFrom is how many lines make print wait a moment before it exits: on a busy
// machine containerd 1.6 drops what is still in the pipe of a process that is gone,
// and then the node's own file lacks it (seen: 340 lines of 2,000).
const lingerFrom = 100

var begin = time.Now()

func main() {
	slot := flag.String("slot", "", "first `word` of every line")
	batch := flag.Int("batch", 1, "`lines` written at a time")
	pause := flag.Duration("pause", 0, "between batches")
	first := flag.Duration("first", 0, "more of it, after the first batch")
	width := flag.Int("width", 0, "least `bytes` of a line, filled up with dots")
	linger := flag.Bool("linger", true, fmt.Sprintf("live for a moment after the end, from %d lines on", lingerFrom))
	code := flag.Int("code", 0, "exit `status`")
	lines := flag.Int("lines", 0, "end: at this many; 0: not so")
	lasts := flag.Duration("lasts", 0, "end: after so long; 0: not so")
	gate := flag.String("gate", "", "end: when this `file` is there; empty: not so")
	flag.Parse()

	over := func(printed int) bool {
		if *lines > 0 && printed >= *lines || *lasts > 0 && time.Since(begin) >= *lasts {
			return true
		}
		_, err := os.Stat(*gate)
		return *gate != "" && err == nil
	}
	out := bufio.NewWriterSize(os.Stdout, 64<<10)
	sum := sha256.New()
	both, printed := io.MultiWriter(out, sum), 0
	var line []byte
	for !over(printed) {
		for range *batch {
			line = fmt.Appendf(line[:0], "%s %d %d the quick brown fox jumps over the lazy dog", *slot, printed, printed*7919%100003)
			for len(line)+1 < *width {
				line = append(line, '.')
			}
			_, _ = both.Write(append(line, '\n'))
			printed++
		}
		flush(out)
		time.Sleep(*first + *pause)
		*first = 0
	}
	fmt.Fprintf(out, "end %d %x %d\n", printed, sum.Sum(nil), time.Since(begin).Nanoseconds())
	flush(out)
	if *linger && printed >= lingerFrom {
		time.Sleep(500 * time.Millisecond)
	}
	os.Exit(*code)
}

func flush(out *bufio.Writer) {
	if err := out.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}
