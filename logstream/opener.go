package logstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

// perConn is how many streams share a connection. The apiserver allows 100 on one
// HTTP/2 connection (kubernetes v1.36 k8s.io/apiserver pkg/server/secure_serving.go:192);
// left to itself, client-go's transport dials far more of them when streams are
// opened side by side.
const perConn = 90

// dialWait is how long requests wait for the first one on their connection.
const dialWait = 2 * time.Second

// FromConfig returns an Opener on the cluster of cfg, which it copies. It has
// connections of its own, so that floods of logs and the loss of a connection do
// not touch the caller's watches: one for every 90 streams where the server speaks
// HTTP/2. It has no client-side rate limit and no timeout. A cfg that brings its
// own Transport keeps it, and its connections.
func FromConfig(cfg *rest.Config) (Opener, error) {
	if cfg == nil {
		return nil, errors.New("logstream: no rest.Config")
	}
	o := &opener{cfg: rest.CopyConfig(cfg)}
	o.cfg.APIPath = "/api"
	o.cfg.GroupVersion = &corev1.SchemeGroupVersion
	o.cfg.NegotiatedSerializer = scheme.Codecs.WithoutConversion()
	o.cfg.QPS, o.cfg.RateLimiter, o.cfg.Timeout = -1, nil, 0
	o.cfg.DisableCompression = true
	o.cfg.Wrap(func(next http.RoundTripper) http.RoundTripper { return logsOnly{next} })
	if o.cfg.UserAgent == "" {
		o.cfg.UserAgent = rest.DefaultKubernetesUserAgent()
	}
	c, err := o.dial() // a bad config is an error now, not at the first log
	if err != nil {
		return nil, fmt.Errorf("logstream: %w", err)
	}
	o.conns = append(o.conns, c)
	return o, nil
}

type opener struct {
	cfg *rest.Config

	mu    sync.Mutex
	conns []*conn
}

// conn is a client whose connection carries at most perConn streams.
type conn struct {
	client  *rest.RESTClient
	streams int           // guarded by opener.mu
	first   chan struct{} // holds a token while the first request dials
	dialled bool          // guarded by opener.mu
}

func (o *opener) dial() (*conn, error) {
	cfg := rest.CopyConfig(o.cfg)
	if cfg.Transport == nil {
		// client-go shares transports between equal configs; one with a Dial of its
		// own is equal to none (client-go v0.35.3 transport/cache.go:50-64).
		if cfg.Dial == nil {
			cfg.Dial = (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext
		}
	}
	client, err := rest.RESTClientFor(cfg)
	if err != nil {
		return nil, err
	}
	return &conn{client: client, first: make(chan struct{}, 1)}, nil
}

// acquire picks a connection with room, or makes one. The first request on a
// connection goes alone: requests side by side would each dial.
func (o *opener) acquire(ctx context.Context) (*conn, error) {
	o.mu.Lock()
	var c *conn
	for _, k := range o.conns {
		if k.streams < perConn || o.cfg.Transport != nil {
			c = k
			break
		}
	}
	if c == nil {
		var err error
		if c, err = o.dial(); err != nil {
			o.mu.Unlock()
			return nil, err
		}
		o.conns = append(o.conns, c)
	}
	c.streams++
	dialled := c.dialled || o.cfg.Transport != nil
	o.mu.Unlock()
	if dialled {
		return c, nil
	}
	t := time.NewTimer(dialWait)
	defer t.Stop()
	select {
	case c.first <- struct{}{}:
		return c, nil
	case <-t.C: // a silent log's headers may come late: the connection is there
		return c, nil
	case <-ctx.Done():
		o.release(c)
		return nil, context.Cause(ctx)
	}
}

func (o *opener) opened(c *conn, ok bool) {
	o.mu.Lock()
	c.dialled = c.dialled || ok
	o.mu.Unlock()
	select {
	case <-c.first:
	default:
	}
}

func (o *opener) release(c *conn) {
	o.mu.Lock()
	c.streams--
	o.mu.Unlock()
}

// OpenLog implements Opener.
func (o *opener) OpenLog(ctx context.Context, namespace, pod string, opt *corev1.PodLogOptions) (io.ReadCloser, error) {
	c, err := o.acquire(ctx)
	if err != nil {
		return nil, err
	}
	// A Retry-After is the caller's to wait for: client-go would do so, ten times and
	// however long, with the request's place among those that may wait for an answer.
	body, err := c.client.Get().MaxRetries(0).Namespace(namespace).Resource("pods").Name(pod).SubResource("log").
		VersionedParams(opt, scheme.ParameterCodec).Stream(ctx)
	o.opened(c, err == nil)
	if err != nil {
		o.release(c)
		return nil, err
	}
	return &stream{ReadCloser: body, release: sync.OnceFunc(func() { o.release(c) })}, nil
}

// stream gives its place on the connection back when it is closed.
type stream struct {
	io.ReadCloser
	release func()
}

func (s *stream) Close() error {
	err := s.ReadCloser.Close()
	s.release()
	return err
}

// logsOnly makes errors of answers that say success, and are no log.
type logsOnly struct{ next http.RoundTripper }

func (l logsOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := l.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case resp.StatusCode == http.StatusNoContent:
		// The pod has no node (kubernetes v1.36.3 pkg/registry/core/pod/strategy.go:626):
		// to client-go, an empty log.
		err = apierrors.NewBadRequest("the pod is not scheduled")
	case resp.StatusCode == http.StatusOK && media == "text/html":
		// The API server says text/plain (pkg/registry/core/pod/rest/log.go:109).
		err = apierrors.NewGenericServerResponse(http.StatusBadGateway, "get", corev1.Resource("pods"), "", "a page instead of a log", 0, true)
	default:
		return resp, nil
	}
	resp.Body.Close()
	return nil, err
}
