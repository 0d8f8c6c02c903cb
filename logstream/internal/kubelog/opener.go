package kubelog

import (
	"context"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
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

// Opener opens logs on connections of its own: one for every perConn streams where the
// server speaks HTTP/2. Make one with NewOpener. Its methods may be called from any
// goroutine.
type Opener struct {
	cfg *rest.Config

	mu    sync.Mutex
	conns []*conn
}

// NewOpener makes an Opener on the cluster of cfg, which it copies. It has no client-side
// rate limit and no timeout. A cfg that brings its own Transport keeps it, and its
// connections.
func NewOpener(cfg *rest.Config) (*Opener, error) {
	if cfg == nil {
		return nil, errors.New("no rest.Config")
	}
	o := &Opener{cfg: rest.CopyConfig(cfg)}
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
		return nil, err
	}
	o.conns = append(o.conns, c)
	return o, nil
}

// conn is a client whose connection carries at most perConn streams. What changes
// is guarded by Opener.mu.
type conn struct {
	client   *rest.RESTClient
	streams  int
	up       bool          // it was there, and nobody has found it broken since
	dialling chan struct{} // closed when the request that connects has its answer; nil: none does
}

func (o *Opener) dial() (*conn, error) {
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
	return &conn{client: client}, nil
}

// acquire picks a connection with room, or makes one. While it is not up one request
// goes alone, which dials: requests side by side would each dial.
func (o *Opener) acquire(ctx context.Context) (c *conn, dials bool, err error) {
	o.mu.Lock()
	for _, k := range o.conns {
		if k.streams < perConn || o.cfg.Transport != nil {
			c = k
			break
		}
	}
	if c == nil {
		if c, err = o.dial(); err != nil {
			o.mu.Unlock()
			return nil, false, err
		}
		o.conns = append(o.conns, c)
	}
	c.streams++
	t := time.NewTimer(dialWait)
	defer t.Stop()
	for {
		wait := c.dialling
		switch {
		case c.up || o.cfg.Transport != nil:
			o.mu.Unlock()
			return c, false, nil
		case wait == nil:
			c.dialling = make(chan struct{})
			o.mu.Unlock()
			return c, true, nil
		}
		o.mu.Unlock()
		select {
		case <-wait:
		case <-t.C: // a silent log's headers may come late: the connection is there
			return c, false, nil
		case <-ctx.Done():
			o.release(c)
			return nil, false, context.Cause(ctx)
		}
		o.mu.Lock()
	}
}

// opened says how a request was answered. When ctx, the request's, has ended it was given
// up, and that says nothing of the connection.
func (o *Opener) opened(ctx context.Context, c *conn, dialled bool, err error) {
	var answer apierrors.APIStatus
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil || errors.As(err, &answer):
		c.up = true
	case ctx.Err() == nil:
		c.up = false
	}
	if c.dialling != nil && (dialled || c.up) {
		close(c.dialling)
		c.dialling = nil
	}
}

func (o *Opener) release(c *conn) {
	o.mu.Lock()
	c.streams--
	o.mu.Unlock()
}

// OpenLog makes one request. Its body is to be closed; ctx ends both. An error says what
// was answered: see Refuse.
func (o *Opener) OpenLog(ctx context.Context, namespace, pod string, opt *corev1.PodLogOptions) (io.ReadCloser, error) {
	c, dials, err := o.acquire(ctx)
	if err != nil {
		return nil, err
	}
	// A Retry-After is the caller's to wait for: client-go would do so, ten times and
	// however long, with the request's place among those that may wait for an answer.
	body, err := c.client.Get().MaxRetries(0).Namespace(namespace).Resource("pods").Name(pod).SubResource("log").
		VersionedParams(opt, scheme.ParameterCodec).Stream(ctx)
	o.opened(ctx, c, dials, err)
	if err != nil {
		o.release(c)
		return nil, err
	}
	return &stream{ReadCloser: body, ctx: ctx, o: o, c: c}, nil
}

// stream gives its place on the connection back when it is closed, and says when the
// connection broke.
type stream struct {
	io.ReadCloser
	ctx    context.Context // the request's
	o      *Opener
	c      *conn
	closed atomic.Bool
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && !s.closed.Load() {
		s.o.opened(s.ctx, s.c, false, err)
	}
	return n, err
}

func (s *stream) Close() error {
	first := !s.closed.Swap(true)
	err := s.ReadCloser.Close()
	if first {
		s.o.release(s.c)
	}
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
