package conformance

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func notFound(id string) func() error {
	return func() error {
		return status.Errorf(codes.NotFound, "an error occurred when try to find container %q: not found", id)
	}
}

// record is one record of a log file in CRI format.
type record struct {
	at     time.Time
	stderr bool
	part   bool // tag P: the line goes on in the next record
	text   string
}

func (r record) raw() string {
	stream, tag := "stdout", "F"
	if r.stderr {
		stream = "stderr"
	}
	if r.part {
		tag = "P"
	}
	return r.at.Format(time.RFC3339Nano) + " " + stream + " " + tag + " " + r.text + "\n"
}

// A box is one container: what its runtime writes, and the file it writes to.
type box struct {
	id   string
	t    *testing.T
	path string // of the current file

	mu      sync.Mutex
	file    *os.File
	records []record // everything ever written
	files   int      // rotations
	head    int      // the first record of the current file
	running bool
	status  func() error // what the runtime answers instead of the container's status
}

// newBox starts a container.
func newBox(t *testing.T, id string) *box {
	b := &box{id: id, t: t, path: filepath.Join(t.TempDir(), "0.log"), running: true}
	b.file = b.create()
	t.Cleanup(func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		_ = b.file.Close()
	})
	return b
}

func (b *box) create() *os.File {
	f, err := os.OpenFile(b.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		b.t.Fatal(err)
	}
	return f
}

// write writes records, each with one write(2) as the runtimes do.
func (b *box) write(rs ...record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range rs {
		b.put(b.file, r)
	}
}

func (b *box) put(f *os.File, r record) {
	b.records = append(b.records, r)
	b.bytes(f, r.raw())
}

func (b *box) bytes(f *os.File, s string) {
	if _, err := f.WriteString(s); err != nil {
		b.t.Error(err)
	}
	written(b.path)
}

// tear writes a record whose end never gets to the file.
func (b *box) tear(r record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	raw := r.raw()
	r.part = true
	b.records = append(b.records, r)
	b.bytes(b.file, raw[:len(raw)-1])
}

// rendered is the length of a read of everything.
func (b *box) rendered() int { return len(render(linesOf(b.written()))) }

// say writes whole lines, a microsecond apart.
func (b *box) say(lines ...string) {
	now := time.Now()
	for i, l := range lines {
		b.write(record{at: now.Add(time.Duration(i) * time.Microsecond), text: l})
	}
}

// rotate is a rotation as far as the kubelet sees it: the file has another name, the
// runtime made a new one and writes to it. What the runtime still had in hand goes to
// the old file after that (containerd's internal/cri/server/container_log_reopen.go).
func (b *box) rotate(late ...record) {
	b.mu.Lock()
	b.files++
	b.rename(b.path, b.rotated())
	old := b.file
	b.file = b.create()
	created(b.path)
	b.mu.Unlock()
	if len(late) > 0 {
		wait(5 * time.Millisecond)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range late {
		b.put(old, r)
	}
	b.head = len(b.records)
	_ = old.Close()
}

// failToRotate is one whose runtime cannot make a new file: the kubelet gives the old
// one its name back (pkg/kubelet/logs/container_log_manager.go:427, v1.36.3).
func (b *box) failToRotate() {
	b.mu.Lock()
	defer b.mu.Unlock()
	aside := b.path + ".aside"
	b.rename(b.path, aside)
	b.rename(aside, b.path)
}

func (b *box) rotated() string { return fmt.Sprintf("%s.%d", b.path, b.files) }

func (b *box) rename(from, to string) {
	if err := os.Rename(from, to); err != nil {
		b.t.Error(err)
	}
	renamed(from)
	created(to)
}

// exit ends the container.
func (b *box) exit() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = false
}

// remove is the kubelet's garbage collection.
func (b *box) remove() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.running = false
	b.status = notFound(b.id)
	if err := os.Remove(b.path); err != nil {
		b.t.Error(err)
	}
	removed(b.path)
}

// answer sets what the runtime answers to questions for the container's status.
func (b *box) answer(f func() error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.status = f
}

func (b *box) written() []record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]record(nil), b.records...)
}

// lasted is the time from the first line of the current file to the last.
func (b *box) lasted() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	ls := linesOf(b.records[b.head:])
	if len(ls) == 0 {
		return 0
	}
	return ls[len(ls)-1].parts[0].at.Sub(ls[0].parts[0].at)
}

// size is that of the current file.
func (b *box) size() int64 {
	st, err := os.Stat(b.path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// replace gives the container another log.
func (b *box) replace(rs []record) {
	_ = b.file.Close()
	b.remove()
	b.status, b.file, b.records = nil, b.create(), nil
	b.write(rs...)
}

// read is one read of the current file.
func (b *box) read(t *testing.T, o *corev1.PodLogOptions) string {
	var body bytes.Buffer
	if err := getContainerLogs(context.WithoutCancel(t.Context()), b, o, false, &body); err != nil {
		t.Error(err)
	}
	return body.String()
}

// cri is the part of a container runtime that ReadLogs asks.
type cri struct {
	internalapi.RuntimeService
	b *box
}

func (c cri) ContainerStatus(context.Context, string, bool) (*runtimeapi.ContainerStatusResponse, error) {
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.b.status != nil {
		if err := c.b.status(); err != nil {
			return nil, err
		}
	}
	state := runtimeapi.ContainerState_CONTAINER_EXITED
	if c.b.running {
		state = runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{Id: c.b.id, State: state, LogPath: c.b.path}}, nil
}
