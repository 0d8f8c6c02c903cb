package conformance

import (
	"context"
	"errors"
	"io"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/logstream"
)

// A rig is a Streamer at work on the one slot of a pod, and the node of the pod.
type rig struct {
	t   *testing.T
	n   *node
	c   *logstream.Capture
	s   *logstream.Streamer
	rev int
}

// newRig starts everything; the end of the test ends it.
func newRig(t *testing.T, o logstream.Options) *rig {
	return newRigOver(t, o, !virtual, func(open logstream.Opener) logstream.Opener { return open })
}

// newRigOver is newRig with a choice of protocol, and with something about the opener.
func newRigOver(t *testing.T, o logstream.Options, http2 bool, about func(logstream.Opener) logstream.Opener) *rig {
	n := &node{}
	open, err := logstream.FromConfig(serve(t, n, http2))
	if err != nil {
		t.Fatal(err)
	}
	open = about(open)
	r := &rig{t: t, n: n, s: logstream.New(open, o)}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- r.s.Run(ctx) }()
	t.Cleanup(func() {
		cancel(errOver)
		if err := <-done; !errors.Is(err, errOver) {
			t.Errorf("Run ended in %v", err)
		}
	})
	r.c = r.s.Pod("n", "p", nil)
	t.Cleanup(func() { _ = r.c.Close() })
	return r
}

var errOver = errors.New("the test is over")

// quick are the options of lives that last seconds, not hours, and write little.
var quick = logstream.Options{IdleProbe: 2 * time.Second, HeadProbe: time.Second, RotateSize: 400}

// begin starts a container and, told or not, its status is for tell.
func (r *rig) begin(id string) *box {
	b := newBox(r.t, "containerd://"+id)
	r.n.start(b)
	return b
}

// tell hands the capture the status of the slot: last is the container before cur.
func (r *rig) tell(cur, last *box) {
	r.rev++
	st := corev1.ContainerStatus{Name: "c", ContainerID: cur.id}
	if cur.Running() {
		st.State.Running = &corev1.ContainerStateRunning{}
	} else {
		st.State.Terminated = &corev1.ContainerStateTerminated{ContainerID: st.ContainerID}
	}
	if last != nil {
		st.RestartCount = 1
		st.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: last.id}
	}
	r.c.Handle(watch.Event{Type: watch.Modified, Object: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u", ResourceVersion: strconv.Itoa(r.rev)},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}, RestartPolicy: corev1.RestartPolicyAlways},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{st}},
	}})
}

// wait lets time pass.
func wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	<-t.C
}

// until waits for something to become true.
func (r *rig) until(what string, is func() bool) {
	r.t.Helper()
	for range 3000 {
		if is() {
			return
		}
		wait(20 * time.Millisecond)
	}
	r.t.Fatalf("a minute has passed, and not: %s", what)
}

// newest is the newest time among the lines that readers can have at this moment.
func (r *rig) newest() (newest time.Time) {
	rd := r.c.Reader(context.WithoutCancel(r.t.Context()), "c", logstream.ReadOptions{Snapshot: true})
	defer rd.Close()
	for l, err := range rd.Lines() {
		if err != nil {
			r.t.Error(err)
		}
		if l.Time.After(newest) {
			newest = l.Time
		}
	}
	return newest
}

// drain ends the capture of the runs that have ended.
func (r *rig) drain() []caught {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), 20*time.Minute)
	defer cancel()
	certs, err := r.c.Drain(ctx, nil)
	if err != nil {
		r.t.Fatal("Drain:", err)
	}
	got := make([]caught, len(certs))
	at := map[string]*caught{}
	for i, c := range certs {
		got[i].cert = c
		at[c.ContainerID] = &got[i]
	}
	rd := r.c.Reader(ctx, "c", logstream.ReadOptions{Snapshot: true})
	defer rd.Close()
	more := false
	for l, err := range rd.Lines() {
		if err != nil {
			r.t.Fatal("Lines:", err)
		}
		if l.Gap != nil {
			continue
		}
		c := at[l.ContainerID]
		text := string(l.Text)
		if more { // another piece of a long line
			last := &c.lines[len(c.lines)-1]
			last.Text = append(last.Text, text...)
			last.Partial = l.Partial
		} else {
			l.Text = []byte(text)
			c.lines = append(c.lines, l)
		}
		if more = l.More; !l.Partial {
			text += "\n"
		}
		c.bytes += text
	}
	r.compareReaders(ctx, got)
	return got
}

// compareReaders holds Read and Lines and the certificate against each other.
func (r *rig) compareReaders(ctx context.Context, got []caught) {
	r.t.Helper()
	rd := r.c.Reader(ctx, "c", logstream.ReadOptions{Snapshot: true})
	defer rd.Close()
	b, err := io.ReadAll(rd)
	all := ""
	for _, c := range got {
		if all += c.bytes; int64(len(c.bytes)) != c.cert.Bytes || uint64(len(c.lines)) != c.cert.Lines {
			r.t.Errorf("%d lines, %d bytes read; certified %d, %d", len(c.lines), len(c.bytes), c.cert.Lines, c.cert.Bytes)
		}
	}
	if d := difference(string(b), all); d != "" || err != nil {
		r.t.Errorf("Read and Lines differ: %s (%v)", d, err)
	}
}
