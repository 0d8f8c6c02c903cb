package eventsplit

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// swapRecord is a swap whose patch was called, and not refused.
type swapRecord struct {
	from *run // what it replaces
}

// Swap makes a pod run a step's image where a placeholder runs, or another image
// where a step runs. It holds patch back until a run of every slot is known by its
// containerID and running, records these, calls patch once, and learns from the
// pod that it returns. It returns when patch did: the step has not started then.
//
// Without holding back, a swap that failed could not be told from one that went
// well: the kubelet shows the same statuses for both.
//
// An answer that refuses the patch (4xx) undoes the record, and the slot is as it
// was. Any other error leaves the result unknown: the record stays and is right in
// either case. Both are returned as a *Failure that unwraps to the error. A pod
// returned with an image unchanged is a *Failure of ClassUnchanged, for no restart
// will come. A slot that cannot be swapped (it has failed, ended, is a plain init
// container, or the pod goes away) is a *Failure too, and patch is not called.
//
// Swap blocks until then, or until ctx ends, and returns its cause. Several slots
// may be swapped in one patch; two swaps of one slot wait for each other. The pod
// that patch returns is kept and must not be changed; nil is allowed, and then the
// watch must tell.
func (s *Splitter) Swap(ctx context.Context, patch func(context.Context) (*corev1.Pod, error), slots ...string) error {
	if len(slots) == 0 {
		return &Failure{Class: ClassInvalid, Message: "a swap needs at least one container"}
	}
	swapped := make([]*slot, 0, len(slots))
	for i, name := range slots {
		for _, other := range slots[:i] {
			if name == other {
				return &Failure{Class: ClassInvalid, Slot: name, Message: "it is named twice in one swap"}
			}
		}
		swapped = append(swapped, s.slot(name))
	}
	undo, err := s.beginSwap(ctx, swapped)
	if err != nil {
		return err
	}
	var answer swapAnswer // of a patch that panics: unknown
	defer func() { s.endSwap(swapped, undo, answer) }()

	pod, err := patch(ctx)
	answer = answerOf(err)
	if err != nil {
		f := ClassifyAPIError(err)
		if len(slots) == 1 {
			f.Slot = slots[0]
		}
		return f
	}
	if pod == nil {
		return nil
	}
	unchanged := s.unchanged(pod, swapped)
	s.handlePod(pod, false)
	if unchanged != nil {
		answer = swapRefused
		return unchanged
	}
	return nil
}

// swapAnswer is what a patch came to.
type swapAnswer int

const (
	swapUnknown swapAnswer = iota // it may or may not be applied
	swapApplied
	swapRefused
)

// beginSwap waits until all slots can be swapped and records what is replaced. It
// returns what the slots had recorded before.
func (s *Splitter) beginSwap(ctx context.Context, slots []*slot) (undo []*swapRecord, err error) {
	for {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		s.mu.Lock()
		blocker, err := s.swappable(slots)
		switch {
		case err != nil:
			s.mu.Unlock()
			return nil, err
		case blocker == nil:
			undo = s.recordSwap(slots)
			s.mu.Unlock()
			return undo, nil
		}
		changed := blocker.changed()
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

func (s *Splitter) recordSwap(slots []*slot) []*swapRecord {
	undo := make([]*swapRecord, len(slots))
	for i, sl := range slots {
		undo[i] = sl.swap
		sl.swap, sl.swapping = &swapRecord{from: sl.current()}, true
		// What was said of the placeholder, or of the run before, is not of
		// the one to come.
		sl.explain, sl.progress, sl.pulling = explanation{}, "", ""
	}
	return undo
}

// endSwap undoes the record of a patch that was refused.
func (s *Splitter) endSwap(slots []*slot, undo []*swapRecord, answer swapAnswer) {
	s.update(func() {
		for i, sl := range slots {
			sl.swapping = false
			if answer == swapRefused && sl.swap != nil && !sl.patched() {
				sl.swap, sl.verdict = undo[i], time.Time{}
			}
			sl.broadcast()
		}
	})
}

// patched tells whether the spec shows that the image differs from the one that
// the swap is to replace.
func (s *slot) patched() bool {
	return s.spec != nil && s.spec.Image != s.swap.from.specImage
}

// swappable returns the first slot that cannot be swapped yet, or why one never
// can. The lock is held.
func (s *Splitter) swappable(slots []*slot) (blocker *slot, err error) {
	for _, sl := range slots {
		if f := s.neverSwappable(sl); f != nil {
			return nil, f
		}
		if r := sl.current(); blocker == nil && (sl.swapping || r == nil || r.ended || sl.status != statusRunning) {
			blocker = sl
		}
	}
	if s.closed {
		return nil, ErrClosed
	}
	return blocker, nil
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
	if r := sl.current(); r != nil && r.ended && sl.status == statusTerminated && !s.wouldRestart(sl, r) {
		return endedFailure(*sl.cur)
	}
	return nil
}

// unchanged tells which slot a patch left with the image that runs there.
func (s *Splitter) unchanged(pod *corev1.Pod, slots []*slot) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var fs []error
	for _, sl := range slots {
		image, ok := imageOf(pod, sl.name)
		if !ok || image != sl.swap.from.specImage || sl.current() != sl.swap.from {
			continue
		}
		fs = append(fs, &Failure{Class: ClassUnchanged, Slot: sl.name, Image: image})
	}
	if len(fs) == 1 {
		return fs[0]
	}
	return errors.Join(fs...)
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
