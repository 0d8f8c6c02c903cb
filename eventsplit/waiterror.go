package eventsplit

import (
	"context"
	"strconv"
)

// WaitError is what Wait, Swap, NextRun and Entries end with when their context
// ends first. It says what was waited for, and why that had not come. It unwraps
// to Cause alone: what a slot waits for may still come, so errors.As finds no
// Failure in it.
type WaitError struct {
	Slot    string   // "" is the pod
	Waiting *Failure // State.Waiting of then; nil when the slot did not wait
	Cause   error    // context.Cause of the context

	doing  string // what the caller was doing; "" is "waiting for"
	detail string // why it had not come, where Waiting does not say
}

// gaveUp makes the error of a call that was doing something with a slot, now in
// state st, when ctx ended.
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

// Error names the container, why it waits, and the cause.
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
			why.Slot = "" // it is named already
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
