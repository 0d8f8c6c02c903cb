package testutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Program is what a container of an image does. It runs in a goroutine of its
// own; args are the container's command and args. ctx ends when the container
// gets SIGTERM (its cause is then [ErrTerminated]); a program that goes on past
// its grace period is taken for dead (exit code 137), its output lost, but it
// should return soon after [Killed] is closed, because the cluster's Run waits
// for it. It returns the exit code, or [OOMKilled].
type Program func(ctx context.Context, args []string, out io.Writer) int

// ErrTerminated is why the context of a program ended: SIGTERM.
var ErrTerminated = errors.New("terminated")

// OOMKilled, returned by a program, is a container that used too much memory.
const OOMKilled = -137

// Pause waits for SIGTERM and exits 0, as the pause image of Kubernetes does.
func Pause(ctx context.Context, _ []string, _ io.Writer) int {
	<-ctx.Done()
	return 0
}

// Deaf ignores SIGTERM.
func Deaf(ctx context.Context, _ []string, _ io.Writer) int {
	<-Killed(ctx)
	return 0
}

// Killed is closed when the container of the program that ctx was given to is
// dead, SIGKILL being one reason.
func Killed(ctx context.Context) <-chan struct{} {
	killed, _ := ctx.Value(killedKey{}).(<-chan struct{})
	return killed
}

type killedKey struct{}

// Shell runs small scripts: its args are lines (as in ["echo hello", "exit 3"]),
// or a shell and its script (as in ["sh", "-c", "echo hello; exit 3"]). It knows
// echo, sleep, exit, seq, true and false, flood N RATE (see [Flood]), and ";" or
// "&&" between two commands.
// A line that it does not know ends it with 127, a failing one with its code.
func Shell(ctx context.Context, args []string, out io.Writer) int {
	if len(args) > 2 && args[1] == "-c" {
		args = args[2:3]
	}
	script := strings.NewReplacer("&&", "\n", ";", "\n").Replace(strings.Join(args, "\n"))
	for line := range strings.Lines(script) {
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		if words[0] == "exit" {
			return number(words, 0)
		}
		if code := command(ctx, words, out); code != 0 {
			return code
		}
		if ctx.Err() != nil {
			return 143 // 128 + SIGTERM
		}
	}
	return 0
}

// Flood writes n lines of 100 bytes to out, rate of them a second (0: all at
// once), in pieces of what is due every ten milliseconds, until ctx ends. A line
// is prefix and its number, from 1, filled up with dots.
func Flood(ctx context.Context, out io.Writer, prefix string, n, rate int) {
	const every = 10 * time.Millisecond
	var lines []byte
	for i, began := 0, time.Now(); i < n; {
		due := n
		if rate > 0 {
			due = min(n, int(time.Since(began)*time.Duration(rate)/time.Second)+1)
		}
		for lines = lines[:0]; i < due; i++ {
			line := fmt.Appendf(nil, "%s%08d ", prefix, i+1)
			lines = append(append(lines, line...), strings.Repeat(".", max(99-len(line), 0))...)
			lines = append(lines, '\n')
		}
		if _, err := out.Write(lines); err != nil || i < n && wait(ctx, every) != nil {
			return
		}
	}
}

func command(ctx context.Context, words []string, out io.Writer) int {
	switch words[0] {
	case "true":
	case "false":
		return 1
	case "echo":
		fmt.Fprintln(out, strings.Trim(strings.Join(words[1:], " "), `"'`))
	case "seq":
		for i := range number(words, 0) {
			fmt.Fprintln(out, i+1)
		}
	case "flood":
		Flood(ctx, out, "", number(words, 0), number(words[1:], 0))
	case "sleep":
		d, err := time.ParseDuration(words[len(words)-1])
		if err != nil {
			d = time.Duration(number(words, 0)) * time.Second
		}
		_ = wait(ctx, d)
	default:
		fmt.Fprintf(out, "sh: %s: not found\n", words[0])
		return 127
	}
	return 0
}

// number is the first argument of a command, or otherwise.
func number(words []string, otherwise int) int {
	if len(words) < 2 {
		return otherwise
	}
	n, err := strconv.Atoi(words[1])
	if err != nil {
		return otherwise
	}
	return n
}
