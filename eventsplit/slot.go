package eventsplit

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// slotStatus is what the newest status says of a slot, as far as it matters.
type slotStatus int

const (
	statusNone slotStatus = iota
	statusWaiting
	statusRunning
	statusTerminated
)

// waitSource says where the reason of a waiting slot comes from.
type waitSource int

const (
	waitsNot       waitSource = iota
	waitsForItself            // its own status names a trouble; Policy is asked
	waitsForSwap              // a swap is under way
	waitsForPod               // the pod, or an init container, holds it up
	waitsForStart             // nothing is wrong
)

// waitingKey is everything slot.waiting is made of.
type waitingKey struct {
	source          waitSource
	reason, message string
	event           *corev1.Event
	other           *Failure
}

// swapRecord is a swap whose patch was called, and not refused.
type swapRecord struct {
	from    *run // what it replaces
	unknown bool // whether the patch was applied is not known
}

// slot is one container of the pod. The Splitter's lock guards it.
type slot struct {
	timeline       timeline
	name           string
	kind           Kind
	declared       bool              // Options.Placeholder says that its first run is a placeholder
	spec           *corev1.Container // nil: the pod's spec does not have it, or is unknown
	pod            *corev1.Pod       // the version that spec is of
	seenBeforeRuns bool              // it was seen before its first run was
	ranBefore      bool              // its first status counts runs that came before
	waitingSwaps   int               // swaps of it that wait for a run to replace
	volumes        []string          // the images of the volumes that it mounts

	presumed    string // the placeholder, as long as Handle has not seen a run
	runs        []*run
	from        int // State speaks of runs[from:] only: placeholders and replaced runs come before
	runsCounted int32

	status      slotStatus
	waitReason  string
	waitMessage string
	ready       bool

	swap        *swapRecord // the newest swap whose patch was called and not refused
	swapping    bool        // a patch is in flight
	explanation explanation // the Warning Event that says best why it does not run
	lastStep    string      // reason of the newest Normal Event since the last run or swap
	pullWords   string      // the registry's words in the newest ErrImagePull

	waiting    *Failure // why it waits, rebuilt only when waitingKey changes
	waitingKey waitingKey
	patience   patience  // with what it waits for
	decideAt   time.Time // a failed swap is said then, with whatever reason is known
	giveUpAt   time.Time // a run that a finished pod still shows as running is given up then
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
func (s *slot) stepRun() *run {
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
	return s.swap != nil && s.swap.from == r || s.specImageChanged()
}

// patched tells whether the spec shows that the image differs from the one that
// the swap is to replace.
func (s *slot) patched() bool {
	return s.spec != nil && s.swap != nil && s.spec.Image != s.swap.from.specImage
}

// respecced tells whether the spec has another image than the one the run that it
// is to replace was started with.
func (s *slot) specImageChanged() bool {
	r := s.replaced()
	return r != nil && s.spec != nil && r.specImage != "" && s.spec.Image != r.specImage
}

// respec takes the slot's container from a newer pod.
func (s *slot) takeSpec(c *corev1.Container) {
	s.spec = c
	// A run that a swap replaces is history as soon as the patch shows: from
	// the patch's answer or, when that was lost, from the watch.
	if s.swap != nil && s.swap.from.specImage != "" && c.Image != s.swap.from.specImage {
		if i := s.find(s.swap.from.id); i >= s.from {
			s.from = i + 1
		}
	}
}

func (s *slot) specImage() string {
	if s.spec == nil {
		return ""
	}
	return s.spec.Image
}

// pulledImage is the image that a failure of the slot speaks of.
func (s *slot) pulledImage(f *Failure) string { return pulledImage(f, s.specImage(), s.volumes) }

// mounts reports whether a slot mounts an image as a volume.
func (s *slot) mounts(image string) bool {
	return image != "" && slices.ContainsFunc(s.volumes, func(of string) bool { return sameImage(of, image) })
}

// base is what every State of the slot has.
func (s *slot) base() State {
	st := State{Slot: s.name, Kind: s.kind, Phase: PhaseNotRun, Image: s.specImage(), Stale: s.timeline.cur.Stale}
	if s.declared && (len(s.runs) == 0 || s.replaced() != nil && !s.specImageChanged()) {
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
