package eventsplit

import (
	"strconv"
	"strings"
)

// Error names the container, the image and what is wrong, in the words of whoever
// said it. It is made to be shown to the user of a CI system as it is.
func (f *Failure) Error() string {
	var b strings.Builder
	if f.Slot != "" {
		b.WriteString("container " + strconv.Quote(f.Slot) + ": ")
	}
	b.WriteString(f.what())
	words := oneLine(f.Message)
	if words == "" && f.Err != nil {
		words = oneLine(f.Err.Error())
	}
	if words == "" && f.Reason != "" && f.Class != ClassUnknownSlot && f.Class != ClassLost {
		words = f.Reason
	}
	if words != "" && words != msgDeleted {
		b.WriteString(": " + words)
	}
	if h := hints[f.Cause]; h != "" {
		b.WriteString(" (" + h + ")")
	}
	return b.String()
}

// Unwrap returns the API error behind it, or nil.
func (f *Failure) Unwrap() error { return f.Err }

// what says the class in words, with the image where that matters.
func (f *Failure) what() string {
	image := "its image"
	if f.Image != "" {
		image = "image " + strconv.Quote(f.Image)
	}
	switch f.Class {
	case ClassImagePull:
		return image + " " + pullText(f.Cause)
	case ClassNotStarted:
		return image + " was never started, and Kubernetes gave no reason (its Events may have been dropped)"
	case ClassUnchanged:
		return "the swap left " + image + " as it was, so nothing restarts"
	case ClassProgress:
		return "waiting for " + image
	case ClassTransient, ClassNotSent, ClassUncertain:
		if text := answerTexts[f.Class][f.Cause]; text != "" {
			return text
		}
	case ClassConfig, ClassCreate, ClassStart:
		return classTexts[f.Class] + " (" + image + ")"
	}
	if text := classTexts[f.Class]; text != "" {
		return text
	}
	return "it does not run"
}

func pullText(c Cause) string {
	if text := pullTexts[c]; text != "" {
		return text
	}
	return "cannot be pulled"
}

var pullTexts = map[Cause]string{
	CauseNotFound:     "was not found",
	CauseUnauthorized: "may not be pulled",
	CauseRateLimited:  "cannot be pulled, the registry limits the rate",
	CauseThrottled:    "cannot be pulled, the node limits the rate",
	CauseNetwork:      "cannot be pulled, the registry does not answer",
	CauseNoSuchHost:   "cannot be pulled, the registry's name does not resolve",
	CauseCertificate:  "cannot be pulled, the registry's certificate is not trusted",
	CauseInvalidName:  "is not a valid image name",
	CauseNeverPull:    "is not on the node, and imagePullPolicy is Never",
	CauseSignature:    "was refused, its signature does not verify",
	CauseDiskFull:     "cannot be pulled, the node's disk is full",
}

var classTexts = map[Class]string{
	ClassConfig:        "cannot be configured",
	ClassCreate:        "cannot be created",
	ClassStart:         "cannot be started",
	ClassCrashLoop:     "it ends again and again",
	ClassSandbox:       "the pod's sandbox cannot be set up",
	ClassVolume:        "a volume cannot be mounted",
	ClassRuntime:       "the node has trouble with it",
	ClassUnschedulable: "no node takes the pod",
	ClassRejected:      "the node refused the pod",
	ClassEvicted:       "the pod was evicted",
	ClassPreempted:     "the pod was preempted",
	ClassNodeLost:      "the pod's node was lost",
	ClassDeadline:      "the pod's deadline passed",
	ClassDeleted:       "the pod was deleted",
	ClassOutOfScope:    "the pod left what is watched, so its end will not be seen",
	ClassPodEnded:      "the pod ended before it ran",
	ClassLost:          "the node lost it, how it ended is not known",
	ClassPlaceholder:   "its placeholder ended before the image was set, so nothing restarts",
	ClassEnded:         "it has ended",
	ClassUnknownSlot:   "the pod has no such container",
	ClassDenied:        "an admission check denied it",
	ClassPodSecurity:   "the namespace's Pod Security level forbids it",
	ClassQuota:         "the namespace's quota does not allow it",
	ClassForbidden:     "the API server forbids it",
	ClassUnauthorized:  "the API server does not accept the credentials",
	ClassInvalid:       "the request is not valid",
	ClassNotFound:      "it does not exist",
	ClassExists:        "it exists already",
	ClassConflict:      "it was changed by someone else at the same time",
	ClassTransient:     "the API server refuses it for now",
	ClassNotSent:       "nothing was sent to the API server",
	ClassUncertain:     "the API server failed, so whether it was done is not known",
}

// answerTexts say what became of a request, and why.
var answerTexts = map[Class]map[Cause]string{
	ClassTransient: {
		CauseTooManyRequests: "the API server asks to come back later",
		CauseWebhook:         "an admission webhook does not answer, so the API server refused it",
	},
	ClassNotSent: {
		CauseUnreachable: "the API server cannot be reached, so nothing was sent to it",
		CauseNoSuchHost:  "the API server's name does not resolve, so nothing was sent to it",
		CauseCertificate: "the API server's certificate, or ours, is not trusted, so nothing was sent to it",
		CauseCredentials: "the credentials for the API server could not be had, so nothing was sent to it",
		CauseThrottled:   "our own limit of requests was reached, so nothing was sent to the API server",
	},
	ClassUncertain: {
		CauseTimeout: "the API server did not answer in time, so whether it was done is not known",
		CauseNetwork: "the API server's answer was lost, so whether it was done is not known",
	},
}

// hints say what to do, where that is known.
var hints = map[Cause]string{
	CauseNotFound:     "check the image's name and tag",
	CauseUnauthorized: "check that it exists and that the pod's imagePullSecrets may pull it",
	CauseRateLimited:  "try again later, or pull with credentials",
	CauseInvalidName:  "check the image's name",
	CauseCertificate:  "the node must trust the registry's certificate authority",
}

// oneLine keeps a message on one line.
func oneLine(s string) string {
	return strings.Join(strings.Fields(s), " ")
}
