package eventsplit

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// ClassifyAPIError returns what became of a request to create, patch or delete a pod:
// denied by a webhook, over quota, forbidden, invalid, and so on. Class and MayRecover say
// what to do next:
//
//   - ClassNotSent: the request never reached the API server (no connection, no
//     credentials, no trust in its certificate). Nothing was done. The same request may be
//     sent again.
//   - ClassUncertain: the request was sent, and no answer says whether it was carried out.
//     Look before sending it again: after a create, GET the pod by its name and compare
//     what the creator has put on it.
//   - ClassTransient, and any other class with MayRecover: refused for now (a full quota, a
//     webhook that does not answer, a service account that is still to come). Nothing was
//     done. Send the request again later; Err has the answer's RetryAfter. After a conflict
//     read the object anew first.
//   - any other class: refused for good. Nothing was done.
//
// errors.As and errors.Is find err in the Failure. ClassifyAPIError returns nil for nil,
// and an error that is a *Failure as it is. An error that is neither an answer of an API
// server nor says that nothing was sent is of ClassUncertain.
func ClassifyAPIError(err error) *Failure {
	if err == nil {
		return nil
	}
	if f := (*Failure)(nil); errors.As(err, &f) {
		return f
	}
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		f := &Failure{Class: ClassUncertain, Cause: noAnswer(err), Err: err, MayRecover: true}
		if cause := notSent(err); cause != "" {
			f.Class, f.Cause = ClassNotSent, cause
			f.MayRecover = cause != CauseCertificate || strings.Contains(err.Error(), outOfDate)
		}
		return f
	}
	st := status.Status()
	message, _, _ := strings.Cut(st.Message, "\n@@") // a diff of Go structs follows the message
	f := &Failure{Reason: string(st.Reason), Message: message, Err: err}
	f.Class, f.Cause, f.MayRecover = classifyStatus(&st)
	return f
}

// These texts are of errors that come before anything is sent, where no type tells.
var (
	// client-go v0.35: plugin/pkg/client/auth/exec/exec.go:368, transport/
	// token_source.go:137-141, plugin/pkg/client/auth/oidc/oidc.go:239-257;
	// golang.org/x/oauth2 token.go.
	noCredentials = []string{"getting credentials: ", "oauth2: ", "failed to read token file", "read empty token from file", "failed to refresh token", "No valid id-token", "invalid header field value for"}
	// crypto/x509; crypto/tls: what a server says, in alerts that end a handshake (alert.go),
	// and what a client says of a server's hello (handshake_client.go); net/http.
	noTrust = []string{
		"x509: ", "tls: bad certificate", "tls: unknown certificate", "tls: certificate required", "tls: expired certificate",
		"tls: revoked certificate", "tls: unsupported certificate", "tls: handshake failure", "tls: protocol version not supported",
		"tls: insufficient security level", "tls: inappropriate fallback", "tls: unrecognized name", "tls: no application protocol",
		"tls: access denied", "tls: server selected unsupported", "tls: no supported versions",
		"tls: first record does not look like a TLS handshake", "server gave HTTP response to HTTPS client",
	}
	// net, net/http transport.go and socks_bundle.go:182; golang.org/x/net/http2, whose
	// REFUSED_STREAM says that the request was not processed (RFC 9113, 8.7).
	noConnection = []string{
		"unsupported protocol scheme", "no Host in request URL", "dial tcp", "proxyconnect tcp", "socks connect",
		"http2: no cached connection was available", "http2: client conn not usable", "http2: client conn could not be established", "TLS handshake timeout", "while waiting for connection", "REFUSED_STREAM",
	}
)

// notSent returns why a request never reached the API server, "" when it may have reached it.
func notSent(err error) Cause {
	text := err.Error()
	var dns *net.DNSError
	var op *net.OpError
	switch {
	case containsAny(text, noCredentials...): // whatever the reason is
		return CauseCredentials
	case strings.Contains(text, "client rate limiter Wait returned an error"): // client-go rest/request.go:675
		return CauseThrottled
	case errors.As(err, &dns), containsAny(text, ": no such host", ": server misbehaving", "name resolution"):
		return CauseNoSuchHost
	case containsAny(text, noTrust...):
		return CauseCertificate
	case errors.As(err, &op) && (op.Op == "dial" || op.Op == "proxyconnect"), utilnet.IsConnectionRefused(err), containsAny(text, noConnection...), refusedByProxy(err):
		return CauseUnreachable
	}
	return ""
}

// refusedByProxy reports whether a proxy refused to connect: net/http gives only the text of the
// status with which the proxy answered CONNECT (net/http transport.go:1937, Go 1.26).
func refusedByProxy(err error) bool {
	var request *url.Error
	if !errors.As(err, &request) {
		return false
	}
	for code := http.StatusBadRequest; code <= http.StatusNetworkAuthenticationRequired; code++ {
		if text := http.StatusText(code); text != "" && text == request.Err.Error() {
			return true
		}
	}
	return false
}

// noAnswer returns why there is no answer, "" when the caller gave up.
func noAnswer(err error) Cause {
	var timeout net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return ""
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return CauseTimeout
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
		return ClassForbidden, "", containsAny(st.Message, notYet...)
	case metav1.StatusReasonUnauthorized:
		return ClassUnauthorized, "", false
	case metav1.StatusReasonNotFound, metav1.StatusReasonGone:
		return ClassNotFound, "", false
	case metav1.StatusReasonAlreadyExists: // apiserver pkg/registry/generic/registry/store.go:549: the pod of that name is being deleted
		return ClassExists, "", strings.Contains(st.Message, "object is being deleted: ")
	case metav1.StatusReasonConflict: // apiserver pkg/storage/interfaces.go:152, pkg/registry/rest/delete.go:86: the pod of that name is another one
		return ClassConflict, "", !containsAny(st.Message, "UID in precondition", "UID in the precondition")
	case metav1.StatusReasonTooManyRequests:
		return ClassTransient, CauseTooManyRequests, true
	case metav1.StatusReasonTimeout, metav1.StatusReasonServerTimeout:
		return ClassUncertain, CauseTimeout, true
	}
	switch {
	case st.Code == http.StatusTooManyRequests:
		return ClassTransient, CauseTooManyRequests, true
	case st.Code == http.StatusRequestTimeout || st.Code == http.StatusGatewayTimeout:
		return ClassUncertain, CauseTimeout, true
	case st.Code == 499: // nginx: the client closed the connection
		return ClassUncertain, "", true
	case st.Code >= 400 && st.Code < 500:
		return ClassInvalid, "", false
	}
	return ClassUncertain, "", true
}

// notYet are texts of a Forbidden that time cures (kubernetes v1.36.3): the service account that
// a controller makes for a new namespace
// (plugin/pkg/admission/serviceaccount/admission.go:226,387); an admission plugin that still
// reads what it needs (apiserver pkg/admission/plugin/webhook/generic/webhook.go:364 and
// others).
var notYet = []string{
	"error looking up service account", "no service account specified", "not yet ready to handle request",
	"at this time because there was an error enforcing limit ranges", // plugin/pkg/admission/limitranger/admission.go:163
	`is forbidden: Post "http`,                                       // plugin/pkg/admission/imagepolicy/admission.go:129, the webhook did not answer
}

// denial returns who denied a request and why, from the message alone; class "" means that the
// message does not tell. Webhooks and policies are checked first, because their messages may
// contain the words of any other check. Admission runs before anything is stored, so even an
// internal error of admission means that nothing was done.
func denial(message string) (Class, Cause, bool) {
	switch {
	case strings.Contains(message, "admission webhook ") && strings.Contains(message, "denied the request"),
		strings.Contains(message, "image policy webhook backend denied"):
		return ClassDenied, CauseWebhook, false
	case strings.Contains(message, "failed calling webhook"),
		// apiserver pkg/admission/plugin/webhook/mutating/dispatcher.go:347,361: the webhook answered with
		// a patch that does not fit (evanphx/json-patch.v4 patch.go:527-730).
		strings.Contains(message, "attempted to modify the object, which is not supported"),
		strings.HasPrefix(message, "Internal error occurred: ") && strings.Contains(message, " operation does not apply: "):
		return ClassTransient, CauseWebhook, true
	case strings.Contains(message, "ValidatingAdmissionPolicy "), // apiserver pkg/admission/plugin/policy/validating/dispatcher.go:294
		strings.Contains(message, "policy '") && strings.Contains(message, "' denied request: "): // policy/generic/policy_dispatcher.go:413, a mutating policy
		return ClassDenied, CausePolicy, false
	// apiserver pkg/admission/plugin/resourcequota/controller.go:471-682. The status of a quota
	// is unknown until its use has been counted.
	case containsAny(message, "exceeded quota", "status unknown for quota", "resource quota evaluation timed out", "resourcequotas"):
		return ClassQuota, "", true
	case strings.Contains(message, "failed quota"), // the pod lacks the requests or limits that the quota counts
		strings.Contains(message, "quota usage is negative"),
		strings.Contains(message, "insufficient quota to "): // something that only a quota can allow, and none does
		return ClassQuota, "", false
	case strings.Contains(message, "violates PodSecurity"):
		return ClassPodSecurity, "", false
	case strings.Contains(message, "limit to request ratio"), namesLimit(message, "maximum "), namesLimit(message, "minimum "):
		return ClassForbidden, CauseLimitRange, false
	case containsAny(message, "etcdserver: request is too large", "trying to send message larger than max"): // apiserver pkg/endpoints/handlers/rest.go:458
		return ClassInvalid, "", false
	case containsAny(message, "etcdserver: too many requests", "database space exceeded", // etcd did not write
		"apiserver is shutting down",                                  // apiserver pkg/server/filters/waitgroup.go:94, before it reads the request
		"was not able to generate a unique name",                      // apimachinery pkg/api/errors/errors.go:176: the next create draws another name
		"a delay between when CustomResourceDefinitions are created"): // apiserver pkg/admission/plugin/policy/mutating/dispatcher.go:248
		return ClassTransient, "", true
	}
	return "", "", false
}

// namesLimit reports whether a LimitRange refused the request for a bound of any resource:
// "maximum memory usage per Container is 1Gi" (kubernetes v1.36
// plugin/pkg/admission/limitranger/admission.go).
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

// ownerFailure reads an owner's FailedCreate Event, which has the answer of the API server as
// its message.
func ownerFailure(since metav1.Time, message string) *Failure {
	class, cause, mayRecover := denial(message)
	switch {
	case class != "":
	case strings.Contains(message, "forbidden"):
		class, mayRecover = ClassForbidden, true // a service account may still come
	case strings.Contains(message, "is invalid"):
		class = ClassInvalid
	default:
		class, mayRecover = ClassOther, true
	}
	return &Failure{Class: class, Cause: cause, MayRecover: mayRecover, Message: message, Since: since.Time}
}
