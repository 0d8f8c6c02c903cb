// Informer is a host that has informers of its own, and lends them to the library:
// no second watch of the same pods. It prints how every container ended, or why it
// never will.
//
//	go run ./examples/informer                                   on a simulated cluster
//	go run ./examples/informer -kubeconfig FILE -namespace ci    on yours, until interrupted
//
// The exit status is 0, or 2 for bad usage or an unreadable kubeconfig.
package main

import (
	"context"
	"io"

	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/examples/internal/cli"
)

func main() { cli.Main(command) }

// command is main without the process: it returns the exit status.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	flags := cli.NewFlags("informer", stderr)
	if status, done := flags.Parse(args, nil); done {
		return status
	}
	return flags.Run(ctx, func() cli.Simulated { return simulate(flags.Namespace) }, func(ctx context.Context, cfg *rest.Config) int {
		return run(ctx, cfg, flags.Namespace, &printer{out: stdout, err: stderr})
	})
}

func run(ctx context.Context, cfg *rest.Config, namespace string, out *printer) int {
	h, err := newHost(cfg, namespace, out)
	if err != nil {
		out.say("informer: %s", cli.OneLine(err))
		return cli.Failed
	}
	h.run(ctx)
	return 0
}
