package podwatch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/client-go/tools/cache"
)

// syncPoll is how often an unsynced handler is asked whether it is synced.
// client-go v0.35 has no channel to wait on (HasSyncedChecker came with 0.36).
const syncPoll = 25 * time.Millisecond

// Run watches until ctx ends, and then returns nil; an error says that it could
// not begin. It blocks; when it returns all goroutines are joined, every tracking is
// closed (its handlers have had Closed), Notify is not called any more, and the
// Watcher is done for good: it cannot run again.
//
// ctx is the life of the watch, not of a build, and must outlive the builds: when
// it ends every tracking ends with [Closed], though its pod runs on; waits end, and
// readers end with what they have. A program that has to stop therefore ends its
// builds first, draining their logs, and then ctx: give Run a context of its own, not
// the one that a signal ends.
//
// Handlers and Notify are called only while Run runs; what comes before waits. Only a
// [Tracking.Close] before Run delivers without it. Run returns after the last call.
//
// client-go logs a few lines through the logger in ctx (klog.NewContext); the
// watcher itself logs nothing.
func (w *Watcher) Run(ctx context.Context) error {
	if err := w.begin(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	detach, err := w.attach(ctx)
	if err == nil {
		<-ctx.Done()
	}
	cancel()
	detach()
	w.finish()
	w.core.wg.Wait()
	return err
}

func (w *Watcher) begin() error {
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	switch w.core.phase {
	case running:
		return errors.New("podwatch: Run called while the watcher runs")
	case stopped:
		return ErrStopped
	}
	w.core.phase = running
	for _, t := range w.trackings.all() {
		t.box.unlatch()
	}
	w.core.tell()
	return nil
}

// attach adds the handlers to the informers, and starts the watcher's own informers,
// the live GETs and the wait for the first sync. detach removes the handlers.
func (w *Watcher) attach(ctx context.Context) (detach func(), err error) {
	var undo []func()
	detach = func() {
		for _, f := range undo {
			f()
		}
	}
	add := func(inf cache.SharedIndexInformer, h cache.ResourceEventHandler) (func() bool, error) {
		reg, err := inf.AddEventHandler(h)
		if err != nil {
			return nil, fmt.Errorf("podwatch: %w", err)
		}
		// RemoveEventHandler does not wait for calls under way (client-go v0.35.3
		// shared_informer.go): those that come after finish do nothing.
		undo = append(undo, func() { _ = inf.RemoveEventHandler(reg) })
		return reg.HasSynced, nil
	}

	podsSynced, err := add(w.pods, podHandler{w})
	if err != nil {
		return detach, err
	}
	needed := []func() bool{podsSynced}
	if w.events != nil {
		eventsSynced, err := add(w.events, eventHandler{w})
		if err != nil {
			return detach, err
		}
		if w.core.opts.Events == EventsRequired {
			needed = append(needed, eventsSynced)
		}
	}
	if w.core.owned {
		w.core.wg.Go(func() { w.pods.RunWithContext(ctx) })
		if w.events != nil {
			w.core.wg.Go(func() { w.events.RunWithContext(ctx) })
		}
	}
	w.core.wg.Go(func() { w.gets.run(ctx) })
	w.core.wg.Go(func() { w.awaitSync(ctx, needed) })
	return detach, nil
}

func (w *Watcher) awaitSync(ctx context.Context, needed []func() bool) {
	tick := time.NewTicker(syncPoll)
	defer tick.Stop()
	for _, synced := range needed {
		for !synced() {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	w.first.done()
}

// finish closes every tracking and refuses new work. After it Run may wait for
// core.wg, which grows no more.
func (w *Watcher) finish() {
	w.core.mu.Lock()
	defer w.core.mu.Unlock()
	for _, t := range w.trackings.all() {
		t.shut("the watcher has stopped")
	}
	w.core.phase = stopped
	w.cache.clear()
	w.first.broadcast()
}

// WaitForSync blocks until the first list of pods (with EventsRequired also that
// of Events) has been handed on: from then on a tracking of a pod that exists
// begins with that pod. It may be called before Run and any number of times.
//
// It returns an error as soon as the API server refuses a list that is needed
// (401, 403: reachable with errors.As), [ErrStopped] once Run has ended, and
// the cause of ctx, which wins ties, when that ends first.
func (w *Watcher) WaitForSync(ctx context.Context) error {
	for {
		w.core.mu.Lock()
		changed, synced, ended, denied := w.first.changed, w.first.synced, w.core.phase == stopped, w.first.refusal(w.core.opts.Events)
		w.core.mu.Unlock()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("podwatch: waiting for the first list: %w", context.Cause(ctx))
		case ended:
			return ErrStopped
		case synced:
			return nil
		case denied != nil:
			return fmt.Errorf("podwatch: the first list is refused: %w", denied)
		}
		select {
		case <-ctx.Done():
		case <-changed:
		}
	}
}
