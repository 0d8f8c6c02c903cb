package testutil

import (
	"context"
	"io"
	"sync"
)

// streamWindow is how many bytes of an answer can be under way to a client that
// does not read: two HTTP/2 stream windows of 4 MiB, one at each side of the API
// server. A writer (the kubelet) blocks after that.
const streamWindow = 8 << 20

// stream is the body of an answer on its way: written by the server, read by the
// client, one of each. Unlike io.Pipe it holds bytes in between, and the reader
// gives up when the request's context ends. It blocks on channels only, so that
// time in a synctest bubble goes on.
type stream struct {
	ctx  context.Context // of the request, at the client
	gone func()          // tells the server that the client is gone

	mu     sync.Mutex
	buf    []byte
	end    error         // once set, no bytes are added; what Read returns in the end
	closed bool          // the client closed it
	more   chan struct{} // capacity 1: there is something new to read
	room   chan struct{} // capacity 1: there is room again, or no one reads any more
}

func newStream(ctx context.Context, gone func()) *stream {
	return &stream{ctx: ctx, gone: gone, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Write blocks while the window is full, until ctx (the server's) ends.
func (s *stream) write(ctx context.Context, p []byte) (n int, err error) {
	for len(p) > 0 {
		s.mu.Lock()
		if s.closed || s.end != nil {
			s.mu.Unlock()
			return n, io.ErrClosedPipe
		}
		fits := min(len(p), streamWindow-len(s.buf))
		s.buf = append(s.buf, p[:fits]...)
		s.mu.Unlock()
		if n, p = n+fits, p[fits:]; fits > 0 {
			signal(s.more)
			continue
		}
		select {
		case <-s.room:
		case <-ctx.Done():
			return n, context.Cause(ctx)
		}
	}
	return n, nil
}

// finish ends the stream with err (io.EOF: in good order) after what was written.
func (s *stream) finish(err error) {
	s.mu.Lock()
	if s.end == nil {
		s.end = err
	}
	s.mu.Unlock()
	signal(s.more)
	signal(s.room)
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if err := context.Cause(s.ctx); err != nil {
			return 0, s.ctx.Err() // as net/http does, buffered bytes or not
		}
		s.mu.Lock()
		n, end := copy(p, s.buf), s.end
		if s.buf = s.buf[n:]; len(s.buf) == 0 {
			s.buf = nil
		}
		if s.closed {
			n, end = 0, io.ErrClosedPipe
		}
		s.mu.Unlock()
		switch {
		case n > 0:
			signal(s.room)
			return n, nil
		case len(p) == 0:
			return 0, nil
		case end != nil:
			return 0, end
		}
		select {
		case <-s.more:
		case <-s.ctx.Done():
		}
	}
}

func (s *stream) Close() error {
	s.mu.Lock()
	s.closed, s.buf = true, nil
	s.mu.Unlock()
	signal(s.more)
	signal(s.room)
	s.gone()
	return nil
}
