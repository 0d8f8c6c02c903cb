package logstream

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// A proxy passes a followed log on in pieces of a size, or every so often, or at its end.
// All else it passes on at once.
type proxy struct {
	*node
	piece int
	every time.Duration
}

func (p *proxy) OpenLog(ctx context.Context, ns, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	body, err := p.node.OpenLog(ctx, ns, pod, o)
	if err != nil || !o.Follow {
		return body, err
	}
	h := &heldBody{ReadCloser: body, pieces: make(chan []byte), closed: make(chan struct{})}
	go h.pass(p.piece, p.every)
	return h, nil
}

type heldBody struct {
	io.ReadCloser
	pieces chan []byte
	rest   []byte
	once   sync.Once
	closed chan struct{}
}

func (h *heldBody) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.ReadCloser.Close()
}

// pass passes pieces on until the body ends.
func (h *heldBody) pass(piece int, every time.Duration) {
	defer close(h.pieces)
	var held []byte
	for buf, last := make([]byte, 512), time.Now(); ; {
		n, err := h.ReadCloser.Read(buf)
		held = append(held, buf[:n]...)
		for err != nil || piece > 0 && len(held) >= piece || every > 0 && time.Since(last) >= every {
			n := len(held)
			if piece > 0 && err == nil {
				n = piece
			}
			select {
			case h.pieces <- bytes.Clone(held[:n]):
			case <-h.closed:
				return
			}
			if held, last = held[n:], time.Now(); err != nil {
				return
			}
		}
	}
}

func (h *heldBody) Read(p []byte) (int, error) {
	for len(h.rest) == 0 {
		select {
		case piece, ok := <-h.pieces:
			if !ok {
				return 0, io.EOF
			}
			h.rest = piece
		case <-h.closed:
			return 0, io.ErrClosedPipe
		}
	}
	n := copy(p, h.rest)
	h.rest = h.rest[n:]
	return n, nil
}

func TestALogWhoseStreamsAreHeldBackIsPolled(t *testing.T) {
	for name, c := range map[string]struct {
		piece       int
		held, every time.Duration // the body is; a line is printed
	}{
		"in pieces of 4 KiB":             {piece: 4 << 10, every: 5 * time.Second},
		"in pieces of 64 KiB":            {piece: 64 << 10, every: 5 * time.Second},
		"to its end":                     {every: 5 * time.Second},
		"for half a minute":              {held: 30 * time.Second, every: 5 * time.Second},
		"for five minutes":               {held: 5 * time.Minute, every: 5 * time.Second},
		"of a log with a line a second":  {piece: 4 << 10, every: time.Second},
		"of a log with a line in 40 s":   {piece: 4 << 10, every: 40 * time.Second},
		"of one that is hardly printing": {piece: 4 << 10, every: 3 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubbleBy(t, func(n *node) Opener { return &proxy{n, c.piece, c.held} }, Options{}, nil, func(b *bench) {
				b.n.start("a", "a1")
				b.c.Handle(b.p.running("a", "a1"))
				printed := make(chan time.Time, 10_000)
				var latest time.Duration
				late, done := 0, make(chan struct{})
				go func() {
					defer close(done)
					k := 0
					for range b.c.Reader(b.ctx, "a", ReadOptions{}).Lines() {
						d := time.Since(<-printed)
						if k++; k > 30 {
							latest = max(latest, d)
						}
						if d > 12*time.Second {
							late++
						}
					}
				}()
				lines := int(time.Hour / c.every)
				for i := range lines {
					printed <- time.Now()
					b.n.print("a", fmt.Sprintf("%d %s", i, bytes.Repeat([]byte("x"), 80)))
					time.Sleep(c.every)
				}
				follows, reads := b.n.requests()
				b.endsAs(Verified, lines)
				<-done
				t.Logf("%d lines came late, one by %s; %d streams, %d reads", late, latest, follows, reads)
				if most := 3 + int(25*time.Second/c.every); late > most || latest > 20*time.Second {
					t.Errorf("%d lines came late, one by %s", late, latest)
				}
			})
		})
	}
}
