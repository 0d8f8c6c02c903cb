package logstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// A node is an Opener that answers as a kubelet does: one current file a
// container, rotation, follow, the previous container. Faults are scripted.
type node struct {
	mu    sync.Mutex
	cur   map[string]*box
	prev  map[string]*box
	log   []corev1.PodLogOptions
	fault func(n int, o *corev1.PodLogOptions) *fault // n counts from 1
	lag   time.Duration                               // what a follower takes for a line or so
	deaf  bool                                        // it has no inotify instances left for followers
	most  time.Duration                               // for which a kubelet keeps a connection; 0: for ever
	slow  time.Duration                               // what an answer takes
	again func() bool                                 // whether a follower at the end of its file is sent it again

	breaks  int  // so many times all streams were ended
	cleanly bool // the last time
}

const outOfWatchers = "failed to create fsnotify watcher: too many open files"

var errReset = errors.New("http2: client connection lost")

// fault is what goes wrong with one request.
type fault struct {
	err   error // the answer
	cut   int   // bytes after which the body ends ...
	words string
	with  error // ... in this; nil: a clean end
	hang  bool  // instead of ending, deliver nothing more
}

// box is a container on the node.
type box struct {
	id      string
	file    *file
	running bool
	waits   bool // the container waits for its next run
	changed chan struct{}
	stamp   func(now time.Time, i int) time.Time
	truth   []string // every line written, with its timestamp
}

// inOrder makes every line's time a nanosecond later than the one's before.
func inOrder(now time.Time, i int) time.Time { return now.Add(time.Duration(i)) }

type file struct{ data []byte }

func newNode() *node {
	return &node{cur: map[string]*box{}, prev: map[string]*box{}}
}

// start makes a new container run in slot.
func (n *node) start(slot, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.cur[slot]; b != nil {
		n.prev[slot], b.waits = b, false
		b.running = false
		b.wake()
	}
	n.cur[slot] = &box{id: id, file: &file{}, running: true, changed: make(chan struct{}), stamp: inOrder}
}

func (b *box) wake() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// print writes lines, a nanosecond apart.
func (n *node) print(slot string, lines ...string) {
	for _, l := range lines {
		n.raw(slot, l+"\n")
	}
}

func (n *node) raw(slot, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.cur[slot]
	line := b.stamp(time.Now(), len(b.truth)).UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + text
	b.truth = append(b.truth, line)
	b.file.data = append(b.file.data, line...)
	b.wake()
}

// more goes on with the last line.
func (n *node) more(slot, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.cur[slot]
	b.truth[len(b.truth)-1] += text
	b.file.data = append(b.file.data, text...)
	b.wake()
}

// rotate makes the kubelet start a new file.
func (n *node) rotate(slot string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cur[slot].file = &file{}
	n.cur[slot].wake()
}

// wait has the container wait for its next run. The previous one is the current one then,
// which is not the one before (kubernetes v1.36.3 pkg/kubelet/kubelet_pods.go:1545, 1566).
func (n *node) wait(slot string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cur[slot].waits = true
}

// change changes how the node answers.
func (n *node) change(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

func (n *node) exit(slot string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cur[slot].running = false
	n.cur[slot].wake()
}

func (n *node) requests() (follows, reads int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.log {
		if o.Follow {
			follows++
		} else {
			reads++
		}
	}
	return follows, reads
}

func (n *node) OpenLog(ctx context.Context, _, _ string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	n.mu.Lock()
	if slow := n.slow; slow > 0 {
		n.mu.Unlock()
		time.Sleep(slow)
		n.mu.Lock()
	}
	defer n.mu.Unlock()
	n.log = append(n.log, *o)
	var f *fault
	if n.fault != nil {
		f = n.fault(len(n.log), o)
	}
	if f != nil && f.err != nil {
		return nil, f.err
	}
	b := n.cur[o.Container]
	if o.Previous && (b == nil || !b.waits) {
		b = n.prev[o.Container]
	}
	if b == nil && o.Previous {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("previous terminated container %q in pod %q not found", o.Container, "p"))
	}
	if b == nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("container %q in pod %q is waiting to start: ContainerCreating", o.Container, "p"))
	}
	r := &nodeBody{n: n, ctx: ctx, b: b, f: b.file, o: o, fault: f, closed: make(chan struct{}), breaks: n.breaks}
	if n.most > 0 {
		r.until = time.Now().Add(n.most)
	}
	if o.SinceTime != nil {
		r.since = o.SinceTime.UTC().Format("2006-01-02T15:04:05")
	}
	if o.TailLines != nil {
		d := b.file.data
		at := len(d)
		for i := int64(0); i < *o.TailLines && at > 0; i++ {
			at = bytes.LastIndexByte(d[:at-1], '\n') + 1
		}
		r.pos = at
	}
	return r, nil
}

type nodeBody struct {
	n      *node
	ctx    context.Context
	b      *box
	f      *file
	pos    int
	sent   int
	since  string
	o      *corev1.PodLogOptions
	fault  *fault
	once   sync.Once
	closed chan struct{}
	breaks int

	watches bool
	until   time.Time // zero: no end
}

func (r *nodeBody) Close() error {
	r.once.Do(func() { close(r.closed) })
	return nil
}

func (r *nodeBody) Read(p []byte) (int, error) {
	r.n.mu.Lock()
	lag := r.n.lag
	r.n.mu.Unlock()
	if r.o.Follow && lag > 0 {
		time.Sleep(lag)
		p = p[:min(len(p), 60)]
		select {
		case <-r.closed:
			return 0, errors.New("body closed")
		default:
		}
	}
	for {
		r.n.mu.Lock()
		n, wait, err := r.step(p)
		r.n.mu.Unlock()
		if n > 0 || err != nil {
			return n, err
		}
		var over <-chan time.Time
		if !r.until.IsZero() {
			over = time.After(time.Until(r.until))
		}
		select {
		case <-wait:
		case <-over:
			return 0, io.EOF
		case <-r.closed:
			return 0, errors.New("body closed")
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

func (r *nodeBody) step(p []byte) (int, <-chan struct{}, error) {
	if f := r.fault; f != nil && r.sent >= f.cut {
		if r.sent < f.cut+len(f.words) {
			k := copy(p, f.words[r.sent-f.cut:])
			r.sent += k
			return k, nil, nil
		}
		switch {
		case f.hang:
			return 0, nil, nil
		case f.with != nil:
			return 0, nil, f.with
		}
		return 0, nil, io.EOF
	}
	data := r.f.data[r.pos:]
	for r.since != "" && len(data) > 0 && (r.pos == 0 || r.f.data[r.pos-1] == '\n') && string(data[:len(r.since)]) < r.since {
		j := bytes.IndexByte(data, '\n') + 1
		if j == 0 {
			j = len(data)
		}
		r.pos, data = r.pos+j, data[j:]
	}
	if l := r.o.LimitBytes; l != nil {
		data = data[:min(len(data), int(*l)-r.sent)]
		if len(data) == 0 {
			return 0, nil, io.EOF
		}
	}
	if r.fault != nil {
		data = data[:min(len(data), r.fault.cut-r.sent)]
	}
	if r.since != "" && len(data) > 0 { // a line at a time: the next may be filtered
		if j := bytes.IndexByte(data, '\n'); j >= 0 {
			data = data[:j+1]
		}
	}
	if len(data) > 0 {
		k := copy(p, data)
		r.pos, r.sent = r.pos+k, r.sent+k
		return k, nil, nil
	}
	if r.breaks != r.n.breaks && r.o.Follow {
		if r.n.cleanly {
			return 0, nil, io.EOF
		}
		return 0, nil, errReset
	}
	if r.f != r.b.file && r.o.Follow {
		r.f, r.pos = r.b.file, 0
		return r.step(p)
	}
	if d := r.f.data; r.o.Follow && r.b.running && bytes.HasSuffix(d, newline) && r.n.again != nil && r.n.again() {
		r.pos = 0 // the runtime did not take the new file, and the old one is back (logs.go:371)
		return r.step(p)
	}
	if !r.o.Follow || !r.b.running && r.watches {
		return 0, nil, io.EOF
	}
	// A follower looks for a watcher at its first end of file
	// (k8s.io/cri-client v0.36.3 pkg/logs/logs.go:352).
	if r.n.deaf && !r.watches {
		r.fault = &fault{cut: r.sent, words: outOfWatchers}
		return r.step(p)
	}
	r.watches = true
	if !r.b.running {
		return 0, nil, io.EOF
	}
	return 0, r.b.changed, nil
}

func notFound(kind, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
}

func refused() error {
	return apierrors.NewGenericServerResponse(http.StatusInternalServerError, "get", schema.GroupResource{}, "p",
		`Get "https://10.0.0.1:10250/containerLogs/n/p/c": dial tcp 10.0.0.1:10250: connect: connection refused`, 0, true)
}

// late writes a line to the file before the current one, as a runtime does that
// has not turned to the new one yet.
func (n *node) late(slot, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	b := n.cur[slot]
	b.truth = append(b.truth, b.stamp(time.Now(), len(b.truth)).UTC().Format("2006-01-02T15:04:05.000000000Z07:00")+" "+text)
}
