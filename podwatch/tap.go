package podwatch

import (
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

// proofTime is how long a watch that resumes must stand to count as contact.
const proofTime = time.Second

// tap passes a watch on and looks at it.
//
// A watch that breaks for a reason the reflector does not know, or that ends at
// once, makes the reflector log a warning and list again (v0.35.3
// reflector.go:watch). The tap turns both into an expired watch: the same list,
// without the log line.
type tap struct {
	in     watch.Interface
	start  time.Time
	limit  time.Duration // the watch is given up after it; 0: none
	failed func(error)   // told of what breaks the watch
	// proven is called when the watch has stood for proofTime; nil where it is contact
	// from the start. A watch that resumes after trouble may be told at once that its
	// version has expired, and what it brings first is what was missed.
	proven func()

	out  chan watch.Event
	stop chan struct{}
	once sync.Once
}

func newTap(in watch.Interface, start time.Time, failed func(error)) *tap {
	return &tap{in: in, start: start, failed: failed, out: make(chan watch.Event), stop: make(chan struct{})}
}

// ResultChan returns the channel of what the watch brings.
func (t *tap) ResultChan() <-chan watch.Event { return t.out }

// Stop ends the watch.
func (t *tap) Stop() { t.once.Do(func() { close(t.stop) }) }

// run passes the watch on until it ends, is stopped or takes too long.
func (t *tap) run() {
	defer close(t.out)
	defer t.in.Stop()
	overdue, stopOverdue := after(t.limit, t.limit > 0)
	defer stopOverdue()
	proven, stopProven := after(proofTime, t.proven != nil)
	defer stopProven()
	for brought := false; ; {
		var ev watch.Event
		var ok bool
		select {
		case <-t.stop:
			return
		case <-overdue:
			return
		case <-proven:
			t.proven()
			continue
		case ev, ok = <-t.in.ResultChan():
		}
		switch {
		case !ok && !brought && time.Since(t.start) < time.Second:
			ev = t.broken(errShortWatch)
		case !ok:
			return
		case ev.Type == watch.Error:
			ev = t.broken(apierrors.FromObject(ev.Object))
		}
		brought = true
		select {
		case <-t.stop:
			return
		case t.out <- ev:
		}
	}
}

// after returns the channel of a timer, or nil, and what stops it.
func after(d time.Duration, wanted bool) (c <-chan time.Time, stop func() bool) {
	if !wanted {
		return nil, func() bool { return false }
	}
	timer := time.NewTimer(d)
	return timer.C, timer.Stop
}

// broken reports err and returns what the reflector is to make of it. 410 and
// 429 it knows.
func (t *tap) broken(err error) watch.Event {
	t.failed(err)
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
