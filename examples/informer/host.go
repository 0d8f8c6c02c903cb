package main

import (
	"context"
	"fmt"
	"io"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/podwatch"
)

// host is a program that had informers before it had this library.
type host struct {
	out      *printer
	factory  informers.SharedInformerFactory
	watcher  *podwatch.Watcher
	verdicts sync.WaitGroup
	ctx      context.Context // run's, for what OnPod begins
}

func newHost(cfg *rest.Config, namespace string, out *printer) (*host, error) {
	client, err := kubernetes.NewForConfig(cfg)
	if err != nil {
		return nil, err
	}
	h := &host{out: out}
	// The scope is the informers', and so is what they keep of a pod. Trim leaves
	// what the library needs: a tenth of a CI pod.
	h.factory = informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithNamespace(namespace), informers.WithTransform(trim))
	pods, events := h.factory.Core().V1().Pods().Informer(), h.factory.Core().V1().Events().Informer()

	// What the host itself does with its informers goes on as before.
	if _, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: h.added}); err != nil {
		return nil, err
	}
	// Trouble is the host's to notice, as far as client-go tells (of a connection
	// that is refused it does not): the library never sees it, and its handlers hear
	// neither Stale nor Fresh.
	for _, i := range []cache.SharedIndexInformer{pods, events} {
		if err := i.SetWatchErrorHandlerWithContext(h.trouble); err != nil {
			return nil, err
		}
	}
	h.watcher, err = podwatch.FromInformers(client, pods, events, podwatch.Options{OnPod: h.follow})
	return h, err
}

// run blocks until ctx ends and everything has ended with it.
func (h *host) run(ctx context.Context) {
	h.ctx = ctx
	h.factory.Start(ctx.Done())
	// It adds its handlers, and takes them off again when ctx ends: then the trackings
	// are closed and the verdicts end with them. Whoever must hear how its pods end
	// gives Run a context that outlives them.
	_ = h.watcher.Run(ctx)
	h.verdicts.Wait()
	h.factory.Shutdown()
}

func trim(obj any) (any, error) {
	if p, ok := obj.(*corev1.Pod); ok {
		return podwatch.Trim(p), nil
	}
	return obj, nil
}

func (h *host) added(obj any) {
	if p, ok := obj.(*corev1.Pod); ok {
		h.out.say("the host's own handler: pod %s is new", p.Name)
	}
}

func (h *host) trouble(_ context.Context, _ *cache.Reflector, err error) {
	h.out.say("the host's own informers: %s", cli.OneLine(err))
}

// follow waits for the verdict on every container of a pod that the informer found.
func (h *host) follow(p *corev1.Pod) []podwatch.Handler {
	split := eventsplit.New(p.Namespace, p.Name, eventsplit.Options{})
	for _, c := range p.Spec.Containers {
		h.verdicts.Go(func() {
			state, err := split.Wait(h.ctx, c.Name, eventsplit.Ended)
			switch {
			case h.ctx.Err() != nil:
			case err != nil: // already says which container
				h.out.line("%s/%s: %v", p.Namespace, p.Name, err)
			default:
				h.out.line("%s/%s: container %q: exit code %d (%s)", p.Namespace, p.Name, c.Name, state.Outcome.ExitCode, state.Outcome.Reason)
			}
		})
	}
	return []podwatch.Handler{split}
}

// printer is safe for concurrent use.
type printer struct {
	mu       sync.Mutex
	out, err io.Writer
}

func (p *printer) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.out, format+"\n", args...)
}

func (p *printer) say(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintf(p.err, format+"\n", args...)
}
