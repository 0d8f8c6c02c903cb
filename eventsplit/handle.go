package eventsplit

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/internal/podstatus"
)

// Handle takes in one change: Added, Modified or Deleted with a *corev1.Pod or a
// *corev1.Event (the deletion of an Event is its expiry and ignored), or Error
// with a *metav1.Status whose Reason is OutOfScope, Stale, Fresh or Closed, or
// Forbidden or Unauthorized: the API server has refused the watch for so long that
// what waits ends with its refusal, until Fresh comes.
// Anything else, and objects of other pods, is ignored. It may be called with
// pods and Events in any order, and again with the same object; pods older than
// the newest seen are ignored where resourceVersions can be compared. Objects are
// kept and must not be changed afterwards. It does not block.
func (s *Splitter) Handle(ev watch.Event) {
	if ev.Type == watch.Bookmark {
		return
	}
	switch obj := ev.Object.(type) {
	case *corev1.Pod:
		s.handlePod(obj, ev.Type == watch.Deleted)
	case *corev1.Event:
		if ev.Type != watch.Deleted {
			s.update(func() { s.takeEvent(obj) })
		}
	case *metav1.Status:
		s.handleStatus(obj)
	}
}

// What podwatch reports in an Error's Status beyond pods and Events.
const (
	statusOutOfScope metav1.StatusReason = "OutOfScope"
	statusStale      metav1.StatusReason = "Stale"
	statusFresh      metav1.StatusReason = "Fresh"
	statusClosed     metav1.StatusReason = "Closed"
)

func (s *Splitter) handleStatus(status *metav1.Status) {
	switch reason := status.Reason; reason {
	case statusOutOfScope:
		s.update(func() { s.loseSight(&Failure{Class: ClassOutOfScope, Reason: string(reason)}) })
	case statusStale, statusFresh:
		s.update(func() {
			if s.stale = reason == statusStale; !s.stale {
				s.refused = nil
			}
		})
	case metav1.StatusReasonForbidden, metav1.StatusReasonUnauthorized:
		f := ClassifyAPIError(&apierrors.StatusError{ErrStatus: *status})
		s.update(func() {
			s.stale, s.refused = true, f
			s.release()
		})
	case statusClosed:
		s.Close()
	}
}

func (s *Splitter) handlePod(pod *corev1.Pod, deleted bool) {
	if pod.Name != s.name || pod.Namespace != s.namespace {
		return
	}
	s.learnSlots(pod)
	s.mu.Lock()
	var asks []ask
	if !s.closed && s.takePod(pod, deleted) {
		asks = s.settle(time.Now())
	}
	s.mu.Unlock()
	s.ask(asks)
}

// learnSlots makes the slots of a pod that are new. Options.Placeholder is asked
// with the lock released.
func (s *Splitter) learnSlots(pod *corev1.Pod) {
	var missing []string
	s.mu.Lock()
	if !s.closed {
		for c := range podstatus.Containers(pod) {
			if s.slots[c.Name] == nil {
				missing = append(missing, c.Name)
			}
		}
	}
	s.mu.Unlock()
	for _, name := range missing {
		s.slot(name)
	}
}

// Close ends the Splitter: it stops its timer, and everything that waits is
// released with ErrClosed (NextRun with io.EOF) unless its answer is known. State,
// and what was recorded, stays readable. It waits for a call of Options.Policy
// that is under way, and for nothing else. It may be called more than once, from
// any goroutine.
func (s *Splitter) Close() {
	defer s.asking.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.release()
}
