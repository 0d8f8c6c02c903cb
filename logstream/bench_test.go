package logstream

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/logstream/internal/stamp"
)

// flood serves one log body as an apiserver does, HTTP/2 over TLS, as fast as it
// is taken.
func flood(b *testing.B, lineLen int) (o Opener, size int) {
	line := body(strings.Repeat("x", lineLen-1))
	var text strings.Builder
	for ns := 0; text.Len() < 32<<20; ns++ {
		fmt.Fprintf(&text, "2026-11-22T10:%02d:%02d.%09dZ %s", ns/60e6%60, ns/1e6%60, ns%1e6*1000, line[stamp.UTC:])
	}
	data := text.String()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.Copy(w, strings.NewReader(data))
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	b.Cleanup(srv.Close)
	o, err := FromConfig(&rest.Config{Host: srv.URL, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		b.Fatal(err)
	}
	return o, len(data)
}

var lineLens = []int{20, 100, 1000}

// BenchmarkCapture is the whole path: body, splice, buffer, reader; the verification
// that follows is not counted. Every capture is timed beside an io.Copy of the same
// body: of-copy is the median of their throughputs' ratios, which holds on a machine
// that does other things.
func BenchmarkCapture(b *testing.B) {
	for _, n := range lineLens {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			o, size := flood(b, n)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			text := int64(size / (n + stamp.UTC) * n)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			s := New(o, Options{Memory: 256 << 20})
			done := make(chan struct{})
			go func() { defer close(done); _ = s.Run(ctx) }()
			var ratios []float64
			for b.Loop() {
				b.StopTimer()
				start := time.Now()
				copyBody(b, o)
				copying := time.Since(start)
				b.StartTimer()
				start = time.Now()
				c := captureBody(b, s, text)
				ratios = append(ratios, float64(copying)/float64(time.Since(start)))
				b.StopTimer()
				c.Close()
				b.StartTimer()
			}
			slices.Sort(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "of-copy")
			cancel()
			<-done
		})
	}
}

// copyBody is what the body costs without us.
func copyBody(b *testing.B, o Opener) {
	body, err := o.OpenLog(b.Context(), "n", "p", &corev1.PodLogOptions{})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		b.Fatal(err)
	}
	body.Close()
}

// captureBody returns when a reader has had all of the text.
func captureBody(b *testing.B, s *Streamer, text int64) *Capture {
	c := s.Pod("n", "p", nil)
	p := newPod(corev1.RestartPolicyNever, "a")
	c.Handle(p.running("a", "a1"))
	r := c.Reader(b.Context(), "a", ReadOptions{})
	if n, err := io.CopyN(io.Discard, r, text); err != nil {
		b.Fatal(n, err)
	}
	c.Handle(p.event(watch.Deleted))
	return c
}

func TestALineCostsNoAllocation(t *testing.T) {
	text := []byte(body(numbered(1000)...))
	s := newTestSplicer()
	s.begin(query{}, false)
	s.feed(text)
	const rounds = 50
	line, ns := text[:0], time.Now().UnixNano()
	perRound := testing.AllocsPerRun(rounds, func() {
		line = line[:0]
		for range 1000 {
			ns++
			line = stamp.Time(ns).AppendFormat(line, "2006-01-02T15:04:05.000000000Z07:00")
			line = append(line, " some output\n"...)
		}
		if _, ok := s.feed(line); !ok {
			t.Fatal("not appended")
		}
	})
	// A chunk of 64 KiB now and then is all.
	if perRound > 20 {
		t.Errorf("%v allocations for 1000 lines", perRound)
	}
}
