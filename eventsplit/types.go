package eventsplit

import (
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ErrClosed is what Wait, Entries and Swap return when the Splitter, or the tracking that feeds
// it, was closed before they had an answer.
var ErrClosed = errors.New("eventsplit: closed")

// Kind is what sort of container a slot is.
type Kind string

// The kinds of slots.
const (
	KindInit      Kind = "Init"
	KindSidecar   Kind = "Sidecar" // an init container with restartPolicy: Always
	KindRegular   Kind = "Regular"
	KindEphemeral Kind = "Ephemeral"
	KindPod       Kind = "Pod" // slot "", the pod itself
)

// Phase is how far a slot has come.
type Phase string

// The phases of a slot. A restart leads from PhaseEnded or PhaseRunning back to PhaseWaiting or
// PhaseRunning.
const (
	PhaseNotRun  Phase = "NotRun"  // it is not to run yet: the pod is unknown, or a placeholder runs in the slot
	PhaseWaiting Phase = "Waiting" // it is to run and does not run yet; State.Waiting says why
	PhaseRunning Phase = "Running"
	PhaseEnded   Phase = "Ended"
)

// State is what is known of a slot. It never tells of a placeholder. What its pointers point to
// is shared and must not be changed.
type State struct {
	Slot  string // "" is the pod
	Kind  Kind   // "" while the pod's spec is unknown
	Phase Phase

	// ContainerID, Image and ImageID are those of the run that the State tells of, as the
	// runtime names them. Before a run, Image is the one in the pod's spec.
	ContainerID, Image, ImageID string

	Restarts int32 // of the step; the change from placeholder to step is none
	Ready    bool
	Final    bool // no run will follow
	Stale    bool // the watch has lost contact: this State may be old

	Outcome *Outcome // how the run ended; nil: it has not, or nobody knows how
	Last    *Outcome // how the run before it ended

	Waiting *Failure // why it waits; nil: it does not
	Failure *Failure // why it will not run, did not start, or was lost; once set, it stays
}

// Outcome is how a run ended, as Kubernetes reports it. Of the pod (slot ""), ExitCode is 0 when
// the pod succeeded, else that of the first container that failed.
type Outcome struct {
	ExitCode, Signal  int32
	Reason, Message   string
	OOM               bool
	Started, Finished time.Time // zero: Kubernetes does not say
}

// Failure says why a slot waits, will not run, or was lost. It is the error type of this
// package; errors.As finds it.
type Failure struct {
	Class Class
	Cause Cause  // narrows Class down; "" where that is not known
	Slot  string // "" is the pod
	Image string // the image that it is about, as the pod's spec names it; may be ""

	Reason  string // Kubernetes' own word, for instance ErrImagePull; Swapping during a swap; may be ""
	Message string // the words of the registry, the webhook or the runtime; may be ""

	MayRecover bool          // Kubernetes may still overcome it by itself
	Node       string        // the node that had the pod then; "": none, or not known
	Since      time.Time     // when it began, as Kubernetes says, or when it was first seen; zero: not known
	Event      *corev1.Event // the Event that told of it; nil: none did
	Err        error         // the API error that it was made from; Unwrap returns it
}

// Entry is one entry of a slot's timeline: a State, an Event, or a note that something is
// missing. Exactly one of State, Event, Missed and Dropped is set.
type Entry struct {
	Seq         uint64
	Time        time.Time // Kubernetes' time; where Kubernetes gives none, the local one
	Synthesised bool      // no status showed this State, but it must have been
	State       *State
	Event       *corev1.Event // in the shape of core/v1, whichever API recorded it
	Missed      int           // how many runs came and went unseen
	Dropped     uint64        // how many entries left the buffer before this reader came to them
}

// Class is the kind of a trouble. Callers may switch on it.
type Class string

// Classes of a slot or a pod that waits or fails.
const (
	ClassProgress      Class = "Progress"      // no trouble: it is being started
	ClassImagePull     Class = "ImagePull"     // the image cannot be had; see Cause
	ClassConfig        Class = "Config"        // a Secret, ConfigMap or key is missing, or the security context forbids the image
	ClassCreate        Class = "Create"        // the runtime cannot create the container
	ClassStart         Class = "Start"         // the container's process cannot be started
	ClassCrashLoop     Class = "CrashLoop"     // the container ends again and again
	ClassSandbox       Class = "Sandbox"       // the pod's sandbox or network cannot be set up
	ClassVolume        Class = "Volume"        // a volume cannot be attached or mounted
	ClassRuntime       Class = "Runtime"       // the node has other trouble with the container
	ClassUnschedulable Class = "Unschedulable" // no node has taken the pod yet
	ClassRejected      Class = "Rejected"      // the node's kubelet refused the pod
	ClassEvicted       Class = "Evicted"       // by the kubelet or the eviction API
	ClassPreempted     Class = "Preempted"     // a pod of higher priority took its place
	ClassNodeLost      Class = "NodeLost"      // the node went away, was tainted or shut down
	ClassDeadline      Class = "Deadline"      // activeDeadlineSeconds passed
	ClassDeleted       Class = "Deleted"       // someone deleted the pod
	ClassOutOfScope    Class = "OutOfScope"    // the pod left what is watched
	ClassPodEnded      Class = "PodEnded"      // the pod ended before the container ran
	ClassLost          Class = "Lost"          // nobody knows how the run ended
	ClassNotStarted    Class = "NotStarted"    // a swap failed and Kubernetes gave no reason
	ClassPlaceholder   Class = "Placeholder"   // the placeholder ended before it was swapped
	ClassEnded         Class = "Ended"         // the slot has ended; what was waited for cannot come
	ClassUnknownSlot   Class = "UnknownSlot"   // the pod's spec has no such container
	ClassUnchanged     Class = "Unchanged"     // the patch of a swap left the image as it was
	ClassOther         Class = "Other"         // a reason this package does not know
)

// Classes of an API error: how a create, a patch or a delete was answered.
const (
	ClassDenied       Class = "Denied"       // by an admission webhook or policy
	ClassPodSecurity  Class = "PodSecurity"  // by the namespace's Pod Security level
	ClassQuota        Class = "Quota"        // a ResourceQuota is used up, or wants requests and limits
	ClassForbidden    Class = "Forbidden"    // by RBAC or another admission plugin
	ClassUnauthorized Class = "Unauthorized" // the API server does not know who asks
	ClassInvalid      Class = "Invalid"      // the request itself is wrong
	ClassNotFound     Class = "NotFound"     // the pod or its namespace does not exist
	ClassExists       Class = "Exists"       // a pod of that name exists
	ClassConflict     Class = "Conflict"     // someone else changed the pod at the same time
	ClassTransient    Class = "Transient"    // refused for now; nothing was done
	ClassNotSent      Class = "NotSent"      // the request never reached the API server; nothing was done
	ClassUncertain    Class = "Uncertain"    // the request was sent, and whether it was carried out is not known
)

// Cause narrows a Class down, mostly ClassImagePull; "" when no cause is known.
type Cause string

// Causes.
const (
	CauseNotFound             Cause = "NotFound"     // no such image, tag or platform
	CauseUnauthorized         Cause = "Unauthorized" // not allowed, or the repository is private
	CauseRateLimited          Cause = "RateLimited"  // by the registry
	CauseThrottled            Cause = "Throttled"    // by the kubelet's own limit of pulls, or the client's own of requests
	CauseNetwork              Cause = "Network"
	CauseUnreachable          Cause = "Unreachable" // no connection to the API server
	CauseCredentials          Cause = "Credentials" // there are none for the API server
	CauseNoSuchHost           Cause = "NoSuchHost"
	CauseCertificate          Cause = "Certificate" // TLS trust
	CauseInvalidName          Cause = "InvalidName"
	CauseNeverPull            Cause = "NeverPull" // imagePullPolicy: Never and the node has no such image
	CauseSignature            Cause = "Signature"
	CauseDiskFull             Cause = "DiskFull"
	CauseWebhook              Cause = "Webhook" // an admission webhook
	CausePolicy               Cause = "Policy"  // an admission policy
	CauseNamespaceTerminating Cause = "NamespaceTerminating"
	CauseLimitRange           Cause = "LimitRange"
	CauseTimeout              Cause = "Timeout"
	CauseTooManyRequests      Cause = "TooManyRequests"
	CauseUnattributed         Cause = "Unattributed" // of ClassLost and ClassPlaceholder: the end may be the step's or the placeholder's
)
