package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Up builds what is missing, starts a cluster in cfg.State and returns when its
// node takes pods: some minutes the first time on a machine, then seconds. If it
// fails, or ctx ends, it ends what it had started.
//
// It refuses a state directory that is in use, and one that holds anything else.
func Up(ctx context.Context, cfg Config) (*Cluster, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := checkMachine(); err != nil {
		return nil, err
	}
	if err := ensurePackages(ctx, cfg); err != nil {
		return nil, err
	}
	programs, err := build(ctx, cfg)
	if err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, cfg.State)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := checkEmpty(cfg.State); err != nil {
		return nil, err
	}
	c := &Cluster{dir: cfg.State, out: cfg.Progress}
	c.state.Programs = programs
	started, err := c.starting(ctx)
	if err != nil {
		return nil, err
	}
	defer started()
	if err := c.up(ctx, cfg, programs); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		// What was started has to end although ctx has.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return nil, errors.Join(err, c.down(cleanup))
	}
	return c, nil
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == "cluster.json" {
			return fmt.Errorf("cluster: there is one in %s already: use its kubeconfig, or end it first", dir)
		}
	}
	if len(entries) > 0 {
		return fmt.Errorf("cluster: %s holds something else (%s): give an empty or a new directory", dir, entries[0].Name())
	}
	return nil
}

func (c *Cluster) up(ctx context.Context, cfg Config, programs string) (err error) {
	c.state = state{ID: newID(), Programs: programs, LogMaxSize: cfg.LogMaxSize, ServiceAccounts: cfg.ServiceAccounts, Processes: map[string]process{}}
	if cfg.LogMonitorInterval > 0 {
		c.state.LogMonitorInterval = cfg.LogMonitorInterval.String()
	}
	if c.state.Ports, err = freePorts(); err != nil {
		return err
	}
	// From here on Down finds whatever is started, by the ID.
	if err := c.save(); err != nil {
		return err
	}
	for _, dir := range []string{"config", "containerd", "kubelet", "log", "log-links", "mark", "pki", "pods", "run", "sysctl"} {
		if err := os.MkdirAll(c.path(dir), 0o711); err != nil {
			return err
		}
	}
	if err := errors.Join(c.writeCredentials(), c.writeConfigs()); err != nil {
		return err
	}
	if err := c.startNamespace(ctx); err != nil {
		return err
	}
	for _, comp := range components() {
		if err := c.start(ctx, comp); err != nil {
			return err
		}
		if comp.name == Containerd {
			if err := c.loadImages(ctx); err != nil {
				return err
			}
		}
	}
	c.state.Ready = true
	return c.save()
}

// start starts a component and waits until it serves.
func (c *Cluster) start(ctx context.Context, comp component) error {
	begin := time.Now()
	if err := c.launch(comp.name, c.inNamespace(comp.command(c)...)...); err != nil {
		return err
	}
	if err := c.await(ctx, comp.name, time.Minute, func(ctx context.Context) error { return comp.ready(ctx, c) }); err != nil {
		return err
	}
	c.say("%s: ready after %s, process %d, %s", comp.name, time.Since(begin).Round(10*time.Millisecond), c.state.Processes[comp.name].PID, comp.address(c))
	return nil
}

// launch starts a process and records it.
func (c *Cluster) launch(name string, argv ...string) error {
	p, err := start(c.logFile(name), c.searchPath(), argv...)
	if err != nil {
		return fmt.Errorf("cluster: starting %s: %w", name, err)
	}
	c.state.Processes[name] = p
	return c.save()
}

// await waits until probe returns nil. It fails at once if the process ends.
func (c *Cluster) await(ctx context.Context, name string, limit time.Duration, probe func(context.Context) error) error {
	var last error
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, limit, true, func(ctx context.Context) (bool, error) {
		if !c.state.Processes[name].alive() {
			return false, errors.New("it has ended")
		}
		probing, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		last = probe(probing)
		return last == nil, nil
	})
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return err
	case wait.Interrupted(err):
		err = fmt.Errorf("it is not ready after %s: %w", limit, last)
	}
	log, _ := os.ReadFile(c.logFile(name))
	return fmt.Errorf("cluster: %s: %w; the end of its log:\n%s", name, err, lastLines(log, 15))
}

// Stop ends a component: with SIGTERM, and SIGKILL if it has not ended 20 s
// later; at once with SIGKILL if kill is set. Containers go on. A component that
// does not run is no error.
func (c *Cluster) Stop(ctx context.Context, name string, kill bool) error {
	comp, unlock, err := c.change(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	sig := syscall.SIGTERM
	if kill {
		sig = syscall.SIGKILL
	}
	return c.state.Processes[comp.name].end(ctx, sig, 20*time.Second)
}

// Start starts a component that was stopped or has ended, and returns when it
// serves, and with it all others that run.
func (c *Cluster) Start(ctx context.Context, name string) error {
	comp, unlock, err := c.change(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	if c.state.Processes[comp.name].alive() {
		return fmt.Errorf("cluster: %s runs already", comp.name)
	}
	if !c.state.Processes[namespace].alive() {
		return errors.New("cluster: the process that holds its mounts has ended; take the cluster down")
	}
	started, err := c.starting(ctx)
	if err != nil {
		return err
	}
	defer started()
	if err := c.start(ctx, comp); err != nil {
		return err
	}
	for _, other := range components() {
		if !c.state.Processes[other.name].alive() {
			continue
		}
		if err := c.await(ctx, other.name, time.Minute, func(ctx context.Context) error { return other.ready(ctx, c) }); err != nil {
			return err
		}
	}
	return nil
}

// change locks the cluster to change a component.
func (c *Cluster) change(ctx context.Context, name string) (component, func(), error) {
	comp, err := find(strings.ToLower(name))
	if err != nil {
		return comp, nil, err
	}
	if err := c.load(); err != nil {
		return comp, nil, err
	}
	unlock, err := lock(ctx, c.dir)
	if err != nil {
		return comp, nil, err
	}
	if err := c.load(); err != nil { // It may be another state than before the lock.
		unlock()
		return comp, nil, err
	}
	return comp, unlock, nil
}
