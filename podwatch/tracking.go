package podwatch

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
	core     *core
	gets     *liveGets
	handlers []Handler
	remove   func() // takes the tracking off the watcher; needs the core's mutex held
	done     chan struct{}
	box      mailbox
	id       identity
}

func newTracking(c *core, cache *podCache, gets *liveGets, key types.NamespacedName, hs []Handler) *Tracking {
	t := &Tracking{core: c, gets: gets, handlers: slices.Clone(hs), done: make(chan struct{})}
	t.box.wake = func() { c.wg.Go(t.deliver) }
	t.box.lost = func(k NoticeKind, first bool) {
		if k == NoticeCoalesced {
			c.stats.Coalesced++
		} else {
			c.stats.Dropped++
		}
		if first {
			c.notePod(k, key, nil)
		}
	}
	t.box.caughtUp = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if t.box.forgive() {
			c.notePod(NoticeCaughtUp, key, nil)
		}
	}
	t.id.core, t.id.cache, t.id.gets, t.id.key, t.id.box = c, cache, gets, key, &t.box
	t.id.claim.mu = &c.mu
	return t
}

// Created tells the tracking what Create returned. Until then nothing of any pod
// of the name reaches the handlers; from then on they hear of the pod of that UID
// alone: at once as Added, with the newest version that is known, then the Events
// about it that came meanwhile, then its end if it came and went. An older pod of
// the name, whenever the watch shows it, answers nothing, and a later one is not
// followed. A pod that came and went while the watch was down is found missing:
// when the cache has reached its resourceVersion without it, one live GET is
// made, and handlers hear Deleted with the pod that was created.
//
// Call it with the answer of Create, or, where that was lost, with the pod that a
// GET shows to be the one that was asked for; the newest version known is best,
// any will do. Calling it again with that pod changes nothing; with a pod made
// anew under the name it ends the earlier one: handlers hear Deleted, then Added of
// the new one. An eventsplit.Splitter is of one pod for good, so a build that is tried
// again wants a tracking and handlers of its own. A pod that had the name before the
// tracking's changes nothing.
// A nil pod changes nothing, nor does one of another name ([NoticeMismatch]), nor
// any once the tracking is closed.
// It does not block. The pod is not changed and not kept.
func (t *Tracking) Created(p *corev1.Pod) {
	if p == nil {
		return
	}
	kept := t.core.kept(p.DeepCopy())
	t.core.mu.Lock()
	defer t.core.mu.Unlock()
	if keyOf(p) != t.id.key {
		t.core.notePod(NoticeMismatch, t.id.key, nil)
		return
	}
	t.id.created(kept)
}

// Pod returns the newest known version of the pod, after its end the last one;
// nil until Created says which pod it is. It does not block and makes no request. It may be newer
// than what the handlers have taken. The pod is shared: keep it as long as you
// like, and do not change it.
func (t *Tracking) Pod() *corev1.Pod { return t.id.newest.Load() }

// Confirm asks the API server, by one live GET, whether the tracking's pod
// still exists. It changes nothing and handlers do not hear of it; it works after
// Close too. The error is the API server's or the cause of ctx, the Life then
// Unknown.
//
// Before Created, [Gone] says that no pod has the name, and one that has it is
// Unknown, with an error: it may be the tracking's or a leftover.
func (t *Tracking) Confirm(ctx context.Context) (Life, error) {
	t.core.mu.Lock()
	uid, bound := t.id.uid, t.id.bound
	t.core.mu.Unlock()
	p, err := t.gets.get(ctx, t.id.key)
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
	return Unknown, fmt.Errorf("podwatch: confirming pod %s: %w", t.id.key, err)
}

// Close ends the tracking and returns at once: it blocks on nothing and may be
// called anywhere, also in a handler of this tracking or of another. The handlers
// still get what waits for them, then Closed as the last call, after which
// [Tracking.Done] is closed: until then they may be called. Close is idempotent.
func (t *Tracking) Close() {
	t.core.mu.Lock()
	defer t.core.mu.Unlock()
	t.shut("the tracking was closed")
}

// Done returns a channel that is closed when the tracking has ended and the last
// call of a handler, the one with [Closed], has returned. A handler of the tracking
// that waits for Done waits for itself, for ever.
func (t *Tracking) Done() <-chan struct{} { return t.done }

// shut takes the tracking off the watcher and has Closed delivered; it needs the
// core's mutex held.
func (t *Tracking) shut(why string) {
	t.remove()
	t.id.close()
	t.box.close(status(Closed, why))
}

// deliver calls the handlers until nothing waits.
func (t *Tracking) deliver() {
	closed := false
	for it, ok := t.box.take(); ok; it, ok = t.box.take() {
		for _, h := range t.handlers {
			t.core.delivered.Add(1)
			h.Handle(it.ev)
		}
		closed = it.kind == itemClosed
	}
	if closed {
		close(t.done)
	}
}
