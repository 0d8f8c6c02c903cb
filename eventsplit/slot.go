package eventsplit

import (
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// maxRuns bounds the runs remembered of one slot. A container in
// CrashLoopBackOff has twelve an hour.
const maxRuns = 1024

// run is one life of a slot, known by its containerID alone: restartCount is
// recomputed by the kubelet from what its garbage collector left, and the image
// string is the runtime's (two tags of one image may show the other's name).
type run struct {
	id             string // its containerID, or what stands for it
	anonymous      bool   // nobody gives it a containerID
	image, imageID string
	specImage      string // the spec's image in the version that first showed it; "" when only lastState did
	placeholder    bool
	unsure         bool  // whether it is a placeholder's or a step's is not known
	afterLost      bool  // the one before it is gone from the node
	restarts       int32 // the status' restartCount
	started        time.Time
	ended          bool
	lost           bool   // it ended, nobody knows how
	code           int32  // the exit code that the kubelet goes by; of a run that was lost, its invention
	lostReason     string // what the status says of that
	neverStarted   bool   // created, and its process could not be started
	outcome        *Outcome
	saidStarted    bool
	saidEnded      bool
	judged         bool // its end was looked at
	disrupted      bool // it ended because of what befell the pod
}

// containerID is "" of a run to which nobody gives one.
func (r *run) containerID() string {
	if r.anonymous {
		return ""
	}
	return r.id
}

// slotStatus is what the newest status says of a slot, as far as it matters.
type slotStatus int

const (
	statusNone slotStatus = iota
	statusWaiting
	statusRunning
	statusTerminated
)

// slot is one container of the pod. The Splitter's lock guards it.
type slot struct {
	timeline
	name     string
	kind     Kind
	declared bool              // Options.Placeholder says that its first run is a placeholder
	spec     *corev1.Container // nil: the pod's spec does not have it, or is unknown
	pod      *corev1.Pod       // the version that spec is of
	watched  bool              // it was seen before its first run was
	counted  bool              // its first status counts runs that came before
	wanted   int               // swaps of it that wait for a run to replace
	volumes  []string          // the images of the volumes that it mounts

	presumed string // the placeholder, as long as Handle has not seen a run
	runs     []*run
	from     int // State speaks of runs[from:] only: placeholders and replaced runs come before
	seen     int32

	status      slotStatus
	waitReason  string
	waitMessage string
	ready       bool

	swap     *swapRecord // the newest swap whose patch was called and not refused
	swapping bool        // a patch is in flight
	explain  explanation // the Warning Event that says best why it does not run
	progress string      // reason of the newest Normal Event since the last run or swap
	pulling  string      // the registry's words in the newest ErrImagePull

	waiting    *Failure // why it waits, rebuilt only when waitingKey changes
	waitingKey waitingKey
	patience   patience  // with what it waits for
	verdict    time.Time // a failed swap is said then, with whatever reason is known
	lostAt     time.Time // a run that a finished pod still shows as running is given up then
	failure    *Failure  // sticky
}

// current is the newest run, placeholders included; nil when there is none.
func (s *slot) current() *run {
	if len(s.runs) == 0 {
		return nil
	}
	return s.runs[len(s.runs)-1]
}

// work is the newest run that State speaks of; nil when there is none.
func (s *slot) work() *run {
	if len(s.runs) <= s.from {
		return nil
	}
	return s.current()
}

// replaced is the run a swap is to replace, as long as nothing came after it.
func (s *slot) replaced() *run {
	if s.from == 0 || len(s.runs) != s.from {
		return nil
	}
	return s.runs[s.from-1]
}

func (s *slot) find(id string) int {
	for i, r := range slices.Backward(s.runs) {
		if r.id == id {
			return i
		}
	}
	return -1
}

// swapped tells whether the slot's image was patched since the run that it
// shows was started: by a Swap, or by anyone, seen in the spec.
func (s *slot) swapped() bool {
	r := s.replaced()
	if r == nil {
		return false
	}
	return s.swap != nil && s.swap.from == r || s.respecced()
}

// respecced tells whether the spec has another image than the one the run that it
// is to replace was started with.
func (s *slot) respecced() bool {
	r := s.replaced()
	return r != nil && s.spec != nil && r.specImage != "" && s.spec.Image != r.specImage
}

// respec takes the slot's container from a newer pod.
func (s *slot) respec(c *corev1.Container) {
	s.spec = c
	// A run that a swap replaces is history as soon as the patch shows: from
	// the patch's answer or, when that was lost, from the watch.
	if s.swap != nil && s.swap.from.specImage != "" && c.Image != s.swap.from.specImage {
		if i := s.find(s.swap.from.id); i >= s.from {
			s.from = i + 1
		}
	}
}

// observe takes the slot's status from a pod; newer: that pod is certainly newer than
// the one before.
func (s *slot) observe(st *corev1.ContainerStatus, newer bool) {
	if s.cur != nil && settled(*s.cur) {
		return // no run follows, and what was said of the last one stays said
	}
	if len(s.runs) == 0 && !s.watched {
		s.counted = st.RestartCount > 0
	}
	st = s.unmasked(st, newer)
	before := s.current()
	id, status := s.currentRun(st)
	if i := s.find(id); i >= 0 && i < len(s.runs)-1 {
		return // an older run: the status lags behind what was seen
	}
	if r := s.current(); r != nil && r.id == id && r.ended && status == statusRunning {
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
				specImage: s.specImage(), imageID: st.ImageID, afterLost: last != nil && endUnknown(last),
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
	case w.Reason == reasonCrashLoop && s.current() == before && s.waitReason != reasonCrashLoop && !isProgress(s.waitReason):
		// It waits for the next try, and what kept the last one from running stands: the
		// kubelet holds back each try to start what has ended, a killed placeholder's, too
		// (pkg/kubelet/kuberuntime/kuberuntime_manager.go:1818, v1.37.2: before the pull).
	default:
		s.waitReason, s.waitMessage = w.Reason, w.Message
	}
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
	case again && st.RestartCount > 0 && !mayRestart(s.pod, s.spec, s.kind):
		// With a restart the same shows of the newest run: it waited in CrashLoopBackOff,
		// and the kubelet was started anew.
		return anonymousID(st.RestartCount)
	}
	return ""
}

// unmasked returns st or, where it shows an earlier run in place of one that vanished, the
// status that tells the end of that one instead, which nobody knows. The kubelet goes by
// the earlier one's exit code.
func (s *slot) unmasked(st *corev1.ContainerStatus, newer bool) *corev1.ContainerStatus {
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
		ContainerID: id, ExitCode: st.State.Terminated.ExitCode, Reason: reasonStatusUnknown,
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
	s.sayEnded(s.runs[i])
}

// currentRun returns which run a status shows, and as what. Waiting shows none,
// whatever status.containerID holds.
func (s *slot) currentRun(st *corev1.ContainerStatus) (id string, status slotStatus) {
	switch t := st.State.Terminated; {
	case st.State.Running != nil:
		return s.identify(st.ContainerID, st.RestartCount), statusRunning
	case t != nil && t.ContainerID != "":
		return t.ContainerID, statusTerminated
	case t != nil && st.ContainerID == "" && endUnknown(t) && len(s.runs) > 0:
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
	case same && r.anonymous && !r.ended && s.replaced() == nil && s.find(containerID) < 0:
		r.id, r.anonymous = containerID, false // it has got one
	}
	return containerID
}

// anonymousID stands for the containerID of a run that has none. No containerID
// has a blank in it.
func anonymousID(restarts int32) string {
	if restarts == 0 {
		return "run 0"
	}
	return "run " + strconv.Itoa(int(restarts))
}

func (s *slot) specImage() string {
	if s.spec == nil {
		return ""
	}
	return s.spec.Image
}

// add records a run that nobody saw before. Whether it is a placeholder needs
// nothing but the pod that shows it: spec and status are of one version, and a
// step's ID cannot show before the patch does.
func (s *slot) add(r *run) int {
	r.code = 137                        // what the kubelet takes an unknown end for
	if old := s.current(); old != nil { // a new run is the end of the one before
		old.ended = true
		s.sayEnded(old)
	}
	if s.declared {
		r.placeholder, r.unsure = s.attribute(r)
	}
	if len(s.runs) >= maxRuns {
		s.runs = append(s.runs[:0:0], s.runs[1:]...)
		s.from = max(s.from-1, 0)
	}
	s.runs = append(s.runs, r)
	if r.placeholder {
		s.from = len(s.runs)
	}
	// It runs: what kept it from running is over.
	s.explain, s.progress, s.pulling = explanation{}, "", ""
	s.seen = r.restarts + 1
	s.broadcast()
	return len(s.runs) - 1
}

// end records how a run ended. What follows from it is judged, and the end
// said, when all of the pod was taken in.
func (s *slot) end(r *run, t *corev1.ContainerStateTerminated) {
	if r.outcome != nil || r.lost || r.saidEnded {
		return
	}
	r.ended, r.code = true, t.ExitCode
	// Where an image was swapped, only the ID in the state itself says whose end it is.
	r.unsure = r.unsure || t.ContainerID == "" && (s.swapped() || s.from > 0 && s.work() != nil)
	if r.unsure || endUnknown(t) {
		r.lost, r.lostReason = true, t.Reason
		return
	}
	r.outcome = outcomeOf(t)
	r.neverStarted = neverStarted(t)
}

func outcomeOf(t *corev1.ContainerStateTerminated) *Outcome {
	return &Outcome{
		ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, Message: t.Message,
		OOM: t.Reason == "OOMKilled", Finished: known(t.FinishedAt.Time), Started: known(t.StartedAt.Time),
	}
}

// known turns the epoch, which a runtime gives for "never", into zero.
func known(t time.Time) time.Time {
	if t.Unix() <= 0 {
		return time.Time{}
	}
	return t
}

// neverStarted: containerd says StartError, docker ContainerCannotRun, both with
// exit code 128 (or 127) and, for the start time, the epoch.
func neverStarted(t *corev1.ContainerStateTerminated) bool {
	switch t.Reason {
	case reasonStartError, reasonCannotRun:
		return true
	}
	return t.ExitCode == 128 && t.StartedAt.Unix() <= 0
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
	if missed := before - s.seen; missed > 0 {
		if old := s.current(); old != nil {
			old.ended = true
			s.sayEnded(old)
		}
		s.append(Entry{Time: time.Now(), Missed: int(missed)})
	}
}

// say publishes one edge of a run.
func (s *slot) say(r *run, p Phase, at time.Time, synthesised bool) {
	st := s.base()
	st.Phase, st.ContainerID, st.Image, st.ImageID = p, r.containerID(), r.image, r.imageID
	st.Restarts, st.Last = s.restarts(r), s.last(r)
	switch p {
	case PhaseRunning:
		r.saidStarted = true
		st.Ready = !synthesised && s.ready
	case PhaseEnded:
		r.saidEnded = true
		st.Outcome = r.outcome
	}
	s.publish(st, at, synthesised)
}

// sayStarted publishes the start of a run that nobody saw running.
func (s *slot) sayStarted(r *run) {
	if r.saidStarted || r.neverStarted || !s.maySpeakOf(r) {
		return
	}
	at := r.started
	if r.outcome != nil {
		at = r.outcome.Started
	}
	s.say(r, PhaseRunning, at, true)
}

// sayEnded publishes the end of a run that another one follows, and before it
// the start, if nobody saw that.
func (s *slot) sayEnded(r *run) {
	if r.saidEnded || !s.maySpeakOf(r) {
		return
	}
	s.sayStarted(r)
	var at time.Time
	if r.outcome != nil {
		at = r.outcome.Finished
	}
	s.say(r, PhaseEnded, at, true)
}

func (s *slot) maySpeakOf(r *run) bool {
	return s.failure == nil && s.find(r.id) >= s.from
}

// base is what every State of the slot has.
func (s *slot) base() State {
	st := State{Slot: s.name, Kind: s.kind, Phase: PhaseNotRun, Image: s.specImage(), Stale: s.cur.Stale}
	if s.declared && (len(s.runs) == 0 || s.replaced() != nil && !s.respecced()) {
		st.Image = "" // the placeholder's
	}
	return st
}

// restarts counts from the first run State speaks of.
func (s *slot) restarts(r *run) int32 {
	if s.from == 0 {
		return r.restarts
	}
	return max(0, r.restarts-s.runs[s.from-1].restarts-1)
}

// last is the outcome of the run before r, if State speaks of that one.
func (s *slot) last(r *run) *Outcome {
	if i := s.find(r.id); i > s.from {
		return s.runs[i-1].outcome
	}
	return nil
}
