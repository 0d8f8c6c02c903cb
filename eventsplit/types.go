package eventsplit

import (
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// ErrClosed is what Wait, Entries and Swap return when the Splitter was closed
// (or the tracking that feeds it ended) before they had an answer.
var ErrClosed = errors.New("eventsplit: closed")

// Kind says what sort of container a slot is.
type Kind string

// The kinds of slots.
const (
	KindInit      Kind = "Init"
	KindSidecar   Kind = "Sidecar" // an init container with restartPolicy: Always
	KindRegular   Kind = "Regular"
	KindEphemeral Kind = "Ephemeral"
	KindPod       Kind = "Pod" // slot "", the pod itself
)

// Phase says where a slot is in its life.
type Phase string

// The phases of a slot. A restart goes from PhaseEnded or PhaseRunning back to
// PhaseWaiting or PhaseRunning.
const (
	PhaseNotRun  Phase = "NotRun"  // nothing asks it to run yet: the pod is unknown, or a placeholder runs there
	PhaseWaiting Phase = "Waiting" // it is to run and does not yet; State.Waiting says why
	PhaseRunning Phase = "Running"
	PhaseEnded   Phase = "Ended"
)

// State is what is known of a slot. It never speaks of a placeholder. The
// objects it points to are shared and must not be changed.
type State struct {
	Slot  string // "" is the pod
	Kind  Kind   // "" while the pod's spec is unknown
	Phase Phase

	// ContainerID, Image and ImageID are those of the run State speaks of, as
	// the runtime names them; before a run, Image is the one in the pod's spec.
	ContainerID, Image, ImageID string

	Restarts int32 // of the work; the change from placeholder to work is not one
	Ready    bool
	Final    bool // no run will follow
	Stale    bool // the watch has lost contact: what is said here may be old

	Outcome *Outcome // how the run ended; nil: unknown, or not ended
	Last    *Outcome // how the run before it ended

	Waiting *Failure // why it waits; nil when it does not
	Failure *Failure // why it will not run, did not start, or was lost; never taken back
}

// Outcome is how a run ended, as Kubernetes reports it. Of the pod (slot ""),
// ExitCode is 0 when it succeeded, else that of the first container that failed.
type Outcome struct {
	ExitCode, Signal  int32
	Reason, Message   string
	OOM               bool
	Started, Finished time.Time // zero: Kubernetes does not say
}

// Failure says why a slot waits, will not run, or was lost. It is the one error
// type of the package; use errors.As to get at it.
type Failure struct {
	Class Class
	Cause Cause  // finer than Class where that is known, else ""
	Slot  string // "" is the pod
	Image string // the image concerned, as the pod's spec names it; may be ""

	Reason  string // Kubernetes' own word, e.g. ErrImagePull; Swapping while a swap is under way; may be ""
	Message string // the words of the registry, the webhook or the runtime; may be ""

	MayRecover bool          // Kubernetes may still get over it by itself
	Node       string        // the node that had the pod by then; "": none, or not known
	Since      time.Time     // when it began, as Kubernetes says, else when it was first seen; zero: not known
	Event      *corev1.Event // the Event behind it; nil when there is none
	Err        error         // the API error behind it; Unwrap returns it
}

// Entry is one line of a slot's timeline: a State, an Event, or a mark that
// something is missing. Exactly one of State, Event, Missed and Dropped is set.
type Entry struct {
	Seq         uint64
	Time        time.Time // Kubernetes' time; ours where it does not say
	Synthesised bool      // a State nobody saw but that must have been
	State       *State
	Event       *corev1.Event // in core/v1 shape, whichever API recorded it
	Missed      int           // runs that came and went unseen
	Dropped     uint64        // entries that left the buffer before this reader came to them
}

// Class is what kind of trouble a Failure is; callers may switch on it.
type Class string

// Classes of a slot or a pod that waits or fails.
const (
	ClassProgress      Class = "Progress"      // no trouble: it is being started
	ClassImagePull     Class = "ImagePull"     // the image cannot be had; see Cause
	ClassConfig        Class = "Config"        // a Secret, ConfigMap or key is missing, or the security context forbids it
	ClassCreate        Class = "Create"        // the runtime cannot create the container
	ClassStart         Class = "Start"         // the container was created and its process could not be started
	ClassCrashLoop     Class = "CrashLoop"     // it ends again and again
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
	ClassLost          Class = "Lost"          // the run's end, and its exit code, are not known
	ClassNotStarted    Class = "NotStarted"    // a swap failed and Kubernetes gave no reason
	ClassPlaceholder   Class = "Placeholder"   // the placeholder ended before it was swapped
	ClassEnded         Class = "Ended"         // it ran and ended; what was waited for cannot come
	ClassUnknownSlot   Class = "UnknownSlot"   // the pod's spec has no such container
	ClassUnchanged     Class = "Unchanged"     // a swap's patch left the image as it was
	ClassOther         Class = "Other"         // a reason this package does not know
)

// Classes of an API error: what a create or a patch was answered.
const (
	ClassDenied       Class = "Denied"       // by an admission webhook or policy
	ClassPodSecurity  Class = "PodSecurity"  // by the namespace's Pod Security level
	ClassQuota        Class = "Quota"        // a ResourceQuota is used up, or wants requests and limits
	ClassForbidden    Class = "Forbidden"    // by RBAC or another admission plugin
	ClassUnauthorized Class = "Unauthorized" // the API server does not know who asks
	ClassInvalid      Class = "Invalid"      // the request itself is wrong
	ClassNotFound     Class = "NotFound"     // the pod or its namespace does not exist
	ClassExists       Class = "Exists"       // a pod of that name exists
	ClassConflict     Class = "Conflict"     // someone else changed it at the same time
	ClassTransient    Class = "Transient"    // refused for now; nothing was done
	ClassNotSent      Class = "NotSent"      // the request never reached the API server; nothing was done
	ClassUncertain    Class = "Uncertain"    // the request was sent, and whether it was carried out is not known
)

// Cause is a sub-class, mostly of ClassImagePull; "" when none is known.
type Cause string

// Causes.
const (
	CauseNotFound             Cause = "NotFound"     // no such image, tag or platform
	CauseUnauthorized         Cause = "Unauthorized" // or the repository is private
	CauseRateLimited          Cause = "RateLimited"  // by the registry
	CauseThrottled            Cause = "Throttled"    // by the kubelet's own limit of pulls, or the client's own of requests
	CauseNetwork              Cause = "Network"
	CauseUnreachable          Cause = "Unreachable" // no connection to the API server
	CauseCredentials          Cause = "Credentials" // for the API server; they could not be had
	CauseNoSuchHost           Cause = "NoSuchHost"
	CauseCertificate          Cause = "Certificate" // TLS trust
	CauseInvalidName          Cause = "InvalidName"
	CauseNeverPull            Cause = "NeverPull" // imagePullPolicy: Never and the node has no such image
	CauseSignature            Cause = "Signature"
	CauseDiskFull             Cause = "DiskFull"
	CauseWebhook              Cause = "Webhook" // an admission webhook
	CausePolicy               Cause = "Policy"  // a ValidatingAdmissionPolicy
	CauseNamespaceTerminating Cause = "NamespaceTerminating"
	CauseLimitRange           Cause = "LimitRange"
	CauseTimeout              Cause = "Timeout"
	CauseTooManyRequests      Cause = "TooManyRequests"
	CauseUnattributed         Cause = "Unattributed" // of ClassLost: whether the step or its placeholder ended
)
