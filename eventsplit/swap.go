package eventsplit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Swap makes a pod run a step's image where a placeholder runs, or another image
// where a step runs. It holds patch back until a run of every slot is known by its
// containerID and running, records these, calls patch once, and learns from the
// pod that it returns. It returns when patch did: the step has not started then.
//
// Without holding back, a swap that failed could not be told from one that went
// well: the kubelet shows the same statuses for both.
//
// The run that follows is the step's. Where something restarts the placeholder
// (restartPolicy, which is Always if it is empty, or rules) it may be the placeholder's
// once more, if it has the same imageID: how it ends is then told as not known
// (CauseUnattributed), never as an exit code.
//
// An error that says that the patch was not carried out (ClassifyAPIError tells)
// undoes the record, and the slot is as it was. ClassUncertain leaves the result
// unknown: the record stays and is right in either case. Both are returned as a *Failure that unwraps to the error. A pod
// returned with an image unchanged is a *Failure of ClassUnchanged, for no restart
// will come. A slot that cannot be swapped (it has failed, ended, is a plain init
// container, or the pod goes away) is a *Failure too, and patch is not called.
//
// Swap blocks until then, or until ctx ends before patch was called, and then
// returns a *WaitError. Several slots
// may be swapped in one patch; two swaps of one slot wait for each other. The pod
// that patch returns is kept and must not be changed; nil is allowed, and then the
// watch must tell.
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
	answer := swapUnknown // so it is if patch panics
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

// swapAnswer is what a patch came to.
type swapAnswer int

const (
	swapUnknown swapAnswer = iota // it may or may not be applied
	swapApplied
	swapRefused
)

// answerOf tells what an error of a patch means for the pod.
func answerOf(err error) swapAnswer {
	switch f := ClassifyAPIError(err); {
	case f == nil:
		return swapApplied
	case f.Class == ClassUncertain:
		return swapUnknown
	}
	return swapRefused
}

// beginSwap waits until all slots can be swapped and records what is replaced. It
// returns what the slots had recorded before.
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

// want counts the swaps that wait for a run to replace.
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
		// What was said of the placeholder, or of the run before, is not of
		// the one to come.
		sl.explanation, sl.lastStep, sl.pullWords = explanation{}, "", ""
	}
	return undo
}

// endSwap takes in what a patch came to. The record of a patch that was refused,
// or that left an image as it was, is undone; the latter is returned as an error.
func (s *Splitter) endSwap(slots []*slot, undo []*swapRecord, answer swapAnswer, pod *corev1.Pod) error {
	var unchanged []error
	s.update(func() {
		if pod != nil && pod.Name == s.name && pod.Namespace == s.namespace {
			for i, sl := range slots {
				if image, ok := imageOf(pod, sl.name); ok && sl.swap.from.specImage == image {
					if before := undo[i]; before == nil || !before.unknown || before.from == sl.swap.from {
						unchanged = append(unchanged, &Failure{Class: ClassUnchanged, Slot: sl.name, Image: image})
					} // else the try before, whose answer was lost, was applied
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

// swappable returns the first slot that cannot be swapped yet, or why one never
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

func (s *Splitter) neverSwappable(sl *slot) error {
	if f := s.impossible(sl); f != nil {
		return f
	}
	switch {
	case s.over():
		return s.podFailure(sl)
	case sl.kind == KindInit:
		// kuberuntime_manager.go computePodActions, v1.36: only sidecars among
		// the init containers are restarted when their image changes.
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
