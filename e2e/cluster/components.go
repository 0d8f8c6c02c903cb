package cluster

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Components that can be stopped and started one by one.
const (
	Etcd       = "etcd"
	APIServer  = "apiserver"
	Containerd = "containerd"
	Kubelet    = "kubelet"
)

// namespace is the process that holds the mounts of the others.
const namespace = "mounts"

//go:embed config
var configs embed.FS

// component is one of a cluster's programs.
type component struct {
	name    string
	address func(*Cluster) string
	command func(*Cluster) []string
	ready   func(context.Context, *Cluster) error // nil once it serves
}

// components returns all of them in the order in which they are started.
func components() []component {
	return []component{
		{Etcd, func(c *Cluster) string { return hostPort(c.state.Ports.Etcd) }, etcdCommand, etcdReady},
		{APIServer, func(c *Cluster) string { return hostPort(c.state.Ports.APIServer) }, apiserverCommand, apiserverReady},
		{Containerd, (*Cluster).containerdSocket, containerdCommand, containerdReady},
		{Kubelet, func(c *Cluster) string { return hostPort(c.state.Ports.Kubelet) }, kubeletCommand, kubeletReady},
	}
}

func find(name string) (component, error) {
	var names []string
	for _, comp := range components() {
		if comp.name == name {
			return comp, nil
		}
		names = append(names, comp.name)
	}
	return component{}, fmt.Errorf("cluster: no component %q; there are %s", name, strings.Join(names, ", "))
}

func etcdCommand(c *Cluster) []string {
	client, peer := "http://"+hostPort(c.state.Ports.Etcd), "http://"+hostPort(c.state.Ports.EtcdPeer)
	return []string{
		c.program("etcd"), "--name=e2e", "--data-dir=" + c.path("etcd"), "--unsafe-no-fsync",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=e2e=" + peer,
	}
}

func etcdReady(ctx context.Context, c *Cluster) error {
	return get(ctx, http.DefaultClient, "http://"+hostPort(c.state.Ports.Etcd)+"/health")
}

func apiserverCommand(c *Cluster) []string {
	pki := func(name string) string { return c.path("pki", name) }
	// Without controllers no node loses its taint and no namespace gets a service account.
	without := "TaintNodesByCondition"
	if !c.state.ServiceAccounts {
		without += ",ServiceAccount"
	}
	return []string{
		c.program("kube-apiserver"),
		"--etcd-servers=http://" + hostPort(c.state.Ports.Etcd),
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.state.Ports.APIServer),
		// There is no Service network: nothing has to find this apiserver but its clients.
		"--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.0.0.0/24",
		"--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"), "--cert-dir=" + c.path("pki"),
		"--token-auth-file=" + pki("tokens.csv"), "--anonymous-auth=false", "--authorization-mode=RBAC",
		"--service-account-issuer=https://podlife.test", "--service-account-key-file=" + pki("service-account.key"),
		"--service-account-signing-key-file=" + pki("service-account.key"),
		"--disable-admission-plugins=" + without, "--allow-privileged",
		"--kubelet-preferred-address-types=Hostname", "--kubelet-certificate-authority=" + pki("ca.crt"),
		"--kubelet-client-certificate=" + pki("kubelet-client.crt"), "--kubelet-client-key=" + pki("kubelet-client.key"),
		// SIGTERM ends watches at once, instead of waiting a minute for their clients.
		"--shutdown-watch-termination-grace-period=1s",
		"--audit-policy-file=" + c.path("config", "audit.yaml"), "--audit-log-path=" + c.AuditLog(),
	}
}

func apiserverReady(ctx context.Context, c *Cluster) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if _, err = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return err
	}
	_, err = client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceDefault, metav1.GetOptions{})
	return err
}

func containerdCommand(c *Cluster) []string {
	return []string{"containerd", "--config", c.path("config", "containerd.toml")}
}

func containerdReady(ctx context.Context, c *Cluster) error {
	return c.ctr(ctx, nil, "version")
}

func kubeletCommand(c *Cluster) []string {
	return []string{
		c.program("kubelet"), "--config=" + c.path("config", "kubelet.yaml"), "--kubeconfig=" + c.path("kubelet.kubeconfig"),
		"--root-dir=" + c.path("kubelet"), "--cert-dir=" + c.path("pki"), "--hostname-override=" + NodeName,
	}
}

// kubeletReady asks the apiserver for the node, and the kubelet itself, as the
// apiserver would: through it one cannot, it does not proxy to loopback
// (v1.36.3, pkg/registry/core/node/strategy.go:257).
func kubeletReady(ctx context.Context, c *Cluster) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	node, err := client.CoreV1().Nodes().Get(ctx, NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if node.Status.Allocatable.Pods().IsZero() {
		return fmt.Errorf("node %s takes no pods", node.Name)
	}
	config := &rest.Config{TLSClientConfig: rest.TLSClientConfig{
		CAFile:   c.path("pki", "ca.crt"),
		CertFile: c.path("pki", "kubelet-client.crt"),
		KeyFile:  c.path("pki", "kubelet-client.key"),
	}}
	if err := rest.LoadTLSFiles(config); err != nil { // else they are looked at for good
		return err
	}
	asApiserver, err := rest.HTTPClientFor(config)
	if err != nil {
		return err
	}
	defer asApiserver.CloseIdleConnections()
	return get(ctx, asApiserver, "https://"+hostPort(c.state.Ports.Kubelet)+"/healthz")
}

func get(ctx context.Context, client *http.Client, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	return nil
}

func (c *Cluster) program(name string) string { return filepath.Join(c.state.Programs, name) }

// searchPath is the PATH of the cluster's programs: what was built for it comes before
// what the machine has. containerd finds its shim there.
func (c *Cluster) searchPath() string { return c.state.Programs + ":" + searchPath }

// ctr runs containerd's client on what containerd keeps for the kubelet.
func (c *Cluster) ctr(ctx context.Context, stdin io.Reader, args ...string) error {
	program, err := findIn(c.searchPath(), "ctr")
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, program, append([]string{"--address", c.containerdSocket(), "--namespace", "k8s.io"}, args...)...)
	cmd.Stdin = stdin
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("cluster: ctr %s: %w: %s", strings.Join(args, " "), err, lastLines(out, 10))
	}
	return nil
}

func (c *Cluster) containerdSocket() string { return c.path("containerd", "sock") }

// client returns a client that is the cluster's administrator.
func (c *Cluster) client() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return kubernetes.NewForConfig(config)
}

// writeConfigs fills in the files in config/ for this cluster.
func (c *Cluster) writeConfigs() error {
	values := map[string]any{
		"Dir": c.dir, "Socket": c.containerdSocket(), "Port": c.state.Ports.Kubelet, "Sandbox": sandboxImage,
		"LogMaxSize": c.state.LogMaxSize, "LogMonitorInterval": c.state.LogMonitorInterval,
		"RestrictOOM": !mayRaisePriority(), "Snapshotter": c.snapshotter(),
	}
	all, err := template.ParseFS(configs, "config/*")
	if err != nil {
		return err
	}
	for _, t := range all.Templates() {
		f, err := os.OpenFile(c.path("config", t.Name()), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		if err := errors.Join(t.Execute(f, values), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// mayRaisePriority reports whether this process has CAP_SYS_RESOURCE.
func mayRaisePriority() bool {
	const capSysResource = 24
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if set, ok := strings.CutPrefix(line, "CapEff:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return err == nil && bits&(1<<capSysResource) != 0
		}
	}
	return false
}

// snapshotter returns what containerd can keep images with in the state
// directory: an overlay does not work on top of another one.
func (c *Cluster) snapshotter() string {
	if onOverlay(c.dir) {
		return "native"
	}
	return "overlayfs"
}
