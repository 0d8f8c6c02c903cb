package e2e

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

var errShut = errors.New("the network is down")

// network is a client's network, which can be shut.
type network struct {
	dialer net.Dialer

	mu    sync.Mutex
	down  bool
	conns map[net.Conn]struct{}
}

func (n *network) dial(ctx context.Context, kind, address string) (net.Conn, error) {
	c, err := n.dialer.DialContext(ctx, kind, address)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.down {
		return nil, errors.Join(errShut, c.Close())
	}
	n.conns[c] = struct{}{}
	return gated{c, n}, nil
}

// shut breaks all connections and allows no new ones, until open.
func (n *network) shut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = true
	for c := range n.conns {
		_ = c.Close()
	}
	clear(n.conns)
}

func (n *network) open() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down = false
}

type gated struct {
	net.Conn
	network *network
}

func (c gated) Close() error {
	c.network.mu.Lock()
	delete(c.network.conns, c.Conn)
	c.network.mu.Unlock()
	return c.Conn.Close()
}

// clientNamed returns a client with connections of its own, which the audit log
// tells from others by its name.
func clientNamed(t *testing.T, config *rest.Config, name string, change ...func(*rest.Config)) (kubernetes.Interface, *network) {
	t.Helper()
	n := &network{conns: map[net.Conn]struct{}{}}
	own := rest.CopyConfig(config)
	own.UserAgent, own.Dial = name, n.dial
	for _, f := range change {
		f(own)
	}
	client, err := kubernetes.NewForConfig(own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(n.shut)
	return client, n
}
