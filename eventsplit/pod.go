package eventsplit

import (
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// whole is what is known of the pod itself.
type whole struct {
	timeline  timeline
	cause     *Failure // sticky: what befell the pod, told by its earliest signal
	hint      *Failure // an Event told of a disruption that the pod does not show yet
	hintAt    time.Time
	requested time.Time // when the deletion was asked for
	gone      bool      // deleted, replaced, or out of scope: nothing more will be heard
	ended     bool      // phase Succeeded or Failed

	event    explanation // the Warning Event that says best why nothing starts
	waiting  *Failure
	patience patience
	outcome  *Outcome
	unclean  *Failure // it ended by itself, and that is no outcome
}

// deletion is why a pod was deleted, as far as anything told.
func (s *Splitter) deletion(plain *Failure) *Failure {
	w := &s.whole
	asked := w.requested
	if asked.IsZero() {
		asked = time.Now()
	}
	if w.hint == nil || asked.Sub(w.hintAt) > hintLapse || s.pod != nil && hintCured(s.pod, w.hint, w.hintAt) {
		return plain
	}
	f := *w.hint
	f.MayRecover = false
	return &f
}

const msgDeleted = "the pod was deleted"

// over tells whether no container of the pod starts any more.
func (s *Splitter) over() bool {
	return s.whole.gone || s.whole.ended || s.whole.cause != nil
}

// takePod takes in a version of the pod and tells whether it was news.
func (s *Splitter) takePod(pod *corev1.Pod, deleted bool) bool {
	switch {
	case s.whole.gone:
		return false
	case s.uid == "" && s.pod == nil:
		s.uid = pod.UID
		s.whole.event = explanation{} // an owner's, of a pod that could not be created
		defer s.flushEvents()
	case pod.UID != s.uid && deleted:
		return false
	case pod.UID != s.uid:
		if orderOf(pod, s.pod) < 0 {
			return false // an older pod of that name
		}
		s.lose(&Failure{Class: ClassDeleted, Message: "another pod has taken its name"})
		return true
	}
	older := 1
	if s.pod != nil {
		older = orderOf(pod, s.pod)
	}
	switch {
	case older >= 0: // the same version may have another content: fakes give them all one
		s.takeVersion(pod)
	case !deleted:
		return false
	}
	if deleted {
		s.lose(&Failure{Class: ClassDeleted, Message: msgDeleted})
	}
	return true
}

// orderOf is below 0 when a is an older version than b, 0 when they are the same, and
// above 0 when a is newer or that cannot be told: then arrival decides.
func orderOf(a, b *corev1.Pod) int {
	if c, ok := podstatus.CompareVersions(a.ResourceVersion, b.ResourceVersion); ok {
		return c
	}
	return 1
}

func (s *Splitter) takeVersion(pod *corev1.Pod) {
	w := &s.whole
	if w.ended && !podstatus.IsTerminal(pod) {
		return // it has ended, and this is what was before
	}
	first := s.pod == nil
	newer := !first && orderOf(s.pod, pod) < 0
	told := s.toldUnknown() // that the pod is over was said of these, and stays said
	s.pod = pod
	if pod.DeletionTimestamp != nil {
		w.requested = deletionAsked(pod)
	}
	if w.cause == nil && !w.ended { // what befalls a pod that has ended is no cause of its end
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
		sl.seenBeforeRuns = sl.seenBeforeRuns || len(sl.runs) == 0 && !sl.counted
	}
}

// toldUnknown returns the slots that the spec did not have when the pod was over.
func (s *Splitter) toldUnknown() (told []*slot) {
	for _, sl := range s.slots {
		if s.over() && sl.spec == nil {
			told = append(told, sl)
		}
	}
	return told
}

// takeSpec learns the pod's containers. Those of a spec that was seen stay, should a
// later version lack it.
func (s *Splitter) takeSpec(pod *corev1.Pod, first bool) {
	specced := podstatus.HasSpec(pod)
	if s.specced && !specced {
		return
	}
	n := 0
	for range podstatus.Containers(pod) {
		n++
	}
	grown := len(s.order) != n || s.specced != specced
	if grown {
		s.order = s.order[:0]
	}
	if s.specced = specced; specced && grown {
		for _, sl := range s.slots {
			sl.spec = nil // the statuses may have named more than there are
		}
	}
	for c := range podstatus.Containers(pod) {
		sl := s.slots[c.Name]
		if sl == nil {
			continue // two pods handled at once: the next version has it
		}
		sl.kind, sl.pod = Kind(c.Role), pod
		// A new image restarts neither, so what runs there is never a placeholder.
		sl.declared = sl.declared && sl.kind != KindInit && sl.kind != KindEphemeral
		switch {
		case c.Spec != nil:
			sl.respec(c.Spec)
			sl.volumes = imageVolumes(pod, c.Spec)
		case sl.spec == nil: // a status shows it, and none did before
			sl.spec, sl.seenBeforeRuns = &corev1.Container{Name: c.Name}, !first
		}
		if grown {
			s.order = append(s.order, sl)
		}
	}
}

// deletionAsked is when the deletion of a pod that is being deleted was asked for.
func deletionAsked(pod *corev1.Pod) time.Time {
	asked := pod.DeletionTimestamp.Time
	if g := pod.DeletionGracePeriodSeconds; g != nil {
		asked = asked.Add(-time.Duration(*g) * time.Second)
	}
	return asked
}

// endedBefore tells whether all that ran in a pod that has ended did so before its
// deletion was asked for: then it was cleaned up, and not ended by that.
func endedBefore(pod *corev1.Pod, requested time.Time) bool {
	if !podstatus.IsTerminal(pod) || len(pod.Status.ContainerStatuses) == 0 {
		return false
	}
	for i := range pod.Status.ContainerStatuses {
		t := pod.Status.ContainerStatuses[i].State.Terminated
		if t == nil || t.FinishedAt.IsZero() || !t.FinishedAt.Time.Before(requested) {
			return false
		}
	}
	return true
}

func (s *Splitter) takeStatuses(statuses []corev1.ContainerStatus, newer bool) {
	for i := range statuses {
		if sl := s.slots[statuses[i].Name]; sl != nil && sl.spec != nil {
			sl.observe(&statuses[i], newer)
		}
	}
}

// lose: the pod is gone from view, and with it what its containers still do.
func (s *Splitter) lose(why *Failure) {
	w := &s.whole
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

// podCause reads from a pod what befell it, nil when nothing did. Containers that
// ended by themselves are no cause.
func podCause(pod *corev1.Pod) *Failure {
	disruption := disruptionOf(pod)
	if disruption != nil && endedBefore(pod, disruption.Since) {
		disruption = nil // a drain removes what has ended, too
	}
	if pod.Status.Phase == corev1.PodFailed {
		if f := failedPod(pod); f != nil {
			return f
		}
		if disruption != nil {
			disruption.MayRecover = false
			return disruption
		}
	}
	if pod.DeletionTimestamp != nil && disruption != nil {
		disruption.MayRecover = false
		return disruption
	}
	return nil
}

// disruptionOf reads the DisruptionTarget condition, the earliest signal there
// is. The disruption may still be called off, so alone it is no verdict.
func disruptionOf(pod *corev1.Pod) *Failure {
	c := condition(pod, corev1.DisruptionTarget)
	if c == nil || c.Status != corev1.ConditionTrue {
		return nil
	}
	class, ok := disruptionClasses[c.Reason]
	if !ok {
		class = ClassEvicted
	}
	return &Failure{Class: class, Reason: c.Reason, Message: c.Message, MayRecover: true, Since: c.LastTransitionTime.Time}
}

// failedPod reads status.reason of a failed pod.
func failedPod(pod *corev1.Pod) *Failure {
	reason := pod.Status.Reason
	if reason == "" {
		return nil
	}
	class, ok := podReasons[reason]
	switch {
	case ok:
	case strings.HasPrefix(reason, "OutOf"): // of any resource (pkg/kubelet/lifecycle/predicate.go:232, v1.36)
		class = ClassRejected
	default:
		// The kubelet rejects with a reason of its own for each check, and then
		// no container was ever seen (pkg/kubelet/lifecycle/predicate.go, v1.36).
		if len(pod.Status.ContainerStatuses)+len(pod.Status.InitContainerStatuses) > 0 {
			class = ClassOther
		} else {
			class = ClassRejected
		}
	}
	return &Failure{Class: class, Reason: reason, Message: pod.Status.Message}
}

func condition(pod *corev1.Pod, t corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// podWaiting reads from a pod why nothing in it starts; nil when nothing says so.
func podWaiting(pod *corev1.Pod) *Failure {
	if podstatus.IsTerminal(pod) {
		return nil
	}
	if d := disruptionOf(pod); d != nil {
		return d
	}
	if c := condition(pod, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse {
		return &Failure{
			Class: ClassUnschedulable, Reason: c.Reason, Message: c.Message, MayRecover: true,
			Since: c.LastTransitionTime.Time,
		}
	}
	if pod.Status.Reason == reasonProviderFailed { // virtual-kubelet v1.11 node/pod.go:164: it will try again
		return &Failure{Class: ClassRejected, Reason: reasonProviderFailed, Message: pod.Status.Message, MayRecover: true}
	}
	if pod.Status.Phase == corev1.PodUnknown || pod.Status.Reason == "NodeLost" {
		return &Failure{
			Class: ClassNodeLost, Reason: reasonPodUnknown, Message: pod.Status.Message, MayRecover: true,
		}
	}
	return nil
}

// rewaitPod rebuilds why the pod waits, if that changed.
func (s *Splitter) rewaitPod(now time.Time) {
	w := &s.whole
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

// overcome reports whether what an Event said of why nothing starts in the pod is over.
func (s *Splitter) overcome(f *Failure) bool {
	return cured(f, s.pod, s.started()) || s.started() && f.Class != ClassVolume && f.Class != ClassSandbox
}

// started tells whether something in the pod got as far as its image: volumes and
// sandbox are there then.
func (s *Splitter) started() bool {
	if isTrue(s.pod, corev1.PodReadyToStartContainers) {
		return true
	}
	for _, sl := range s.order {
		if len(sl.runs) > 0 || sl.progress != "" {
			return true
		}
	}
	return false
}

// podState is what State says of slot "".
func (s *Splitter) podState() State {
	w := &s.whole
	st := State{Kind: KindPod, Phase: PhaseNotRun, Stale: s.stale, Failure: w.cause, Waiting: w.waiting}
	if s.pod != nil {
		st.Phase = PhaseWaiting
		if s.pod.Status.Phase == corev1.PodRunning || s.pod.Status.Phase == corev1.PodUnknown {
			st.Phase = PhaseRunning
		}
		c := condition(s.pod, corev1.PodReady)
		st.Ready = c != nil && c.Status == corev1.ConditionTrue && !s.over()
	}
	if w.ended || w.gone {
		st.Phase, st.Final, st.Waiting = PhaseEnded, true, nil
	}
	if w.ended && w.cause == nil {
		st.Outcome, st.Failure = w.outcome, w.unclean
		st.Final = w.outcome != nil || w.unclean != nil // else one of its containers is not decided yet
	}
	return st
}

// concludePod decides how a pod ended by itself, once all of its containers are decided.
// Kubernetes calls it Succeeded, too, when the placeholder of a failed swap was the last
// container to end, and Failed when nobody knows how its containers ended.
func (s *Splitter) concludePod() {
	w := &s.whole
	if !w.ended || w.cause != nil || w.outcome != nil || w.unclean != nil {
		return
	}
	var failure *Failure
	for _, sl := range s.order {
		if !w.gone && (!sl.verdict.IsZero() || !sl.lostAt.IsZero()) {
			return
		}
		if f := sl.failure; f != nil && failure == nil && (f.Class == ClassLost || sl.swapped() && sl.work() == nil) {
			failure = f
		}
	}
	o := s.podOutcome()
	switch {
	case failure != nil:
		w.unclean = failure
	case o.ExitCode != 0 || s.pod.Status.Phase == corev1.PodSucceeded:
		w.outcome = o
	default:
		w.unclean = &Failure{Class: ClassOther, Reason: string(corev1.PodFailed), Message: s.pod.Status.Message}
	}
}

func (s *Splitter) podOutcome() *Outcome {
	o := &Outcome{Reason: string(s.pod.Status.Phase), Message: s.pod.Status.Message}
	if t := s.pod.Status.StartTime; t != nil {
		o.Started = t.Time
	}
	for _, sl := range s.order {
		r := sl.current()
		if r == nil || r.outcome == nil {
			continue
		}
		if r.outcome.Finished.After(o.Finished) {
			o.Finished = r.outcome.Finished
		}
		if s.pod.Status.Phase == corev1.PodFailed && o.ExitCode == 0 && sl.kind != KindSidecar {
			o.ExitCode, o.Signal, o.OOM = r.outcome.ExitCode, r.outcome.Signal, r.outcome.OOM
			if o.ExitCode != 0 && o.Message == "" {
				o.Message = "container " + strconv.Quote(sl.name) + " failed"
			}
		}
	}
	return o
}
