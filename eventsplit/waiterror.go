package eventsplit

import (
	"context"
	"strconv"
)

// WaitError is what Wait, Swap, NextRun and Entries return when their context ends first. It
// says what was waited for, and why that had not come. It unwraps to Cause alone: what a
// slot waits for may still come, so errors.As finds no Failure in a WaitError.
type WaitError struct {
	Slot    string   // "" is the pod
	Waiting *Failure // State.Waiting when the context ended; nil: the slot did not wait
	Cause   error    // context.Cause of the context

	doing  string // what the caller was doing; "" is "waiting for"
	detail string // why that had not come, where Waiting does not say
}

// gaveUp returns the error of a call that was doing something with a slot in State st when ctx
// ended.
func gaveUp(ctx context.Context, doing string, st State) error {
	e := &WaitError{Slot: st.Slot, Waiting: st.Waiting, Cause: context.Cause(ctx), doing: doing}
	switch {
	case st.Kind == "" || st.Kind == KindPod && st.Phase == PhaseNotRun:
		e.detail = "the pod was not seen yet"
	case st.Phase == PhaseNotRun:
		e.detail = "nothing was swapped in for its placeholder"
	case st.Phase == PhaseRunning:
		e.detail = "it is running"
	case st.Phase == PhaseEnded:
		e.detail = "it has ended"
	}
	if st.Stale {
		if e.detail != "" {
			e.detail += ", "
		}
		e.detail += "the watch has lost contact"
	}
	return e
}

// Error names the slot, why it waits, and the cause.
func (e *WaitError) Error() string {
	doing, what := e.doing, "the pod"
	if doing == "" {
		doing = "waiting for"
	}
	if e.Slot != "" {
		what = "container " + strconv.Quote(e.Slot)
	}
	text := doing + " " + what + ": "
	if e.Waiting != nil {
		why := *e.Waiting
		if why.Slot == e.Slot {
			why.Slot = "" // the text names it already
		}
		text += why.Error() + ": "
	}
	if e.detail != "" {
		text += e.detail + ": "
	}
	if e.Cause == nil {
		return text + "given up"
	}
	return text + e.Cause.Error()
}

// Unwrap returns the context's cause.
func (e *WaitError) Unwrap() error { return e.Cause }
