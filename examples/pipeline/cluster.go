package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/internal/testutil"
)

// builtin is the pipeline that runs when -f names none.
func builtin() *Pipeline {
	return &Pipeline{Name: "demo", Placeholder: "demo/pause", Steps: []Step{
		{Name: "quick", Image: "demo/echo", Commands: []string{"alive for some milliseconds, and this line was not lost"}},
		{Name: "count", Image: "demo/count", Commands: []string{"10"}},
		{Name: "report", Image: "demo/echo", Commands: []string{"all steps ran in one pod,", "each swapped in when its turn came"}},
	}}
}

// simulate is a cluster in this process. It knows the images below, and the
// pipeline's placeholder; any other image fails to pull as on a real kubelet.
func simulate(p *Pipeline, namespace string) *testutil.Cluster {
	return cli.Cluster(namespace, map[string]testutil.Program{
		p.Placeholder: testutil.Pause,
		"demo/echo":   echo,
		"demo/count":  count,
		"demo/exit":   exit,
	})
}

// echo prints its arguments, a line each.
func echo(_ context.Context, args []string, out io.Writer) int {
	fmt.Fprintln(out, strings.Join(args, "\n"))
	return 0
}

// count prints the numbers up to its argument, four a second.
func count(ctx context.Context, args []string, out io.Writer) int {
	for i := range number(args) {
		select {
		case <-ctx.Done():
			return 143
		case <-time.After(250 * time.Millisecond):
			fmt.Fprintln(out, i+1)
		}
	}
	return 0
}

// exit ends with its argument as the exit code.
func exit(_ context.Context, args []string, _ io.Writer) int { return number(args) }

func number(args []string) int {
	if len(args) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(args[0])
	return n
}
