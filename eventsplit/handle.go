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
// *corev1.Event, or Error with a *metav1.Status. Of a Status the Reason counts:
// OutOfScope, Stale, Fresh and Closed are podwatch's; with Forbidden or Unauthorized the API
// server has refused the watch for so long that everyone who waits gets the refusal, until
// Fresh comes. Handle ignores anything else, objects of other pods, and the deletion of an
// Event, which has merely expired.
//
// Pods and Events may come in any order and more than once. A pod older than the newest
// one seen is ignored where resourceVersions can be compared. Handle keeps the objects,
// which must not be changed afterwards. It does not block.
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

// These Reasons of an Error's Status are podwatch's reports.
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

// learnSlots makes the slots of a pod that do not exist yet. It asks Options.Placeholder while
// the lock is not held.
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

// Close ends the Splitter. It stops the timer and releases everyone who waits with
// ErrClosed (NextRun with io.EOF), unless the answer is known. State and everything that was
// recorded stay readable. Close waits for a call of Options.Policy that is under way, and
// for nothing else. It may be called more than once, from any goroutine.
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
