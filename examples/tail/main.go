// Tail prints the logs of many pods at once: every container of every pod that a
// selector matches, init containers, sidecars and ephemeral ones included, every
// run of each from its first line on, of pods that are there and of pods to come.
//
//	go run ./examples/tail                                      a show on a simulated cluster
//	go run ./examples/tail -kubeconfig FILE -n ci -l app=web    yours
//
// Logs go to stdout. Whatever troubles a container, a log or the watch is a line
// on stderr; so is what the logs are worth, at the end: an interrupt drains them
// and says what is proven of each run. The exit status is 0 then, 2 for bad usage
// or an unreadable kubeconfig, and 1 when the API server refuses to show pods, or
// when stdout fails: at its first error, or when after the interrupt it takes
// nothing for 10 s. What was captured and not printed is a gap then. With -o json
// a gap is an object in its place, too.
//
// A line of more than 1 MiB is printed in pieces of about that length, each a line
// (with -o json an object) of its own, with the same timestamp.
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
	"k8s.io/apimachinery/pkg/labels"
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

type options struct {
	kubeconfig, namespace, selector, output string
}

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("tail", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "tail on this cluster (default: a show on a simulated one)")
	fs.StringVar(&o.namespace, "namespace", "", "namespace of the pods (default: the kubeconfig's)")
	fs.StringVar(&o.namespace, "n", "", "short for -namespace")
	fs.StringVar(&o.selector, "l", "", "label selector of the pods, as kubectl takes it (default: all pods)")
	fs.StringVar(&o.output, "o", "text", "output: text or json")
	if err = fs.Parse(args); err != nil {
		return o, err
	}
	switch _, bad := labels.Parse(o.selector); {
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.output != "text" && o.output != "json":
		err = fmt.Errorf("-o %q: it is text or json", o.output)
	case bad != nil:
		err = fmt.Errorf("-l %q: %s", o.selector, cli.OneLine(bad))
	}
	if err != nil {
		fmt.Fprintln(stderr, "tail:", err)
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
	out := newPrinter(ctx, o.output == "json", stdout, stderr)
	if o.kubeconfig == "" {
		out.say("No -kubeconfig: this tails a show on a simulated cluster, inside this process.")
		return onSimulatedCluster(ctx, o, out)
	}
	cfg, namespace, err := cli.Kubeconfig(o.kubeconfig)
	if err != nil {
		out.say("tail: %v", err)
		return exitUsage
	}
	if o.namespace == "" {
		o.namespace = namespace
	}
	return run(ctx, cfg, o, out)
}

// onSimulatedCluster ends when the show is over.
func onSimulatedCluster(ctx context.Context, o options, out *printer) int {
	if o.namespace == "" {
		o.namespace = "default"
	}
	cluster := simulate(o.namespace)
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	ctx, over := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return cluster.Run(alive) })
	g.Go(func() error { defer over(); return show(ctx, cluster, o.namespace) })
	status := run(ctx, cluster.Config(), o, out)
	over()
	stop()
	_ = g.Wait() // the cause is our own stop
	return status
}

// run tails until ctx ends, and returns the exit status.
func run(ctx context.Context, cfg *rest.Config, o options, out *printer) int {
	t, err := newTailer(cfg, o, out)
	if err != nil {
		out.say("tail: %s", cli.OneLine(err))
		return exitFailed
	}
	return t.run(ctx)
}
