package conformance

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream"
)

// A kubelet server is that of a real kubelet, as far as the ends of its answers are
// concerned: the API server before it gets them over HTTP.
type kubeletServer struct {
	n    *node
	sent *atomic.Int64 // bytes
}

// ServeHTTP does what pkg/kubelet/server/server.go:840-884 and kubelet_pods.go:1641 do
// (v1.36.3): the first write of no bytes sends the headers, and an error after that is
// a part of the body.
func (k kubeletServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o, err := decode(r.URL.Query())
	if err != nil {
		w.WriteHeader(http.StatusUnprocessableEntity)
		return
	}
	b := k.n.container(o.Previous)
	out := flusher{w, k.sent}
	_, _ = out.Write(nil)
	if err := getContainerLogs(r.Context(), b, o, false, out); err != nil {
		_, _ = io.WriteString(out, err.Error())
	}
}

// flusher is k8s.io/kubelet's flushwriter.
type flusher struct {
	http.ResponseWriter
	sent *atomic.Int64
}

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.ResponseWriter.Write(p)
	f.sent.Add(int64(n))
	if err == nil {
		f.ResponseWriter.(http.Flusher).Flush()
	}
	return n, err
}

// over makes the API server ask a kubelet of its own process, whose connections have a
// maximum duration: the real one's is four hours (server.go:197-204).
func (n *node) over(t *testing.T, http2 bool, timeout time.Duration) {
	k := kubeletServer{n, &n.sent}
	url, tr := listen(t, &http.Server{Handler: k, ReadTimeout: timeout, WriteTimeout: timeout}, http2)
	n.kubelet = func(ctx context.Context, query string) (io.ReadCloser, error) {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/containerLogs/n/p/c?"+query, nil)
		if err != nil {
			return nil, err
		}
		resp, err := tr.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		return resp.Body, nil
	}
}

// Every stream ends after four hours, cleanly and perhaps in a line: at its next write
// over HTTP/1.1, at once over HTTP/2.
func TestTheKubeletsTimeoutCostsNothing(t *testing.T) {
	for name, http2 := range map[string][2]bool{
		"HTTP/1.1":                 {false, false},
		"HTTP/2":                   {true, true},
		"HTTP/1.1 to the kubelet":  {true, false},
		"HTTP/1.1 to the capturer": {false, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inTime(t, func(t *testing.T) {
				timeout, every, o := 4*time.Hour, 7*time.Minute, logstream.Options{}
				if !virtual {
					timeout, every, o = time.Second, 50*time.Millisecond, quick
				}
				r := newRigOver(t, o, http2[0], func(open logstream.Opener) logstream.Opener { return open })
				r.n.over(t, http2[1], timeout)
				b := r.begin("a")
				r.tell(b, nil)
				for i := range 100 {
					wait(every)
					b.say(fmt.Sprintf("line %d", i), strings.Repeat("x", 1000))
				}
				r.last(b)
				r.wants(r.finish(b), b, logstream.Verified)
				if st := r.s.Stats(); st.Resumed < 1 || st.Resumed > 10 {
					t.Errorf("resumed %d times in %s", st.Resumed, 100*every)
				}
			})
		})
	}
}

// Whatever fails after the headers comes with HTTP 200, and its error is the log's end.
func TestAKubeletsErrorAfterItsHeadersIsNoOutput(t *testing.T) {
	harms := map[string]func(b *box) (heal func()){
		"the runtime is away": func(b *box) func() {
			b.Answer(notFound(b.id))
			return func() { b.Answer(nil) }
		},
		"the log is not there": func(b *box) func() {
			b.Rename(maxFiles)
			return b.RenameBack
		},
	}
	for name, harm := range harms {
		for when, lines := range map[string][]string{"at first": nil, "after two lines": {"one", "two"}} {
			t.Run(name+" "+when, func(t *testing.T) {
				play(t, quick, func(r *rig, b *box) {
					r.n.over(r.t, false, time.Hour)
					if b.say(lines...); lines != nil {
						r.tell(b, nil)
						r.last(b)
					}
					b.say("three")
					b.Exit()
					heal, said := harm(b), r.n.sent.Load()
					r.tell(b, nil)
					r.until("the kubelet has complained twice", func() bool { return r.n.sent.Load() > said+100 })
					heal()
					r.wants(r.finish(b), b, logstream.Verified)
				})
			})
		}
	}
}

// What nobody reads is held by the windows of the two HTTP/2 streams on its way, 4 MiB
// each; the kubelet stops reading then. It is why a capture never waits for its readers.
func TestAKubeletIsHeldUpByEightMebibytesThatNobodyReads(t *testing.T) {
	if virtual {
		t.Skip("pipes hold nothing")
	}
	t.Parallel()
	n := &node{}
	n.over(t, true, time.Hour)
	open, err := logstream.FromConfig(serve(t, n, true))
	if err != nil {
		t.Fatal(err)
	}
	b := newBox(t, "containerd://a")
	n.start(b)
	text := strings.Repeat("x", 16<<10)
	for range 1024 { // 16 MiB
		b.say(text)
	}
	body, err := open.OpenLog(t.Context(), "n", "p", &corev1.PodLogOptions{Follow: true, Timestamps: true})
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	wait(3 * time.Second)
	if sent := n.sent.Load(); sent < 8<<20-64<<10 || sent > 9<<20 {
		t.Errorf("the kubelet has sent %.1f MiB", float64(sent)/(1<<20))
	}
}
