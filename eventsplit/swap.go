package eventsplit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Swap makes a pod run a step's image where a placeholder runs, or another image where a
// step runs. It waits until a run of every slot is known by its containerID and running,
// records these runs, calls patch once, and takes in the pod that patch returns. It returns
// when patch has returned: the step has not started then.
//
// Swap waits because a patch before the placeholder runs would make a failed swap look
// like a good one: the kubelet shows the same statuses for both.
//
// The run that follows is the step's. Where something restarts the placeholder
// (restartPolicy, which is Always if it is empty, or rules), a run that follows with the
// placeholder's imageID may be the placeholder's: its end is then told as unknown
// (CauseUnattributed), never as an exit code.
//
// An error which says that the patch was not carried out (see ClassifyAPIError) undoes the
// record: the slot is as it was. After ClassUncertain the record stays, which is right
// whether the patch was carried out or not. Swap returns both as a *Failure that unwraps to
// the error. When patch returns a pod whose image is unchanged, Swap returns a *Failure of
// ClassUnchanged, because no restart will come. For a slot that cannot be swapped (it has
// failed, has ended, is a plain init container, or the pod goes away) Swap returns a
// *Failure and does not call patch.
//
// Swap blocks until then, or until ctx ends before patch was called; it then returns a
// *WaitError. One patch may swap several slots; two swaps of one slot wait for each other.
// The pod that patch returns is kept and must not be changed. It may be nil: then the watch
// has to show the patch.
func (s *Splitter) Swap(ctx context.Context, patch func(context.Context) (*corev1.Pod, error), slots ...string) (err error) {
	if len(slots) == 0 {
		return &Failure{Class: ClassInvalid, Message: "a swap needs at least one container"}
	}
	swapped := make([]*slot, 0, len(slots))
	for i, name := range slots {
		if name == "" {
			return unnamedSlot()
		}
		if slices.Contains(slots[:i], name) {
			return &Failure{Class: ClassInvalid, Slot: name, Message: "it is named twice in one swap"}
		}
		swapped = append(swapped, s.slot(name))
	}
	undo, err := s.beginSwap(ctx, swapped)
	if err != nil {
		return err
	}
	answer := swapUnknown // also when patch panics
	var pod *corev1.Pod
	defer func() {
		if e := s.endSwap(swapped, undo, answer, pod); err == nil {
			err = e
		}
	}()
	pod, err = patch(ctx)
	if answer = answerOf(err); err != nil {
		f := ClassifyAPIError(err)
		if len(slots) == 1 && f.Slot == "" {
			f.Slot = slots[0]
		}
		pod, err = nil, f
	}
	return err
}

// swapAnswer is what became of a patch.
type swapAnswer int

const (
	swapUnknown swapAnswer = iota // it may be applied or not
	swapApplied
	swapRefused
)

// answerOf returns what became of a patch that returned err.
func answerOf(err error) swapAnswer {
	switch f := ClassifyAPIError(err); {
	case f == nil:
		return swapApplied
	case f.Class == ClassUncertain:
		return swapUnknown
	}
	return swapRefused
}

// beginSwap waits until all slots can be swapped, and records the runs that the swap replaces.
// It returns the records from before.
func (s *Splitter) beginSwap(ctx context.Context, slots []*slot) (undo []*swapRecord, err error) {
	s.countWaiting(slots, 1)
	defer s.countWaiting(slots, -1)
	for {
		s.mu.Lock()
		blocker, err := s.swappable(slots)
		switch {
		case ctx.Err() != nil:
			st := s.stateOf(cmp.Or(blocker, slots[0]))
			s.mu.Unlock()
			return nil, gaveUp(ctx, "waiting to swap", st)
		case err != nil:
			s.mu.Unlock()
			return nil, err
		case blocker == nil:
			undo = s.recordSwap(slots)
			s.mu.Unlock()
			return undo, nil
		}
		changed := blocker.timeline.changed()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// countWaiting counts the calls of Swap that wait for a run to replace.
func (s *Splitter) countWaiting(slots []*slot, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range slots {
		sl.waitingSwaps += n
	}
}

func (s *Splitter) recordSwap(slots []*slot) []*swapRecord {
	undo := make([]*swapRecord, len(slots))
	for i, sl := range slots {
		undo[i] = sl.swap
		sl.swap, sl.swapping = &swapRecord{from: sl.current()}, true
		// What Events said was about the placeholder, or the run before, not about the run to
		// come.
		sl.explanation, sl.lastStep, sl.pullWords = explanation{}, "", ""
	}
	return undo
}

// endSwap takes in what became of a patch. It undoes the record of a patch that was refused, or
// that left an image as it was; for the latter it returns an error.
func (s *Splitter) endSwap(slots []*slot, undo []*swapRecord, answer swapAnswer, pod *corev1.Pod) error {
	var unchanged []error
	s.update(func() {
		if pod != nil && pod.Name == s.name && pod.Namespace == s.namespace {
			for i, sl := range slots {
				if image, ok := imageOf(pod, sl.name); ok && sl.swap.from.specImage == image {
					if before := undo[i]; before == nil || !before.unknown || before.from == sl.swap.from {
						unchanged = append(unchanged, &Failure{Class: ClassUnchanged, Slot: sl.name, Image: image})
					} // else an earlier try was applied, whose answer was lost
					sl.swap, sl.decideAt = undo[i], time.Time{}
				}
			}
			s.takePod(pod, false)
		}
		for i, sl := range slots {
			sl.swapping = false
			switch {
			case answer == swapUnknown && sl.swap != nil:
				sl.swap.unknown = true
			case answer == swapRefused && !sl.patched():
				sl.swap, sl.decideAt = undo[i], time.Time{}
			}
			sl.timeline.broadcast()
		}
	})
	if len(unchanged) == 1 {
		return unchanged[0]
	}
	return errors.Join(unchanged...)
}

// swappable returns the first slot that cannot be swapped yet, or the error of one that never
// can. The lock is held.
func (s *Splitter) swappable(slots []*slot) (blocker *slot, err error) {
	for _, sl := range slots {
		if f := s.neverSwappable(sl); f != nil {
			return nil, f
		}
		if r := sl.current(); blocker == nil && (sl.swapping || r == nil || r.ended() || sl.status != statusRunning) {
			blocker = sl
		}
	}
	if blocker != nil || s.closed {
		return blocker, s.silence()
	}
	return nil, nil
}

// neverSwappable returns why a slot can never be swapped, nil when it may be.
func (s *Splitter) neverSwappable(sl *slot) error {
	if f := s.impossible(sl); f != nil {
		return f
	}
	switch {
	case s.over():
		return s.podFailure(sl)
	case sl.kind == KindInit:
		// Of the init containers, a new image restarts only sidecars (v1.36
		// pkg/kubelet/kuberuntime/kuberuntime_manager.go computePodActions).
		return &Failure{Class: ClassInvalid, Slot: sl.name, Image: sl.specImage(), Message: "a new image does not restart an init container"}
	case sl.kind == KindEphemeral:
		return &Failure{Class: ClassInvalid, Slot: sl.name, Image: sl.specImage(), Message: "the image of an ephemeral container cannot be changed"}
	}
	r := sl.current()
	if r != nil && r.anonymous && sl.status == statusRunning {
		return &Failure{
			Class: ClassInvalid, Slot: sl.name, Image: sl.specImage(),
			Message: "its status has no containerID, so what a swap starts could not be told from what runs now",
		}
	}
	if r != nil && r.ended() && sl.status == statusTerminated && !s.wouldRestart(sl, r) {
		if r.owner == ownerPlaceholder {
			return placeholderFailure(sl)
		}
		return endedFailure(*sl.timeline.cur)
	}
	return nil
}

func imageOf(pod *corev1.Pod, slot string) (string, bool) {
	for i := range pod.Spec.Containers {
		if pod.Spec.Containers[i].Name == slot {
			return pod.Spec.Containers[i].Image, true
		}
	}
	for i := range pod.Spec.InitContainers {
		if pod.Spec.InitContainers[i].Name == slot {
			return pod.Spec.InitContainers[i].Image, true
		}
	}
	return "", false
}
