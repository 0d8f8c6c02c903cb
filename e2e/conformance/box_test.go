package conformance

import (
	"bytes"
	"context"
	"errors"
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

	"github.com/go-vela/podlife/internal/testutil/nodelog"
)

func notFound(id string) func() error {
	return func() error {
		return status.Errorf(codes.NotFound, "an error occurred when try to find container %q: not found", id)
	}
}

// record is one record of a log file in CRI format.
type record = nodelog.Record

// A box is one container: what its runtime writes, and the files it writes to, which are
// those of a simulated node, here on a disk.
type box struct {
	*nodelog.Log
	id   string
	t    *testing.T
	path string // of the current file

	mu      sync.Mutex
	records []record // everything ever written
	files   int      // rotations
	head    int      // the first record of the current file
}

// newBox starts a container.
func newBox(t *testing.T, id string) *box {
	b := &box{id: id, t: t, path: filepath.Join(t.TempDir(), "0.log")}
	b.replace(nil)
	return b
}

// replace gives the container another log.
func (b *box) replace(rs []record) {
	if b.Log != nil {
		b.Remove()
	}
	b.Log = nodelog.New(nodelog.Options{ID: b.id, Path: b.path, Disk: &disk{b.t, filepath.Dir(b.path)}})
	b.records = nil
	b.write(rs...)
}

// disk is a directory in which the kubelet's own code finds the files of a log.
type disk struct {
	t   *testing.T
	dir string
}

func (d *disk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *disk) check(err error) {
	if err != nil {
		d.t.Error(err)
	}
}

func (d *disk) Create(name string) {
	d.check(os.WriteFile(d.path(name), nil, 0o640))
	created(d.path(name))
}

func (d *disk) Append(name string, data []byte) {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = f.Write(data)
		err = errors.Join(err, f.Close())
	}
	d.check(err)
	written(d.path(name))
}

func (d *disk) Rename(from, to string) {
	d.check(os.Rename(d.path(from), d.path(to)))
	renamed(d.path(from))
	created(d.path(to))
}

func (d *disk) Remove(name string) {
	d.check(os.Remove(d.path(name)))
	removed(d.path(name))
}

func (d *disk) Truncate(name string) {
	d.check(os.Truncate(d.path(name), 0))
	written(d.path(name))
}

// write writes records, each with one write(2) as the runtimes do.
func (b *box) write(rs ...record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records = append(b.records, rs...)
	b.Append(rs...)
}

// tear writes a record whose end never gets to the file.
func (b *box) tear(r record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	raw := r.Raw()
	r.Partial = true
	b.records = append(b.records, r)
	b.Tear(raw[:len(raw)-1])
}

// rendered is the length of a read of everything.
func (b *box) rendered() int { return len(render(linesOf(b.written()))) }

// say writes whole lines, a microsecond apart.
func (b *box) say(lines ...string) {
	now := time.Now()
	for i, l := range lines {
		b.write(record{At: now.Add(time.Duration(i) * time.Microsecond), Text: l})
	}
}

// maxFiles is the kubelet's default.
const maxFiles = 5

// rotate is a rotation as far as the kubelet sees it: the file has another name, the
// runtime made a new one and writes to it. What the runtime still had in hand goes to
// the old file after that.
func (b *box) rotate(late ...record) {
	b.mu.Lock()
	b.files++
	b.Rename(maxFiles)
	b.Reopen()
	b.mu.Unlock()
	if len(late) > 0 {
		wait(5 * time.Millisecond)
	}
	b.write(late...)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Turn()
	b.head = len(b.records)
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
	return ls[len(ls)-1].parts[0].At.Sub(ls[0].parts[0].At)
}

// size is that of the current file.
func (b *box) size() int64 {
	n, _ := b.Size()
	return n
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
	running, err := c.b.Status()
	if err != nil {
		return nil, err
	}
	state := runtimeapi.ContainerState_CONTAINER_EXITED
	if running {
		state = runtimeapi.ContainerState_CONTAINER_RUNNING
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{Id: c.b.id, State: state, LogPath: c.b.path}}, nil
}
