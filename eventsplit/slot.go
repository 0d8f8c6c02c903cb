package eventsplit

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// slotStatus is the state that the newest status shows of a slot.
type slotStatus int

const (
	statusNone slotStatus = iota
	statusWaiting
	statusRunning
	statusTerminated
)

// waitSource says where the reason comes from for which a slot waits.
type waitSource int

const (
	waitsNot       waitSource = iota
	waitsForItself            // its own status names a trouble; Options.Policy is asked
	waitsForSwap              // a swap is under way
	waitsForPod               // the trouble is the pod's, or an init container's
	waitsForStart             // there is no trouble
)

// waitingKey is everything that slot.waiting is made from: slot.waiting is made anew only when
// the key changes.
type waitingKey struct {
	source          waitSource
	reason, message string
	event           *corev1.Event
	other           *Failure
}

// swapRecord is a swap whose patch was called and not refused.
type swapRecord struct {
	from    *run // the run that the swap replaces
	unknown bool // whether the patch was applied is not known
}

// slot is one container of the pod, by its name. The Splitter's lock guards it.
type slot struct {
	timeline       timeline
	name           string
	kind           Kind
	declared       bool              // its first run is a placeholder, says Options.Placeholder
	spec           *corev1.Container // nil: the pod's spec lacks the container, or is unknown
	pod            *corev1.Pod       // the version of the pod that has spec
	seenBeforeRuns bool              // a version before its first run was seen
	ranBefore      bool              // its first status counted runs before the one shown
	waitingSwaps   int               // calls of Swap that wait for a run to replace
	volumes        []string          // the images that it mounts as volumes

	presumed    string // the run that IsPlaceholder called the placeholder before Handle saw one
	runs        []*run
	from        int   // State tells of runs[from:] only; placeholders and replaced runs are before
	runsCounted int32 // the newest run's restartCount and one

	status      slotStatus
	waitReason  string
	waitMessage string
	ready       bool

	swap        *swapRecord // the newest swap whose patch was called and not refused
	swapping    bool        // a patch is in flight
	explanation explanation // why it does not run
	lastStep    string      // the reason of the newest Normal Event since the last run or swap
	pullWords   string      // the message of the newest ErrImagePull

	waiting    *Failure // why it waits; nil: it does not
	waitingKey waitingKey
	patience   patience
	decideAt   time.Time // when a failed swap is told, with the reason that is known by then; zero: none failed
	giveUpAt   time.Time // when a run is lost that an ended pod still shows as running; zero: there is none
	failure    *Failure  // set once
}

// current returns the newest run, placeholders included; nil when there is none.
func (s *slot) current() *run {
	if len(s.runs) == 0 {
		return nil
	}
	return s.runs[len(s.runs)-1]
}

// stepRun returns the newest run that State tells of; nil when there is none.
func (s *slot) stepRun() *run {
	if len(s.runs) <= s.from {
		return nil
	}
	return s.current()
}

// replaced returns the run that a swap is to replace, or replaces, as long as no other run
// follows it; nil when there is none.
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

// swapped reports whether the slot's image was patched since the run that replaced returns was
// started: by Swap, or by anyone else, seen in the spec.
func (s *slot) swapped() bool {
	r := s.replaced()
	if r == nil {
		return false
	}
	return s.swap != nil && s.swap.from == r || s.specImageChanged()
}

// patched reports whether the spec shows another image than that of the run which the swap
// replaces.
func (s *slot) patched() bool {
	return s.spec != nil && s.swap != nil && s.spec.Image != s.swap.from.specImage
}

// specImageChanged reports whether the spec shows another image than that with which the run
// that replaced returns was started.
func (s *slot) specImageChanged() bool {
	r := s.replaced()
	return r != nil && s.spec != nil && r.specImage != "" && s.spec.Image != r.specImage
}

// takeSpec takes the slot's container from a newer version of the pod.
func (s *slot) takeSpec(c *corev1.Container) {
	s.spec = c
	// State tells no more of a run that a swap replaces once the spec shows the patch, in the
	// patch's answer or, when that was lost, in the watch.
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

// pulledImage returns the image that a failure of the slot is about.
func (s *slot) pulledImage(f *Failure) string { return pulledImage(f, s.specImage(), s.volumes) }

// mounts reports whether the container mounts image as a volume.
func (s *slot) mounts(image string) bool {
	return image != "" && slices.ContainsFunc(s.volumes, func(of string) bool { return sameImage(of, image) })
}

// base returns what every State of the slot has.
func (s *slot) base() State {
	st := State{Slot: s.name, Kind: s.kind, Phase: PhaseNotRun, Image: s.specImage(), Stale: s.timeline.cur.Stale}
	if s.declared && (len(s.runs) == 0 || s.replaced() != nil && !s.specImageChanged()) {
		st.Image = "" // the placeholder's
	}
	return st
}

// restarts returns how often the container was restarted before r, counted from the first run
// that State tells of.
func (s *slot) restarts(r *run) int32 {
	if s.from == 0 {
		return r.restarts
	}
	return max(0, r.restarts-s.runs[s.from-1].restarts-1)
}

// last returns the outcome of the run before r, if State tells of that run.
func (s *slot) last(r *run) *Outcome {
	if i := s.find(r.id); i > s.from {
		return s.runs[i-1].outcome
	}
	return nil
}
