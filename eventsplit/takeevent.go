package eventsplit

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// takeEvent takes in one Event. The lock is held.
func (s *Splitter) takeEvent(e *corev1.Event) {
	ref := &e.InvolvedObject
	if ref.Kind != "" && ref.Kind != "Pod" {
		s.takeOwnerEvent(e)
		return
	}
	if ref.Name != s.name || ref.Namespace != "" && ref.Namespace != s.namespace {
		return
	}
	if s.pod == nil {
		if s.events.early = append(s.events.early, e); len(s.events.early) > maxEarly {
			s.events.early = s.events.early[1:]
		}
		return
	}
	if ref.UID != "" && s.uid != "" && ref.UID != s.uid || !s.events.fresh(e) {
		return
	}
	e = normalise(e)
	s.takeCure(e)
	sl := s.routeEvent(e)
	if sl == nil {
		s.record.timeline.append(Entry{Time: eventTime(e), Event: e})
		if e.InvolvedObject.FieldPath == "" { // else it is a container's, and which is not known
			s.explainPod(e)
		}
		return
	}
	sl.timeline.append(Entry{Time: eventTime(e), Event: e})
	sl.explain(e)
}

// flushEvents takes in the Events that came before the pod.
func (s *Splitter) flushEvents() {
	early := s.events.early
	s.events.early = nil
	for _, e := range early {
		s.takeEvent(e)
	}
}

// takeOwnerEvent takes in an Event of what owns the pod, for instance a Job whose
// pod is refused. Which owner that is, is the caller's to choose as long as no pod
// exists; afterwards the pod says.
func (s *Splitter) takeOwnerEvent(e *corev1.Event) {
	if s.pod != nil {
		owned := false
		for i := range s.pod.OwnerReferences {
			owned = owned || s.pod.OwnerReferences[i].UID == e.InvolvedObject.UID
		}
		if !owned {
			return
		}
	}
	if !s.events.fresh(e) {
		return
	}
	e = normalise(e)
	s.record.timeline.append(Entry{Time: eventTime(e), Event: e})
	if s.pod == nil && e.Reason == reasonFailedCreate {
		s.explainPod(e)
	}
}

// explainPod keeps what a pod's Event says of why nothing starts, or of what
// befalls it.
func (s *Splitter) explainPod(e *corev1.Event) {
	w := &s.record
	f, rank := classifyEvent(e)
	switch {
	case f == nil:
	case isDisruption(f.Class):
		w.announced, w.announcedAt = f, knownOrNow(eventTime(e))
	case f.Class == ClassImagePull && s.pod != nil:
		// That of a volume, which the kubelet pulls for the pod: it is the matter of
		// the containers that mount it.
		for _, sl := range s.order {
			if sl.mounts(f.Image) {
				sl.explanation.take(e, f, rank)
			}
		}
	case rank >= w.event.rank || !w.event.current(time.Now()):
		w.event.take(e, f, rank)
	}
}

// takeCure drops what earlier Events said, where a later one says that it is over.
func (s *Splitter) takeCure(e *corev1.Event) {
	w := &s.record
	if callsOff(e, w.announced) {
		w.announced = nil
	}
	w.event.cure(e, curedBy)
	for _, sl := range s.order {
		switch {
		case sl.waitingKey.source == waitsForItself: // the status still says it
		case sl.name == slotOf(e.InvolvedObject.FieldPath):
			sl.explanation.cure(e, curedByStep)
		default:
			sl.explanation.cure(e, curedBy)
		}
	}
}

// explained keeps what an Event says of why the slot does not run. One that comes late,
// of a time before the newest run, explains nothing that comes after it; times of Events
// and runs are the node's, and whole seconds.
func (s *slot) explain(e *corev1.Event) {
	if r, at := s.current(), eventTime(e); r != nil && !at.IsZero() && at.Before(r.started.Truncate(time.Second)) {
		return
	}
	if e.Type != corev1.EventTypeWarning && (isStep(e) || e.Reason == "Pulling") {
		s.lastStep = e.Reason
		return
	}
	f, rank := classifyEvent(e)
	if f == nil || isDisruption(f.Class) || rank < s.explanation.rank {
		return
	}
	s.explanation.take(e, f, rank)
}

// routeEvent finds the slot an Event speaks of; nil is the pod. An aggregated
// Event carries the fieldPath of the first and the message of the last of the
// Events in it, which may be of another container (client-go
// tools/record/events_cache.go, v0.35): only an image in its message tells.
func (s *Splitter) routeEvent(e *corev1.Event) *slot {
	if last, ok := strings.CutPrefix(e.Message, aggregatedPrefix); ok {
		var found *slot
		for _, sl := range s.order {
			if image := namedImage(last); image != "" && sameImage(sl.specImage(), image) {
				if found != nil {
					return nil
				}
				found = sl
			}
		}
		return found
	}
	if sl := s.slots[slotOf(e.InvolvedObject.FieldPath)]; sl != nil && sl.spec != nil {
		return sl
	}
	return nil
}
