package logstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/go-vela/podlife/internal/testutil/nodelog"
)

// A node is an Opener over the logs of a simulated node: a container a slot, and the one
// before it. Faults of the way to the node are scripted.
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
	again func() bool                                 // whether a rotation fails now that a follower is at the end of its file

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

// box is a container on the node. All but its log is guarded by the node's lock.
type box struct {
	*nodelog.Log
	id      string
	waits   bool // the container waits for its next run
	stamp   func(now time.Time, i int) time.Time
	records int      // written
	truth   []string // every line written, with its timestamp
}

// inOrder makes every record's time a nanosecond later than the one's before.
func inOrder(now time.Time, i int) time.Time { return now.Add(time.Duration(i)) }

func newNode() *node {
	return &node{cur: map[string]*box{}, prev: map[string]*box{}}
}

// maxFiles is the kubelet's default.
const maxFiles = 5

// start makes a new container run in slot.
func (n *node) start(slot, id string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if b := n.cur[slot]; b != nil {
		n.prev[slot], b.waits = b, false
		b.Exit()
	}
	log := nodelog.New(nodelog.Options{ID: "containerd://" + id, Path: "/var/log/pods/n_p_u/" + slot + "/0.log"})
	n.cur[slot] = &box{Log: log, id: id, stamp: inOrder}
}

// wake has followers look at what else has changed.
func (b *box) wake() { b.Wake() }

// put writes one record: a line or, without a newline, a part of one.
func (b *box) put(text string) {
	at := b.stamp(time.Now(), b.records).UTC()
	line, whole := strings.CutSuffix(text, "\n")
	b.Append(nodelog.Record{At: at, Partial: !whole, Text: line})
	b.records++
	if last := len(b.truth) - 1; last >= 0 && !strings.HasSuffix(b.truth[last], "\n") {
		b.truth[last] += text
	} else {
		b.truth = append(b.truth, string(append(append(nodelog.AppendStamp(nil, at), ' '), text...)))
	}
}

// rendered is the current file as a request gets it.
func (b *box) rendered() string {
	text, err := io.ReadAll(b.Open(context.Background(), nodelog.ReadOptions{Timestamps: true}))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// print writes lines, a nanosecond apart.
func (n *node) print(slot string, lines ...string) {
	for _, l := range lines {
		n.raw(slot, l+"\n")
	}
}

// raw writes text, which may end in the middle of a line.
func (n *node) raw(slot, text string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for line := range strings.Lines(text) {
		n.cur[slot].put(line)
	}
}

// rotate makes the kubelet start a new file. The runtime still writes late texts to the
// old one then, which followers that have turned to the new one by then never see.
func (n *node) rotate(slot string, late ...string) {
	n.mu.Lock()
	b := n.cur[slot]
	b.Rename(maxFiles)
	b.Reopen()
	if n.mu.Unlock(); len(late) > 0 {
		synctest.Wait()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, text := range late {
		b.put(text)
	}
	b.Turn()
}

// more goes on with the last line.
func (n *node) more(slot, text string) { n.raw(slot, text) }

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
	n.cur[slot].Exit()
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
	r := &nodeBody{n: n, b: b, follow: o.Follow, fault: f, breaks: n.breaks}
	if r.ctx, r.cancel = context.WithCancel(ctx); n.most > 0 && o.Follow {
		r.until = time.Now().Add(n.most)
		r.timer = time.AfterFunc(n.most, b.Wake)
	}
	read := nodelog.For(o)
	read.Watch, read.AtEnd = r.watch, r.atEnd
	r.Reader = b.Open(ctx, read)
	return r, nil
}

// nodeBody is the body of an answer: what the node reads, and what becomes of it on its
// way.
type nodeBody struct {
	*nodelog.Reader
	n      *node
	b      *box
	ctx    context.Context // ends with Close, too
	cancel context.CancelFunc
	follow bool
	sent   int
	fault  *fault
	breaks int
	until  time.Time // zero: no end
	timer  *time.Timer
}

func (r *nodeBody) Close() error {
	if r.cancel(); r.timer != nil {
		r.timer.Stop()
	}
	return r.Reader.Close()
}

// watch says whether the node has an inotify instance for a follower.
func (r *nodeBody) watch() error {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	if r.n.deaf {
		return syscall.EMFILE
	}
	return nil
}

// atEnd ends a follow whose connection is over, and has rotations fail.
func (r *nodeBody) atEnd() error {
	r.n.mu.Lock()
	defer r.n.mu.Unlock()
	switch {
	case r.breaks != r.n.breaks && !r.n.cleanly:
		return errReset
	case r.breaks != r.n.breaks, !r.until.IsZero() && !time.Now().Before(r.until):
		return io.EOF
	}
	last := len(r.b.truth) - 1
	if r.n.again != nil && r.b.Running() && last >= 0 && strings.HasSuffix(r.b.truth[last], "\n") && r.n.again() {
		r.b.FailToRotate(maxFiles)
	}
	return nil
}

func (r *nodeBody) Read(p []byte) (int, error) {
	r.n.mu.Lock()
	lag := r.n.lag
	r.n.mu.Unlock()
	if r.follow && lag > 0 {
		time.Sleep(lag)
		p = p[:min(len(p), 60)]
	}
	if f := r.fault; f != nil {
		if r.sent >= f.cut {
			return r.cutOff(p)
		}
		p = p[:min(len(p), f.cut-r.sent)]
	}
	k, err := r.Reader.Read(p)
	r.sent += k
	return k, err
}

// cutOff is what is read after a fault's cut.
func (r *nodeBody) cutOff(p []byte) (int, error) {
	f := r.fault
	if k := copy(p, f.words[min(r.sent-f.cut, len(f.words)):]); k > 0 {
		r.sent += k
		return k, nil
	}
	if f.hang {
		<-r.ctx.Done()
		return 0, r.ctx.Err()
	}
	if f.with != nil {
		return 0, f.with
	}
	return 0, io.EOF
}

func notFound(kind, name string) error {
	return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, name)
}

func refused() error {
	return apierrors.NewGenericServerResponse(http.StatusInternalServerError, "get", schema.GroupResource{}, "p",
		`Get "https://10.0.0.1:10250/containerLogs/n/p/c": dial tcp 10.0.0.1:10250: connect: connection refused`, 0, true)
}
