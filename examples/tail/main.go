// Tail prints the logs of many pods at once: every container of every pod that a
// selector matches, init containers, sidecars and ephemeral ones included, every
// run of each from its first line on, of pods that are there and of pods to come.
//
//	go run ./examples/tail                                             a show on a simulated cluster
//	go run ./examples/tail -kubeconfig FILE -namespace ci -l app=web   yours
//
// Logs go to stdout. What troubles a container, a log or the watch is a line on
// stderr, and so is what the log of each run is worth, when its pod is gone or at the
// end: an interrupt drains all logs first. With -o json a gap is an object in its
// place, too. A pod that leaves the selector and comes back is a new one: its logs
// are printed from their beginning.
//
// The exit status is 0 after an interrupt, 2 for bad usage or an unreadable
// kubeconfig, and 1 when the API server refuses to show pods, or when stdout fails: at
// its first error, or when after the interrupt it takes nothing for 10 s. What was
// captured and not printed is a gap then.
//
// A line of more than 1 MiB is printed in pieces of about that length, each a line
// (with -o json an object) of its own, with the same timestamp.
package main

import (
	"context"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/examples/internal/cli"
)

func main() { cli.Main(command) }

// command is main without the process: it returns the exit status.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := cli.NewFlags("tail", stderr)
	flags.StringVar(&flags.Namespace, "n", "", "short for -namespace")
	selector := flags.String("l", "", "label selector of the pods, as kubectl takes it (default: all pods)")
	output := flags.Output()
	if status, done := flags.Parse(args, func() error {
		if _, err := labels.Parse(*selector); err != nil {
			return fmt.Errorf("-l %q: %s", *selector, cli.OneLine(err))
		}
		return nil
	}); done {
		return status
	}
	return flags.Run(ctx, func() cli.Simulated { return simulate(flags.Namespace) }, func(ctx context.Context, cfg *rest.Config) int {
		out := newPrinter(ctx, *output == "json", stdout, stderr)
		t, err := newTailer(cfg, flags.Namespace, *selector, out)
		if err != nil {
			flags.Say("%s", cli.OneLine(err))
			return cli.Failed
		}
		return t.run(ctx)
	})
}
