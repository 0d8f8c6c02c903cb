package eventsplit

import (
	"cmp"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// updateWaiting updates why a slot waits, and the patience with that.
func (s *Splitter) updateWaiting(sl *slot, now time.Time) {
	if sl.waitReason == reasonErrImagePull && sl.waitMessage != "" {
		sl.pullWords = sl.waitMessage
	}
	key := s.waitingKey(sl)
	if sl.waitingKey.source == waitsForItself && key.source > waitsForItself {
		// The status names the trouble no more: it is over.
		sl.explanation, sl.pullWords = explanation{}, ""
		key = s.waitingKey(sl)
	}
	changed := key != sl.waitingKey
	if changed {
		sl.waitingKey = key
		sl.waiting = sl.makeWaiting(key)
	}
	if key.source != waitsForItself {
		sl.patience.wait(nil, now)
		return
	}
	sl.patience.wait(sl.waiting, now)
	if changed { // nobody else has this Failure yet
		sl.waiting.Node = s.pod.Spec.NodeName
		if sl.waiting.Since.IsZero() {
			sl.waiting.Since = sl.patience.since
		}
	}
}

// waitingKey returns what the reason is made from for which a slot waits.
func (s *Splitter) waitingKey(sl *slot) waitingKey {
	r, rep := sl.stepRun(), sl.replaced()
	switch {
	case r != nil && (sl.status != statusWaiting || s.over()):
		return waitingKey{}
	case sl.status == statusWaiting && !isProgress(sl.waitReason):
		return waitingKey{
			source: waitsForItself, reason: sl.waitReason, message: sl.waitMessage,
			event: sl.explanation.event,
		}
	case rep != nil && sl.swapped():
		return waitingKey{source: waitsForSwap, reason: sl.lastStep, event: sl.explanation.event}
	case rep != nil && sl.status == statusRunning:
		return waitingKey{} // no step is to run there yet
	}
	if f := s.held(sl); f != nil {
		return waitingKey{source: waitsForPod, other: f}
	}
	var reason string
	if !sl.declared { // else the Events are about the placeholder
		reason = sl.lastStep
	}
	if reason == "" {
		reason = sl.waitReason
	}
	if reason == "" {
		reason = string(corev1.PodPending)
	}
	return waitingKey{source: waitsForStart, reason: reason}
}

// held returns the trouble of the pod, or of an earlier init container, that keeps a slot
// waiting; nil when there is none.
func (s *Splitter) held(sl *slot) *Failure {
	if s.record.waiting != nil {
		return s.record.waiting
	}
	if sl.kind == KindEphemeral {
		return nil
	}
	for _, before := range s.order {
		if before == sl || before.kind != KindInit && before.kind != KindSidecar {
			return nil
		}
		if before.waitingKey.source == waitsForItself && before.waiting != nil {
			return before.waiting
		}
	}
	return nil
}

// makeWaiting makes the Failure for which a slot waits.
func (s *slot) makeWaiting(k waitingKey) *Failure {
	switch k.source {
	case waitsForItself:
		return s.trouble(k)
	case waitsForSwap:
		if s.explanation.failure != nil {
			f := *s.explanation.failure
			f.Slot, f.Image = s.name, s.pulledImage(&f)
			return &f
		}
		if k.reason == "" {
			k.reason = "Swapping"
		}
		return &Failure{Class: ClassProgress, Slot: s.name, Image: s.specImage(), Reason: k.reason, MayRecover: true}
	case waitsForPod:
		f := *k.other
		if f.Slot == "" {
			f.Slot, f.Image = s.name, s.specImage()
		}
		return &f
	case waitsForStart:
		return &Failure{Class: ClassProgress, Slot: s.name, Image: s.specImage(), Reason: k.reason, MayRecover: true}
	}
	return nil
}

// trouble makes the Failure of a waiting reason, with the best words that are known. Up to v1.30
// the message of ImagePullBackOff says nothing; that of the ErrImagePull before it does, and
// that of the Event.
func (s *slot) trouble(k waitingKey) *Failure {
	f := classifyWaiting(k.reason, k.message)
	if f.Class == ClassImagePull && f.Message == "" {
		f.readPull(s.pullWords)
		if e := s.explanation.failure; f.Message == "" && s.explanation.rank >= rankWords && e.Class == ClassImagePull {
			f.Message, f.Cause, f.MayRecover = e.Message, e.Cause, e.MayRecover
		}
	}
	if e := s.explanation; e.failure != nil && e.failure.Class == f.Class {
		f.Event, f.Since = e.event, e.failure.Since
		if f.Message == "" {
			f.Message = e.failure.Message
		}
		if f.Message == e.failure.Message { // the Event names the image that the words are about
			f.Image = cmp.Or(f.Image, e.failure.Image)
		}
	}
	f.Slot, f.Image = s.name, s.pulledImage(f)
	return f
}

// updatePodWaiting updates why the pod waits, and the patience with that.
func (s *Splitter) updatePodWaiting(now time.Time) {
	w := &s.record
	var next *Failure
	if w.cause == nil && !w.gone {
		switch {
		case s.pod != nil:
			if f := w.event.failure; f != nil && s.overcome(f) {
				w.event = explanation{}
			}
			if next = podWaiting(s.pod); next == nil && w.event.current(now) {
				next = w.event.failure
			}
		case w.event.failure != nil:
			next = w.event.failure
		}
	}
	if next != nil && s.pod != nil {
		on := *next
		on.Node = s.pod.Spec.NodeName
		next = &on
	}
	if next == nil || w.waiting == nil || *next != *w.waiting {
		w.waiting = next
	}
	w.patience.wait(w.waiting, now)
}

// overcome reports whether the trouble is over that an Event gave for nothing starting in the
// pod.
func (s *Splitter) overcome(f *Failure) bool {
	return cured(f, s.pod, s.started()) || s.started() && f.Class != ClassVolume && f.Class != ClassSandbox
}

// started reports whether something in the pod got as far as its image: the volumes and the
// sandbox are there then.
func (s *Splitter) started() bool {
	if isTrue(s.pod, corev1.PodReadyToStartContainers) {
		return true
	}
	for _, sl := range s.order {
		if len(sl.runs) > 0 || sl.lastStep != "" {
			return true
		}
	}
	return false
}
