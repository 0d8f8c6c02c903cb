package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"
)

const modulePath = "github.com/go-vela/podlife/e2e"

// Kubernetes versions to run, each with its containerd: see Config.Kubernetes.
const (
	Kubernetes137 = "1.37"
	Kubernetes136 = "1.36"
)

// modules returns the modules in binaries/ that pin the programs of a Kubernetes
// version. What none of them pins is Debian's.
func modules(kubernetes string) []string {
	return map[string][]string{
		Kubernetes137: {"kubernetes-1.37", "containerd-2.4"},
		Kubernetes136: {"kubernetes-1.36"},
	}[kubernetes]
}

// buildTags leave out of containerd what needs a C compiler or the kernel's headers.
const buildTags = "-tags=tools,no_btrfs,no_devmapper,no_zfs"

var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)`)

// own are this module's programs, below cmd/: what the images run.
func own() []string { return []string{"pause", "print"} }

// build returns the directory with the programs of cfg.Kubernetes, pause and print, which
// it builds unless it has been done before from the same sources. The programs
// are static, so that no C compiler is needed.
func build(ctx context.Context, cfg Config) (string, error) {
	module, err := moduleDir(ctx, cfg.Module)
	if err != nil {
		return "", err
	}
	flags, key, err := buildKey(module, cfg.Kubernetes)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cfg.Cache, key)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	unlock, err := lock(ctx, cfg.Cache)
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil // Whoever held the lock built them.
	}
	tmp, err := os.MkdirTemp(cfg.Cache, "building-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(tmp) }()
	p := newProgress(cfg.Progress, modules(cfg.Kubernetes))
	defer p.stop()
	for _, name := range modules(cfg.Kubernetes) {
		pins := filepath.Join(module, "binaries", name)
		programs, err := pinned(ctx, pins, p)
		if err != nil {
			return "", err
		}
		args := append([]string{"build", "-v", buildTags, "-ldflags=" + flags, "-o", tmp + "/"}, programs...)
		if _, err := goCommand(ctx, pins, p, args...); err != nil {
			return "", err
		}
	}
	for _, name := range own() {
		if _, err := goCommand(ctx, module, p, "build", "-ldflags=-s -w", "-o", tmp+"/", "./cmd/"+name); err != nil {
			return "", err
		}
	}
	if err := os.Rename(filepath.Join(tmp, "server"), filepath.Join(tmp, "etcd")); err != nil {
		return "", err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

// pinned lists the programs that a module in binaries/ pins: what its tools.go imports,
// which -e allows although nobody else can import a program.
func pinned(ctx context.Context, module string, p *progress) ([]string, error) {
	out, err := goCommand(ctx, module, p, "list", "-e", buildTags, "-f", `{{join .Imports " "}}`, ".")
	return strings.Fields(string(out)), err
}

// moduleDir returns the e2e module's directory.
func moduleDir(ctx context.Context, dir string) (string, error) {
	if dir != "" {
		return filepath.Abs(dir)
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", modulePath).Output()
	if err != nil {
		return "", fmt.Errorf("cluster: finding the module %s, in whose directory this has to run: %w", modulePath, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// buildKey returns the linker flags, and a name for all that the programs are
// made of. Without a version they call themselves v0.0.0 and refuse each other.
func buildKey(module, kubernetes string) (ldflags, key string, err error) {
	sum := sha256.New()
	var sources []string
	for _, name := range modules(kubernetes) {
		for _, file := range []string{"go.mod", "go.sum", "tools.go"} {
			sources = append(sources, filepath.Join("binaries", name, file))
		}
	}
	for _, name := range own() {
		sources = append(sources, filepath.Join("cmd", name, "main.go"))
	}
	var version [][]byte
	for _, name := range sources {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", "", err
		}
		if version == nil {
			version = kubernetesVersion.FindSubmatch(text)
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
	}
	if version == nil {
		return "", "", fmt.Errorf("cluster: none of %q requires k8s.io/kubernetes", sources)
	}
	const pkg = "-X k8s.io/component-base/version."
	ldflags = fmt.Sprintf("-s -w %sgitVersion=%s %sgitMajor=%s %sgitMinor=%s", pkg, version[1], pkg, version[2], pkg, version[3])
	fmt.Fprintln(sum, ldflags, buildTags, runtime.Version(), runtime.GOARCH)
	return ldflags, fmt.Sprintf("%s-%s", version[1], hex.EncodeToString(sum.Sum(nil))[:12]), nil
}

// goCommand runs the go command and returns its output. What it says besides goes to
// p, and the end of it into the error.
func goCommand(ctx context.Context, dir string, p *progress, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, io.MultiWriter(&said, p)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("cluster: building in %s: %w\n%s", dir, err, lastLines(said.Bytes(), 20))
	}
	return out.Bytes(), nil
}

// progress says every few seconds how far a build has come.
type progress struct {
	done, joined chan struct{}

	mu    sync.Mutex
	lines int
	last  string
}

func newProgress(out io.Writer, modules []string) *progress {
	p := &progress{done: make(chan struct{}), joined: make(chan struct{})}
	begin := time.Now()
	_, _ = fmt.Fprintf(out, "building %s: minutes the first time, seconds when Go's build cache has them\n", strings.Join(modules, " and "))
	go func() {
		defer close(p.joined)
		tick := time.NewTicker(10 * time.Second)
		defer tick.Stop()
		for {
			select {
			case <-p.done:
				return
			case <-tick.C:
				p.mu.Lock()
				_, _ = fmt.Fprintf(out, "building: %s, %d packages and modules so far, now %s\n", time.Since(begin).Round(time.Second), p.lines, p.last)
				p.mu.Unlock()
			}
		}
	}()
	return p
}

// Write takes what "go build -v" prints: a line for each package.
func (p *progress) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range bytes.Lines(text) {
		p.lines++
		p.last = string(bytes.TrimSpace(line))
	}
	return len(text), nil
}

func (p *progress) stop() {
	close(p.done)
	<-p.joined
}

// lastLines returns the end of a log.
func lastLines(text []byte, n int) string {
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
