package podwatch

import (
	"context"
	"errors"
	"fmt"
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

// Tracking follows one pod: that which [Tracking.Created] names, or the one that
// it was made for. All methods may be called from many goroutines.
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

// Track is for a pod that the host is about to create. The handlers, called in
// the order given, hear nothing of any pod of that name (no version, no deletion,
// no Event) until [Tracking.Created] says which pod it is: one that is there
// already, or that comes before Created's, is a leftover of an earlier build. What
// the watch says of itself ([Stale], [Fresh], a refusal, [Closed]) they hear from
// the start. For a pod that exists use [Watcher.TrackPod].
//
// A host that never calls Created hears of no pod; [NoticeUnclaimed] tells when a
// pod of the name has been there for 30 seconds.
//
// Track may be called before Run and during it, and any number of times for one
// pod: trackings do not know of each other. It does not block. Close the tracking
// when the pod is of no more interest; a pod's end does not close it. It returns
// [ErrStopped] when Run has ended, and an error for a pod outside of the watcher's
// scope.
func (w *Watcher) Track(namespace, name string, hs ...Handler) (*Tracking, error) {
	t, err := w.tracking(types.NamespacedName{Namespace: namespace, Name: name}, hs)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == stopped {
		return nil, ErrStopped
	}
	w.add(t)
	if k := w.known[t.key]; k != nil {
		t.see(k.pod)
	}
	return t, nil
}

// TrackPod is for a pod that exists, as the API server returned it: from a list, a
// get or another watch. The tracking speaks of the pod of that UID alone, as one
// of Track does after Created: the handlers hear at once of its newest known
// version, as Added, and of the Events about it that the cache holds; then of what
// happens to it. Of a pod that is gone by now they hear Added and Deleted.
//
// It returns an error for a nil pod, and is else as [Watcher.Track]. The pod is not
// changed and not kept.
func (w *Watcher) TrackPod(p *corev1.Pod, hs ...Handler) (*Tracking, error) {
	if p == nil {
		return nil, errors.New("podwatch: TrackPod: the pod is nil")
	}
	t, err := w.tracking(keyOf(p), hs)
	if err != nil {
		return nil, err
	}
	kept := w.keep(p)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.phase == stopped {
		return nil, ErrStopped
	}
	w.add(t)
	t.bind(kept)
	return t, nil
}

func (w *Watcher) tracking(key types.NamespacedName, hs []Handler) (*Tracking, error) {
	switch {
	case key.Namespace == "" || key.Name == "":
		return nil, errors.New("podwatch: a tracking needs a namespace and a name")
	case w.opts.Namespace != "" && key.Namespace != w.opts.Namespace:
		return nil, fmt.Errorf("podwatch: the watch is of namespace %q, not of %q", w.opts.Namespace, key.Namespace)
	case w.opts.Name != "" && key.Name != w.opts.Name:
		return nil, fmt.Errorf("podwatch: the watch is of pod %q, not of %q", w.opts.Name, key.Name)
	case slices.Contains(hs, nil):
		return nil, errors.New("podwatch: a handler is nil")
	}
	return &Tracking{w: w, key: key, handlers: slices.Clone(hs)}, nil
}

// add registers a tracking and tells it how the watch is; it needs mu held.
func (w *Watcher) add(t *Tracking) {
	t.done = make(chan struct{})
	t.box.open = w.phase == running
	w.tracks[t.key] = append(w.tracks[t.key], t)
	if w.contact != contactFresh {
		w.deliver(t, t.box.contact(w.contact, w.trouble))
	}
}

// Pod returns the newest known version of the pod, after its end the last one;
// nil until Created says which pod it is. It does not block and makes no request. It may be newer
// than what the handlers have taken. The pod is shared: keep it as long as you
// like, and do not change it.
func (t *Tracking) Pod() *corev1.Pod { return t.newest.Load() }

// Confirm asks the API server, by one live GET, whether the tracking's pod
// still exists. It changes nothing and handlers do not hear of it; it works after
// Close too. The error is the API server's or the cause of ctx, the Life then
// Unknown.
//
// Before Created, [Gone] says that no pod has the name, and one that has it is
// Unknown, with an error: it may be the tracking's or a leftover.
func (t *Tracking) Confirm(ctx context.Context) (Life, error) {
	t.w.mu.Lock()
	uid, bound := t.uid, t.bound
	t.w.mu.Unlock()
	p, err := t.w.get(ctx, t.key)
	switch {
	case ctx.Err() != nil:
		err = context.Cause(ctx)
	case apierrors.IsNotFound(err):
		return Gone, nil
	case err != nil:
	case !bound:
		err = fmt.Errorf("one of UID %s exists, and Created has not said whether it is the one that is tracked", p.UID)
	case p.UID == uid:
		return Alive, nil
	default:
		return Replaced, nil
	}
	return Unknown, fmt.Errorf("podwatch: confirming pod %s: %w", t.key, err)
}

// get makes one live GET. It must not be called with mu held.
func (w *Watcher) get(ctx context.Context, key types.NamespacedName) (*corev1.Pod, error) {
	w.gets.Add(1)
	p, err := w.client.CoreV1().Pods(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case refused(err) && w.ungettable == nil:
		w.ungettable = &key
		w.notePod(NoticeForbidden, key, err)
	case (err == nil || apierrors.IsNotFound(err)) && w.ungettable != nil:
		w.notePod(NoticeGranted, *w.ungettable, nil)
		w.ungettable = nil
	}
	return p, err
}

// Close ends the tracking and returns at once: it blocks on nothing and may be
// called anywhere, also in a handler of this tracking or of another. The handlers
// still get what waits for them, then Closed as the last call, after which
// [Tracking.Done] is closed. Close is idempotent.
func (t *Tracking) Close() {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.w.deliver(t, t.shut("the tracking was closed"))
}

// Done returns a channel that is closed when the tracking has ended and the last
// call of a handler, the one with [Closed], has returned. A handler of the tracking
// that waits for Done waits for itself, for ever.
func (t *Tracking) Done() <-chan struct{} { return t.done }

// shut takes the tracking off the watcher and puts Closed in its mailbox. It
// reports whether the caller must deliver; it needs mu held.
func (t *Tracking) shut(why string) (start bool) {
	ts := slices.DeleteFunc(t.w.tracks[t.key], func(o *Tracking) bool { return o == t })
	if len(ts) == 0 {
		delete(t.w.tracks, t.key)
	} else {
		t.w.tracks[t.key] = ts
	}
	t.abandon()
	t.over = true
	return t.box.close(status(Closed, why))
}

// deliver calls the handlers until nothing waits.
func (t *Tracking) deliver() {
	for {
		it, ok, behind := t.box.next()
		if behind {
			t.caughtUp()
			continue
		}
		if !ok {
			return
		}
		for _, h := range t.handlers {
			t.w.delivered.Add(1)
			h.Handle(it.ev)
		}
		if it.kind == itemClosed {
			t.caughtUp()
			close(t.done)
			return
		}
	}
}
