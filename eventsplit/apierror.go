package eventsplit

import (
	"context"
	"errors"
	"net/http"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// ClassifyAPIError tells what a create or a patch of a pod was answered: denied by
// a webhook, over quota, forbidden, invalid, and so on. The error stays reachable
// through errors.As and errors.Is. It is nil for nil; an error that is a *Failure
// already is returned as it is. Anything that is no answer of an API server is of
// ClassTransient: whether the request was carried out is not known.
func ClassifyAPIError(err error) *Failure {
	if err == nil {
		return nil
	}
	if f := (*Failure)(nil); errors.As(err, &f) {
		return f
	}
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		return &Failure{Class: ClassTransient, Cause: noAnswer(err), Err: err, MayRecover: true}
	}
	st := status.Status()
	message, _, _ := strings.Cut(st.Message, "\n@@") // a diff of Go structs follows
	f := &Failure{Reason: string(st.Reason), Message: message, Err: err}
	f.Class, f.Cause, f.MayRecover = classifyStatus(&st)
	return f
}

// noAnswer tells why there is no answer.
func noAnswer(err error) Cause {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return CauseTimeout
	case errors.Is(err, context.Canceled):
		return ""
	case utilnet.IsConnectionRefused(err):
		return CauseUnreachable
	}
	return CauseNetwork
}

func classifyStatus(st *metav1.Status) (Class, Cause, bool) {
	if class, cause, mayRecover := denial(st.Message); class != "" {
		return class, cause, mayRecover
	}
	switch st.Reason {
	case metav1.StatusReasonForbidden:
		if hasCause(st, "NamespaceTerminating") || strings.Contains(st.Message, "because it is being terminated") {
			return ClassForbidden, CauseNamespaceTerminating, false
		}
		return ClassForbidden, "", false
	case metav1.StatusReasonUnauthorized:
		return ClassUnauthorized, "", false
	case metav1.StatusReasonNotFound, metav1.StatusReasonGone:
		return ClassNotFound, "", false
	case metav1.StatusReasonAlreadyExists:
		return ClassExists, "", false
	case metav1.StatusReasonConflict:
		return ClassConflict, "", true
	case metav1.StatusReasonTooManyRequests:
		return ClassTransient, CauseTooManyRequests, true
	case metav1.StatusReasonTimeout, metav1.StatusReasonServerTimeout:
		return ClassTransient, CauseTimeout, true
	}
	switch {
	case st.Code == http.StatusTooManyRequests:
		return ClassTransient, CauseTooManyRequests, true
	case st.Code == http.StatusRequestTimeout || st.Code == http.StatusGatewayTimeout:
		return ClassTransient, CauseTimeout, true
	case st.Code >= 400 && st.Code < 500:
		return ClassInvalid, "", false
	}
	return ClassTransient, "", true
}

// denial reads who denied a request; only the message says. Webhooks and policies
// come first, for they may use anyone's words.
func denial(message string) (Class, Cause, bool) {
	switch {
	case strings.Contains(message, "admission webhook ") && strings.Contains(message, "denied the request"),
		strings.Contains(message, "image policy webhook backend denied"):
		return ClassDenied, CauseWebhook, false
	case strings.Contains(message, "failed calling webhook"):
		return ClassTransient, CauseWebhook, true
	case strings.Contains(message, "ValidatingAdmissionPolicy "):
		return ClassDenied, CausePolicy, false
	case strings.Contains(message, "exceeded quota"), strings.Contains(message, "resourcequotas"):
		return ClassQuota, "", true
	case strings.Contains(message, "failed quota"):
		return ClassQuota, "", false // it names no requests or limits, and must
	case strings.Contains(message, "violates PodSecurity"):
		return ClassPodSecurity, "", false
	case strings.Contains(message, "limit to request ratio"), namesLimit(message, "maximum "), namesLimit(message, "minimum "):
		return ClassForbidden, CauseLimitRange, false
	}
	return "", "", false
}

// namesLimit tells whether a LimitRange is what a request was held against:
// "maximum memory usage per Container is 1Gi", of whatever resource
// (kubernetes plugin/pkg/admission/limitranger/admission.go, v1.36).
func namesLimit(message, bound string) bool {
	_, rest, ok := strings.Cut(message, bound)
	if !ok {
		return false
	}
	resource, _, ok := strings.Cut(rest, " usage per ")
	return ok && resource != "" && !strings.Contains(resource, " ")
}

func hasCause(st *metav1.Status, cause metav1.CauseType) bool {
	if st.Details == nil {
		return false
	}
	for i := range st.Details.Causes {
		if st.Details.Causes[i].Type == cause {
			return true
		}
	}
	return false
}

// answerOf tells what an error of a patch means for the pod. Only an answer that
// names a client's fault says that nothing was changed; 408 and 499 are a
// timeout's and a gateway's.
func answerOf(err error) swapAnswer {
	if err == nil {
		return swapApplied
	}
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		return swapUnknown
	}
	switch code := status.Status().Code; {
	case code == http.StatusRequestTimeout || code == 499:
		return swapUnknown
	case code >= 400 && code < 500:
		return swapRefused
	}
	return swapUnknown
}

// ownerFailure reads an owner's FailedCreate Event, which holds what the API
// server answered.
func ownerFailure(since metav1.Time, message string) *Failure {
	class, cause, mayRecover := denial(message)
	switch {
	case class != "":
	case strings.Contains(message, "forbidden"):
		class, mayRecover = ClassForbidden, true // a service account may come yet
	case strings.Contains(message, "is invalid"):
		class = ClassInvalid
	default:
		class, mayRecover = ClassOther, true
	}
	return &Failure{Class: class, Cause: cause, MayRecover: mayRecover, Message: message, Since: since.Time}
}
