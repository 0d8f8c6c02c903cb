package testutil

import (
	"bytes"
	"cmp"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

// object is what the store keeps: any API object.
type object interface {
	runtime.Object
	metav1.Object
}

// key names an object of one resource ("pods").
type key struct{ resource, namespace, name string }

// version is one state of an object, never changed again. Its JSON is made
// once, however many watches send it.
type version struct {
	object
	json []byte // without kind and apiVersion, as items of a list are
}

func newVersion(o object) *version {
	o.GetObjectKind().SetGroupVersionKind(schema.GroupVersionKind{})
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // the API's own types can be marshalled
	}
	return &version{object: o, json: b}
}

// change is one write. It is also what a watch is made of.
type change struct {
	rv       uint64
	at       time.Time
	key      key
	old, new *version // old: nil when created; new: nil when deleted
	last     *version // the final state, when deleted
}

// event is the change as a watch with the selector match sees it. The selector
// is asked about both sides: an object that stops to match is DELETED, with the
// state in which it last matched and the new resourceVersion; only a real
// deletion carries a deletionTimestamp (seen on a real cluster, v1.36.3).
func (c change) event(match func(object) bool) (watch.EventType, []byte) {
	before := c.old != nil && match(c.old.object)
	after := c.new != nil && match(c.new.object)
	switch {
	case before && after:
		return watch.Modified, c.new.json
	case after:
		return watch.Added, c.new.json
	case before && c.last != nil:
		return watch.Deleted, c.last.json
	case before:
		left := c.old.DeepCopyObject().(object)
		left.SetResourceVersion(strconv.FormatUint(c.rv, 10))
		return watch.Deleted, newVersion(left).json
	}
	return "", nil
}

// window is how many changes the history keeps before watches that start
// earlier are told 410. A real watch cache keeps at least 75 s of them.
const window = 20_000

// store is the etcd and the watch cache of the cluster: objects, one counter of
// resourceVersions for all of them, and the history that watches are served from.
type store struct {
	mu      sync.Mutex
	rv      uint64
	objects map[key]*version
	history []change
	oldest  uint64        // watches from before it are expired
	changed chan struct{} // closed by the next change
}

func newStore() *store {
	// A resourceVersion of a new cluster is small but not 1: etcd holds more than pods.
	return &store{rv: 100, oldest: 100, objects: map[key]*version{}, changed: make(chan struct{})}
}

func (s *store) get(k key) *version {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[k]
}

// list returns the objects of a resource in a namespace ("": all), sorted by
// namespace and name as etcd's keys are, and the resourceVersion they are of.
func (s *store) list(resource, namespace string, match func(object) bool) ([]*version, uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var vs []*version
	for k, v := range s.objects {
		if k.resource == resource && (namespace == "" || k.namespace == namespace) && match(v.object) {
			vs = append(vs, v)
		}
	}
	slices.SortFunc(vs, func(a, b *version) int {
		return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
	return vs, s.rv
}

// write is the one way to change an object. f gets a copy of it that it may
// change (nil: there is none) and returns the new state, nil to delete it, or
// an error. A state that differs in nothing is no write: the resourceVersion
// stays and no watch hears of it (a no-op PATCH, seen on a real cluster).
func (s *store) write(k key, f func(old object) (object, error)) (*version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.writeLocked(k, f)
}

func (s *store) writeLocked(k key, f func(old object) (object, error)) (*version, error) {
	old := s.objects[k]
	var copied object
	if old != nil {
		copied = old.DeepCopyObject().(object)
	}
	o, err := f(copied)
	if err != nil {
		return nil, err
	}
	if o == nil {
		return s.remove(k, old, copied), nil
	}
	if old != nil {
		o.SetResourceVersion(old.GetResourceVersion())
		if same := newVersion(o); bytes.Equal(same.json, old.json) {
			return old, nil
		}
	}
	s.rv++
	o.SetResourceVersion(strconv.FormatUint(s.rv, 10))
	v := newVersion(o)
	s.objects[k] = v
	s.record(change{rv: s.rv, key: k, old: old, new: v})
	return v, nil
}

// remove deletes the object. The version it returns, which watches see too, is
// the last state (final) with the resourceVersion of the deletion.
func (s *store) remove(k key, old *version, final object) *version {
	if old == nil {
		return nil
	}
	s.rv++
	final.SetResourceVersion(strconv.FormatUint(s.rv, 10))
	v := newVersion(final)
	delete(s.objects, k)
	s.record(change{rv: s.rv, key: k, old: old, last: v})
	return v
}

// record adds to the history and wakes the watches. Called with the lock held.
func (s *store) record(c change) {
	c.at = time.Now()
	s.history = append(s.history, c)
	if len(s.history) > 2*window { // cut in half at a time: cheap on average
		cut := len(s.history) - window
		s.oldest = s.history[cut-1].rv
		s.history = slices.Clone(s.history[cut:])
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// since returns what happened after rv and a channel that is closed by what
// happens next. ok is false when the history does not reach back to rv.
func (s *store) since(rv uint64) (cs []change, changed <-chan struct{}, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rv < s.oldest {
		return nil, nil, false
	}
	i, _ := slices.BinarySearchFunc(s.history, rv+1, func(c change, rv uint64) int { return cmp.Compare(c.rv, rv) })
	return slices.Clip(s.history[i:]), s.changed, true
}

// now is the newest resourceVersion.
func (s *store) now() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rv
}

// compact forgets the history, as etcd does every five minutes.
func (s *store) compact() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.oldest, s.history = s.rv, nil
}
