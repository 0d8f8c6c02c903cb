package eventsplit

import (
	"cmp"
	"fmt"

	"github.com/go-vela/podlife/internal/podstatus"
)

// swapFailure: the new container was not started, and what was there is dead.
func swapFailure(sl *slot) *Failure {
	f := Failure{Class: ClassNotStarted}
	if sl.explanation.failure != nil {
		f = *sl.explanation.failure
	}
	f.Slot, f.Image, f.MayRecover = sl.name, sl.pulledImage(&f), false
	return &f
}

// placeholderFailure: the placeholder ended before anyone patched the image, and
// an image patch starts nothing in a container that does not run. Where the patch may
// be older than this Splitter, it may have killed the placeholder.
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

func startFailure(sl *slot, r *run) *Failure {
	return &Failure{
		Class: ClassStart, Slot: sl.name, Image: sl.specImage(), Reason: r.outcome.Reason,
		Message: cleanRuntime(r.outcome.Message),
	}
}

// lostFailure: the run was there and is no more, and nobody knows how it ended.
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

// podFailure is what befell the pod, said of one slot.
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

// firstFailed names the container whose end ended the pod, if one can be told.
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

// unnamedSlot: a container is meant, and the caller has no name for it. Elsewhere ""
// is the pod.
func unnamedSlot() *Failure {
	return &Failure{Class: ClassUnknownSlot, Message: "the container's name is empty"}
}

func unknownSlot(name string) *Failure {
	return &Failure{Class: ClassUnknownSlot, Slot: name}
}

// endedFailure: what was waited for cannot come any more.
func endedFailure(st State) *Failure {
	f := &Failure{Class: ClassEnded, Slot: st.Slot, Image: st.Image}
	if st.Outcome != nil {
		f.Reason = st.Outcome.Reason
		f.Message = fmt.Sprintf("exit code %d", st.Outcome.ExitCode)
	}
	return f
}

// final is f once it is decided that Kubernetes will not get over it in time.
func final(f *Failure) *Failure {
	cp := *f
	return &cp
}
