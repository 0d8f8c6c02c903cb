package eventsplit

import (
	"cmp"
	"context"
	"errors"
	"strconv"
	"strings"
)

// Error names the container, says what is wrong, quotes the cause in the words of whoever said
// it, and adds in brackets what to do, where that is known. It is made to be shown to the user
// of a CI system as it is. testdata/sentences.golden has every sentence.
func (f *Failure) Error() string {
	var b strings.Builder
	if f.Slot != "" {
		b.WriteString("container " + strconv.Quote(f.Slot) + ": ")
	}
	b.WriteString(f.what())
	if words := f.words(); words != "" {
		b.WriteString(": " + words)
	}
	if hint := f.hint(); hint != "" {
		b.WriteString(" (" + hint + ")")
	}
	return b.String()
}

// Unwrap returns the API error behind the Failure, or nil.
func (f *Failure) Unwrap() error { return f.Err }

// words returns the cause in its source's own words, on one line.
func (f *Failure) words() string {
	words := f.Message
	if f.Class == ClassImagePull {
		all := pullErrors(words)
		for i := range all { // containerd names the image once more, in front of the cause
			if rest, ok := strings.CutPrefix(all[i], "failed to pull and unpack image "); ok {
				all[i] = cmp.Or(afterQuoted(rest), all[i])
			}
		}
		words = strings.Join(all, "; ")
	}
	if words == "" && f.Err != nil {
		words = f.Err.Error()
	}
	words = strings.Join(strings.Fields(words), " ")
	switch {
	case words == msgDeleted:
		return ""
	case words != "", f.Class == ClassUnknownSlot, f.Class == ClassLost, f.Reason == reasonPodUnknown, f.Reason == reasonPodFailed, f.Reason == string(f.Class):
		return words
	}
	return f.Reason
}

// what returns a clause for the class, and for the cause where that makes it clearer.
func (f *Failure) what() string {
	image := "the image"
	if f.Image != "" {
		image = "image " + strconv.Quote(f.Image)
	}
	switch f.Class {
	case ClassImagePull:
		if f.Image == "" { // the container's own or that of a volume
			image = "an image"
		}
		if (f.Reason == reasonImageInspect || f.Reason == reasonInspectFailed) && f.Cause == "" {
			return image + " cannot be looked up on the node"
		}
		if f.Cause == CauseNotFound && lacksPlatform(f.Message) {
			return image + " is not built for the node's platform"
		}
		return image + " " + causeTexts[ClassImagePull][f.Cause]
	case ClassNotStarted:
		return image + " was not started, and Kubernetes gave no reason"
	case ClassUnchanged:
		return image + " was to be set and is set already, so the container is not restarted"
	case ClassProgress:
		return "it is being started with " + image
	case ClassConfig, ClassCreate, ClassStart:
		if f.Slot != "" {
			return startText(f) + " (" + image + ")"
		}
	case ClassEvicted, ClassPreempted, ClassNodeLost:
		if text := nodeTexts[f.Reason]; text != "" {
			return text
		}
		if f.MayRecover {
			return announcedTexts[f.Class]
		}
	case ClassQuota, ClassForbidden, ClassExists:
		if f.MayRecover {
			return notYetTexts[f.Class]
		}
	case ClassConflict:
		if !f.MayRecover {
			return "the pod of that name is another one"
		}
	case ClassSandbox:
		if f.Reason == "FailedValidation" {
			return "the node does not accept the pod as it is"
		}
	case ClassNotFound:
		if f.Message != "" && !strings.HasSuffix(f.Message, `" not found`) {
			return "the API server, or a proxy in front of it, does not know the address of the request"
		}
	case ClassUncertain:
		if errors.Is(f.Err, context.Canceled) {
			return "the request was given up before its answer came, and it is not known whether it was carried out"
		}
	case ClassPodEnded:
		if f.Reason == "BackoffLimitExceeded" {
			return "the pod's Job has given up"
		}
	case ClassOther:
		if f.Slot == "" && !f.MayRecover {
			if f.Message == "" {
				return "the pod failed, and Kubernetes gave no reason"
			}
			return "the pod failed"
		}
	}
	if text := podTexts[f.Class]; f.Slot == "" && text != "" {
		return text
	}
	return cmp.Or(causeTexts[f.Class][f.Cause], classTexts[f.Class], classTexts[ClassOther])
}

// startText returns a clause for the step of a start that failed.
func startText(f *Failure) string {
	switch {
	case f.Class == ClassStart && (f.Reason == "PostStartHookError" || f.Reason == "FailedPostStartHook"):
		return "its postStart hook failed"
	case f.Class == ClassStart && lacksCommand(f.Message):
		return "its command cannot be started"
	}
	return classTexts[f.Class]
}

// hint returns what to do, "" when there is nothing to do.
func (f *Failure) hint() string {
	switch f.Class {
	case ClassImagePull:
		if f.Cause == CauseNotFound && lacksPlatform(f.Message) {
			return "choose an image or a node of another platform"
		}
		return pullHint(f.Cause, strings.ToLower(f.Message))
	case ClassConfig:
		if strings.Contains(f.Message, "not found") || strings.Contains(f.Message, "couldn't find") {
			return "create what is missing, or correct its name in the pod"
		}
	case ClassStart:
		if lacksCommand(f.Message) {
			return "check the command, and that the image has it"
		}
	case ClassNotStarted:
		return "the Event that says why may have been dropped; see the log of the node's kubelet"
	case ClassQuota:
		if strings.Contains(f.Message, "must specify") {
			return "give the pod the requests and limits that the quota counts"
		}
	case ClassConflict:
		if f.MayRecover {
			return "read the pod again and send the request again"
		}
	case ClassUncertain:
		return "look whether it did before you send the request again"
	case ClassUnknownSlot:
		return "check the name"
	}
	return ""
}

// pullHint returns what to do about an image that cannot be pulled, as far as the words tell.
func pullHint(cause Cause, words string) string {
	switch {
	case cause == CauseNoSuchHost && !containsAny(words, "no such host", "name or service not known"):
		return "" // the node's resolver is in trouble; the name may be right
	case cause == CauseCertificate && strings.Contains(words, outOfDate):
		return "renew the registry's certificate, or correct the node's clock"
	case cause == CauseCertificate && !containsAny(words, "unknown authority", "http response to https client"):
		return ""
	}
	return pullHints[cause]
}

var pullHints = map[Cause]string{
	CauseNotFound:     "check the image's name and tag",
	CauseUnauthorized: "check that it exists and that the pod's imagePullSecrets may pull it",
	CauseRateLimited:  "try again later, or pull with credentials",
	CauseNoSuchHost:   "check the registry in the image's name",
	CauseInvalidName:  "check the image's name",
	CauseNeverPull:    "bring it to the node, or choose another imagePullPolicy",
	CauseCertificate:  "the node must trust the registry's certificate authority, or be told that the registry speaks plain HTTP",
}

const msgDeleted = "the pod was deleted"

var classTexts = map[Class]string{
	ClassConfig:        "it cannot be set up as the pod asks",
	ClassCreate:        "the node cannot create it",
	ClassStart:         "the node cannot start it",
	ClassCrashLoop:     "it ends again and again, and each restart waits longer",
	ClassSandbox:       "the node cannot set up the pod's sandbox, network or devices",
	ClassVolume:        "a volume of the pod cannot be made ready",
	ClassRuntime:       "the node cannot stop it, remove it or change its resources",
	ClassUnschedulable: "no node has taken the pod yet",
	ClassRejected:      "the node refused the pod",
	ClassEvicted:       "the pod was evicted",
	ClassPreempted:     "the pod had to make room for a pod of higher priority",
	ClassNodeLost:      "the pod had to leave its node",
	ClassDeadline:      "the pod's time was up (activeDeadlineSeconds)",
	ClassDeleted:       "the pod was deleted",
	ClassOutOfScope:    "the pod's labels are not those that are watched, so its end will not be seen",
	ClassPodEnded:      "the pod ended before the container ran",
	ClassLost:          "how it ended is not known, because its node lost track of it",
	ClassPlaceholder:   "the placeholder ended before the step's image was set, so the step cannot start",
	ClassEnded:         "it has ended already",
	ClassUnknownSlot:   "the pod has no such container",
	ClassOther:         "it does not run",

	ClassDenied:       "an admission check denied the request",
	ClassPodSecurity:  "the namespace's Pod Security level does not allow the pod",
	ClassQuota:        "the namespace's quota does not allow the pod",
	ClassForbidden:    "the API server does not allow the request",
	ClassUnauthorized: "the API server does not accept the credentials",
	ClassInvalid:      "the request is not valid",
	ClassNotFound:     "the pod or its namespace does not exist",
	ClassExists:       "a pod of that name exists already",
	ClassConflict:     "someone else changed the pod at the same time",
	ClassTransient:    "the API server does not take the request now",
	ClassNotSent:      "nothing was sent to the API server",
	ClassUncertain:    "the API server failed, and it is not known whether it carried the request out",
}

// podTexts are clauses about the pod itself, which no name precedes.
var podTexts = map[Class]string{
	ClassConfig:    "a container of the pod cannot be set up",
	ClassCreate:    "the node cannot create the pod's containers",
	ClassStart:     "a container of the pod cannot be started",
	ClassCrashLoop: "the pod's containers end again and again",
	ClassRuntime:   "the node cannot stop the pod, or change its resources",
	ClassLost:      "how the pod ended is not known, because its node lost track of it",
	ClassEnded:     "the pod has ended already",
	ClassOther:     "the pod does not run",
}

// announcedTexts are clauses for an end that may still be called off.
var announcedTexts = map[Class]string{
	ClassEvicted:   "the pod is about to be evicted",
	ClassPreempted: "the pod is about to make room for a pod of higher priority",
	ClassNodeLost:  "the pod is about to leave its node",
}

// nodeTexts are clauses for what happens to the node.
var nodeTexts = map[string]string{
	reasonNodeNotReady: "the pod's node does not answer",
	reasonPodUnknown:   "the pod's node does not answer",
	"NodeLost":         "the pod's node does not answer any more",
	reasonRebooted:     "the pod's node was restarted",
	"NodeShutdown":     "the pod's node is shutting down",
	"Shutdown":         "the pod's node is shutting down",
	"Terminated":       "the pod's node is shutting down",
}

// notYetTexts are clauses for a refusal that time may cure.
var notYetTexts = map[Class]string{
	ClassQuota:     "the namespace's quota does not allow the pod now",
	ClassExists:    "a pod of that name is still being deleted",
	ClassForbidden: "the API server does not allow the request yet",
}

// causeTexts are clauses for a class together with a cause.
var causeTexts = map[Class]map[Cause]string{
	ClassLost: {
		CauseUnattributed: "it ended, and whether that was the step or its placeholder is not known",
	},
	ClassPlaceholder: {
		CauseUnattributed: "the placeholder ended, and whether the step's image had been set by then is not known",
	},
	ClassImagePull: {
		"":                "cannot be pulled",
		CauseNotFound:     "was not found",
		CauseUnauthorized: "may not be pulled",
		CauseRateLimited:  "cannot be pulled now, because the registry limits how often images are pulled",
		CauseThrottled:    "cannot be pulled now, because the node limits how many images it pulls at once",
		CauseNetwork:      "cannot be pulled, because the node got no proper answer from the registry",
		CauseNoSuchHost:   "cannot be pulled, because the node does not find the registry's host",
		CauseCertificate:  "cannot be pulled, because the node and the registry do not agree on TLS",
		CauseInvalidName:  "cannot be pulled, because that is no name that the node can pull",
		CauseNeverPull:    "is not on the node for this pod to use, and imagePullPolicy is Never",
		CauseSignature:    "was refused by the node's rules for images and their signatures",
		CauseDiskFull:     "cannot be pulled, because the node's disk is full",
	},
	ClassDenied: {
		CauseWebhook: "an admission webhook denied the request",
		CausePolicy:  "an admission policy denied the request",
	},
	ClassForbidden: {
		CauseLimitRange:           "the namespace's LimitRange does not allow the pod",
		CauseNamespaceTerminating: "the namespace is being deleted",
	},
	ClassTransient: {
		CauseTooManyRequests: "the API server has too many requests and asks to come back later",
		CauseWebhook:         "an admission webhook gave no proper answer, so the API server refused the request",
	},
	ClassNotSent: {
		CauseUnreachable: "the API server cannot be reached, so nothing was sent to it",
		CauseNoSuchHost:  "the API server's host was not found, so nothing was sent to it",
		CauseCertificate: "the API server and this client do not agree on TLS, so nothing was sent",
		CauseCredentials: "this client has no credentials for the API server, so nothing was sent to it",
		CauseThrottled:   "this client's own limit of requests was reached, so nothing was sent to the API server",
	},
	ClassUncertain: {
		CauseTimeout: "the API server did not answer in time, and it is not known whether it carried the request out",
		CauseNetwork: "the API server's answer was lost, and it is not known whether it carried the request out",
	},
}
