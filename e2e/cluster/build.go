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

// programs are what the module in binaries/ pins.
func programs() []string {
	return []string{"k8s.io/kubernetes/cmd/kube-apiserver", "k8s.io/kubernetes/cmd/kubelet", "go.etcd.io/etcd/server/v3"}
}

var kubernetesVersion = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v(\d+)\.(\d+)\.\S+)`)

// own are this module's programs, below cmd/: what the images run.
func own() []string { return []string{"pause", "print"} }

// build returns the directory with etcd, kube-apiserver, kubelet, pause and print, which
// it builds unless it has been done before from the same sources. The programs
// are static, so that no C compiler is needed.
func build(ctx context.Context, cfg Config) (string, error) {
	module, err := moduleDir(ctx, cfg.Module)
	if err != nil {
		return "", err
	}
	flags, key, err := buildKey(module)
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
	p := newProgress(cfg.Progress)
	defer p.stop()
	args := append([]string{"build", "-v", "-tags=tools", "-ldflags=" + flags, "-o", tmp + "/"}, programs()...)
	if err := goCommand(ctx, filepath.Join(module, "binaries"), p, args...); err != nil {
		return "", err
	}
	for _, name := range own() {
		if err := goCommand(ctx, module, p, "build", "-ldflags=-s -w", "-o", tmp+"/", "./cmd/"+name); err != nil {
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
func buildKey(module string) (ldflags, key string, err error) {
	sum := sha256.New()
	var modfile []byte
	sources := []string{"binaries/go.mod", "binaries/go.sum"}
	for _, name := range own() {
		sources = append(sources, "cmd/"+name+"/main.go")
	}
	for _, name := range sources {
		text, err := os.ReadFile(filepath.Join(module, name))
		if err != nil {
			return "", "", err
		}
		if modfile == nil {
			modfile = text
		}
		fmt.Fprintf(sum, "%s %d\n%s", name, len(text), text)
	}
	v := kubernetesVersion.FindSubmatch(modfile)
	if v == nil {
		return "", "", fmt.Errorf("cluster: %s does not require k8s.io/kubernetes", filepath.Join(module, "binaries/go.mod"))
	}
	const pkg = "-X k8s.io/component-base/version."
	ldflags = fmt.Sprintf("-s -w %sgitVersion=%s %sgitMajor=%s %sgitMinor=%s", pkg, v[1], pkg, v[2], pkg, v[3])
	fmt.Fprintln(sum, ldflags, programs(), runtime.Version(), runtime.GOARCH)
	return ldflags, fmt.Sprintf("%s-%s", v[1], hex.EncodeToString(sum.Sum(nil))[:12]), nil
}

// goCommand runs the go command. What it prints goes to p, and the end of it
// into the error.
func goCommand(ctx context.Context, dir string, p *progress, args ...string) error {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = io.Discard, io.MultiWriter(&said, p)
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("cluster: building in %s: %w\n%s", dir, err, lastLines(said.Bytes(), 20))
	}
	return nil
}

// progress says every few seconds how far a build has come.
type progress struct {
	done, joined chan struct{}

	mu    sync.Mutex
	lines int
	last  string
}

func newProgress(out io.Writer) *progress {
	p := &progress{done: make(chan struct{}), joined: make(chan struct{})}
	begin := time.Now()
	_, _ = fmt.Fprintln(out, "building etcd, kube-apiserver and kubelet: minutes the first time, seconds when Go's build cache has them")
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
