package conformance

import (
	"context"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream"
)

// A lumpy opener is one on a busy machine: its reader comes seldom, and is given all
// that has arrived meanwhile.
type lumpy struct{ logstream.Opener }

func (l lumpy) OpenLog(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	body, err := l.Opener.OpenLog(ctx, namespace, pod, o)
	if err != nil {
		return nil, err
	}
	k := &lump{body: body, more: make(chan struct{}, 1)}
	k.filling.Go(k.fill)
	return k, nil
}

type lump struct {
	body    io.ReadCloser
	filling sync.WaitGroup
	more    chan struct{}

	mu  sync.Mutex
	has []byte
	err error
}

func (k *lump) fill() {
	for p := make([]byte, 32<<10); ; {
		n, err := k.body.Read(p)
		k.mu.Lock()
		k.has, k.err = append(k.has, p[:n]...), err
		k.mu.Unlock()
		select {
		case k.more <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

func (k *lump) Read(p []byte) (int, error) {
	for {
		wait(300 * time.Millisecond)
		k.mu.Lock()
		n, err := copy(p, k.has), k.err
		k.has = k.has[n:]
		k.mu.Unlock()
		switch {
		case n > 0:
			return n, nil
		case err != nil:
			return 0, err
		}
		<-k.more
	}
}

func (k *lump) Close() error {
	err := k.body.Close()
	k.filling.Wait()
	return err
}
