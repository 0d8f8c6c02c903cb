// Pipeline runs a CI pipeline in one pod, the way Vela's Kubernetes runtime
// does: every container starts on a placeholder image, and each step's image is
// swapped in when its turn comes.
//
//	go run ./examples/pipeline                                  three steps on a simulated cluster
//	go run ./examples/pipeline -kubeconfig FILE -f pipeline.yaml   yours
//
// The exit status is 0 when every step succeeded, 1 when one failed or could
// not run, or when stdout fails (the steps run on, and that is said on stderr), 2 for
// bad usage or an unreadable file, and 130 after an interrupt.
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
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/examples/internal/cli"
)

const (
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

var errTimeout = errors.New("timed out")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	signal.Ignore(syscall.SIGPIPE) // nobody reads on: the pod is to be deleted all the same
	context.AfterFunc(ctx, stop)   // a second Ctrl-C ends the program at once
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

type options struct {
	kubeconfig, file, output string
	timeout                  time.Duration
	pod                      PodOptions
}

func parseFlags(args []string, stderr io.Writer) (o options, err error) {
	fs := flag.NewFlagSet("pipeline", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&o.kubeconfig, "kubeconfig", "", "run on this cluster (default: a simulated one)")
	fs.StringVar(&o.file, "f", "", "pipeline to run, YAML (default: three steps on the simulated cluster)")
	fs.StringVar(&o.pod.Namespace, "namespace", "", "namespace of the pod (default: the kubeconfig's)")
	fs.StringVar(&o.pod.NodeName, "node-name", "", "put the pod on this node, without a scheduler")
	fs.BoolVar(&o.pod.HostNetwork, "host-network", false, "give the pod the node's network")
	fs.DurationVar(&o.timeout, "timeout", time.Hour, "give up after this long")
	fs.StringVar(&o.output, "o", "text", "output: text or json")
	if err = fs.Parse(args); err != nil {
		return o, err
	}
	switch {
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case o.output != "text" && o.output != "json":
		err = fmt.Errorf("-o %q: it is text or json", o.output)
	case o.timeout <= 0:
		err = fmt.Errorf("-timeout %s: it must be positive", o.timeout)
	case o.kubeconfig != "" && o.file == "":
		err = errors.New("-kubeconfig needs a pipeline: -f FILE")
	}
	if err != nil {
		fmt.Fprintln(stderr, "pipeline:", err)
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
	out := &printer{out: stdout, err: stderr, json: o.output == "json", terminal: cli.IsTerminal(stderr)}
	p := builtin()
	if o.file != "" {
		if p, err = readPipeline(o.file); err != nil {
			out.say("pipeline: %v", err)
			return exitUsage
		}
	}
	if o.kubeconfig == "" {
		out.say("No -kubeconfig: this runs on a simulated cluster, inside this process.")
		return onSimulatedCluster(ctx, p, o, out)
	}
	cfg, namespace, err := cli.Kubeconfig(o.kubeconfig)
	if err != nil {
		out.say("pipeline: %v", err)
		return exitUsage
	}
	if o.pod.Namespace == "" {
		o.pod.Namespace = namespace
	}
	return run(ctx, cfg, p, o, out)
}

func onSimulatedCluster(ctx context.Context, p *Pipeline, o options, out *printer) int {
	if o.pod.Namespace == "" {
		o.pod.Namespace = "default"
	}
	cluster := simulate(p)
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	g.Go(func() error { return cluster.Run(alive) })
	status := run(ctx, cluster.Config(), p, o, out)
	stop()
	_ = g.Wait() // the cause is our own stop
	return status
}

// run executes the pipeline, prints the result and returns the exit status.
func run(ctx context.Context, cfg *rest.Config, p *Pipeline, o options, out *printer) int {
	limited, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("%w after %s", errTimeout, o.timeout))
	defer cancel()
	results, err := execute(limited, cfg, newPod(p, o.pod), p, out)
	out.result(results)
	if err != nil {
		out.say("pipeline: %s", cli.OneLine(err))
	}
	broken := out.failure()
	if broken != nil {
		out.say("pipeline: stdout: %v: what follows was not printed", broken)
	}
	switch {
	case ctx.Err() != nil:
		return exitInterrupted
	case err != nil || broken != nil:
		return exitFailed
	default:
		return 0
	}
}
