package eventsplit

import (
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

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

	pod     *corev1.Pod // the newest taken in; read-only
	specced bool        // a version with a spec was taken in
	uid     types.UID
	slots   map[string]*slot
	order   []*slot // those of the spec: init containers, containers, ephemeral ones
	events  eventLog
	whole   whole // the pod itself, slot ""
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
	s.whole.timeline.init(o.Buffer, State{Kind: KindPod, Phase: PhaseNotRun})
	return s
}

// Handle takes in one change: Added, Modified or Deleted with a *corev1.Pod or a
// *corev1.Event (the deletion of an Event is its expiry and ignored), or Error
// with a *metav1.Status whose Reason is OutOfScope, Stale, Fresh or Closed, or
// Forbidden or Unauthorized: the API server has refused the watch for so long that
// what waits ends with its refusal, until Fresh comes.
// Anything else, and objects of other pods, is ignored. It may be called with
// pods and Events in any order, and again with the same object; pods older than
// the newest seen are ignored where resourceVersions can be compared. Objects are
// kept and must not be changed afterwards. It does not block.
func (s *Splitter) Handle(ev watch.Event) {
	if ev.Type == watch.Bookmark {
		return
	}
	switch obj := ev.Object.(type) {
	case *corev1.Pod:
		s.handlePod(obj, ev.Type == watch.Deleted)
	case *corev1.Event:
		if ev.Type != watch.Deleted {
			s.update(func() { s.takeEvent(obj) })
		}
	case *metav1.Status:
		s.handleStatus(obj)
	}
}

// What podwatch reports in an Error's Status beyond pods and Events.
const (
	statusOutOfScope metav1.StatusReason = "OutOfScope"
	statusStale      metav1.StatusReason = "Stale"
	statusFresh      metav1.StatusReason = "Fresh"
	statusClosed     metav1.StatusReason = "Closed"
)

func (s *Splitter) handleStatus(status *metav1.Status) {
	switch reason := status.Reason; reason {
	case statusOutOfScope:
		s.update(func() { s.lose(&Failure{Class: ClassOutOfScope, Reason: string(reason)}) })
	case statusStale, statusFresh:
		s.update(func() {
			if s.stale = reason == statusStale; !s.stale {
				s.refused = nil
			}
		})
	case metav1.StatusReasonForbidden, metav1.StatusReasonUnauthorized:
		f := ClassifyAPIError(&apierrors.StatusError{ErrStatus: *status})
		s.update(func() {
			s.stale, s.refused = true, f
			s.release()
		})
	case statusClosed:
		s.Close()
	}
}

func (s *Splitter) handlePod(pod *corev1.Pod, deleted bool) {
	if pod.Name != s.name || pod.Namespace != s.namespace {
		return
	}
	s.learnSlots(pod)
	s.mu.Lock()
	var asks []ask
	if !s.closed && s.takePod(pod, deleted) {
		asks = s.settle(time.Now())
	}
	s.mu.Unlock()
	s.ask(asks)
}

// update changes the Splitter and lets what follows from it happen.
func (s *Splitter) update(change func()) {
	s.mu.Lock()
	var asks []ask
	if !s.closed {
		change()
		asks = s.settle(time.Now())
	}
	s.mu.Unlock()
	s.ask(asks)
}

// Close ends the Splitter: it stops its timer, and everything that waits is
// released with ErrClosed (NextRun with io.EOF) unless its answer is known. State,
// and what was recorded, stays readable. It waits for a call of Options.Policy
// that is under way, and for nothing else. It may be called more than once, from
// any goroutine.
func (s *Splitter) Close() {
	defer s.asking.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.release()
}

// release wakes all that waits, for it is to end.
func (s *Splitter) release() {
	s.whole.timeline.release()
	for _, sl := range s.slots {
		sl.timeline.release()
	}
}

// unheard is why nothing more will be heard, or is not for now; nil while the watch goes
// on. The lock is held.
func (s *Splitter) unheard() error {
	switch {
	case s.closed:
		return ErrClosed
	case s.refused != nil:
		return s.refused
	}
	return nil
}

// learnSlots makes the slots of a pod that are new. Options.Placeholder is asked
// with the lock released.
func (s *Splitter) learnSlots(pod *corev1.Pod) {
	var missing []string
	s.mu.Lock()
	if !s.closed {
		for c := range podstatus.Containers(pod) {
			if s.slots[c.Name] == nil {
				missing = append(missing, c.Name)
			}
		}
	}
	s.mu.Unlock()
	for _, name := range missing {
		s.slot(name)
	}
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

// arm sets the timer to the earliest deadline. The lock is held.
func (s *Splitter) arm(now time.Time) {
	var next time.Time
	earliest := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) { // what is past was judged
			next = t
		}
	}
	earliest(s.whole.patience.due)
	if e := &s.whole.event; e.failure != nil && s.whole.waiting != nil && s.pod != nil {
		earliest(e.at.Add(lapse(e.failure.Class)))
	}
	for _, sl := range s.order {
		if sl.failure == nil {
			earliest(sl.patience.due)
			earliest(sl.verdict)
			earliest(sl.lostAt)
		}
	}
	if next.Equal(s.due) {
		return
	}
	s.due = next
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
	if !next.IsZero() {
		s.timer = time.AfterFunc(next.Sub(now), func() { s.update(func() { s.due = time.Time{} }) })
	}
}
