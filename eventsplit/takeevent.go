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
		if e.InvolvedObject.FieldPath == "" { // else it is about a container that is not known
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

// takeOwnerEvent takes in an Event about the pod's owner, for instance about a Job whose pod the
// API server refuses. As long as no pod exists, the caller chooses the owner whose Events Handle
// is given; afterwards the pod names its owners.
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

// explainPod keeps what an Event of the pod says of why nothing starts, or of a disruption.
func (s *Splitter) explainPod(e *corev1.Event) {
	w := &s.record
	f, rank := classifyEvent(e)
	switch {
	case f == nil:
	case isDisruption(f.Class):
		w.announced, w.announcedAt = f, knownOrNow(eventTime(e))
	case f.Class == ClassImagePull && s.pod != nil:
		// It is the image of a volume, which the kubelet pulls on behalf of the pod: it concerns
		// the containers that mount the volume.
		for _, sl := range s.order {
			if sl.mounts(f.Image) {
				sl.explanation.take(e, f, rank)
			}
		}
	case rank >= w.event.rank || !w.event.current(time.Now()):
		w.event.take(e, f, rank)
	}
}

// takeCure drops what earlier Events said, where this Event says that it is over.
func (s *Splitter) takeCure(e *corev1.Event) {
	w := &s.record
	if callsOff(e, w.announced) {
		w.announced = nil
	}
	w.event.cure(e, curedBy)
	for _, sl := range s.order {
		switch {
		case sl.waitingKey.source == waitsForItself: // its status still names the trouble
		case sl.name == slotOf(e.InvolvedObject.FieldPath):
			sl.explanation.cure(e, curedByStep)
		default:
			sl.explanation.cure(e, curedBy)
		}
	}
}

// explain keeps what an Event says of why the slot does not run. An Event from before the newest
// run, which comes late, explains nothing that follows the run. The times of Events and runs are
// those of one node, in whole seconds.
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

// routeEvent returns the slot that an Event is about; nil is the pod. An aggregated Event has
// the fieldPath of the first and the message of the last of the Events that it stands for, and
// these may be about different containers (client-go v0.35 tools/record/events_cache.go). Only
// an image in its message tells the container.
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
