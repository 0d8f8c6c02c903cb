package podwatch

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	// askInterval is how often the cache is compared with what was created and
	// has not been seen.
	askInterval = time.Second
	// askGrace is what notifications get to arrive in when the cache itself is
	// far enough: at that time they may wait in the informer's queue.
	askGrace = 2 * time.Second
	// getTimeout bounds one live GET; getsAtOnce how many run.
	getTimeout = 15 * time.Second
	getsAtOnce = 4
	maxBackoff = 30 * time.Second
)

// ask is a question that only a live GET can answer: is the pod gone, or out of
// sight? It holds for as long as its tracking points to it.
type ask struct {
	t      *Tracking
	pod    *corev1.Pod // the last known state
	missed bool        // its end, if it was one, went by unseen (tombstone)
	unseen bool        // known from Created only
	ready  bool        // may be asked: the cache is far enough
	due    time.Time
	tries  int
	asking bool
}

// question replaces what the tracking asks; it needs mu held.
func (t *Tracking) question(a *ask) {
	t.drop()
	t.ask = a
	a.ready = !a.unseen
	t.w.asks[a] = struct{}{}
	t.w.poke()
}

// drop withdraws what the tracking asks, and what was raised about its pod; it
// needs mu held.
func (t *Tracking) drop() {
	t.settled()
	if t.ask != nil {
		delete(t.w.asks, t.ask)
		t.ask = nil
	}
}

func (w *Watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// resolve makes the live GETs, off the informer's goroutine, until ctx ends.
func (w *Watcher) resolve(ctx context.Context) {
	slots := make(chan struct{}, getsAtOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
		due, next := w.due()
		for _, a := range due {
			select {
			case <-ctx.Done():
				return
			case slots <- struct{}{}:
			}
			w.wg.Go(func() {
				defer func() { <-slots }()
				w.answer(ctx, a)
			})
		}
		if next > 0 {
			timer.Reset(next)
		}
	}
}

// due returns the questions to ask now, and when to look again (0: when poked).
func (w *Watcher) due() (due []*ask, next time.Duration) {
	// Not under mu: it takes the informer's lock, which the host's callers hold
	// in ways that are not ours to know.
	reached := w.pods.LastSyncResourceVersion()
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for a := range w.asks {
		switch {
		case a.asking:
			continue
		case !a.ready:
			if c, ok := compare(reached, a.pod.ResourceVersion); ok && c >= 0 {
				a.ready, a.due = true, now.Add(askGrace)
			}
			next = sooner(next, askInterval)
		case a.due.After(now):
			next = sooner(next, a.due.Sub(now))
		default:
			a.asking = true
			due = append(due, a)
		}
	}
	return due, next
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// answer makes one live GET and says what it means.
func (w *Watcher) answer(ctx context.Context, a *ask) {
	w.mu.Lock()
	valid := a.t.ask == a
	w.mu.Unlock()
	if !valid {
		return
	}
	gctx, cancel := context.WithTimeout(ctx, getTimeout)
	p, err := w.get(gctx, a.t.key)
	cancel()
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a.asking = false
	if a.t.ask != a {
		return // the watch was faster
	}
	switch {
	case apierrors.IsNotFound(err), err == nil && p.UID != a.t.uid:
		a.t.end(a.pod)
	case err == nil:
		w.alive(a, p)
	case refused(err):
		w.guess(a) // get has said it
	default: // the question stays
		a.due = time.Now().Add(min(time.Second<<min(a.tries, 10), maxBackoff))
		if a.tries == 0 {
			a.t.raise(NoticeUnconfirmed, fmt.Errorf("podwatch: pod %s: %w", a.t.key, err))
		}
		a.tries++
		w.poke()
	}
	a.t.settle()
}

// alive says what it means that the pod exists and the watch does not show it.
func (w *Watcher) alive(a *ask, p *corev1.Pod) {
	if w.owned && w.selector.Matches(labels.Set(p.Labels)) {
		// It is in the scope: the watch is about to show it. Were it deleted
		// unseen, the cache would pass this version without it; then ask again.
		a.t.settled()
		a.unseen, a.ready, a.tries = true, false, 0
		a.pod = w.opts.keepPod(p)
		w.poke()
		return
	}
	a.t.leave()
}

// guess decides without a GET, which the API server refuses: what the watch
// took away with no sign of a deletion has left the scope; what is missing from a
// full list, or from a cache that is far enough, counts as gone.
func (w *Watcher) guess(a *ask) {
	if a.missed || a.unseen {
		a.t.end(a.pod)
		return
	}
	a.t.leave()
}
