package podwatch

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
)

// Handler hears of one pod, oldest first, one call at a time.
//
// Added, Modified and Deleted carry a *corev1.Pod; Added and Modified also a
// *corev1.Event. Error carries a *metav1.Status whose Reason is [OutOfScope],
// [Stale], [Fresh] or [Closed], or Forbidden or Unauthorized for a refusal that
// lasts ([Options].Refusal). Closed is the last call. A pod is Added once, at its
// first version, and Deleted once, with its last known state.
//
// The objects are shared with the cache and with other handlers: read them,
// never change them. Handle should return soon: while it blocks, newer versions
// of the pod replace the one that waits, for this tracking alone. A panic in
// Handle is not recovered: it ends the process.
type Handler interface{ Handle(watch.Event) }

// Reasons of the *metav1.Status that a watch.Error event carries.
const (
	// OutOfScope: the pod left the label selector (or was never in it) and lives
	// on unseen. When it comes back it is Modified again.
	OutOfScope metav1.StatusReason = "OutOfScope"
	// Stale: the watch has lost contact with the API server; what was said may
	// be old.
	Stale metav1.StatusReason = "Stale"
	// Fresh: contact is there again. After a new list it comes behind what the
	// list brought for this pod; when the watch could resume, a second later.
	Fresh metav1.StatusReason = "Fresh"
	// Closed: the tracking has ended; no call follows.
	Closed metav1.StatusReason = "Closed"
)

// EventMode says what Kubernetes Events are worth to the host.
type EventMode int

const (
	// EventsOptional watches Events, and goes on without them where the API
	// server refuses them. [Watcher.WaitForSync] does not wait for them.
	EventsOptional EventMode = iota
	// EventsRequired makes [Watcher.WaitForSync] wait for the Events and fail
	// where the API server refuses them.
	EventsRequired
	// EventsOff asks for no Events.
	EventsOff
)

// Options configure a Watcher. The zero value watches all pods and Events of
// all namespaces.
type Options struct {
	// Namespace to watch; empty: all namespaces.
	Namespace string
	// LabelSelector limits the pods, in kubectl's syntax; empty: all pods.
	// Select by labels that do not change while a pod lives. Labels do not select
	// Events: those about all pods of the namespace are read.
	LabelSelector string
	// Name, with Namespace, limits the watch to a single pod and its Events.
	Name string
	// Events says whether Events are optional (the zero value), required or off.
	Events EventMode
	// Keep returns what is cached and handed on of a pod; nil: [Trim]. It must be
	// pure and idempotent (client-go may apply it twice), and may return its
	// argument. Namespace, name, UID, resourceVersion, labels, deletionTimestamp
	// and deletionGracePeriodSeconds are kept whatever it does.
	Keep func(*corev1.Pod) *corev1.Pod
	// Refusal is how long the API server may refuse (401, 403) to list or watch pods
	// before the handlers of all trackings hear of the refusal, those of trackings that
	// begin later included. Any other answer starts the time anew: a permission that was
	// just granted takes seconds to hold. The watcher keeps asking, and Fresh says that
	// the API server permits it again. 0: 15 seconds. A watcher of [FromInformers] does
	// not see refusals.
	Refusal time.Duration
	// OnPod is called once for every pod that is not tracked, also for those that
	// exist at the start. The handlers it returns hear of that pod alone, until it is
	// gone or has left the scope, and then of Closed. A pod for which OnPod returns no
	// handlers is ignored. While a tracking of the pod's name waits for Created, OnPod is
	// not called for the pod; if Created then names another pod, or the tracking is
	// closed, it is called at the pod's next version. It is called on the watch's
	// goroutine and must not block.
	OnPod func(*corev1.Pod) []Handler
	// Notify is told what a person may want to know of the watch's health: one
	// call at a time, in the order in which things happened, with no lock held, and
	// only while Run runs; notices that are raised before wait for Run. Notify may
	// block: only Run's return waits for it. At most 1,024 notices wait; then the oldest
	// is dropped ([Stats].NoticesDropped).
	Notify func(Notice)
}

// Stats is a snapshot of a Watcher's counters, all since it was made.
type Stats struct {
	Tracked int // trackings that are not closed
	Pods    int // pods in the cache
	Events  int // Events in the cache
	Stale   bool

	PodUpdates   uint64 // versions and deletions of pods that the watch brought
	EventUpdates uint64 // versions of Events that the watch brought
	Repeats      uint64 // versions already known, which a relist or resync brings again
	Delivered    uint64 // handler calls
	Coalesced    uint64 // pod versions replaced by newer ones before a handler took them
	Dropped      uint64 // Events dropped because a handler was slow

	Lists   uint64 // list requests for pods and Events, further pages included
	Watches uint64 // watch requests for pods and Events
	Gets    uint64 // live GETs, those of Confirm included
	Relists uint64 // full lists after the first one
	Expired uint64 // answers that the history is gone (410)

	NoticesDropped uint64 // notices dropped because Notify was slow
}

// status makes the object of a watch.Error event.
func status(reason metav1.StatusReason, message string) *metav1.Status {
	return &metav1.Status{Status: metav1.StatusFailure, Reason: reason, Message: message}
}

// ErrStopped is returned when a Watcher is used after its Run has ended.
var ErrStopped = errors.New("podwatch: the watcher has stopped")

// defaultRefusal is longer than the API server takes to learn of new roles and
// bindings. The refusals of an authorization webhook it caches for up to 30 s
// (--authorization-webhook-cache-unauthorized-ttl): a host with such a webhook sets
// Options.Refusal.
const defaultRefusal = 15 * time.Second

func (o *Options) refusal() time.Duration { return cmp.Or(o.Refusal, defaultRefusal) }

func (o *Options) validate() (labels.Selector, error) {
	if o.Name != "" && o.Namespace == "" {
		return nil, errors.New("podwatch: Options.Name needs a Namespace")
	}
	if o.Events < EventsOptional || o.Events > EventsOff {
		return nil, fmt.Errorf("podwatch: Options.Events: unknown mode %d", o.Events)
	}
	if o.Refusal < 0 {
		return nil, fmt.Errorf("podwatch: Options.Refusal: %s is less than nothing", o.Refusal)
	}
	sel, err := labels.Parse(o.LabelSelector)
	if err != nil {
		return nil, fmt.Errorf("podwatch: Options.LabelSelector: %w", err)
	}
	return sel, nil
}
