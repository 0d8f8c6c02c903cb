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
	"fmt"
	"io"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/examples/internal/cli"
)

var errTimeout = errors.New("timed out")

func main() {
	signal.Ignore(syscall.SIGPIPE) // nobody reads on: the pod is to be deleted all the same
	cli.Main(command, syscall.SIGHUP)
}

type options struct {
	json    bool
	timeout time.Duration
	pod     PodOptions
}

// command is main without the process: it returns the exit status.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	var file string
	flags := cli.NewFlags("pipeline", stderr)
	flags.StringVar(&file, "f", "", "pipeline to run, YAML (default: three steps on the simulated cluster)")
	flags.StringVar(&o.pod.NodeName, "node-name", "", "put the pod on this node, without a scheduler")
	flags.BoolVar(&o.pod.HostNetwork, "host-network", false, "give the pod the node's network")
	flags.DurationVar(&o.timeout, "timeout", time.Hour, "give up after this long")
	output := flags.Output()
	if status, done := flags.Parse(args, func() error {
		switch {
		case o.timeout <= 0:
			return fmt.Errorf("-timeout %s: it must be positive", o.timeout)
		case flags.Kubeconfig != "" && file == "":
			return errors.New("-kubeconfig needs a pipeline: -f FILE")
		}
		return nil
	}); done {
		return status
	}
	o.json = *output == "json"
	p := builtin()
	if file != "" {
		var err error
		if p, err = readPipeline(file); err != nil {
			flags.Say("%v", err)
			return cli.Usage
		}
	}
	out := &printer{out: stdout, err: stderr, json: o.json, terminal: cli.IsTerminal(stderr)}
	simulated := func() cli.Simulated { return cli.Simulated{Cluster: simulate(p, flags.Namespace)} }
	return flags.Run(ctx, simulated, func(ctx context.Context, cfg *rest.Config) int {
		o.pod.Namespace = flags.Namespace
		return run(ctx, cfg, p, o, out)
	})
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
		return cli.Interrupted
	case err != nil || broken != nil:
		return cli.Failed
	default:
		return 0
	}
}
