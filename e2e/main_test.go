package e2e

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/go-vela/podlife/e2e/cluster"
)

var (
	nodeName          = flag.String("node-name", cluster.NodeName, "node that runs the tests' pods")
	pauseImage        = flag.String("pause-image", cluster.PauseImage, "image that waits for SIGTERM, whatever its arguments")
	printImage        = flag.String("print-image", cluster.PrintImage, "image of cmd/print, whose arguments are its own")
	kubernetesVersion = flag.String("kubernetes", cluster.Kubernetes137, "`version` of Kubernetes, and its containerd, to bring up: 1.37 with containerd 2.4, or 1.36 with Debian's containerd")
	busyboxImage      = flag.String("busybox-image", cluster.BusyboxImage, "image with a shell and no entrypoint")
)

// world is the cluster that the tests run on. TestMain sets it once.
var world struct {
	config  *rest.Config
	client  kubernetes.Interface
	cluster *cluster.Cluster // nil if KUBECONFIG names it: it is not ours to restart
}

// guardVariable makes this program, started once more, the guard of a cluster.
const guardVariable = "PODLIFE_E2E_GUARD"

func TestMain(m *testing.M) {
	if state := os.Getenv(guardVariable); state != "" {
		os.Exit(guard(state))
	}
	flag.Parse()
	waitTogether()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// waitTogether lets more tests run at a time than there are cores, unless the
// command line says how many: they wait for the kubelet, they do not compute.
func waitTogether() {
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("4"); err != nil {
			panic(err)
		}
	}
}

func run(m *testing.M) (code int, err error) {
	kubeconfig := os.Getenv("KUBECONFIG")
	if kubeconfig == "" && !testing.Short() {
		state, err := os.MkdirTemp("", "podlife-e2e-")
		if err != nil {
			return 1, err
		}
		endCluster, err := startGuard(state)
		if err != nil {
			return 1, err
		}
		defer func() {
			if endErr := endCluster(); endErr != nil && err == nil {
				code, err = 1, endErr
			}
		}()
		ctx, cancel := context.WithTimeout(context.Background(), time.Hour) // A first build takes its time.
		defer cancel()
		world.cluster, err = cluster.Up(ctx, cluster.Config{State: state, Kubernetes: *kubernetesVersion, Progress: os.Stderr})
		if err != nil {
			return 1, err
		}
		kubeconfig = world.cluster.Kubeconfig()
	}
	if kubeconfig != "" {
		if err := connect(kubeconfig); err != nil {
			return 1, err
		}
	}
	return m.Run(), nil
}

func connect(kubeconfig string) (err error) {
	if world.config, err = clientcmd.BuildConfigFromFlags("", kubeconfig); err != nil {
		return err
	}
	world.config.QPS = -1
	world.client, err = kubernetes.NewForConfig(world.config)
	return err
}

// startGuard starts a process that takes the cluster down when end is called, or
// when this process ends without: by a panic, a time limit, an interrupt.
func startGuard(state string) (end func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	alive, lifeline, err := os.Pipe() // Its write end closes with this process.
	if err != nil {
		return nil, err
	}
	defer alive.Close()
	cmd := exec.Command(self) //nolint:noctx // It has to outlive this process.
	cmd.Env = append(os.Environ(), guardVariable+"="+state)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = alive, os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // A terminal's Ctrl-C is not for it.
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return func() error {
		_ = lifeline.Close()
		return cmd.Wait()
	}, nil
}

// guard is what the guard process does.
func guard(state string) int {
	_, _ = io.Copy(io.Discard, os.Stdin)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	err := cluster.Down(ctx, state, os.Stderr)
	_ = os.Remove(state) // It is there, empty, if nothing had been brought up.
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
