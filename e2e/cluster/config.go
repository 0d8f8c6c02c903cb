package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"time"
)

// NodeName is the only node's name. The apiserver reaches its kubelet under it,
// so it has to resolve to loopback.
const NodeName = "localhost"

// Images that every cluster holds. None of them can be pulled: the domain does
// not exist, so a pod should say imagePullPolicy IfNotPresent or Never.
const (
	// PauseImage ignores its arguments and exits 0 on SIGTERM: a placeholder.
	PauseImage = "podlife.test/pause:1"
	// PauseImageRetagged is PauseImage by another name: its image ID is the same.
	PauseImageRetagged = "podlife.test/pause:2"
	// BusyboxImage has a shell and its tools, and no entrypoint: a container's
	// args are the command.
	BusyboxImage = "podlife.test/busybox:1"
	// PrintImage runs cmd/print, which prints what logs are tested with.
	PrintImage = "podlife.test/print:1"
)

// Config says how to run a cluster. The zero value is usable.
type Config struct {
	// State is the directory of this one cluster, made if it is missing and
	// removed by Down. Empty: DefaultState. At most 70 bytes long as an absolute
	// path, for the sockets in it.
	State string
	// Cache is where built programs are kept, for all clusters. Empty: a
	// directory in the user's cache directory.
	Cache string
	// Module is the directory of the e2e module, which holds what is built.
	// Empty: the go command is asked, in the current directory.
	Module string
	// Kubernetes is the version to run, and with it that of containerd:
	// Kubernetes137 (v1.37.2, containerd v2.4.2, both built from their Go modules)
	// or Kubernetes136 (v1.36.3, Debian's containerd). Empty: Kubernetes137.
	Kubernetes string
	// LogMaxSize is the size at which the kubelet rotates a container's log, as a
	// Kubernetes quantity ("100Ki"). Empty: the kubelet's default, 10Mi.
	LogMaxSize string
	// LogMonitorInterval is how often the kubelet looks at that size, 3 s or more.
	// 0: the kubelet's default, 10 s.
	LogMonitorInterval time.Duration
	// ServiceAccounts lets the API server want a service account for every pod. No
	// controller makes any, so that there are those only that somebody creates.
	ServiceAccounts bool
	// NoInstall makes a missing Debian package an error instead of installing it.
	NoInstall bool
	// Progress is told what goes on, in lines of text. nil: nobody.
	Progress io.Writer
}

// DefaultState returns the state directory that is used when none is given.
func DefaultState() (string, error) { return cachePath("cluster") }

func cachePath(name string) (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cluster: no directory given and no default: %w", err)
	}
	return filepath.Join(dir, "podlife-e2e", name), nil
}

// maxState keeps the longest socket in the state directory within the 107 bytes
// that Linux allows for its path.
const maxState = 70

var quantity = regexp.MustCompile(`^[0-9]+(Ki|Mi|Gi|k|M|G)?$`)

// withDefaults returns the configuration with every path absolute, or says what
// is wrong with it.
func (c Config) withDefaults() (_ Config, err error) {
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	if c.State, err = absolute(c.State, "cluster"); err != nil {
		return c, err
	}
	if c.Cache, err = absolute(c.Cache, "bin"); err != nil {
		return c, err
	}
	if c.Kubernetes == "" {
		c.Kubernetes = Kubernetes137
	}
	if modules(c.Kubernetes) == nil {
		return c, fmt.Errorf("cluster: no Kubernetes %q; there are %s and %s", c.Kubernetes, Kubernetes137, Kubernetes136)
	}
	if len(c.State) > maxState {
		return c, fmt.Errorf("cluster: the state directory's path is %d bytes long, at most %d are possible: %s", len(c.State), maxState, c.State)
	}
	if c.LogMaxSize != "" && !quantity.MatchString(c.LogMaxSize) {
		return c, fmt.Errorf("cluster: %q is not a log size like 100Ki", c.LogMaxSize)
	}
	if c.LogMonitorInterval != 0 && c.LogMonitorInterval < 3*time.Second {
		return c, errors.New("cluster: a kubelet does not look at log sizes more often than every 3 s")
	}
	return c, nil
}

func absolute(path, fallback string) (string, error) {
	if path == "" {
		return cachePath(fallback)
	}
	return filepath.Abs(path)
}

// checkMachine says in a sentence why this machine cannot run a cluster.
func checkMachine() error {
	switch {
	case runtime.GOOS != "linux":
		return fmt.Errorf("cluster: a kubelet runs on Linux only, this machine runs %s; set KUBECONFIG to use another cluster", runtime.GOOS)
	case os.Geteuid() != 0:
		return errors.New("cluster: a kubelet and containerd have to run as root; run this as root, or set KUBECONFIG to use another cluster")
	}
	return nil
}
