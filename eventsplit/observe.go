package eventsplit

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// observe takes the slot's status from a version of the pod. newer says that this version is
// certainly newer than the one before.
func (s *slot) observe(st *corev1.ContainerStatus, newer bool) {
	if s.timeline.cur != nil && settled(*s.timeline.cur) {
		return // no run follows, and what was told of the last one stays told
	}
	if len(s.runs) == 0 && !s.seenBeforeRuns {
		s.ranBefore = st.RestartCount > 0
	}
	st = s.withLostRun(st, newer)
	before := s.current()
	id, status := s.currentRun(st)
	if i := s.find(id); i >= 0 && i < len(s.runs)-1 {
		return // an older run: the status lags behind what was seen before
	}
	if r := s.current(); r != nil && r.id == id && r.ended() && status == statusRunning {
		return // a run that has ended does not run again
	}
	// Missed runs are told first: they were before the run that this status shows.
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
	switch w := st.State.Waiting; {
	case w == nil:
		s.waitReason, s.waitMessage = "", ""
	case w.Reason == podstatus.ReasonCrashLoop && s.current() == before && s.waitReason != podstatus.ReasonCrashLoop && !isProgress(s.waitReason):
		// The container waits for the next try, and what kept the last one from running
		// stands: the kubelet holds back each try to start what has ended, a killed
		// placeholder's, too (v1.37.2 pkg/kubelet/kuberuntime/kuberuntime_manager.go:1818,
		// before the pull).
	default:
		s.waitReason, s.waitMessage = w.Reason, w.Message
	}
}

// currentRun returns the ID of the run that a status shows, "" when it shows none, and the state
// in which the status shows it.
func (s *slot) currentRun(st *corev1.ContainerStatus) (id string, status slotStatus) {
	switch t := st.State.Terminated; {
	case st.State.Running != nil:
		return s.identify(st.ContainerID, st.RestartCount), statusRunning
	case t != nil && t.ContainerID != "":
		return t.ContainerID, statusTerminated
	case t != nil && st.ContainerID == "" && podstatus.EndUnknown(t) && len(s.runs) > 0:
		// The kubelet lost sight of the newest run, and counts a restart that did not happen
		// (v1.36 pkg/kubelet/kubelet_pods.go convertContainerStatus).
		return s.current().id, statusTerminated
	case t != nil:
		return s.identify(st.ContainerID, st.RestartCount), statusTerminated
	case st.State.Waiting != nil:
		return "", statusWaiting
	}
	return "", statusNone
}

// identify returns the ID of the run of which a status gives containerID, or none. Virtual
// kubelets and fakes give none, nor does the kubelet for an init container of which it knows
// only that it must have ended. restartCount then stands for the ID.
func (s *slot) identify(containerID string, restarts int32) string {
	r := s.current()
	same := r != nil && r.restarts == restarts
	switch {
	case containerID == "" && same:
		return r.id
	case containerID == "":
		return anonymousID(restarts)
	case same && r.anonymous && !r.ended() && s.replaced() == nil && s.find(containerID) < 0:
		r.id, r.anonymous = containerID, false // the run has got one since
	}
	return containerID
}

// vanished returns the ID of the run whose container is gone from the node, where a status shows
// an earlier run in its place, as ended; "" where a status does not. The kubelet shows the
// newest container of a name that the runtime has, and keeps what it said of the run before
// (v1.37 pkg/kubelet/kubelet_pods.go convertToAPIContainerStatuses) and, since v1.36, the
// restartCount. A status that only lags behind has the restartCount of its time.
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
		// Of a container that may be restarted, the newest run may show like this: it waited in
		// CrashLoopBackOff, and the kubelet was restarted.
		return anonymousID(st.RestartCount)
	}
	return ""
}

// withLostRun returns st. Where st shows an earlier run in place of one that vanished, it
// returns a status that says of the vanished run that nobody knows its end. The exit code is the
// earlier run's, by which the kubelet goes.
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

// observeLast takes in what a status says of the run before the one that it shows; id and status
// are those of the latter.
func (s *slot) observeLast(st *corev1.ContainerStatus, id string, status slotStatus) {
	t := st.LastTerminationState.Terminated
	if t == nil || t.ContainerID != "" && t.ContainerID == id {
		return
	}
	i := s.find(t.ContainerID)
	switch old := s.current(); {
	case t.ContainerID == "":
		// Without an ID the end is that of the newest known run, if restartCount says that this
		// run is over. The kubelet makes such an end up where a container is gone (v1.36
		// pkg/kubelet/kubelet_pods.go convertToAPIContainerStatuses).
		if old == nil || old.id == id || st.RestartCount <= old.restarts {
			return
		}
		i = len(s.runs) - 1
	case i < 0 && (status == statusNone || s.find(id) >= 0): // this run was before one that is known
		return
	case i < 0:
		r := &run{id: t.ContainerID, image: st.Image, restarts: st.RestartCount}
		if id != "" {
			r.restarts = max(0, st.RestartCount-1) // the count is that of the run after it
		}
		i = s.add(r)
	}
	s.end(s.runs[i], t)
	s.tellEnded(s.runs[i])
}

// add records a run that no status has shown before, and returns its index. Its owner follows
// from the version that shows it: spec and status are of one version, and a step's ID cannot
// show before the patch does.
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
	// What kept the container from running is over.
	s.explanation, s.lastStep, s.pullWords = explanation{}, "", ""
	s.runsCounted = r.restarts + 1
	s.timeline.broadcast()
	return len(s.runs) - 1
}

// end records how a run ended. What follows from the end is judged, and the end is told, when
// the whole version was taken in.
func (s *slot) end(r *run, t *corev1.ContainerStateTerminated) {
	if r.end > endFollowed || r.told == toldEnd {
		return
	}
	r.code = t.ExitCode
	switch {
	// In a slot whose image was swapped, only an ID in the state itself says whose end it is.
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

// countMissed adds an entry for runs that came and went between two versions.
func (s *slot) countMissed(st *corev1.ContainerStatus, id string) {
	if id == "" || s.find(id) >= 0 {
		return
	}
	before := st.RestartCount // the runs that Kubernetes counts before this one
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
