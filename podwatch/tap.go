package podwatch

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// errShortWatch is a watch that ended within a second and brought nothing.
var errShortWatch = errors.New("the watch ended at once and brought nothing")

// tap passes a watch on and looks at it.
//
// A watch that breaks for a reason the reflector does not know, or that ends at
// once, makes it log a warning and list again (v0.35.3 reflector.go:watch). The
// tap turns both into an expired watch: the same list, without the log line.
type tap struct {
	ctx   context.Context // of the request: after its end nothing is trouble
	feed  *feed
	in    watch.Interface
	out   chan watch.Event
	stop  chan struct{}
	once  sync.Once
	start time.Time
	limit time.Duration // 0: none

	// unproven: the watch resumes after trouble. It may be told at once that its
	// version has expired, and what it brings first is what was missed.
	unproven bool
}

// proof is how long a watch that resumes must stand to count as contact.
const proof = time.Second

// ResultChan returns the channel of what the watch brings.
func (t *tap) ResultChan() <-chan watch.Event { return t.out }

// Stop ends the watch.
func (t *tap) Stop() { t.once.Do(func() { close(t.stop) }) }

func (t *tap) run() {
	defer t.feed.w.wg.Done()
	defer close(t.out)
	defer t.in.Stop()
	var overdue <-chan time.Time
	if t.limit > 0 {
		timer := time.NewTimer(t.limit)
		defer timer.Stop()
		overdue = timer.C
	}
	var proven <-chan time.Time
	if t.unproven {
		timer := time.NewTimer(proof)
		defer timer.Stop()
		proven = timer.C
	}
	for n := 0; ; n++ {
		var ev watch.Event
		var ok bool
		select {
		case <-t.stop:
			return
		case <-overdue:
			return
		case <-proven:
			t.feed.connected()
			n--
			continue
		case ev, ok = <-t.in.ResultChan():
		}
		switch {
		case !ok && n == 0 && time.Since(t.start) < time.Second:
			ev = t.broken(errShortWatch)
		case !ok:
			return
		case ev.Type == watch.Error:
			ev = t.broken(apierrors.FromObject(ev.Object))
		}
		select {
		case <-t.stop:
			return
		case t.out <- ev:
		}
	}
}

// broken reports err and returns what the reflector is to make of it. 410 and
// 429 it knows.
func (t *tap) broken(err error) watch.Event {
	t.feed.failed(t.ctx, "watch", err)
	var known apierrors.APIStatus
	if errors.As(err, &known) && (expired(err) || apierrors.IsTooManyRequests(err)) {
		s := known.Status()
		return watch.Event{Type: watch.Error, Object: &s}
	}
	return watch.Event{Type: watch.Error, Object: &metav1.Status{
		Status:  metav1.StatusFailure,
		Reason:  metav1.StatusReasonExpired,
		Code:    http.StatusGone,
		Message: err.Error(),
	}}
}
