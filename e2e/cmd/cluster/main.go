// Command cluster runs a real Kubernetes on this machine, for tests: see package
// cluster. Run it in the e2e module's directory, as root.
//
//	go run ./cmd/cluster up
//	go run ./cmd/cluster status
//	go run ./cmd/cluster restart -kill kubelet
//	go run ./cmd/cluster down
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/go-vela/podlife/e2e/cluster"
)

const usage = `usage: cluster up|status|restart COMPONENT|down [flags]

  up       build and start a cluster; prints its kubeconfig's path as the last line
  status   say how its components do; exit status 1 unless all serve
  restart  end kubelet, apiserver, containerd or etcd (-kill: by SIGKILL) and start it again
  down     end it

"cluster up -h" lists a command's flags.
`

// errUsage is returned when the command line cannot be understood; the reason
// has been printed.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:])
	switch {
	case err == nil:
		return
	case errors.Is(err, errUsage):
		os.Exit(2)
	case ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "interrupted:", err)
		os.Exit(130)
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errUsage
	}
	commands := map[string]func(context.Context, *flag.FlagSet, *string, []string) error{
		"up": up, "down": down, "status": status, "restart": restart,
	}
	command, ok := commands[args[0]]
	switch {
	case args[0] == "-h" || args[0] == "-help" || args[0] == "--help" || args[0] == "help":
		fmt.Fprint(os.Stdout, usage)
		return nil
	case !ok:
		fmt.Fprintf(os.Stderr, "cluster: no command %q\n%s", args[0], usage)
		return errUsage
	}
	fs := flag.NewFlagSet("cluster "+args[0], flag.ContinueOnError)
	dir, _ := cluster.DefaultState()
	state := fs.String("state", dir, "`directory` of this one cluster")
	return command(ctx, fs, state, args[1:])
}

// parse parses flags before and after want operands.
func parse(fs *flag.FlagSet, args []string, want ...string) ([]string, error) {
	var operands []string
	for {
		if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
			os.Exit(0)
		} else if err != nil {
			return nil, errUsage
		}
		if fs.NArg() == 0 {
			break
		}
		operands = append(operands, fs.Arg(0))
		args = fs.Args()[1:]
	}
	if len(operands) != len(want) {
		fmt.Fprintf(os.Stderr, "%s: want %d operands %v, got %q\n", fs.Name(), len(want), want, operands)
		return nil, errUsage
	}
	return operands, nil
}

func up(ctx context.Context, fs *flag.FlagSet, state *string, args []string) error {
	var cfg cluster.Config
	fs.StringVar(&cfg.Cache, "cache", "", "`directory` for built programs (default: in the user's cache directory)")
	fs.StringVar(&cfg.Kubernetes, "kubernetes", cluster.Kubernetes137, "`version` of Kubernetes, and its containerd: 1.37 with containerd 2.4, or 1.36 with Debian's containerd")
	fs.StringVar(&cfg.LogMaxSize, "log-max-size", "", "`size` at which a container's log is rotated, like 100Ki (default 10Mi)")
	fs.DurationVar(&cfg.LogMonitorInterval, "log-monitor-interval", 0, "how often that size is looked at, 3s or more (default 10s)")
	fs.BoolVar(&cfg.NoInstall, "no-install", false, "do not install missing Debian packages, name them")
	if _, err := parse(fs, args); err != nil {
		return err
	}
	cfg.State, cfg.Progress = *state, os.Stderr
	begin := time.Now()
	c, err := cluster.Up(ctx, cfg)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "up after %s\n", time.Since(begin).Round(100*time.Millisecond))
	fmt.Fprintf(os.Stdout, "pods need nodeName: %s, hostNetwork: true and one of the images %s, %s, %s\n",
		cluster.NodeName, cluster.PauseImage, cluster.BusyboxImage, cluster.PrintImage)
	fmt.Fprintf(os.Stdout, "use it with -kubeconfig, or with: export KUBECONFIG=%s\n", c.Kubeconfig())
	fmt.Fprintln(os.Stdout, c.Kubeconfig())
	return nil
}

func down(ctx context.Context, fs *flag.FlagSet, state *string, args []string) error {
	if _, err := parse(fs, args); err != nil {
		return err
	}
	return cluster.Down(ctx, *state, os.Stderr)
}

func status(ctx context.Context, fs *flag.FlagSet, state *string, args []string) error {
	if _, err := parse(fs, args); err != nil {
		return err
	}
	c, err := cluster.Open(*state)
	if err != nil {
		return err
	}
	all, err := c.Status(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tPROCESS\tSTATUS\tADDRESS")
	for _, s := range all {
		text := "serves"
		switch {
		case !s.Running:
			text = "has ended"
		case s.Err != nil:
			text = "runs, but does not serve: " + short(s.Err)
		}
		if text != "serves" {
			err = fmt.Errorf("cluster: %s %s", s.Component, text)
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\n", s.Component, s.PID, text, s.Address)
	}
	fmt.Fprintf(w, "kubeconfig: %s\n", c.Kubeconfig())
	return errors.Join(w.Flush(), err)
}

// short returns what of an error fits into a table.
func short(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line[:min(len(line), 100)]
}

func restart(ctx context.Context, fs *flag.FlagSet, state *string, args []string) error {
	kill := fs.Bool("kill", false, "end it by SIGKILL instead of SIGTERM")
	pause := fs.Duration("pause", 0, "how long it stays away")
	operands, err := parse(fs, args, "COMPONENT")
	if err != nil {
		return err
	}
	c, err := cluster.Open(*state)
	if err != nil {
		return err
	}
	begin := time.Now()
	if err := c.Stop(ctx, operands[0], *kill); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(*pause):
	}
	if err := c.Start(ctx, operands[0]); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s restarted in %s\n", operands[0], time.Since(begin).Round(10*time.Millisecond))
	return nil
}
