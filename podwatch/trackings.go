package podwatch

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// trackings are those that are not closed, and what all of them are told: whether
// there is contact with the API server. The core's mutex guards them, and is held
// by the callers of all methods.
type trackings struct {
	core    *core
	cache   *podCache
	byName  map[types.NamespacedName][]*Tracking
	contact contact
	trouble *metav1.Status // what the handlers are told of the contact, unless it is fresh
}

// add registers a tracking and tells it of the contact.
func (ts *trackings) add(t *Tracking) {
	t.remove = func() { ts.remove(t) }
	ts.byName[t.id.key] = append(ts.byName[t.id.key], t)
	if ts.core.phase == running {
		t.box.unlatch()
	}
	if ts.contact != contactFresh {
		t.id.contact(ts.contact, ts.trouble)
	}
}

func (ts *trackings) remove(t *Tracking) {
	left := slices.DeleteFunc(ts.byName[t.id.key], func(o *Tracking) bool { return o == t })
	if len(left) == 0 {
		delete(ts.byName, t.id.key)
	} else {
		ts.byName[t.id.key] = left
	}
}

// of returns the trackings of a name: a copy, since a tracking may end with what it
// is told.
func (ts *trackings) of(key types.NamespacedName) []*Tracking { return slices.Clone(ts.byName[key]) }

// all returns every tracking.
func (ts *trackings) all() (all []*Tracking) {
	for _, of := range ts.byName {
		all = append(all, of...)
	}
	return all
}

// setContact tells every tracking that contact is lost, or refused.
func (ts *trackings) setContact(c contact, s *metav1.Status) {
	ts.contact, ts.trouble = c, s
	for _, t := range ts.all() {
		t.id.contact(c, s)
	}
}

// setFresh tells every tracking that the watch has contact again. listed is what a
// list brought meanwhile, nil when there was none: a list is known here before its
// pods have come through the informer, and Fresh must not be said of what is still
// old.
func (ts *trackings) setFresh(listed map[types.NamespacedName]string) {
	ts.contact, ts.trouble = contactFresh, nil
	for key, of := range ts.byName {
		current := listed == nil || ts.upToDate(key, listed)
		for _, t := range of {
			t.id.freshDue = true
			if current {
				t.id.answered()
			}
		}
	}
}

// upToDate reports whether what is known of a pod is as new as the list.
func (ts *trackings) upToDate(key types.NamespacedName, listed map[types.NamespacedName]string) bool {
	version, is := listed[key]
	cached := ts.cache.pods[key]
	if !is || cached == nil {
		return !is && cached == nil
	}
	return !older(cached.pod.ResourceVersion, version)
}
