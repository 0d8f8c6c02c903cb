// Package cli is what the examples' command lines have in common.
package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Exit statuses of the examples, besides 0.
const (
	Failed      = 1
	Usage       = 2   // bad usage, or a file that cannot be used
	Interrupted = 130 // by a signal, where that is no ordinary end
)

// Main runs command as the process and exits with its status. The context ends with
// the first interrupt, SIGTERM or one of the other signals; a second one ends the
// process at once.
func Main(command func(ctx context.Context, args []string, stdout, stderr io.Writer) int, others ...os.Signal) {
	ctx, stop := signal.NotifyContext(context.Background(), append(others, os.Interrupt, syscall.SIGTERM)...)
	context.AfterFunc(ctx, stop)
	os.Exit(command(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// Flags are the flags of one example; Kubeconfig and Namespace are those of all.
type Flags struct {
	*flag.FlagSet
	Kubeconfig, Namespace string
}

// NewFlags returns the flags of the example of that name.
func NewFlags(name string, stderr io.Writer) *Flags {
	f := &Flags{FlagSet: flag.NewFlagSet(name, flag.ContinueOnError)}
	f.SetOutput(stderr)
	f.StringVar(&f.Kubeconfig, "kubeconfig", "", "use this cluster (default: a simulated one, inside the process)")
	f.StringVar(&f.Namespace, "namespace", "", "namespace of the pods (default: the kubeconfig's)")
	return f
}

// Output adds the flag -o.
func (f *Flags) Output() *string { return f.String("o", "text", "output: text or json") }

// Parse parses args and then calls check (nil: none), which returns what is wrong with
// them, if anything is. When done is true the program is to exit with status: it has
// said why.
func (f *Flags) Parse(args []string, check func() error) (status int, done bool) {
	err := f.FlagSet.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0, true
	case err != nil: // said already
		return Usage, true
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", f.Arg(0))
	case check != nil:
		err = check()
	}
	if o := f.Lookup("o"); err == nil && o != nil && o.Value.String() != "text" && o.Value.String() != "json" {
		err = fmt.Errorf("-o %q: it is text or json", o.Value)
	}
	if err != nil {
		f.Say("%v", err)
		return Usage, true
	}
	return 0, false
}

// Say prints a sentence of the program to stderr.
func (f *Flags) Say(format string, args ...any) {
	fmt.Fprintf(f.FlagSet.Output(), f.Name()+": "+format+"\n", args...)
}

// Run calls run for the cluster that the flags name, or for the simulated one, and
// returns the exit status. Namespace is set when either is called.
func (f *Flags) Run(ctx context.Context, simulate func() Simulated, run func(context.Context, *rest.Config) int) int {
	if f.Kubeconfig != "" {
		cfg, namespace, err := kubeconfig(f.Kubeconfig)
		if err != nil {
			f.Say("%v", err)
			return Usage
		}
		f.Namespace = cmp.Or(f.Namespace, namespace)
		return run(ctx, cfg)
	}
	f.Namespace = cmp.Or(f.Namespace, "default")
	fmt.Fprintln(f.FlagSet.Output(), "No -kubeconfig: this runs on a simulated cluster, inside this process.")
	s := simulate()
	alive, stop := context.WithCancel(context.WithoutCancel(ctx))
	ctx, over := context.WithCancel(ctx)
	var g errgroup.Group
	g.Go(func() error { return s.Cluster.Run(alive) })
	if s.Show != nil {
		g.Go(func() error { defer over(); return s.Show(ctx) })
	}
	status := run(ctx, s.Cluster.Config())
	over()
	stop()
	_ = g.Wait() // the cause is our own stop
	return status
}

// kubeconfig returns the client configuration of the file's current context and
// that context's namespace. Its errors name the file, in one line; whatever is
// wrong with the file is found here, before anything runs.
func kubeconfig(file string) (cfg *rest.Config, namespace string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot use the kubeconfig %s: %s", file, OneLine(err))
		}
	}()
	raw, err := clientcmd.LoadFromFile(file)
	if err != nil {
		return nil, "", err
	}
	cc := clientcmd.NewDefaultClientConfig(*raw, nil)
	if cfg, err = cc.ClientConfig(); err != nil {
		return nil, "", err
	}
	if _, err = rest.TransportFor(cfg); err != nil { // a certificate that is none
		return nil, "", err
	}
	cfg.QPS = -1 // the server's own flow control decides; client-go's default of 5 a second would queue swaps
	namespace, _, err = cc.Namespace()
	return cfg, namespace, err
}

// OneLine returns an error's text with its line breaks folded.
func OneLine(err error) string { return strings.Join(strings.Fields(err.Error()), " ") }

// IsTerminal reports whether a person may be watching.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
