package podwatch

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Life is what a live GET says of a pod.
type Life int

const (
	// Unknown: the API server could not be asked.
	Unknown Life = iota
	// Alive: the pod exists; it may be about to be deleted.
	Alive
	// Replaced: another pod has the name, this one is gone.
	Replaced
	// Gone: there is no pod of the name.
	Gone
)

// String returns the name of the constant.
func (l Life) String() string {
	switch l {
	case Alive:
		return "Alive"
	case Replaced:
		return "Replaced"
	case Gone:
		return "Gone"
	}
	return "Unknown"
}

// Tracking follows one pod, by name until its UID is known. All methods may be
// called from many goroutines.
type Tracking struct {
	w        *Watcher
	key      types.NamespacedName
	handlers []Handler
	auto     bool // made by OnPod: ends with its pod
	done     chan struct{}
	box      mailbox
	newest   atomic.Pointer[corev1.Pod]

	identity // guarded by w.mu
}

// Track makes the handlers hear of the pod of that name, in the order given for
// every call. The pod need not exist yet; when it does, its newest version and
// the Events about it that the cache holds come first. Track may be called
// before Run and during it, and any number of times for one pod: trackings do
// not know of each other. It does not block.
//
// Close the tracking when the pod is of no more interest; a pod's end does not
// close it, and a new pod of the name is followed in its turn (unless Created
// pinned the tracking). It returns [ErrStopped] when Run has ended, and an error
// for a pod outside of the watcher's scope.
func (w *Watcher) Track(namespace, name string, hs ...Handler) (*Tracking, error) {
	switch {
	case namespace == "" || name == "":
		return nil, errors.New("podwatch: Track needs a namespace and a name")
	case w.opts.Namespace != "" && namespace != w.opts.Namespace:
		return nil, fmt.Errorf("podwatch: Track: the watch is of namespace %q, not of %q", w.opts.Namespace, namespace)
	case w.opts.Name != "" && name != w.opts.Name:
		return nil, fmt.Errorf("podwatch: Track: the watch is of pod %q, not of %q", w.opts.Name, name)
	case slices.Contains(hs, nil):
		return nil, errors.New("podwatch: Track: a handler is nil")
	}
	t := &Tracking{
		w:        w,
		key:      types.NamespacedName{Namespace: namespace, Name: name},
		handlers: slices.Clone(hs),
	}
	w.mu.Lock()
	defer w.unlock()
	if w.phase == stopped {
		return nil, ErrStopped
	}
	w.add(t)
	return t, nil
}

// add registers a tracking and hands it what is known; it needs mu held.
func (w *Watcher) add(t *Tracking) {
	t.done = make(chan struct{})
	t.box.open = w.phase == running
	w.tracks[t.key] = append(w.tracks[t.key], t)
	if w.stale {
		w.deliver(t, t.box.contact(true, staleStatus(w.cause)))
	}
	if k := w.known[t.key]; k != nil {
		k.asked = true
		t.see(k.pod)
	}
}

// Pod returns the newest known version of the pod, after its end the last one;
// nil before the first. It does not block and makes no request. It may be newer
// than what the handlers have taken. The pod is shared: keep it as long as you
// like, and do not change it.
func (t *Tracking) Pod() *corev1.Pod { return t.newest.Load() }

// Confirm asks the API server, by one live GET, whether the tracking's pod
// still exists. While no pod is known any pod of the name is taken for it. It
// changes nothing and handlers do not hear of it; it works after Close too. The
// error is the API server's or the cause of ctx, the Life then Unknown.
func (t *Tracking) Confirm(ctx context.Context) (Life, error) {
	t.w.mu.Lock()
	uid, unbound := t.uid, !t.current
	t.w.mu.Unlock()
	p, err := t.w.get(ctx, t.key)
	switch {
	case ctx.Err() != nil:
		return Unknown, fmt.Errorf("podwatch: confirming pod %s: %w", t.key, context.Cause(ctx))
	case apierrors.IsNotFound(err):
		return Gone, nil
	case err != nil:
		return Unknown, fmt.Errorf("podwatch: confirming pod %s: %w", t.key, err)
	case unbound || p.UID == uid:
		return Alive, nil
	}
	return Replaced, nil
}

func (w *Watcher) get(ctx context.Context, key types.NamespacedName) (*corev1.Pod, error) {
	w.gets.Add(1)
	return w.client.CoreV1().Pods(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
}

// Close ends the tracking. The handlers still get what waits for them, then
// Closed as the last call; Close blocks until that call has returned, and no
// call comes afterwards. It is idempotent.
//
// Within a handler's call, of this tracking or another, Close does not wait for
// handlers that are being called: Closed follows when that call has returned. A
// handler must not wait in other ways for a Close that waits for it.
func (t *Tracking) Close() {
	w := t.w
	w.mu.Lock()
	start := t.shut("the tracking was closed")
	joined := start && w.phase == running
	if joined {
		w.wg.Add(1)
	}
	w.unlock()
	if joined {
		defer w.wg.Done()
	}
	switch {
	case start:
		t.deliver() // nobody else delivers: done on the caller's goroutine
	case !withinHandler():
		<-t.done
	}
}

// shut takes the tracking off the watcher and puts Closed in its mailbox. It
// reports whether the caller must deliver; it needs mu held.
func (t *Tracking) shut(why string) (start bool) {
	ts := slices.DeleteFunc(t.w.tracks[t.key], func(o *Tracking) bool { return o == t })
	if len(ts) == 0 {
		delete(t.w.tracks, t.key)
	} else {
		t.w.tracks[t.key] = ts
	}
	t.drop()
	t.over = true
	return t.box.close(status(Closed, why))
}

// deliver calls the handlers until nothing waits.
func (t *Tracking) deliver() {
	for {
		ev, last, ok := t.box.next()
		if !ok {
			return
		}
		for _, h := range t.handlers {
			t.w.delivered.Add(1)
			h.Handle(ev)
		}
		if last {
			close(t.done)
			return
		}
	}
}

// withinHandler reports whether the calling goroutine is inside a handler's
// call. The stack is the only place where that is written down: a handler gets
// no context, and a flag in the tracking cannot tell the handler that closes
// its own tracking from another goroutine that does so meanwhile.
func withinHandler() bool {
	deliver := runtime.FuncForPC(reflect.ValueOf((*Tracking).deliver).Pointer()).Name()
	pcs := make([]uintptr, 64)
	for skip := 2; ; skip += len(pcs) {
		n := runtime.Callers(skip, pcs)
		frames := runtime.CallersFrames(pcs[:n])
		for more := n > 0; more; {
			var f runtime.Frame
			f, more = frames.Next()
			if f.Function == deliver {
				return true
			}
		}
		if n < len(pcs) {
			return false
		}
	}
}
