package eventsplit

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// observe takes the slot's status from a pod; newer: that pod is certainly newer than
// the one before.
func (s *slot) observe(st *corev1.ContainerStatus, newer bool) {
	if s.timeline.cur != nil && settled(*s.timeline.cur) {
		return // no run follows, and what was said of the last one stays said
	}
	if len(s.runs) == 0 && !s.seenBeforeRuns {
		s.ranBefore = st.RestartCount > 0
	}
	st = s.withLostRun(st, newer)
	id, status := s.currentRun(st)
	if i := s.find(id); i >= 0 && i < len(s.runs)-1 {
		return // an older run: the status lags behind what was seen
	}
	if r := s.current(); r != nil && r.id == id && r.ended() && status == statusRunning {
		return // a containerID does not come back to life
	}
	// Missed runs come first: they lie before the ones this status shows.
	s.countMissed(st, id)
	s.observeLast(st, id, status)
	if id != "" {
		i := s.find(id)
		if i < 0 {
			last := st.LastTerminationState.Terminated
			i = s.add(&run{
				id: id, anonymous: id == anonymousID(st.RestartCount), restarts: st.RestartCount,
				specImage: s.specImage(), imageID: st.ImageID, afterLost: last != nil && podstatus.EndUnknown(last),
			})
		}
		r := s.runs[i]
		r.image, r.imageID = st.Image, st.ImageID
		if t := st.State.Terminated; t != nil {
			s.end(r, t)
		} else {
			r.started = st.State.Running.StartedAt.Time
		}
	}
	s.status, s.ready = status, st.Ready
	s.waitReason, s.waitMessage = "", ""
	if w := st.State.Waiting; w != nil {
		s.waitReason, s.waitMessage = w.Reason, w.Message
	}
}

// currentRun returns which run a status shows, and as what. Waiting shows none,
// whatever status.containerID holds.
func (s *slot) currentRun(st *corev1.ContainerStatus) (id string, status slotStatus) {
	switch t := st.State.Terminated; {
	case st.State.Running != nil:
		return s.identify(st.ContainerID, st.RestartCount), statusRunning
	case t != nil && t.ContainerID != "":
		return t.ContainerID, statusTerminated
	case t != nil && st.ContainerID == "" && podstatus.EndUnknown(t) && len(s.runs) > 0:
		// The kubelet lost sight of the run known last, and counts a restart that did
		// not happen (pkg/kubelet/kubelet_pods.go, convertContainerStatus, v1.36).
		return s.current().id, statusTerminated
	case t != nil:
		return s.identify(st.ContainerID, st.RestartCount), statusTerminated
	case st.State.Waiting != nil:
		return "", statusWaiting
	}
	return "", statusNone
}

// identify returns the ID of the run of which a status gives containerID, or none:
// virtual kubelets and fakes have none, nor has an init container of which the
// kubelet knows only that it must have ended. Then restartCount has to do.
func (s *slot) identify(containerID string, restarts int32) string {
	r := s.current()
	same := r != nil && r.restarts == restarts
	switch {
	case containerID == "" && same:
		return r.id
	case containerID == "":
		return anonymousID(restarts)
	case same && r.anonymous && !r.ended() && s.replaced() == nil && s.find(containerID) < 0:
		r.id, r.anonymous = containerID, false // it has got one
	}
	return containerID
}

// vanished returns the run whose container is gone from the node where a status shows an
// earlier one in its place, as ended; "" where it does not. The kubelet shows the newest
// container that the runtime has of a name, and keeps what it said of the one before
// (pkg/kubelet/kubelet_pods.go convertToAPIContainerStatuses, v1.37), since v1.36 the
// restartCount with it. A status that merely lags behind has the count of its time.
func (s *slot) vanished(st *corev1.ContainerStatus, newer bool) string {
	t, last := st.State.Terminated, st.LastTerminationState.Terminated
	if t == nil || t.ContainerID == "" {
		return ""
	}
	i := s.find(t.ContainerID)
	again := last != nil && last.ContainerID == t.ContainerID
	switch {
	case i >= 0 && i < len(s.runs)-1:
		if newer || st.RestartCount > s.runs[i].restarts {
			return s.current().id
		}
	case i >= 0:
		if again && st.RestartCount > s.runs[i].restarts {
			return anonymousID(st.RestartCount)
		}
	case again && st.RestartCount > 0 && !podstatus.MayRestart(s.pod, s.name):
		// With a restart the same shows of the newest run: it waited in CrashLoopBackOff,
		// and the kubelet was started anew.
		return anonymousID(st.RestartCount)
	}
	return ""
}

// withLostRun returns st or, where it shows an earlier run in place of one that vanished, the
// status that tells the end of that one instead, which nobody knows. The kubelet goes by
// the earlier one's exit code.
func (s *slot) withLostRun(st *corev1.ContainerStatus, newer bool) *corev1.ContainerStatus {
	id := s.vanished(st, newer)
	if id == "" {
		return st
	}
	lost := *st
	lost.Image, lost.ImageID = s.specImage(), ""
	if i := s.find(id); i >= 0 {
		lost.Image, lost.ImageID = s.runs[i].image, s.runs[i].imageID
	}
	lost.State.Terminated = &corev1.ContainerStateTerminated{
		ContainerID: id, ExitCode: st.State.Terminated.ExitCode, Reason: podstatus.ReasonStatusUnknown,
	}
	return &lost
}

// observeLast takes in what a status says of the run before the one it shows.
func (s *slot) observeLast(st *corev1.ContainerStatus, id string, status slotStatus) {
	t := st.LastTerminationState.Terminated
	if t == nil || t.ContainerID != "" && t.ContainerID == id {
		return
	}
	i := s.find(t.ContainerID)
	switch old := s.current(); {
	case t.ContainerID == "":
		// Without an ID it is of the run known last, if the count says that this one
		// is over: it may be a run's before that (pkg/kubelet/kubelet_pods.go,
		// convertToAPIContainerStatuses, v1.36: made up where a container is gone).
		if old == nil || old.id == id || st.RestartCount <= old.restarts {
			return
		}
		i = len(s.runs) - 1
	case i < 0 && (status == statusNone || s.find(id) >= 0): // it came before a run that is known
		return
	case i < 0:
		r := &run{id: t.ContainerID, image: st.Image, restarts: st.RestartCount}
		if id != "" {
			r.restarts = max(0, st.RestartCount-1) // the count is of the run that came after
		}
		i = s.add(r)
	}
	s.end(s.runs[i], t)
	s.tellEnded(s.runs[i])
}

// add records a run that nobody saw before. Whether it is a placeholder needs
// nothing but the pod that shows it: spec and status are of one version, and a
// step's ID cannot show before the patch does.
func (s *slot) add(r *run) int {
	r.code = codeOfLost
	if old := s.current(); old != nil {
		s.follow(old)
	}
	if s.declared {
		r.owner = s.ownerOf(r)
	}
	if len(s.runs) >= maxRuns {
		s.runs = append(s.runs[:0:0], s.runs[1:]...)
		s.from = max(s.from-1, 0)
	}
	s.runs = append(s.runs, r)
	if r.owner == ownerPlaceholder {
		s.from = len(s.runs)
	}
	// It runs: what kept it from running is over.
	s.explanation, s.lastStep, s.pullWords = explanation{}, "", ""
	s.runsCounted = r.restarts + 1
	s.timeline.broadcast()
	return len(s.runs) - 1
}

// end records how a run ended. What follows from it is judged, and the end
// said, when all of the pod was taken in.
func (s *slot) end(r *run, t *corev1.ContainerStateTerminated) {
	if r.end > endFollowed || r.told == toldEnd {
		return
	}
	r.code = t.ExitCode
	switch {
	// Where an image was swapped, only the ID in the state itself says whose end it is.
	case t.ContainerID == "" && (s.swapped() || s.from > 0 && s.stepRun() != nil):
		r.end, r.lostReason = endUnattributed, t.Reason
	case r.owner == ownerUnknown || podstatus.EndUnknown(t):
		r.end, r.lostReason = endLost, t.Reason
	case podstatus.NeverStarted(t):
		r.end, r.outcome = endNeverStarted, outcomeOf(t)
	default:
		r.end, r.outcome = endExited, outcomeOf(t)
	}
}

// follow ends a run because a later one shows.
func (s *slot) follow(r *run) {
	if r.end == endNone {
		r.end = endFollowed
	}
	s.tellEnded(r)
}

// countMissed marks runs that came and went between two versions of the pod.
func (s *slot) countMissed(st *corev1.ContainerStatus, id string) {
	if id == "" || s.find(id) >= 0 {
		return
	}
	before := st.RestartCount // how many runs Kubernetes counts before this one
	if t := st.LastTerminationState.Terminated; t != nil && t.ContainerID != "" && t.ContainerID != id && s.find(t.ContainerID) < 0 {
		before--
	}
	if missed := before - s.runsCounted; missed > 0 {
		if old := s.current(); old != nil {
			s.follow(old)
		}
		s.timeline.append(Entry{Time: time.Now(), Missed: int(missed)})
	}
}
