package cluster

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Cluster is one cluster, which runs or ran from a state directory. Its methods
// may be called from many goroutines.
type Cluster struct {
	dir   string
	out   io.Writer
	state state
}

// state is what the state directory's cluster.json remembers.
type state struct {
	ID                 string             `json:"id"`
	Programs           string             `json:"programs"` // directory of the built programs
	Ports              ports              `json:"ports"`
	LogMaxSize         string             `json:"logMaxSize,omitempty"`
	ServiceAccounts    bool               `json:"serviceAccounts,omitempty"`
	LogMonitorInterval string             `json:"logMonitorInterval,omitempty"`
	Ready              bool               `json:"ready"` // Up has returned
	Processes          map[string]process `json:"processes"`
}

type ports struct {
	Etcd      int `json:"etcd"`
	EtcdPeer  int `json:"etcdPeer"`
	APIServer int `json:"apiserver"`
	Kubelet   int `json:"kubelet"`
}

// ErrNotUp is returned for a state directory without a cluster.
var ErrNotUp = errors.New("cluster: no cluster is up")

// Open returns the cluster of a state directory; empty: the default one. It is
// an ErrNotUp if there is none. The cluster may have been ended by others since.
func Open(dir string) (*Cluster, error) {
	dir, err := absolute(dir, "cluster")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, out: io.Discard}
	return c, c.load()
}

func (c *Cluster) load() error {
	text, err := os.ReadFile(c.path("cluster.json"))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%w in %s", ErrNotUp, c.dir)
	}
	if err != nil {
		return err
	}
	c.state = state{}
	if err := json.Unmarshal(text, &c.state); err != nil {
		return fmt.Errorf("cluster: %s: %w", c.path("cluster.json"), err)
	}
	return nil
}

// save replaces cluster.json at once, so that an interrupted writer leaves the old one.
func (c *Cluster) save() error {
	text, err := json.MarshalIndent(c.state, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.path("cluster.json.new"), text, 0o600); err != nil {
		return err
	}
	return os.Rename(c.path("cluster.json.new"), c.path("cluster.json"))
}

// Kubeconfig returns the path of the file with which clients reach the cluster,
// as its administrator.
func (c *Cluster) Kubeconfig() string { return c.path("kubeconfig") }

// AuditLog returns the path of the apiserver's audit log: a JSON object a line
// for every request it answered, without bodies.
func (c *Cluster) AuditLog() string { return c.path("log", "audit.log") }

// PodLogs returns the directory in which the kubelet keeps containers' logs.
func (c *Cluster) PodLogs() string { return c.path("pods") }

// Lived returns how long a container lived that has ended, as containerd recorded it:
// from when it was started to when its process was collected. The record goes with
// the pod. The ID is that of a pod's status.
func (c *Cluster) Lived(containerID string) (time.Duration, error) {
	_, id, _ := strings.Cut(containerID, "://")
	text, err := os.ReadFile(c.path("containerd", "root", "io.containerd.grpc.v1.cri", "containers", id, "status"))
	if err != nil {
		return 0, err
	}
	var record struct{ StartedAt, FinishedAt time.Duration } // since 1970
	if err := json.Unmarshal(text, &record); err != nil {
		return 0, fmt.Errorf("cluster: containerd's record of %s: %w", id, err)
	}
	if record.FinishedAt == 0 {
		return 0, fmt.Errorf("cluster: containerd says that %s has not ended", id)
	}
	return record.FinishedAt - record.StartedAt, nil
}

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *Cluster) logFile(component string) string { return c.path("log", component+".log") }

func (c *Cluster) say(format string, args ...any) { _, _ = fmt.Fprintf(c.out, format+"\n", args...) }

// lock waits until nobody else changes what is in dir, which it makes if it is
// missing. The kernel releases the lock of a process that ends.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	return flock(ctx, dir, syscall.LOCK_EX)
}

func flock(ctx context.Context, dir string, how int) (unlock func(), err error) {
	err = wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(context.Context) (bool, error) {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return false, err
		}
		f, err := os.Open(dir)
		if err != nil {
			return false, err
		}
		if syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB) == nil && isStill(f, dir) {
			unlock = func() { _ = f.Close() }
			return true, nil
		}
		return false, f.Close()
	})
	if err != nil {
		return nil, fmt.Errorf("cluster: waiting for others at work in %s: %w", dir, err)
	}
	return unlock, nil
}

// isStill reports whether dir has not been removed, and made anew, since it was
// opened as f.
func isStill(f *os.File, dir string) bool {
	opened, err1 := f.Stat()
	now, err2 := os.Stat(dir)
	return err1 == nil && err2 == nil && os.SameFile(opened, now)
}

func newID() string { return rand.Text()[:10] }

// freePorts picks ports below the range that Linux hands out to clients
// (32768–60999): a component that is restarted has to find its port free again.
func freePorts() (p ports, err error) {
	taken := map[int]bool{}
	for _, port := range []*int{&p.Etcd, &p.EtcdPeer, &p.APIServer, &p.Kubelet} {
		for tries := 0; *port == 0; tries++ {
			n := 20000 + mathrand.IntN(12000)
			l, err := net.Listen("tcp", hostPort(n)) //nolint:noctx // It does not block.
			switch {
			case err == nil && l.Close() == nil && !taken[n]:
				*port, taken[n] = n, true
			case tries > 100:
				return p, fmt.Errorf("cluster: no free port: %w", err)
			}
		}
	}
	return p, nil
}
