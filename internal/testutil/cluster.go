package testutil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Options of a Cluster. The zero value is a cluster with one node, one
// namespace ("default") and one image ("pause").
type Options struct {
	// Namespaces exist beside "default". A pod created in any other one is
	// refused: namespaces "x" not found.
	Namespaces []string

	// Images are the images that there are and what they do, by name: with a tag,
	// or without one, which then stands for all its tags. A nil program is an image
	// without anything to execute: StartError. "pause", with any tag, is always
	// there. Any other image fails to be pulled.
	Images map[string]Program

	// Pull, if set, is asked at every pull: how long it takes, and why it fails.
	// It may block. nil: the node has all of Images already, so that only a pull
	// policy of Always pulls them.
	Pull func(image string) (took time.Duration, err error)

	// Unschedulable, if set, says why no node takes a pod, "" when one does. A pod
	// that is refused is asked about again every second.
	Unschedulable func(*corev1.Pod) string

	// Logs is how the logs of containers are rotated.
	Logs LogRotation

	// Stamp, if set, is the runtime's clock: the time of a container's i-th record,
	// from 0. conmon gives all lines of one read the same time, stdout and stderr may
	// be stamped out of order, and a node's clock can be set back. nil: now, and no two
	// records of a container have the same, as with containerd.
	Stamp func(now time.Time, i int) time.Time

	// Status, if set, is asked whenever the kubelet is about to write a pod's status:
	// how long until the API server has it. The kubelet writes one after the other,
	// and of a pod that changes meanwhile only the newest: statuses come late, and
	// some never. nil: 10 ms.
	Status func(pod types.NamespacedName) time.Duration
}

// Cluster is a simulated Kubernetes cluster: an API server and, while Run runs,
// a scheduler and one node's kubelet and container runtime. Its methods may be
// called from many goroutines.
type Cluster struct {
	options   Options
	store     *store
	api       *server
	transport *transport
	node      *node

	mu       sync.Mutex
	rand     *rand.Rand
	requests []Request
	fault    func(*http.Request) Fault
	running  bool
}

// New makes a cluster. Its API server answers at once, without any goroutine of
// its own; pods run once Run does.
func New(o Options) *Cluster {
	c := &Cluster{options: o, store: newStore(), rand: rand.New(rand.NewPCG(1, 2))}
	c.api = &server{store: c.store, id: c.id, logs: c.logs, pages: map[string]page{}}
	c.node = &node{name: "node-1", cluster: c, runtime: newContainerd(c.id, o.Stamp), images: newImages(o), restarts: make(chan restart)}
	c.transport = &transport{handler: c.api, before: c.saw, calls: map[*call]bool{}}
	for _, name := range append([]string{"default"}, o.Namespaces...) {
		n := namespaces.new()
		n.SetName(name)
		if _, err := c.api.store.create(namespaces, n, c.id()); err != nil {
			panic(fmt.Sprintf("testutil: namespace %q: %v", name, err))
		}
	}
	return c
}

// Run runs the cluster until ctx ends, then stops it: every request ends, new
// ones are refused, and every goroutine of the cluster is joined. It returns the
// cause of ctx. A cluster runs once.
func (c *Cluster) Run(ctx context.Context) error {
	c.mu.Lock()
	again := c.running
	c.running = true
	c.mu.Unlock()
	if again {
		return errors.New("testutil: the cluster runs, or ran, already")
	}
	defer c.transport.close()
	defer c.node.runtime.close()
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { c.node.run(ctx) })
	parts.Go(func() { c.scheduler(ctx) })
	for wait(ctx, time.Minute) == nil {
		expireEvents(c.store)
	}
	return context.Cause(ctx)
}

// Config is for clients of the cluster: real client-go, over a transport that
// needs no network, without a rate limit.
func (c *Cluster) Config() *rest.Config {
	return &rest.Config{Host: "http://cluster.simulated", Transport: c.transport, QPS: -1}
}

// Client is a clientset for the cluster.
func (c *Cluster) Client() kubernetes.Interface {
	return kubernetes.NewForConfigOrDie(c.Config())
}

// Request is a request that the API server was sent, faults included.
type Request struct {
	Time      time.Time
	Method    string // GET
	Verb      string // get, list, watch, create, update, patch, delete, deletecollection or log
	Resource  string // pods
	Namespace string
	Name      string
	Path      string
	Query     url.Values

	// ContainerID is the run that a log request was answered from, "" if none was.
	// FirstByte is when its answer's body began; zero: it had none.
	ContainerID string
	FirstByte   time.Time
}

// Requests returns every request so far, in the order they came in.
func (c *Cluster) Requests() []Request {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Request(nil), c.requests...)
}

// saw notes a request and asks for its fault.
func (c *Cluster) saw(r *http.Request) Fault {
	t := parse(r)
	c.mu.Lock()
	c.requests = append(c.requests, Request{
		Time: time.Now(), Method: r.Method, Verb: t.verb, Resource: t.resource,
		Namespace: t.namespace, Name: t.name, Path: r.URL.Path, Query: r.URL.Query(),
	})
	number, f := len(c.requests), c.fault
	c.mu.Unlock()
	fault := Fault{}
	if f != nil {
		fault = f(r)
	}
	fault.request = number
	return fault
}

// answering notes which run a log request is answered from. What the writer is
// given is the answer.
func (c *Cluster) answering(r *http.Request, id string, w io.Writer) io.Writer {
	number := faultOf(r).request - 1
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests[number].ContainerID = id
	var begun sync.Once
	return writerFunc(func(p []byte) (int, error) {
		begun.Do(func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.requests[number].FirstByte = time.Now()
		})
		return w.Write(p)
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// id makes up 64 hexadecimal digits, the same ones in every run of a test.
func (c *Cluster) id() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("%016x%016x%016x%016x", c.rand.Uint64(), c.rand.Uint64(), c.rand.Uint64(), c.rand.Uint64())
}
