package podwatch

import (
	"errors"
	"fmt"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// contact says whether the watch of pods has contact with the API server.
type contact uint8

const (
	contactFresh   contact = iota
	contactStale           // lost: what was said may be old
	contactRefused         // lost, and the API server has refused it for Options.Refusal
)

func freshStatus() *metav1.Status {
	return status(Fresh, "the watch has contact with the API server again")
}

func staleStatus(cause error) *metav1.Status {
	return status(Stale, "the watch has lost contact with the API server: "+cause.Error())
}

// refusedStatus is what the handlers hear of a refusal: the API server's own status,
// whose message names user, verb and namespace in a 403, and nothing at all in a
// 401.
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

// expired reports whether the API server no longer has the history to resume from.
func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

// refused reports whether the API server does not permit the request.
func refused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }
