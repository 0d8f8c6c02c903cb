package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// registry is an image registry on loopback whose images do what their name
// says: "missing", "private", "limited" and "broken" are refused as registries
// refuse, and any other is a shell, once it was published; "stalled" gives no
// answer before.
type registry struct {
	host string
	over chan struct{}

	mu        sync.Mutex
	published map[string]bool
	news      chan struct{}  // closed when an image is published, and made anew
	asked     map[string]int // manifests, by the image's name

	manifest, config, layer []byte
}

// startRegistry serves until the test has ended.
func startRegistry(t *testing.T) *registry {
	t.Helper()
	r := &registry{over: make(chan struct{}), news: make(chan struct{}), published: map[string]bool{}, asked: map[string]int{}}
	r.build(t)
	server := httptest.NewServer(r)
	r.host = strings.TrimPrefix(server.URL, "http://")
	t.Cleanup(func() {
		close(r.over)
		server.Close()
	})
	return r
}

func (r *registry) image(name string) string { return r.host + "/" + name + ":1" }

func (r *registry) publish(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.published[name] = true
	close(r.news)
	r.news = make(chan struct{})
}

// requests returns how often an image's manifest was asked for.
func (r *registry) requests(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[name]
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	name, what, _ := strings.Cut(strings.TrimPrefix(q.URL.Path, "/v2/"), "/")
	switch {
	case name == "":
		w.WriteHeader(http.StatusOK)
	case strings.HasPrefix(what, "manifests/"):
		r.serveManifest(w, q, name)
	case what == "blobs/"+digestOf(r.config):
		_, _ = w.Write(r.config)
	case what == "blobs/"+digestOf(r.layer):
		_, _ = w.Write(r.layer)
	default:
		http.NotFound(w, q)
	}
}

func (r *registry) serveManifest(w http.ResponseWriter, q *http.Request, name string) {
	published := r.ask(name)
	if name == "stalled" {
		published = r.stall(q, name)
	}
	refuse := func(status int, code, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
	}
	switch {
	case name == "private":
		w.Header().Set("WWW-Authenticate", `Basic realm="e2e"`)
		refuse(http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	case name == "limited":
		refuse(http.StatusTooManyRequests, "TOOMANYREQUESTS", "You have reached your pull rate limit.")
	case name == "broken":
		refuse(http.StatusInternalServerError, "UNKNOWN", "unknown error")
	case name == "missing":
		refuse(http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown")
	case !published:
		refuse(http.StatusServiceUnavailable, "UNAVAILABLE", "come back later")
	default:
		w.Header().Set("Content-Type", "application/vnd.oci.image.manifest.v1+json")
		w.Header().Set("Docker-Content-Digest", digestOf(r.manifest))
		_, _ = w.Write(r.manifest)
	}
}

func (r *registry) ask(name string) (published bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[name]++
	return r.published[name]
}

// stall waits until the image is published, or nobody waits any more.
func (r *registry) stall(q *http.Request, name string) (published bool) {
	for {
		r.mu.Lock()
		published, news := r.published[name], r.news
		r.mu.Unlock()
		if published {
			return true
		}
		select {
		case <-news:
		case <-r.over:
			return false
		case <-q.Context().Done():
			return false
		}
	}
}

// build makes the one image there is.
func (r *registry) build(t *testing.T) {
	t.Helper()
	path, err := exec.LookPath("busybox")
	if err != nil {
		t.Skipf("no shell to make an image of: %v", err)
	}
	shell, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var layer bytes.Buffer
	archive := tar.NewWriter(&layer)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: "bin/sh", Mode: 0o755, Size: int64(len(shell))}
	if err := archive.WriteHeader(header); err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Write(shell); err != nil {
		t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
	r.layer = layer.Bytes()
	r.config = marshal(t, map[string]any{
		"architecture": runtime.GOARCH,
		"os":           "linux",

		"config": map[string]any{"Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{digestOf(r.layer)}},
	})
	const media = "application/vnd.oci.image."
	r.manifest = marshal(t, map[string]any{
		"schemaVersion": 2,
		"mediaType":     media + "manifest.v1+json",
		"config":        map[string]any{"mediaType": media + "config.v1+json", "digest": digestOf(r.config), "size": len(r.config)},
		"layers":        []any{map[string]any{"mediaType": media + "layer.v1.tar", "digest": digestOf(r.layer), "size": len(r.layer)}},
	})
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func digestOf(content []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(content)) }
