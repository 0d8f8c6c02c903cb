package podwatch

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

func staleStatus(cause error) *metav1.Status {
	m := "the watch has lost contact with the API server"
	if cause != nil {
		m += ": " + cause.Error()
	}
	return status(Stale, m)
}

// setStale tells every tracking that what it knows may be old; it needs mu held.
func (w *Watcher) setStale(cause error) {
	w.stale, w.cause = true, cause
	s := staleStatus(cause)
	for _, ts := range w.tracks {
		for _, t := range ts {
			t.owesFresh = false
			w.deliver(t, t.box.contact(true, s))
		}
	}
}

// setFresh tells every tracking that the watch has contact again; it needs mu
// held. listed is what a list brought meanwhile, nil when there was none: a
// list is known here before its pods have come through the informer, and Fresh
// must not be said of what is still old.
func (w *Watcher) setFresh(listed map[types.NamespacedName]string) {
	w.stale, w.cause = false, nil
	for key, ts := range w.tracks {
		current := listed == nil || w.caughtUp(key, listed)
		for _, t := range ts {
			t.owesFresh = true
			if current {
				t.settle()
			}
		}
	}
}

// caughtUp reports whether what is known of a pod is as new as the list.
func (w *Watcher) caughtUp(key types.NamespacedName, listed map[types.NamespacedName]string) bool {
	version, is := listed[key]
	k := w.known[key]
	if !is || k == nil {
		return !is && k == nil
	}
	c, ok := compare(k.pod.ResourceVersion, version)
	return !ok || c >= 0
}

// settle says Fresh if that is due and nothing is left to find out. It is called
// behind whatever the watch brings for the tracking.
func (t *Tracking) settle() {
	if !t.owesFresh || t.ask != nil {
		return
	}
	t.owesFresh = false
	s := status(Fresh, "the watch has contact with the API server again")
	t.w.deliver(t, t.box.contact(false, s))
}
