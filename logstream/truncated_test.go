package logstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/rest"
)

// breaks are the ways in which a body ends before its end, on the wire. Each gets
// what is to be sent before.
var breaks = map[string]struct {
	http2 bool
	send  func(w http.ResponseWriter, text string)
}{
	"HTTP/1.1, inside a chunk":          {send: onWire("%x\r\n%s", 100)},
	"HTTP/1.1, between chunks":          {send: onWire("%x\r\n%s\r\n", 0)},
	"HTTP/1.1, inside a chunk's length": {send: onWire("%x\r\n%s\r\n12", 0)},
	"HTTP/1.1, a length that is none":   {send: onWire("%x\r\n%s\r\nxyz\r\n", 0)},
	"HTTP/2, the stream is reset": {http2: true, send: func(w http.ResponseWriter, text string) {
		_, _ = io.WriteString(w, text)
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}},
}

// onWire sends one chunk that is said to be more bytes longer than it is, and
// closes the connection.
func onWire(chunk string, more int) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, text string) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"+chunk, len(text)+more, text)
		conn.Close()
	}
}

func TestABodyThatIsCutOnTheWireIsTakenUpWhereItEnded(t *testing.T) {
	text := body(numbered(2000)...)
	for name, c := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var follows, reads atomic.Int64
			resumed := make(chan struct{})
			srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				count := &reads
				if r.FormValue("follow") == "true" {
					count = &follows
				}
				n := count.Add(1)
				if n < 4 { // in the middle of a line, and of a timestamp, too
					c.send(w, text[:min(len(text), int(n)*17_003)])
					return
				}
				if r.FormValue("follow") == "true" {
					close(resumed)
				}
				_, _ = io.WriteString(w, text)
			}))
			srv.EnableHTTP2 = c.http2
			srv.StartTLS()
			defer srv.Close()
			o, err := FromConfig(&rest.Config{Host: srv.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			s := New(o, Options{})
			done := make(chan struct{})
			go func() { defer close(done); _ = s.Run(ctx) }()
			defer func() { cancel(); <-done }()
			capture := s.Pod("n", "p", nil)
			defer capture.Close()
			p := newPod(corev1.RestartPolicyNever, "a")
			capture.Handle(p.running("a", "a1"))
			<-resumed
			p.ended("a", "a1")
			certs, err := capture.Drain(ctx, p.pod)
			if err != nil || len(certs) != 1 || certs[0].Proof != Verified || certs[0].Lines != 2000 {
				t.Errorf("%v, certificates %+v", err, certs)
			}
			got, err := io.ReadAll(capture.Reader(ctx, "a", ReadOptions{}))
			if want := stripped(text); string(got) != want || err != nil {
				t.Errorf("read %d bytes, want %d, %v", len(got), len(want), err)
			}
			if st := s.Stats(); st.Resumed != 3 || st.Reads != 4 {
				t.Errorf("%+v", st)
			}
		})
	}
}
