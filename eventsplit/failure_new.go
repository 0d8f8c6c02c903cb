package eventsplit

import (
	"cmp"
	"fmt"

	"github.com/go-vela/podlife/internal/podstatus"
)

// swapFailure is for a swap whose new container was not started; the container before it is
// dead.
func swapFailure(sl *slot) *Failure {
	f := Failure{Class: ClassNotStarted}
	if sl.explanation.failure != nil {
		f = *sl.explanation.failure
	}
	f.Slot, f.Image, f.MayRecover = sl.name, sl.pulledImage(&f), false
	return &f
}

// placeholderFailure is for a placeholder that ended before anyone patched the image: a patch
// starts nothing in a container that does not run. Where the patch may be older than this
// Splitter, the patch may have killed the placeholder.
func placeholderFailure(sl *slot) *Failure {
	f := &Failure{Class: ClassPlaceholder, Slot: sl.name, Image: sl.specImage()}
	if sl.mayBePatched() {
		f.Cause = CauseUnattributed
	}
	if r := sl.replaced(); r != nil && r.outcome != nil {
		f.Reason = r.outcome.Reason
		f.Message = fmt.Sprintf("exit code %d", r.outcome.ExitCode)
		if r.outcome.Message != "" {
			f.Message += ": " + r.outcome.Message
		}
	}
	return f
}

// startFailure is for a container whose process could not be started.
func startFailure(sl *slot, r *run) *Failure {
	return &Failure{
		Class: ClassStart, Slot: sl.name, Image: sl.specImage(), Reason: r.outcome.Reason,
		Message: cleanRuntime(r.outcome.Message),
	}
}

// lostFailure is for a run whose end nobody knows.
func (s *Splitter) lostFailure(sl *slot) *Failure {
	if s.record.cause != nil {
		return s.podFailure(sl)
	}
	f := &Failure{Class: ClassLost, Slot: sl.name, Image: sl.specImage(), Reason: podstatus.ReasonStatusUnknown}
	if r := sl.current(); r != nil {
		f.Reason = cmp.Or(r.lostReason, f.Reason)
		if r.unattributed() {
			f.Cause, f.Reason = CauseUnattributed, r.lostReason
		}
	}
	return f
}

// podFailure is what befell the pod, told of one slot.
func (s *Splitter) podFailure(sl *slot) *Failure {
	if s.record.cause == nil {
		return &Failure{
			Class: ClassPodEnded, Slot: sl.name, Image: sl.specImage(),
			Reason: string(s.pod.Status.Phase), Message: s.firstFailed(),
		}
	}
	f := *s.record.cause
	f.Slot, f.Image = sl.name, sl.specImage()
	if s.pod != nil {
		f.Node = s.pod.Spec.NodeName
	}
	return &f
}

// firstFailed names the container whose end ended the pod, as far as the statuses tell.
func (s *Splitter) firstFailed() string {
	for _, sl := range s.order {
		r := sl.stepRun()
		if r == nil || sl.kind == KindSidecar {
			continue
		}
		what := "container"
		if sl.kind == KindInit {
			what = "init container"
		}
		switch {
		case r.lost():
			return fmt.Sprintf("%s %q was lost, how it ended is not known", what, sl.name)
		case r.outcome != nil && r.outcome.ExitCode != 0:
			return fmt.Sprintf("%s %q failed with exit code %d", what, sl.name, r.outcome.ExitCode)
		}
	}
	return s.pod.Status.Message
}

// unnamedSlot is for a call that means a container and gives an empty name. In other calls "" is
// the pod.
func unnamedSlot() *Failure {
	return &Failure{Class: ClassUnknownSlot, Message: "the container's name is empty"}
}

// unknownSlot is for a name that no container of the pod has.
func unknownSlot(name string) *Failure {
	return &Failure{Class: ClassUnknownSlot, Slot: name}
}

// endedFailure is for a wait for something that cannot come because the slot, or the pod, has
// ended.
func endedFailure(st State) *Failure {
	f := &Failure{Class: ClassEnded, Slot: st.Slot, Image: st.Image}
	if st.Outcome != nil {
		f.Reason = st.Outcome.Reason
		f.Message = fmt.Sprintf("exit code %d", st.Outcome.ExitCode)
	}
	return f
}

// final is f, decided: Kubernetes has not overcome the trouble in time.
func final(f *Failure) *Failure {
	cp := *f
	return &cp
}
