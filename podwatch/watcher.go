package podwatch

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Watcher keeps one watch of Pods and one of Events, and hands what they bring
// to the trackings of single pods. Make one for a process with [New] or
// [FromInformers] and run it with [Watcher.Run]. All methods may be called from
// many goroutines.
type Watcher struct {
	client   kubernetes.Interface
	opts     Options
	selector labels.Selector
	owned    bool // the informers are the watcher's own
	pods     cache.SharedIndexInformer
	events   cache.SharedIndexInformer // nil: none
	feeds    []*feed                   // the sources of owned informers

	wg        sync.WaitGroup // what Run joins; added to under mu, while running
	wake      chan struct{}  // the resolver has something to look at
	delivered atomic.Uint64
	gets      atomic.Uint64

	mu      sync.Mutex
	phase   phase
	changed chan struct{} // closed and replaced when phase, synced or denied change
	synced  bool
	denied  map[string]error // by resource: refused before it was ever listed

	known  map[types.NamespacedName]*knownPod // what the watch has shown, in its order
	logs   map[types.UID]*eventLog            // Events by the UID of their pod
	tracks map[types.NamespacedName][]*Tracking
	asks   map[*ask]struct{} // what only a live GET can answer

	contact    contact
	trouble    *metav1.Status        // what the contact is, in words, unless it is fresh
	ungettable *types.NamespacedName // the pod whose live GET was refused first; nil: GETs are granted
	stats      Stats                 // the counters that mu guards
	notices    []Notice              // those that wait to be told, oldest first
	telling    bool                  // a goroutine tells them
}

type phase uint8

const (
	idle phase = iota
	running
	stopped
)

// knownPod is a pod that the watch has shown and not taken back. The watcher
// keeps its own map, and does not read the informer's store: the store may be
// ahead of what has been handed on, and a tracking would hear of versions twice
// or in the wrong order.
type knownPod struct {
	pod   *corev1.Pod
	asked bool // OnPod knows it
}

// New returns a Watcher with informers of its own, which [Watcher.Run] runs. It
// starts nothing and asks nothing of the API server.
//
// The client needs list and watch on pods and events, and get on pods. Its
// rate limit does not matter much here (watches are exempt); its timeout must
// be zero, else every watch ends with it.
func New(c kubernetes.Interface, o Options) (*Watcher, error) {
	w, err := newWatcher(c, o)
	if err != nil {
		return nil, err
	}
	w.owned = true
	if err := w.ownInformers(); err != nil {
		return nil, fmt.Errorf("podwatch: %w", err)
	}
	return w, nil
}

// FromInformers returns a Watcher over informers that the host owns and runs,
// started or not; events may be nil. The watcher only adds a handler to each,
// during [Watcher.Run], and removes it at the end.
//
// The scope is the informers': Namespace, LabelSelector, Name and Keep of the
// options must be zero. So is the trouble: Stale, Fresh, refusals and their notices
// need informers of [New]. The client is used for live GETs.
func FromInformers(c kubernetes.Interface, pods, events cache.SharedIndexInformer, o Options) (*Watcher, error) {
	switch {
	case pods == nil:
		return nil, errors.New("podwatch: FromInformers needs a pod informer")
	case o.Namespace != "" || o.LabelSelector != "" || o.Name != "":
		return nil, errors.New("podwatch: the scope of FromInformers is that of its informers: Namespace, LabelSelector and Name must be empty")
	case o.Keep != nil:
		return nil, errors.New("podwatch: FromInformers keeps what the host's informer keeps: Keep must be nil (use SetTransform with podwatch.Trim)")
	case o.Events == EventsRequired && events == nil:
		return nil, errors.New("podwatch: EventsRequired needs an event informer")
	}
	w, err := newWatcher(c, o)
	if err != nil {
		return nil, err
	}
	w.pods = pods
	if o.Events != EventsOff {
		w.events = events
	}
	return w, nil
}

func newWatcher(c kubernetes.Interface, o Options) (*Watcher, error) {
	if c == nil {
		return nil, errors.New("podwatch: the client is nil")
	}
	sel, err := o.validate()
	if err != nil {
		return nil, err
	}
	return &Watcher{
		client:   c,
		opts:     o,
		selector: sel,
		wake:     make(chan struct{}, 1),
		changed:  make(chan struct{}),
		denied:   map[string]error{},
		known:    map[types.NamespacedName]*knownPod{},
		logs:     map[types.UID]*eventLog{},
		tracks:   map[types.NamespacedName][]*Tracking{},
		asks:     map[*ask]struct{}{},
	}, nil
}

// Stats returns the counters. It may be called at any time.
func (w *Watcher) Stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	for _, ts := range w.tracks {
		s.Tracked += len(ts)
	}
	for _, l := range w.logs {
		s.Events += len(l.events)
	}
	s.Pods, s.Stale = len(w.known), w.contact != contactFresh
	s.Delivered, s.Gets = w.delivered.Load(), w.gets.Load()
	return s
}

// broadcast wakes those who wait for a change of state; it needs mu held.
func (w *Watcher) broadcast() {
	close(w.changed)
	w.changed = make(chan struct{})
}
