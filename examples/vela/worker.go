package vela

import (
	"context"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// workerLabel is on every pod of a worker: its watch selects on nothing else.
const workerLabel = "vela.worker"

// Worker is what all builds of a worker share: one watch and one streamer.
type Worker struct {
	client          kubernetes.Interface
	namespace, host string
	watch           *podwatch.Watcher
	logs            *logstream.Streamer
}

// NewWorker wires a worker. Nothing runs before Run.
func NewWorker(cfg *rest.Config, namespace, host string) (*Worker, error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	watch, err := podwatch.New(client, podwatch.Options{Namespace: namespace, LabelSelector: workerLabel + "=" + host})
	if err != nil {
		return nil, err
	}
	open, err := logstream.FromConfig(cfg)
	if err != nil {
		return nil, err
	}
	logs := logstream.New(open, logstream.Options{})
	return &Worker{client: client, namespace: namespace, host: host, watch: watch, logs: logs}, nil
}

// Run blocks until ctx ends and everything it started has. ctx is the worker's life,
// not a build's, and ends after the last RemoveBuild: when it ends every build's
// tracking is closed, its waits end, and its readers end with what they have.
func (w *Worker) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.watch.Run(ctx) })
	g.Go(func() error { return w.logs.Run(ctx) })
	return g.Wait()
}
