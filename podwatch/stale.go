package podwatch

import (
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// contact is how the pods' watch stands with the API server.
type contact uint8

const (
	contactFresh   contact = iota
	contactStale           // lost: what was said may be old
	contactRefused         // lost, and the API server has refused for a while to give it back
)

func staleStatus(cause error) *metav1.Status {
	return status(Stale, "the watch has lost contact with the API server: "+cause.Error())
}

// refusedStatus is what the handlers hear of a refusal: the API server's own
// status, whose message names user, verb and namespace in a 403, and nothing at
// all in a 401.
func refusedStatus(verb, namespace string, err error) *metav1.Status {
	s := status(metav1.StatusReasonUnauthorized, err.Error())
	s.Code = http.StatusUnauthorized
	var answer apierrors.APIStatus
	if errors.As(err, &answer) {
		st := answer.Status()
		s.Code, s.Details, s.Message = st.Code, st.Details, st.Message
	}
	if apierrors.IsForbidden(err) {
		s.Reason = metav1.StatusReasonForbidden
	}
	where := "all namespaces"
	if namespace != "" {
		where = fmt.Sprintf("namespace %q", namespace)
	}
	s.Message = fmt.Sprintf("%s pods in %s: %s", verb, where, s.Message)
	return s
}

// setContact tells every tracking that contact is lost, or refused; it needs mu
// held.
func (w *Watcher) setContact(c contact, s *metav1.Status) {
	w.contact, w.trouble = c, s
	for _, ts := range w.tracks {
		for _, t := range ts {
			t.owesFresh = false
			w.deliver(t, t.box.contact(c, s))
		}
	}
}

// setFresh tells every tracking that the watch has contact again; it needs mu
// held. listed is what a list brought meanwhile, nil when there was none: a
// list is known here before its pods have come through the informer, and Fresh
// must not be said of what is still old.
func (w *Watcher) setFresh(listed map[types.NamespacedName]string) {
	w.contact, w.trouble = contactFresh, nil
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
	t.w.deliver(t, t.box.contact(contactFresh, s))
}
