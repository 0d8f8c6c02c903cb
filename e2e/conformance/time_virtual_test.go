//go:build virtual

package conformance

import (
	"context"
	"net"
	"net/http"
	"testing"
	"testing/synctest"

	"github.com/fsnotify/fsnotify"
	"k8s.io/client-go/rest"
)

// virtual says that time passes when nothing else is left to do.
const virtual = true

// inTime plays f with a clock of its own.
func inTime(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

func created(name string) { fsnotify.Tell(name, fsnotify.Create) }
func written(name string) { fsnotify.Tell(name, fsnotify.Write) }
func renamed(name string) { fsnotify.Tell(name, fsnotify.Rename) }
func removed(name string) { fsnotify.Tell(name, fsnotify.Remove) }

// pipes is a net.Listener without sockets.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	close(p.closed)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case p.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// listen runs srv on pipes, which hold no byte back.
func listen(t *testing.T, srv *http.Server, http2 bool) (url string, tr http.RoundTripper) {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	var speaks http.Protocols
	speaks.SetHTTP1(!http2)
	speaks.SetUnencryptedHTTP2(http2)
	srv.Protocols = &speaks
	done := make(chan error, 1)
	go func() { done <- srv.Serve(p) }()
	client := &http.Transport{DialContext: p.dial, Protocols: &speaks}
	t.Cleanup(func() {
		_ = srv.Close()
		client.CloseIdleConnections()
		<-done
	})
	return "http://server", client
}

// serve makes h an API server.
func serve(t *testing.T, h http.Handler, http2 bool) *rest.Config {
	url, tr := listen(t, &http.Server{Handler: h}, http2)
	return &rest.Config{Host: url, Transport: tr}
}
