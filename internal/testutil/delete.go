package testutil

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
)

func (s *server) delete(r *http.Request, res *resource, t target) ([]byte, error) {
	o, err := deleteOptions(r)
	if err != nil {
		return nil, err
	}
	v, err := s.store.delete(res, t.namespace, t.name, o)
	if err != nil {
		return nil, err
	}
	if res == pods { // answers with the last state; the others with a Status
		return res.single(v.json), nil
	}
	return json.Marshal(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusSuccess,
		Details: &metav1.StatusDetails{Name: t.name, Kind: res.name, UID: v.GetUID()},
	})
}

func (s *server) deleteAll(r *http.Request, res *resource, t target) ([]byte, error) {
	_, match, err := listOptions(r, res, t)
	if err != nil {
		return nil, err
	}
	o, err := deleteOptions(r)
	if err != nil {
		return nil, err
	}
	items, rv := s.store.list(res.name, t.namespace, match)
	for _, v := range items {
		if _, err := s.store.delete(res, v.GetNamespace(), v.GetName(), o); err != nil && !apierrors.IsNotFound(err) {
			return nil, err
		}
	}
	return res.encodeList(page{items: items, rv: rv}, ""), nil
}

// deleteOptions come in the body or, of older clients, in the query.
func deleteOptions(r *http.Request) (o metav1.DeleteOptions, err error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return o, err
	}
	if len(b) > 0 {
		kind := corev1.SchemeGroupVersion.WithKind("DeleteOptions")
		_, _, err = scheme.Codecs.UniversalDeserializer().Decode(b, &kind, &o)
	} else {
		err = scheme.ParameterCodec.DecodeParameters(r.URL.Query(), corev1.SchemeGroupVersion, &o)
	}
	if err != nil {
		return o, apierrors.NewBadRequest(err.Error())
	}
	return o, nil
}

// delete removes an object. A pod is always marked first (k8s.io/apiserver v0.36.3
// pkg/registry/generic/registry/store.go:1139, pkg/registry/rest/delete.go): watches see
// MODIFIED with a deletionTimestamp before they see DELETED, at once when the grace
// period is zero, as it is in the end of every other deletion, too. What has finalizers
// is only marked.
func (s *store) delete(res *resource, namespace, name string, o metav1.DeleteOptions) (*version, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, now := res.key(namespace, name), false
	v, err := s.writeLocked(k, func(old object) (object, error) {
		if old == nil {
			return nil, apierrors.NewNotFound(res.gr(), name)
		}
		if err := precondition(res, old, o.Preconditions); err != nil {
			return nil, err
		}
		now = mark(old, o) && len(old.GetFinalizers()) == 0
		return old, nil
	})
	if err != nil || !now {
		return v, err
	}
	return s.writeLocked(k, func(object) (object, error) { return nil, nil })
}

// mark prepares an object for its deletion, and says whether it has none left.
func mark(old object, o metav1.DeleteOptions) (now bool) {
	was, left := old.GetDeletionTimestamp(), old.GetDeletionGracePeriodSeconds()
	at, grace := time.Now(), int64(0)
	pod, graceful := old.(*corev1.Pod)
	switch {
	case !graceful && len(old.GetFinalizers()) == 0:
		return true
	case was == nil:
		if graceful {
			grace = gracePeriod(pod, o)
		}
		at = at.Add(time.Duration(grace) * time.Second)
		if g := old.GetGeneration(); g > 0 {
			// Seen on a real cluster, v1.36.3: observedGeneration does not follow.
			old.SetGeneration(g + 1)
		}
	case left == nil || *left == 0:
		return true
	case o.GracePeriodSeconds == nil || *o.GracePeriodSeconds >= *left:
		return false // can only be shortened
	default:
		grace = *o.GracePeriodSeconds
		if then := was.Add(time.Duration(grace-*left) * time.Second); then.After(at) {
			at = then
		} else {
			grace = min(grace, 1) // is over
		}
	}
	old.SetDeletionTimestamp(&metav1.Time{Time: seconds(at)})
	old.SetDeletionGracePeriodSeconds(&grace)
	return grace == 0
}

// gracePeriod is zero for a pod that no kubelet has to stop: one that is not
// scheduled or whose containers have all ended (kubernetes v1.36.3
// pkg/registry/core/pod/strategy.go, CheckGracefulDelete).
func gracePeriod(p *corev1.Pod, o metav1.DeleteOptions) int64 {
	switch {
	case p.Spec.NodeName == "", p.Status.Phase == corev1.PodSucceeded, p.Status.Phase == corev1.PodFailed:
		return 0
	case o.GracePeriodSeconds != nil && *o.GracePeriodSeconds < 0:
		return 1
	case o.GracePeriodSeconds != nil:
		return *o.GracePeriodSeconds
	case p.Spec.TerminationGracePeriodSeconds != nil:
		return *p.Spec.TerminationGracePeriodSeconds
	}
	return corev1.DefaultTerminationGracePeriodSeconds
}

func precondition(res *resource, old object, p *metav1.Preconditions) error {
	if p == nil {
		return nil
	}
	if p.UID != nil && *p.UID != old.GetUID() {
		return apierrors.NewConflict(res.gr(), old.GetName(), fmt.Errorf(
			"the UID in the precondition (%s) does not match the UID in record (%s). The object might have been deleted and then recreated", *p.UID, old.GetUID()))
	}
	if p.ResourceVersion != nil && *p.ResourceVersion != old.GetResourceVersion() {
		return apierrors.NewConflict(res.gr(), old.GetName(), fmt.Errorf(
			"the ResourceVersion in the precondition (%s) does not match the ResourceVersion in record (%s). The object might have been modified", *p.ResourceVersion, old.GetResourceVersion()))
	}
	return nil
}
