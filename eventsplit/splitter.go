package eventsplit

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/go-vela/podlife/internal/podstatus"
)

// Options of a Splitter; the zero value is usable. The functions must be pure:
// they may be called more than once, from any goroutine, never with a lock held.
type Options struct {
	// Placeholder tells whether the first run of a slot is a placeholder, to be
	// replaced by Swap. nil: no slot has one. Plain init containers and ephemeral
	// ones, which cannot be swapped, have none whatever it says.
	Placeholder func(slot string) bool
	// Policy tells how long to wait for Kubernetes to get over a waiting reason
	// before it counts as a Failure (0: at once), or that it never does. It must
	// not change the Failure, nor call Close, which waits for it. It is not called
	// once Close has returned. nil: DefaultPolicy.
	Policy func(*Failure) (grace time.Duration, fatal bool)
	// Buffer is how many entries are kept a slot. 0: 1024.
	Buffer int
}

// Splitter tells, from the pod and Event objects of one pod, what happened to
// each of its containers. It does no I/O: Handle brings it everything. All
// methods may be called from any goroutine.
type Splitter struct {
	namespace, name string
	opts            Options

	mu     sync.Mutex
	closed bool
	stale  bool
	// refused is the API server's refusal of the watch, as long as it goes on.
	refused *Failure
	timer   *time.Timer    // one for all deadlines, nil while there is none
	due     time.Time      // when the timer fires
	asking  sync.WaitGroup // calls of Options.Policy; none begins once closed is set

	pod       *corev1.Pod // the newest taken in; read-only
	specKnown bool        // a version with a spec was taken in
	uid       types.UID
	slots     map[string]*slot
	order     []*slot // those of the spec: init containers, containers, ephemeral ones
	events    eventLog
	record    podRecord // the pod itself, slot ""
}

// New returns a Splitter of one pod, by name; the first UID seen pins it, and
// what concerns another pod of that name is ignored, but that a newer one ends it.
// A leftover of an earlier build must therefore not come first: podwatch hands on
// nothing before Created, and a host that calls Handle itself must not either. It
// starts no goroutine. Call Close when done with it.
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

// slot returns the slot of that name, making it if need be. The lock must not be
// held.
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

// over tells whether no container of the pod starts any more.
func (s *Splitter) over() bool {
	return s.record.gone || s.record.ended || s.record.cause != nil
}

// silence is why nothing more will be heard, or is not for now; nil while the watch goes
// on. The lock is held.
func (s *Splitter) silence() error {
	switch {
	case s.closed:
		return ErrClosed
	case s.refused != nil:
		return s.refused
	}
	return nil
}

// release wakes all that waits, for it is to end.
func (s *Splitter) release() {
	s.record.timeline.release()
	for _, sl := range s.slots {
		sl.timeline.release()
	}
}

// endedBefore tells whether a run ended before the pod's deletion was asked for.
func (s *Splitter) endedBefore(r *run) bool {
	return r.outcome != nil && !r.outcome.Finished.IsZero() && r.outcome.Finished.Before(s.record.requested)
}

func (s *Splitter) wouldRestart(sl *slot, r *run) bool {
	return podstatus.Restarts(sl.pod, sl.name, r.code)
}
