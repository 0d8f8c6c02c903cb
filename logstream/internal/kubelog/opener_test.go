package kubelog

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/google/go-cmp/cmp"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestTheOpenerAsksForWhatItIsTold(t *testing.T) {
	var got *http.Request
	answer := func(code int, body string) *http.Response {
		return &http.Response{
			StatusCode: code, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(body)),
		}
	}
	code, text := 200, "2026-11-22T10:00:00.000000001Z hello\n"
	o, err := NewOpener(&rest.Config{Host: "http://cluster", QPS: 0.0001, Timeout: time.Nanosecond, Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
		got = r
		return answer(code, text), nil
	})})
	if err != nil {
		t.Fatal(err)
	}
	since := metav1.NewTime(time.Date(2026, 11, 22, 10, 0, 0, 999, time.UTC))
	for range 3 { // no client-side limit
		body, err := o.OpenLog(t.Context(), "n", "p", &corev1.PodLogOptions{Container: "c", Follow: true, Timestamps: true, SinceTime: &since})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(body); string(b) != text || err != nil {
			t.Errorf("read %q, %v", b, err)
		}
		body.Close()
	}
	if got.URL.Path != "/api/v1/namespaces/n/pods/p/log" {
		t.Errorf("path %s", got.URL.Path)
	}
	want := map[string][]string{"container": {"c"}, "follow": {"true"}, "timestamps": {"true"}, "sinceTime": {"2026-11-22T10:00:00Z"}}
	if d := cmp.Diff(want, map[string][]string(got.URL.Query())); d != "" {
		t.Errorf("query (-want +got):\n%s", d)
	}
	code, text = 404, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","message":"pods \"p\" not found","details":{"name":"p","kind":"pods"},"code":404}`
	_, err = o.OpenLog(t.Context(), "n", "p", &corev1.PodLogOptions{})
	var st apierrors.APIStatus
	if !errors.As(err, &st) || Refuse(err).Answer != PodGone {
		t.Errorf("error %v", err)
	}
}

func TestABadConfigIsAnErrorAtOnce(t *testing.T) {
	for name, cfg := range map[string]*rest.Config{
		"nil":      nil,
		"bad host": {Host: "http://%zz"},
		"bad CA":   {Host: "https://x", TLSClientConfig: rest.TLSClientConfig{CAData: []byte("x"), Insecure: true}},
	} {
		if _, err := NewOpener(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestStreamsShareConnections(t *testing.T) {
	const streams = 600
	var conns atomic.Int32
	release := make(chan struct{})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	srv.EnableHTTP2 = true
	srv.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: 100} // kube-apiserver's
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.StartTLS()
	defer srv.Close()
	defer close(release)
	o, err := NewOpener(&rest.Config{Host: srv.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	places := make(chan struct{}, 16) // as the Streamer has
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	bodies := make([]io.ReadCloser, streams)
	for _, when := range []string{"at first", "after all connections broke"} {
		var wg sync.WaitGroup
		for i := range bodies {
			wg.Go(func() {
				places <- struct{}{}
				defer func() { <-places }()
				var err error
				if bodies[i], err = o.OpenLog(ctx, "n", "p", &corev1.PodLogOptions{Follow: true}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		got := conns.Swap(0)
		t.Logf("%s: %d streams on %d connections", when, streams, got)
		if got > (streams+perConn-1)/perConn {
			t.Errorf("%s: %d streams took %d connections", when, streams, got)
		}
		srv.CloseClientConnections()
		for _, b := range bodies {
			if _, err := b.Read(make([]byte, 1)); err == nil {
				t.Error("a stream goes on without its connection")
			}
			b.Close()
		}
	}
	for _, c := range o.conns {
		if c.streams != 0 {
			t.Errorf("%d streams are still counted", c.streams)
		}
	}
}

// The first request on a connection goes alone; those that waited for it go together.
func TestWhoWaitsForAConnectionDoesNotWaitForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &Opener{cfg: &rest.Config{}, conns: []*conn{{}}}
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() {
			c, dials, _ := o.acquire(t.Context())
			time.Sleep(time.Second)
			o.opened(t.Context(), c, dials, nil)
		})
		synctest.Wait()
		start := time.Now()
		for range 10 {
			wg.Go(func() {
				c, dials, _ := o.acquire(t.Context())
				if d := time.Since(start); d != time.Second || dials {
					t.Errorf("it waited for %s, and dials: %t", d, dials)
				}
				time.Sleep(time.Second)
				o.opened(t.Context(), c, dials, nil)
			})
		}
	})
}

// Nor does one that failed to connect let all others try at once.
func TestOneRequestAtATimeTriesToConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &Opener{cfg: &rest.Config{}, conns: []*conn{{}}}
		var wg sync.WaitGroup
		defer wg.Wait()
		var dialling atomic.Int32
		for range 10 {
			wg.Go(func() {
				c, dials, _ := o.acquire(t.Context())
				if n := dialling.Add(1); !dials || n > 1 {
					t.Errorf("%d requests at once, dials: %t", n, dials)
				}
				time.Sleep(100 * time.Millisecond)
				dialling.Add(-1)
				o.opened(t.Context(), c, dials, io.ErrUnexpectedEOF)
			})
		}
	})
}

// Not the connection is broken when whoever asked gives up: a dead node's logs do not
// answer, and a stream is ended to be looked at again.
func TestARequestThatIsGivenUpMakesNobodyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for name, end := range map[string]func(context.Context) (context.Context, func()){
			"in time": func(ctx context.Context) (context.Context, func()) {
				ctx, cancel := context.WithTimeout(ctx, time.Second)
				return ctx, cancel
			},
			"by an interruption": func(ctx context.Context) (context.Context, func()) {
				ctx, cancel := context.WithCancelCause(ctx)
				time.AfterFunc(time.Second, func() { cancel(io.EOF) })
				return ctx, func() { cancel(nil) }
			},
		} {
			for _, headers := range []bool{false, true} {
				ctx, stop := end(t.Context())
				srv := roundTrip(func(r *http.Request) (*http.Response, error) {
					if r.URL.Query().Get("container") == "fast" {
						return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(""))}, nil
					}
					if !headers {
						<-r.Context().Done()
						return nil, context.Cause(r.Context()) // as net/http does
					}
					return &http.Response{StatusCode: 200, Body: &forever{r.Context()}}, nil
				})
				o := &Opener{cfg: &rest.Config{}, conns: []*conn{connTo(t, srv)}}
				get := func(ctx context.Context, container string) (io.ReadCloser, error) {
					return o.OpenLog(ctx, "n", "p", &corev1.PodLogOptions{Container: container})
				}
				if b, err := get(t.Context(), "fast"); err != nil {
					t.Fatal(err)
				} else {
					b.Close()
				}
				if b, err := get(ctx, "slow"); err == nil {
					_, _ = io.ReadAll(b)
					b.Close()
				}
				stop()
				if _, dials, err := o.acquire(t.Context()); dials || err != nil {
					t.Errorf("%s, with headers: %t: the next request dials: %t (%v)", name, headers, dials, err)
				}
			}
		}
	})
}

func connTo(t *testing.T, rt http.RoundTripper) *conn {
	t.Helper()
	o, err := NewOpener(&rest.Config{Host: "http://cluster", Transport: rt})
	if err != nil {
		t.Fatal(err)
	}
	return o.conns[0]
}

// forever is a body that brings nothing.
type forever struct{ ctx context.Context }

func (b *forever) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, context.Cause(b.ctx)
}

func (b *forever) Close() error { return nil }
