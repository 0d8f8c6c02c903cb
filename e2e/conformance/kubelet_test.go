package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/klog/v2"

	"github.com/go-logr/logr"
)

// A node is a kubelet and the API server before it, as far as the logs of one slot are
// concerned.
type node struct {
	mu       sync.Mutex
	cur      *box // as the kubelet's cached status has it
	prev     *box
	requests []corev1.PodLogOptions
	story    strings.Builder // what happened, for the reader of a failed test
	began    time.Time
	fault    func(n int, o *corev1.PodLogOptions) *fault                    // n counts from 1
	back     time.Time                                                      // when the way to the kubelet is open again
	streams  map[int]context.CancelFunc                                     // by the number of the request
	kubelet  func(ctx context.Context, query string) (io.ReadCloser, error) // nil: it is this process's
	sent     atomic.Int64                                                   // bytes, by that kubelet
}

// fault is what goes wrong with one request.
type fault struct {
	refuse *apierrors.StatusError // the answer
	after  int                    // bytes of the body, after which ...
	stall  time.Duration          // ... nothing is passed on for so long, or
	then   end                    // it ends like this
	words  string                 // after these words of the kubelet
	deaf   bool                   // the node has no inotify instance left for a follower
}

func (f *fault) String() string {
	switch {
	case f.refuse != nil:
		return fmt.Sprintf(" (refused: %d)", f.refuse.ErrStatus.Code)
	case f.deaf:
		return " (no inotify instances)"
	case f.stall > 0:
		return fmt.Sprintf(" (to be stalled after %d bytes for %s)", f.after, f.stall)
	case f.then != never:
		return fmt.Sprintf(" (to end after %d bytes, %s %q)", f.after, map[end]string{cleanly: "cleanly", brokenly: "brokenly", silently: "silently"}[f.then], f.words)
	}
	return ""
}

// end is how a body ends.
type end int

const (
	never    end = iota // not before its time
	cleanly             // the kubelet died: the API server drops the error
	brokenly            // the connection to the API server broke
	silently            // a half-open connection
)

// start gives the slot a new container.
func (n *node) start(b *box) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.prev, n.cur = n.cur, b
}

// away cuts the API server off from the kubelet for a while. Open streams
// end, perhaps in the kubelet's words.
func (n *node) away(d time.Duration) {
	n.note("the kubelet is out of reach for %s", d)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.back = time.Now().Add(d)
	for _, cut := range n.streams {
		cut()
	}
}

// container is that which runs, or the one before.
func (n *node) container(previous bool) *box {
	n.mu.Lock()
	defer n.mu.Unlock()
	if previous {
		return n.prev
	}
	return n.cur
}

// note adds to the story.
func (n *node) note(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.began.IsZero() {
		n.began = time.Now()
	}
	fmt.Fprintf(&n.story, "%11s  %s\n", time.Since(n.began).Round(time.Microsecond), fmt.Sprintf(format, args...))
}

func (n *node) told() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.story.String()
}

func (n *node) asked() []corev1.PodLogOptions {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]corev1.PodLogOptions(nil), n.requests...)
}

// ServeHTTP is the API server.
func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o, err := decode(r.URL.Query())
	if err != nil {
		refuse(w, apierrors.NewBadRequest(err.Error()))
		return
	}
	n.mu.Lock()
	n.requests = append(n.requests, *o)
	f := &fault{}
	if n.fault != nil {
		if g := n.fault(len(n.requests), o); g != nil {
			f = g
		}
	}
	b := n.cur
	if o.Previous {
		b = n.prev
	}
	number := len(n.requests)
	if time.Now().Before(n.back) {
		f = &fault{refuse: refused}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	if n.streams == nil {
		n.streams = map[int]context.CancelFunc{}
	}
	n.streams[number] = cancel
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.streams, number)
	}()
	n.note("request %d: %s%v", number, r.URL.RawQuery, f)
	switch {
	case f.refuse != nil:
		refuse(w, f.refuse)
	case b == nil && o.Previous:
		refuse(w, apierrors.NewBadRequest(`previous terminated container "c" in pod "p" not found`))
	case b == nil:
		refuse(w, apierrors.NewBadRequest(`container "c" in pod "p" is waiting to start: ContainerCreating`))
	default:
		if n.kubelet != nil {
			body, err := n.kubelet(ctx, r.URL.RawQuery)
			if err != nil {
				refuse(w, refused)
				return
			}
			defer body.Close()
			k := passOn(ctx, w, body, f)
			n.note("request %d ended after %d bytes", number, k)
			return
		}
		from, to := io.Pipe()
		var kubelet sync.WaitGroup
		kubelet.Go(func() {
			if err := getContainerLogs(ctx, b, o, f.deaf, to); err != nil {
				// The headers are out: the error becomes a part of the body
				// (pkg/kubelet/server/server.go:881, v1.36.3).
				_, _ = io.WriteString(to, err.Error())
			}
			_ = to.Close()
		})
		defer kubelet.Wait()
		defer cancel()
		defer from.Close()
		k := passOn(ctx, w, from, f)
		n.note("request %d ended after %d bytes", number, k)
	}
}

// decode reads the parameters of a request, as strictly as API servers do.
func decode(q url.Values) (*corev1.PodLogOptions, error) {
	o := &corev1.PodLogOptions{}
	var errs []error
	number := func(v string) *int64 {
		n, err := strconv.ParseInt(v, 10, 64)
		errs = append(errs, err)
		return &n
	}
	for k, vs := range q {
		switch v := vs[0]; k {
		case "container":
			o.Container = v
		case "follow":
			o.Follow = v == "true"
		case "previous":
			o.Previous = v == "true"
		case "timestamps":
			o.Timestamps = v == "true"
		case "tailLines":
			o.TailLines = number(v)
		case "limitBytes":
			o.LimitBytes = number(v)
		case "sinceTime":
			at, err := time.Parse(time.RFC3339, v)
			errs = append(errs, err)
			o.SinceTime = &metav1.Time{Time: at.Truncate(time.Second)}
		default:
			errs = append(errs, fmt.Errorf("unexpected parameter %q", k))
		}
	}
	return o, errors.Join(errs...)
}

// getContainerLogs is the kubelet: what kuberuntime_container.go:1315 and
// kuberuntime_logs.go:30 do (v1.36.3), and then the kubelet's own code. Of a deaf node it
// is what that does when fsnotify.NewWatcher fails (k8s.io/cri-client v0.36.3
// pkg/logs/logs.go:352): it is at the end of the file then, and has read no record in part.
func getContainerLogs(ctx context.Context, b *box, o *corev1.PodLogOptions, deaf bool, w io.Writer) error {
	ctx = klog.NewContext(ctx, logr.Discard())
	service := cri{b: b}
	st, err := service.ContainerStatus(ctx, b.id, false)
	if err != nil {
		return fmt.Errorf("unable to retrieve container logs for %v", b.id)
	}
	opt := &logs.LogOptions{TailLines: o.TailLines, LimitBytes: o.LimitBytes, Follow: o.Follow, Timestamp: o.Timestamps}
	if o.SinceTime != nil {
		opt.Since = o.SinceTime.Time
	}
	if deaf = deaf && o.Follow; deaf {
		opt.Follow = false
	}
	if err := logs.ReadLogs(ctx, st.GetStatus().GetLogPath(), b.id, opt, service, w, w); err != nil || !deaf {
		return err
	}
	return errors.New("failed to create fsnotify watcher: too many open files")
}

// passOn is what the API server does with the kubelet's body (k8s.io/apiserver v0.36.3
// pkg/endpoints/handlers/responsewriters/writers.go:86): it copies, and drops errors.
// It returns how many bytes.
func passOn(ctx context.Context, w http.ResponseWriter, body io.Reader, f *fault) (sent int) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(http.StatusOK)
	flush := w.(http.Flusher).Flush
	flush()
	buf, left, met := make([]byte, 4<<10), f.after, f.stall == 0 && f.then == never
	for {
		p := buf
		if !met {
			p = buf[:min(len(buf), left)]
		}
		if len(p) == 0 { // the fault's place
			if met = true; !f.play(ctx, w) {
				return sent
			}
			continue
		}
		k, err := body.Read(p)
		left, sent = left-k, sent+k
		if _, werr := w.Write(p[:k]); werr != nil {
			return sent
		}
		flush()
		if err != nil {
			return sent
		}
	}
}

// play lets a fault happen. It returns whether the body goes on.
func (f *fault) play(ctx context.Context, w io.Writer) bool {
	if f.stall > 0 {
		t := time.NewTimer(f.stall)
		defer t.Stop()
		select {
		case <-t.C:
			return true
		case <-ctx.Done():
			return false
		}
	}
	_, _ = io.WriteString(w, f.words)
	switch f.then {
	case brokenly:
		panic(http.ErrAbortHandler)
	case silently:
		<-ctx.Done()
	}
	return false
}

func refuse(w http.ResponseWriter, err *apierrors.StatusError) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(err.ErrStatus.Code))
	s := err.ErrStatus
	s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	_ = json.NewEncoder(w).Encode(s)
}

// The answers of a kubelet that is down, and of one that has just come back.
var (
	refused = apierrors.NewGenericServerResponse(http.StatusInternalServerError, "get", schema.GroupResource{}, "p",
		`Get "https://10.0.0.1:10250/containerLogs/n/p/c": dial tcp 10.0.0.1:10250: connect: connection refused`, 0, true)
	unsynced = apierrors.NewGenericServerResponse(http.StatusNotFound, "get", schema.GroupResource{Resource: "pods/log"}, "p", "", 0, true)
)
