package eventsplit

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// How much an Event tells of why something does not run.
const (
	rankNone  = iota // nothing
	rankEcho         // only that it does not run: "Error: ErrImagePull"
	rankWords        // the registry's or the runtime's own words
)

// aggregatedPrefix begins the message of an Event that stands for several.
const aggregatedPrefix = "(combined from similar events): "

// eventReasons are the reasons of Events that tell the class without the message.
var eventReasons = map[string]verdict{
	reasonInspectFailed: {ClassImagePull, "", true},
	"ErrImageNeverPull": {ClassImagePull, CauseNeverPull, true},

	"FailedPostStartHook":      {ClassStart, "", true},
	"FailedCreatePodContainer": {ClassCreate, "", true},
	"ProviderCreateFailed":     {ClassCreate, "", true}, // a virtual kubelet (virtual-kubelet v1.11 node/pod.go:102)

	"FailedCreatePodSandBox":          {ClassSandbox, "", true},
	"FailedPodSandBoxStatus":          {ClassSandbox, "", true},
	"NetworkNotReady":                 {ClassSandbox, "", true},
	"FailedSync":                      {ClassSandbox, "", true},
	"FailedValidation":                {ClassSandbox, "", false},
	"FailedPrepareDynamicResources":   {ClassSandbox, "", true},
	"FailedNodeDeclaredFeaturesCheck": {ClassRejected, "", false},

	"FailedMount":                     {ClassVolume, "", true},
	"FailedAttachVolume":              {ClassVolume, "", true},
	"FailedMapVolume":                 {ClassVolume, "", true},
	"FailedMountOnFilesystemMismatch": {ClassVolume, "", true},
	"VolumeResizeFailed":              {ClassVolume, "", true},
	"FileSystemResizeFailed":          {ClassVolume, "", true},
	"FailedBinding":                   {ClassVolume, "", true}, // pkg/controller/volume/ephemeral/controller.go:245
	"Denied":                          {ClassVolume, "", true}, // a PodCertificateRequest: pkg/kubelet/podcertificate/podcertificatemanager.go:502
	"FailedScheduling":                {ClassUnschedulable, "", true},
	"FailedResourceClaimCreation":     {ClassUnschedulable, "", true}, // pkg/controller/resourceclaim/controller.go:855
	"FailedScaleUp":                   {ClassUnschedulable, "", true}, // Google's autoscaler
	reasonNoScaleUp:                   {ClassUnschedulable, "", true},
	"FailedKillPod":                   {ClassRuntime, "", true},
	"ExceededGracePeriod":             {ClassRuntime, "", true},
	"BackoffLimitExceeded":            {ClassPodEnded, "", false},
	"DeadlineExceeded":                {ClassDeadline, "", false},
	"Evicted":                         {ClassEvicted, "", false},
	reasonTaintEviction:               {ClassNodeLost, "", true},
	reasonDeviceEviction:              {ClassEvicted, "", true},
	reasonNodeEviction:                {ClassNodeLost, "", true},
	reasonPreempted:                   {ClassPreempted, "", false},
	"Preempting":                      {ClassPreempted, "", false},
	reasonNodeNotReady:                {ClassNodeLost, "", true},
	"NodeShutdown":                    {ClassNodeLost, "", false},
	"Shutdown":                        {ClassNodeLost, "", false},
	reasonRebooted:                    {ClassNodeLost, "", true},
}

// isNormalTrouble reports whether Events of this reason tell of a trouble although their type is
// Normal; all other Events of a trouble are Warnings (v1.36
// pkg/controller/tainteviction/taint_eviction.go:600,
// pkg/controller/devicetainteviction/device_taint_eviction.go:1658,
// pkg/controller/util/node/controller_utils.go:82,
// pkg/scheduler/framework/preemption/executor.go:157, pkg/kubelet/active_deadline.go:74,
// pkg/kubelet/images/image_manager.go; the cluster autoscaler's
// processors/status/eventing_scale_up_processor.go).
func isNormalTrouble(reason string) bool {
	switch reason {
	case reasonTaintEviction, reasonDeviceEviction, reasonNodeEviction, reasonPreempted, reasonNoScaleUp, reasonBackOff, "DeadlineExceeded":
		return true
	}
	return false
}

// classifyEvent returns the Failure that an Event tells of, and how much the Event tells; nil
// when it tells of no trouble.
func classifyEvent(e *corev1.Event) (*Failure, int) {
	if e.Type == corev1.EventTypeNormal && !isNormalTrouble(e.Reason) || calledOff(e) {
		return nil, rankNone
	}
	message := strings.TrimPrefix(e.Message, aggregatedPrefix)
	f := &Failure{Reason: e.Reason, Message: message, MayRecover: true, Event: e, Since: e.FirstTimestamp.Time}
	rank := rankWords
	switch e.Reason {
	case "Failed":
		rank = failedEvent(f, message)
	case reasonBackOff:
		f.Class, rank = ClassCrashLoop, rankEcho
		if strings.HasPrefix(message, "Back-off pulling image") {
			f.Class, f.Reason = ClassImagePull, reasonImagePullBackOff
			f.readPull(message)
		}
	case reasonFailedCreate:
		*f = *ownerFailure(e.FirstTimestamp, message)
		f.Reason, f.Event = e.Reason, e
	default:
		v, ok := eventReasons[e.Reason]
		if !ok {
			return nil, rankNone
		}
		f.Class, f.Cause, f.MayRecover = v.class, v.cause, v.mayRecover
		if f.Class == ClassImagePull {
			f.readPull(message)
		}
	}
	return f, rank
}

// failedEvent reads an Event of reason "Failed", which the kubelet uses for many troubles; only
// the message tells which (v1.36 pkg/kubelet/images/image_manager.go,
// pkg/kubelet/kuberuntime/kuberuntime_container.go). It returns how much the Event tells.
func failedEvent(f *Failure, message string) int {
	if strings.HasPrefix(message, "Failed to pull image") {
		f.Class, f.Reason = ClassImagePull, reasonErrImagePull
		f.readPull(message)
		return rankWords
	}
	text, ok := strings.CutPrefix(message, "Error: ")
	if !ok {
		switch f.Class = ClassCreate; {
		case strings.Contains(message, "pod data directories"):
			f.Class = ClassSandbox
		case strings.Contains(message, "PodCertificateRequest"): // pkg/kubelet/podcertificate/podcertificatemanager.go:511
			f.Class = ClassVolume
		}
		return rankWords
	}
	if v, ok := waitingReasons[text]; ok { // "Error: ErrImagePull"
		f.Class, f.Cause, f.MayRecover, f.Reason, f.Message = v.class, v.cause, v.mayRecover, text, ""
		return rankEcho
	}
	f.Class, f.Message = runtimeClass(text), cleanRuntime(text)
	if f.Class == ClassStart && lacksCommand(text) {
		f.MayRecover = false
	}
	return rankWords
}

// calledOff reports whether an Event takes back an announced eviction (v1.36
// pkg/controller/tainteviction/taint_eviction.go:613,
// pkg/controller/devicetainteviction/device_taint_eviction.go:1672).
func calledOff(e *corev1.Event) bool {
	return (e.Reason == reasonTaintEviction || e.Reason == reasonDeviceEviction) && strings.HasPrefix(e.Message, "Cancelling deletion")
}

// callsOff reports whether an Event takes back what an earlier Event of the same reason
// announced.
func callsOff(e *corev1.Event, announced *Failure) bool {
	return calledOff(e) && announced != nil && announced.Reason == e.Reason
}

// isStep reports whether an Event says that a container, or the image of a volume, has come one
// step further.
func isStep(e *corev1.Event) bool {
	switch e.Reason {
	case "Pulled", "Created", "Started":
		return e.Type == corev1.EventTypeNormal
	}
	return false
}

// slotOf returns the container's name from a fieldPath such as spec.containers{name}, "" when
// there is none.
func slotOf(fieldPath string) string {
	list, rest, ok := strings.Cut(fieldPath, "{")
	name, closed := strings.CutSuffix(rest, "}")
	if !ok || !closed {
		return ""
	}
	switch list {
	case "spec.containers", "spec.initContainers", "spec.ephemeralContainers":
		return name
	}
	return ""
}

// normalise returns an Event in the shape of core/v1. An Event recorded through events.k8s.io
// has no count, timestamps and source; it has eventTime, series and reportingController instead.
func normalise(e *corev1.Event) *corev1.Event {
	if e.Count > 0 && !e.LastTimestamp.IsZero() && e.Source.Component != "" {
		return e
	}
	n := *e
	n.Count = eventCount(e)
	if n.LastTimestamp.IsZero() {
		n.LastTimestamp.Time = eventTime(e)
	}
	if n.FirstTimestamp.IsZero() {
		if n.FirstTimestamp.Time = e.EventTime.Time; n.FirstTimestamp.IsZero() {
			n.FirstTimestamp.Time = n.LastTimestamp.Time
		}
	}
	if n.Source.Component == "" {
		n.Source.Component = e.ReportingController
	}
	return &n
}

func eventCount(e *corev1.Event) int32 {
	n := max(e.Count, 1)
	if e.Series != nil {
		n = max(n, e.Series.Count)
	}
	return n
}

func eventTime(e *corev1.Event) time.Time {
	if e.Series != nil && !e.Series.LastObservedTime.IsZero() {
		return e.Series.LastObservedTime.Time
	}
	for _, t := range []time.Time{e.LastTimestamp.Time, e.EventTime.Time, e.FirstTimestamp.Time} {
		if !t.IsZero() {
			return t
		}
	}
	return e.CreationTimestamp.Time
}

func knownOrNow(t time.Time) time.Time {
	if t.IsZero() {
		return time.Now()
	}
	return t
}
