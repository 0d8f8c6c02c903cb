package eventsplit

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/go-vela/podlife/internal/podstatus"
)

// Options of a Splitter. The zero value is usable. The functions must be pure: they may be
// called more than once, from any goroutine, and never with a lock held.
type Options struct {
	// Placeholder reports whether the first run of a slot is a placeholder, which Swap will
	// replace. nil: no slot has a placeholder. It is not asked of plain init containers and of
	// ephemeral containers, which cannot be swapped.
	Placeholder func(slot string) bool
	// Policy returns how long Kubernetes gets to overcome a trouble before the trouble counts as
	// a Failure (0: none), or fatal false when it never does. Policy must not change the
	// Failure, and must not call Close, which waits for it. It is not called once Close has
	// returned. nil: DefaultPolicy.
	Policy func(*Failure) (grace time.Duration, fatal bool)
	// Buffer is how many entries are kept of each slot. 0: 1024.
	Buffer int
}

// Splitter tells what happened to each container of one pod, from the pod and Event objects that
// Handle is given. It does no I/O. All methods may be called from any goroutine.
type Splitter struct {
	namespace, name string
	opts            Options

	mu     sync.Mutex
	closed bool
	stale  bool
	// refused is why the API server refuses the watch; nil while it does not.
	refused *Failure
	timer   *time.Timer    // one for all deadlines; nil while there is none
	due     time.Time      // when the timer fires
	asking  sync.WaitGroup // calls of Options.Policy; none begins once closed is set

	pod       *corev1.Pod // the newest version taken in; read-only
	specKnown bool        // a version with a spec was taken in
	uid       types.UID
	slots     map[string]*slot
	order     []*slot // the slots of the spec, in the order of podstatus.Containers
	events    eventLog
	record    podRecord // the pod itself, slot ""
}

// New returns a Splitter of one pod, by its name. The first UID that Handle sees pins the pod:
// what concerns another pod of that name is ignored, except that a newer pod ends this one. A
// leftover pod of an earlier build must therefore not come first: podwatch hands on nothing
// before Created, and a host that calls Handle itself must not do so either. New starts no
// goroutine. Call Close when the Splitter is no longer needed.
func New(namespace, name string, o Options) *Splitter {
	if o.Buffer <= 0 {
		o.Buffer = defaultBuffer
	}
	if o.Policy == nil {
		o.Policy = DefaultPolicy
	}
	s := &Splitter{namespace: namespace, name: name, opts: o, slots: map[string]*slot{}}
	s.record.timeline.init(o.Buffer, State{Kind: KindPod, Phase: PhaseNotRun})
	return s
}

// slot returns the slot of that name and makes it if need be. The lock must not be held.
func (s *Splitter) slot(name string) *slot {
	s.mu.Lock()
	sl := s.slots[name]
	s.mu.Unlock()
	if sl != nil {
		return sl
	}
	declared := s.opts.Placeholder != nil && s.opts.Placeholder(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl = s.slots[name]; sl == nil {
		sl = &slot{name: name, declared: declared}
		sl.timeline.init(s.opts.Buffer, State{Slot: name, Phase: PhaseNotRun, Stale: s.stale})
		s.slots[name] = sl
	}
	return sl
}

// over reports whether no container of the pod starts any more.
func (s *Splitter) over() bool {
	return s.record.gone || s.record.ended || s.record.cause != nil
}

// silence returns why no change will come, or none for now; nil while the watch goes on. The
// lock is held.
func (s *Splitter) silence() error {
	switch {
	case s.closed:
		return ErrClosed
	case s.refused != nil:
		return s.refused
	}
	return nil
}

// release wakes everyone who waits on any slot or on the pod.
func (s *Splitter) release() {
	s.record.timeline.release()
	for _, sl := range s.slots {
		sl.timeline.release()
	}
}

// endedBefore reports whether a run ended before the pod's deletion was requested.
func (s *Splitter) endedBefore(r *run) bool {
	return r.outcome != nil && !r.outcome.Finished.IsZero() && r.outcome.Finished.Before(s.record.requested)
}

// wouldRestart reports whether the kubelet of a living pod starts the container again after r.
func (s *Splitter) wouldRestart(sl *slot, r *run) bool {
	return podstatus.Restarts(sl.pod, sl.name, r.code)
}
