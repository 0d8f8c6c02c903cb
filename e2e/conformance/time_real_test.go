//go:build !virtual

package conformance

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"k8s.io/client-go/rest"
)

// virtual says that time passes when nothing else is left to do.
const virtual = false

// inTime plays f.
func inTime(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	f(t)
}

// The kernel tells.
func created(string) {}
func written(string) {}
func renamed(string) {}
func removed(string) {}

// serve makes h an API server: HTTP/2 over TLS on the loopback interface.
func serve(t *testing.T, h http.Handler) *rest.Config {
	srv := httptest.NewUnstartedServer(h)
	srv.EnableHTTP2 = true
	srv.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 100} // kube-apiserver's
	srv.StartTLS()
	t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return &rest.Config{Host: srv.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

// TestMain lets the tests wait side by side: they do little else. A follower takes one of
// the 128 inotify instances that a user has by default.
func TestMain(m *testing.M) {
	flag.Parse()
	set := false
	flag.Visit(func(f *flag.Flag) { set = set || f.Name == "test.parallel" })
	if !set {
		if err := flag.Set("test.parallel", "40"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}
