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

// listen runs srv with TLS on the loopback interface.
func listen(t *testing.T, srv *http.Server, http2 bool) (url string, tr http.RoundTripper) {
	ts := httptest.NewUnstartedServer(nil)
	ts.Config, ts.EnableHTTP2 = srv, http2
	srv.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 100} // kube-apiserver's
	ts.StartTLS()
	t.Cleanup(func() {
		ts.CloseClientConnections()
		ts.Close()
	})
	return ts.URL, ts.Client().Transport
}

// serve makes h an API server.
func serve(t *testing.T, h http.Handler, http2 bool) *rest.Config {
	url, _ := listen(t, &http.Server{Handler: h}, http2)
	return &rest.Config{Host: url, TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
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
