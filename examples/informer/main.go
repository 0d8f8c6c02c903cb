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
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/examples/internal/cli"
)

const (
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type options struct{ kubeconfig, namespace string }

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("informer", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "watch this cluster (default: a simulated one)")
	fs.StringVar(&o.namespace, "namespace", "", "namespace of the pods (default: the kubeconfig's)")
	if err = fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
		fmt.Fprintln(stderr, "informer:", err)
	}
	return o, err
}

// command is main without the process: it returns the exit status.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return exitUsage
	}
	out := &printer{out: stdout, err: stderr}
	if o.kubeconfig == "" {
		out.say("No -kubeconfig: this watches a simulated cluster, inside this process.")
		return onSimulatedCluster(ctx, out)
	}
	cfg, namespace, err := cli.Kubeconfig(o.kubeconfig)
	if err != nil {
		out.say("informer: %v", err)
		return exitUsage
	}
	if o.namespace == "" {
		o.namespace = namespace
	}
	return run(ctx, cfg, o.namespace, out)
}

// onSimulatedCluster ends when there is nothing more to see.
func onSimulatedCluster(ctx context.Context, out *printer) int {
	cluster := simulate()
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	ctx, over := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return cluster.Run(alive) })
	g.Go(func() error { defer over(); return show(ctx, cluster) })
	status := run(ctx, cluster.Config(), "default", out)
	over()
	stop()
	_ = g.Wait() // the cause is our own stop
	return status
}

func run(ctx context.Context, cfg *rest.Config, namespace string, out *printer) int {
	h, err := newHost(cfg, namespace, out)
	if err != nil {
		out.say("informer: %s", cli.OneLine(err))
		return exitFailed
	}
	h.run(ctx)
	return 0
}
