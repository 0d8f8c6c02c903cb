package testutil

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// errServerDown ends the requests of a server that goes away.
var errServerDown = errors.New("the server is going away")

// transport carries requests to handler without sockets, so that they work
// inside a synctest bubble: an http.RoundTripper that runs the handler in a
// goroutine and hands its answer over as it is written.
type transport struct {
	handler http.Handler
	before  func(*http.Request) Fault // asked first, for every request

	mu       sync.Mutex
	refusing bool // nobody listens
	closed   bool // for good
	calls    map[*call]bool
	done     sync.WaitGroup // of calls
}

// call is a request that the server works on.
type call struct {
	request *http.Request
	cancel  context.CancelCauseFunc
	answer  *answer
}

// end stops the call: its handler's context ends, and the client reads err
// after the bytes that are under way (io.EOF: a clean end).
func (c *call) end(err error) {
	c.answer.finish(err)
	c.cancel(errServerDown)
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	fault := t.before(r)
	if err := wait(r.Context(), fault.Delay); err != nil {
		return nil, err
	}
	if fault.replaces() {
		return t.replace(r, body, fault)
	}
	return t.carry(r, body, fault)
}

// carry has the server answer the request.
func (t *transport) carry(r *http.Request, body []byte, fault Fault) (*http.Response, error) {
	c, err := t.start(r, body, fault)
	if err != nil {
		return nil, err
	}
	select {
	case <-c.answer.ready:
	case <-r.Context().Done():
		c.cancel(r.Context().Err())
		return nil, r.Context().Err()
	}
	a := c.answer
	if a.failed != nil { // before there was an answer
		return nil, a.failed
	}
	return &http.Response{
		Status: strconv.Itoa(a.code) + " " + http.StatusText(a.code), StatusCode: a.code,
		Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: a.sent, Body: a.body, ContentLength: -1, Request: r,
	}, nil
}

// start runs the handler in a goroutine that ends with the request, the answer
// or the cluster, whichever comes first.
func (t *transport) start(r *http.Request, body []byte, fault Fault) (*call, error) {
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), faultKey{}, fault))
	served := r.Clone(ctx)
	served.Body = io.NopCloser(bytes.NewReader(body))
	c := &call{request: served, cancel: cancel}
	c.answer = &answer{
		ctx: ctx, header: http.Header{}, ready: make(chan struct{}), fault: fault,
		body: newStream(r.Context(), func() { cancel(context.Canceled) }),
	}
	t.mu.Lock()
	if t.refusing || t.closed {
		t.mu.Unlock()
		cancel(nil)
		return nil, refused()
	}
	t.calls[c] = true
	t.done.Add(1)
	t.mu.Unlock()
	go func() {
		defer t.done.Done()
		defer cancel(nil)
		if fault.EndAfter > 0 {
			end := time.AfterFunc(fault.EndAfter, func() { c.end(fault.cutError()) })
			defer end.Stop()
		}
		defer func() {
			t.mu.Lock()
			delete(t.calls, c)
			t.mu.Unlock()
		}()
		t.handler.ServeHTTP(c.answer, served)
		c.answer.complete()
	}()
	return c, nil
}

// cut ends the calls that which picks, with err at the client (io.EOF: cleanly).
func (t *transport) cut(err error, which func(*http.Request) bool) {
	t.mu.Lock()
	var calls []*call
	for c := range t.calls {
		if which(c.request) {
			calls = append(calls, c)
		}
	}
	t.mu.Unlock()
	for _, c := range calls {
		c.end(err)
	}
}

func (t *transport) refuse(yes bool) {
	t.mu.Lock()
	t.refusing = yes
	t.mu.Unlock()
}

// close ends every call and refuses further ones; it joins their goroutines.
func (t *transport) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.cut(io.ErrUnexpectedEOF, func(*http.Request) bool { return true })
	t.done.Wait()
}

// refused is what a client gets when nobody listens.
func refused() error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
}

func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	defer r.Body.Close()
	return io.ReadAll(r.Body)
}

// wait sleeps for d, unless ctx ends before.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// answer is the handler's http.ResponseWriter. Everything written is on its way
// at once: there is nothing to flush.
type answer struct {
	ctx    context.Context
	header http.Header
	body   *stream
	fault  Fault

	mu     sync.Mutex
	code   int
	sent   http.Header   // the header as it was when the code was written
	failed error         // the connection broke before there was an answer
	ready  chan struct{} // closed when code and sent, or failed, are set
	bytes  int64         // of the body
}

func (a *answer) Header() http.Header { return a.header }
func (a *answer) Flush()              { a.WriteHeader(http.StatusOK) }

func (a *answer) WriteHeader(code int) {
	if a.fault.Stall && a.fault.CutAfter == 0 { // not even a header comes
		<-a.ctx.Done()
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.code == 0 && a.failed == nil {
		a.code, a.sent = code, a.header.Clone()
		close(a.ready)
	}
}

func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	if rate := a.fault.Rate; rate > 0 {
		if err := wait(a.ctx, time.Duration(len(p))*time.Second/time.Duration(rate)); err != nil {
			return 0, err
		}
	}
	passes, cut := a.fault.passes(a.bytes, len(p))
	n, err := a.body.write(a.ctx, p[:passes])
	a.bytes += int64(n)
	if err != nil || !cut {
		return n, err
	}
	if a.fault.Stall {
		<-a.ctx.Done()
		return n, context.Cause(a.ctx)
	}
	if _, err := a.body.write(a.ctx, []byte(a.fault.CutText)); err != nil {
		return n, err
	}
	a.finish(a.fault.cutError())
	return n, io.ErrClosedPipe
}

// finish ends the answer: with err at the client, after what was written.
func (a *answer) finish(err error) {
	a.mu.Lock()
	if a.code == 0 && a.failed == nil {
		a.failed = err
		if errors.Is(err, io.EOF) {
			a.failed = io.ErrUnexpectedEOF // a connection that ends without an answer
		}
		close(a.ready)
	}
	a.mu.Unlock()
	a.body.finish(err)
}

// complete is the end of the handler.
func (a *answer) complete() {
	a.WriteHeader(http.StatusOK)
	a.body.finish(io.EOF)
}
