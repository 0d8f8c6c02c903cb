package testutil

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Fault is what goes wrong with one request. The zero value is: nothing.
type Fault struct {
	// Delay comes first: the server does not see the request before.
	Delay time.Duration

	// Status answers in place of the server, with a metav1.Status of that code,
	// Reason and Message. Status 200 makes Message the whole body, as the
	// kubelet's errors arrive in a log.
	Status     int
	Reason     metav1.StatusReason
	Message    string
	RetryAfter time.Duration // whole seconds; also sent as a header, which client-go obeys

	// Err fails the request without an answer, as a broken connection does.
	Err error

	// Applied has the server carry the request out all the same: only its
	// answer is lost to Status or Err.
	Applied bool

	// CutAfter ends the answer's body after so many bytes (below zero: before
	// the first): with CutText, if any, then with CutErr. A nil CutErr is a clean
	// end, which is how a client of pods/log sees a kubelet die.
	CutAfter int64
	CutText  string
	CutErr   error

	// EndAfter ends the answer's body after so long, as CutErr says: the kubelet
	// ends every stream after four hours, proxies end them sooner.
	EndAfter time.Duration

	// Rate is how many bytes of the body come in a second; 0: all at once. A
	// follower on the node lags behind then, once the way is full.
	Rate int64

	// Lag has a watch tell every change so long after it happened. Lists and gets
	// are ahead of it.
	Lag time.Duration

	// NoWatcher: the node has no inotify instance left for this follow. It says so,
	// in the body, after all lines that there are.
	NoWatcher bool

	// LostAtRotation ends this follow, cleanly, when the log is rotated (seen on a
	// real node, v1.37.2).
	LostAtRotation bool

	// Stall keeps the connection open but lets nothing through: nothing after
	// CutAfter bytes of the body or, when CutAfter is 0, no answer at all.
	Stall bool

	request int // which one: counted from 1
}

type faultKey struct{}

// faultOf is the fault of a request that the server works on.
func faultOf(r *http.Request) Fault {
	f, _ := r.Context().Value(faultKey{}).(Fault)
	return f
}

// Fault asks f about every request from now on, before the server sees it; nil
// ends all faults. f may block and may be called from many goroutines.
func (c *Cluster) Fault(f func(*http.Request) Fault) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// DropWatches ends all watches that are open. A nil err is a clean end, which is
// what a server does every half hour or so.
func (c *Cluster) DropWatches(err error) { c.drop(err, "watch") }

// DropLogs ends all log streams that are open. A nil err is a clean end: what a
// client sees when the kubelet dies, whatever the API server thinks of it.
func (c *Cluster) DropLogs(err error) { c.drop(err, "log") }

func (c *Cluster) drop(err error, verb string) {
	if err == nil {
		err = io.EOF
	}
	c.transport.cut(err, func(r *http.Request) bool { return parse(r).verb == verb })
}

// Compact forgets the history: watches and lists that go on from an older
// resourceVersion are told that it expired (410). Open watches go on.
func (c *Cluster) Compact() {
	c.store.compact()
	c.api.forgetPages()
}

// RestartServer cuts every connection and refuses new ones for down. What is
// stored stays, and so do the containers. It blocks for down.
func (c *Cluster) RestartServer(ctx context.Context, down time.Duration) error {
	c.transport.refuse(true)
	defer c.transport.refuse(false)
	c.transport.cut(io.ErrUnexpectedEOF, func(*http.Request) bool { return true })
	return wait(ctx, down)
}

// replaces says whether the fault takes the place of the server's answer.
func (f Fault) replaces() bool { return f.Status != 0 || f.Err != nil }

// passes says how many of the next n bytes of a body still pass after sent, and
// whether the cut comes then.
func (f Fault) passes(sent int64, n int) (int, bool) {
	if f.CutAfter == 0 || sent+int64(n) < f.CutAfter {
		return n, false
	}
	return int(max(f.CutAfter, 0) - sent), true
}

func (f Fault) cutError() error {
	if f.CutErr == nil {
		return io.EOF
	}
	return f.CutErr
}

// replace answers in place of the server.
func (t *transport) replace(r *http.Request, body []byte, f Fault) (*http.Response, error) {
	if f.Applied {
		answer, err := t.carry(r, body, Fault{})
		if err != nil {
			return nil, err
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
	}
	if f.Err != nil {
		return nil, f.Err
	}
	text, header := f.Message, http.Header{"Content-Type": {"text/plain"}}
	if f.Status != http.StatusOK {
		b, err := json.Marshal(f.status())
		if err != nil {
			return nil, err
		}
		text, header = string(b), http.Header{"Content-Type": {"application/json"}}
	}
	if f.RetryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int(f.RetryAfter/time.Second)))
	}
	return &http.Response{
		Status: http.StatusText(f.Status), StatusCode: f.Status, Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: header, Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text)), Request: r,
	}, nil
}

func (f Fault) status() *metav1.Status {
	s := &metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusFailure, Code: int32(f.Status), Reason: f.Reason, Message: f.Message,
	}
	if f.RetryAfter > 0 {
		s.Details = &metav1.StatusDetails{RetryAfterSeconds: int32(f.RetryAfter / time.Second)}
	}
	return s
}
