package eventsplit

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// takePod takes in a version of the pod and reports whether it changed anything.
func (s *Splitter) takePod(pod *corev1.Pod, deleted bool) bool {
	switch {
	case s.record.gone:
		return false
	case s.uid == "" && s.pod == nil:
		s.uid = pod.UID
		s.record.event = explanation{} // an owner's Event, from before the pod was created
		defer s.flushEvents()
	case pod.UID != s.uid && deleted:
		return false
	case pod.UID != s.uid:
		if orderOf(pod, s.pod) < 0 {
			return false // an older pod of that name
		}
		s.loseSight(&Failure{Class: ClassDeleted, Message: "another pod has taken its name"})
		return true
	}
	older := 1
	if s.pod != nil {
		older = orderOf(pod, s.pod)
	}
	switch {
	case older >= 0: // versions of one name may differ: fakes give all versions one name
		s.takeVersion(pod)
	case !deleted:
		return false
	}
	if deleted {
		s.loseSight(&Failure{Class: ClassDeleted, Message: msgDeleted})
	}
	return true
}

// orderOf is below 0 when a is an older version than b, 0 when they are the same, and above 0
// when a is newer or nobody can tell: then the later arrival counts as newer.
func orderOf(a, b *corev1.Pod) int {
	if c, ok := podstatus.CompareVersions(a.ResourceVersion, b.ResourceVersion); ok {
		return c
	}
	return 1
}

// takeVersion takes in a version that is not older than the newest one.
func (s *Splitter) takeVersion(pod *corev1.Pod) {
	w := &s.record
	if w.ended && !podstatus.IsTerminal(pod) {
		return // a version from before the end
	}
	first := s.pod == nil
	newer := !first && orderOf(s.pod, pod) < 0
	told := s.unknownWhenOver() // they were told that the pod is over, and stay told
	s.pod = pod
	if pod.DeletionTimestamp != nil {
		w.requested = deletionAsked(pod)
	}
	if w.cause == nil && !w.ended { // what befalls a pod after its end did not end it
		if w.cause = podCause(pod); w.cause == nil && pod.DeletionTimestamp != nil && !endedBefore(pod, w.requested) {
			w.cause = s.deletion(&Failure{Class: ClassDeleted, Message: msgDeleted, Since: pod.DeletionTimestamp.Time})
		}
	}
	w.ended = w.ended || podstatus.IsTerminal(pod)
	s.takeSpec(pod, first)
	for _, sl := range told {
		if sl.spec != nil && sl.failure == nil {
			sl.failure = s.podFailure(sl)
			st := sl.base()
			st.Failure, st.Final = sl.failure, true
			sl.timeline.publish(st, time.Time{}, false)
		}
	}
	s.takeStatuses(pod.Status.InitContainerStatuses, newer)
	s.takeStatuses(pod.Status.ContainerStatuses, newer)
	s.takeStatuses(pod.Status.EphemeralContainerStatuses, newer)
	for _, sl := range s.order {
		sl.seenBeforeRuns = sl.seenBeforeRuns || len(sl.runs) == 0 && !sl.ranBefore
	}
}

// unknownWhenOver returns the slots that were asked about and that no spec had by the time the
// pod was over.
func (s *Splitter) unknownWhenOver() (told []*slot) {
	for _, sl := range s.slots {
		if s.over() && sl.spec == nil {
			told = append(told, sl)
		}
	}
	return told
}

// takeSpec learns the pod's containers. A spec that was seen holds when a later version lacks
// it.
func (s *Splitter) takeSpec(pod *corev1.Pod, first bool) {
	specKnown := podstatus.HasSpec(pod)
	if s.specKnown && !specKnown {
		return
	}
	n := 0
	for range podstatus.Containers(pod) {
		n++
	}
	grown := len(s.order) != n || s.specKnown != specKnown
	if grown {
		s.order = s.order[:0]
	}
	if s.specKnown = specKnown; specKnown && grown {
		for _, sl := range s.slots {
			sl.spec = nil // statuses may have named containers that the spec lacks
		}
	}
	for c := range podstatus.Containers(pod) {
		sl := s.slots[c.Name]
		if sl == nil {
			continue // two versions are handled at once: the next one has it
		}
		sl.kind, sl.pod = Kind(c.Role), pod
		// A new image restarts neither kind, so no run of theirs is a placeholder.
		sl.declared = sl.declared && sl.kind != KindInit && sl.kind != KindEphemeral
		switch {
		case c.Spec != nil:
			sl.takeSpec(c.Spec)
			sl.volumes = imageVolumes(pod, c.Spec)
		case sl.spec == nil: // only a status names it, and none did before
			sl.spec, sl.seenBeforeRuns = &corev1.Container{Name: c.Name}, !first
		}
		if grown {
			s.order = append(s.order, sl)
		}
	}
}

func (s *Splitter) takeStatuses(statuses []corev1.ContainerStatus, newer bool) {
	for i := range statuses {
		if sl := s.slots[statuses[i].Name]; sl != nil && sl.spec != nil {
			sl.observe(&statuses[i], newer)
		}
	}
}

// loseSight notes that no newer version of the pod will come, and why.
func (s *Splitter) loseSight(why *Failure) {
	w := &s.record
	if w.gone {
		return
	}
	w.gone = true
	if w.cause == nil && !w.ended {
		if w.cause = why; why.Class == ClassDeleted {
			w.cause = s.deletion(why)
		}
	}
}

// deletion returns why the pod was deleted: an announced disruption that explains it, else
// plain.
func (s *Splitter) deletion(plain *Failure) *Failure {
	w := &s.record
	asked := w.requested
	if asked.IsZero() {
		asked = time.Now()
	}
	if w.announced == nil || asked.Sub(w.announcedAt) > announcementLapse || s.pod != nil && announcementOver(s.pod, w.announced, w.announcedAt) {
		return plain
	}
	f := *w.announced
	f.MayRecover = false
	return &f
}
