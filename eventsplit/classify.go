package eventsplit

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Reasons the code itself looks for.
const (
	reasonErrImagePull     = "ErrImagePull"
	reasonImagePullBackOff = "ImagePullBackOff"
	reasonStatusUnknown    = "ContainerStatusUnknown"
	reasonStartError       = "StartError"
	reasonCannotRun        = "ContainerCannotRun"
)

type verdict struct {
	class      Class
	cause      Cause
	mayRecover bool
}

// waitingReasons are the reasons of a container's state.waiting that say that
// something is wrong (pkg/kubelet/images/types.go, pkg/kubelet/container/
// sync_result.go, pkg/kubelet/kuberuntime/kuberuntime_container.go and
// cri-api/pkg/errors, v1.36).
var waitingReasons = map[string]verdict{
	reasonErrImagePull:          {ClassImagePull, "", true},
	reasonImagePullBackOff:      {ClassImagePull, "", true},
	"InvalidImageName":          {ClassImagePull, CauseInvalidName, false},
	"ErrImageNeverPull":         {ClassImagePull, CauseNeverPull, true},
	"ImageInspectError":         {ClassImagePull, "", true},
	"RegistryUnavailable":       {ClassImagePull, CauseNetwork, true},
	"SignatureValidationFailed": {ClassImagePull, CauseSignature, false},

	"CreateContainerConfigError": {ClassConfig, "", true},
	"RROUnsupported":             {ClassConfig, "", false},
	"ImageVolumeMountFailed":     {ClassVolume, "", true},

	"CreateContainerError": {ClassCreate, "", true},
	"PreCreateHookError":   {ClassCreate, "", true},
	"PreStartHookError":    {ClassCreate, "", true},
	"PostStartHookError":   {ClassStart, "", true},
	"RunContainerError":    {ClassStart, "", true},
	"CrashLoopBackOff":     {ClassCrashLoop, "", true},

	"CreatePodSandboxError": {ClassSandbox, "", true},
	"ConfigPodSandboxError": {ClassSandbox, "", true},

	"KillContainerError":    {ClassRuntime, "", true},
	"KillPodSandboxError":   {ClassRuntime, "", true},
	"RemoveContainerError":  {ClassRuntime, "", true},
	"ResizePodInPlaceError": {ClassRuntime, "", true},
}

// podReasons are the reasons in the status of a pod that failed as a whole; the
// second half are the kubelet's refusals to admit it.
var podReasons = map[string]Class{
	"Evicted":          ClassEvicted,
	"DeadlineExceeded": ClassDeadline,
	"Preempting":       ClassPreempted,
	"NodeLost":         ClassNodeLost,
	"Terminated":       ClassNodeLost, // graceful node shutdown
	"NodeShutdown":     ClassNodeLost,
	"Shutdown":         ClassNodeLost,

	"OutOfcpu":                             ClassRejected,
	"OutOfmemory":                          ClassRejected,
	"OutOfephemeral-storage":               ClassRejected,
	"OutOfpods":                            ClassRejected,
	"UnexpectedAdmissionError":             ClassRejected,
	"NodeAffinity":                         ClassRejected,
	"NodePorts":                            ClassRejected,
	"NodeName":                             ClassRejected,
	"PodOSNotSupported":                    ClassRejected,
	"PodOSSelectorNodeLabelDoesNotMatch":   ClassRejected,
	"InvalidNodeInfo":                      ClassRejected,
	"SupplementalGroupsPolicyNotSupported": ClassRejected,
	"InitContainerRestartPolicyForbidden":  ClassRejected,
	"TopologyAffinityError":                ClassRejected,
	"AppArmor":                             ClassRejected,
	"SysctlForbidden":                      ClassRejected,
	"PodLevelResourcesNotSupported":        ClassRejected,
}

// disruptionClasses are the reasons of the DisruptionTarget condition.
var disruptionClasses = map[string]Class{
	"PreemptionByScheduler":  ClassPreempted,
	"DeletionByTaintManager": ClassNodeLost,
	"EvictionByEvictionAPI":  ClassEvicted,
	"DeletionByPodGC":        ClassNodeLost,
	"TerminationByKubelet":   ClassEvicted,
}

// eventReasons are the reasons of Warning Events that need no look at the message.
var eventReasons = map[string]verdict{
	"InspectFailed":     {ClassImagePull, "", true},
	"ErrImageNeverPull": {ClassImagePull, CauseNeverPull, true},

	"FailedPostStartHook":      {ClassStart, "", true},
	"FailedCreatePodContainer": {ClassCreate, "", true},

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
	"FailedScheduling":                {ClassUnschedulable, "", true},
	"NotTriggerScaleUp":               {ClassUnschedulable, "", true},
	"FailedKillPod":                   {ClassRuntime, "", true},
	"ExceededGracePeriod":             {ClassRuntime, "", true},
	"BackoffLimitExceeded":            {ClassPodEnded, "", false},
	"DeadlineExceeded":                {ClassDeadline, "", false},
	"Evicted":                         {ClassEvicted, "", false},
	"TaintManagerEviction":            {ClassNodeLost, "", false},
	"Preempted":                       {ClassPreempted, "", false},
	"Preempting":                      {ClassPreempted, "", false},
	"NodeNotReady":                    {ClassNodeLost, "", true},
	"NodeShutdown":                    {ClassNodeLost, "", false},
	"Shutdown":                        {ClassNodeLost, "", false},
	"Rebooted":                        {ClassNodeLost, "", true},
}

// isDisruption tells whether a class is something done to the pod from outside.
func isDisruption(c Class) bool {
	switch c {
	case ClassEvicted, ClassPreempted, ClassNodeLost:
		return true
	}
	return false
}

// classifyWaiting makes a Failure of a waiting reason that is not progress.
func classifyWaiting(reason, message string) *Failure {
	v, ok := waitingReasons[reason]
	if !ok {
		v = verdict{ClassOther, "", true}
	}
	f := &Failure{Class: v.class, Cause: v.cause, Reason: reason, Message: message, MayRecover: v.mayRecover}
	if f.Class == ClassImagePull {
		f.readPull(message)
	} else {
		f.Message = cleanRuntime(message)
	}
	return f
}

// classifyEvent makes a Failure of an Event that says why something does not run,
// and tells how much it says; nil when it is not such an Event.
func classifyEvent(e *corev1.Event) (*Failure, int) {
	message := strings.TrimPrefix(e.Message, aggregatedPrefix)
	f := &Failure{Reason: e.Reason, Message: message, MayRecover: true, Event: e, Since: e.FirstTimestamp.Time}
	rank := rankWords
	switch e.Reason {
	case "Failed":
		rank = failedEvent(f, message)
	case "BackOff":
		f.Class, rank = ClassCrashLoop, rankEcho
		if strings.HasPrefix(message, "Back-off pulling image") {
			f.Class, f.Reason = ClassImagePull, reasonImagePullBackOff
			f.readPull(message)
		}
	case "FailedCreate":
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

// failedEvent reads the kubelet's overloaded reason "Failed", which only its
// message tells apart (pkg/kubelet/images/image_manager.go,
// pkg/kubelet/kuberuntime/kuberuntime_container.go, v1.36).
func failedEvent(f *Failure, message string) int {
	if strings.HasPrefix(message, "Failed to pull image") {
		f.Class, f.Reason = ClassImagePull, reasonErrImagePull
		f.readPull(message)
		return rankWords
	}
	text, ok := strings.CutPrefix(message, "Error: ")
	if !ok {
		f.Class = ClassCreate
		if strings.Contains(message, "pod data directories") {
			f.Class = ClassSandbox
		}
		return rankWords
	}
	if v, ok := waitingReasons[text]; ok { // "Error: ErrImagePull"
		f.Class, f.Cause, f.MayRecover, f.Reason, f.Message = v.class, v.cause, v.mayRecover, text, ""
		return rankEcho
	}
	f.Class, f.Message = runtimeClass(text), cleanRuntime(text)
	return rankWords
}

// runtimeClass tells at which step of starting a container an error came.
func runtimeClass(text string) Class {
	switch {
	case containsAny(text, `secret "`, `configmap "`, "couldn't find key", "couldn't find env", "runAsNonRoot", "subPath", "non-numeric user"):
		return ClassConfig
	case containsAny(text, "failed to start container", "failed to create containerd task", "OCI runtime", "exec: ", "start failed"):
		return ClassStart
	}
	return ClassCreate
}

// cleanRuntime strips the wrapping of a gRPC error.
func cleanRuntime(message string) string {
	m := strings.TrimPrefix(strings.TrimSpace(message), "Error: ")
	if rest, ok := strings.CutPrefix(m, "rpc error: code = "); ok {
		if _, desc, ok := strings.Cut(rest, " desc = "); ok {
			m = desc
		}
	}
	return m
}

func containsAny(s string, subs ...string) bool {
	for _, sub := range subs {
		if strings.Contains(s, sub) {
			return true
		}
	}
	return false
}

// Classify tells everything that a pod and Events say is wrong: of the pod first
// (Slot ""), then of each container in the order of the spec; nothing when nothing
// is. It is pure: it has no clock, remembers nothing, and knows of no swap, so it
// cannot tell a failed one from a container that ended with exit code 0; a Splitter
// can. Events of other pods are ignored. The pod may be nil, and nothing is kept or
// changed.
func Classify(p *corev1.Pod, events []*corev1.Event) []*Failure {
	var c classifier
	c.byslot = map[string]*slot{}
	if p != nil {
		c.readPod(p)
	}
	for _, e := range events {
		if e != nil && (p == nil || e.InvolvedObject.UID == "" || p.UID == "" || e.InvolvedObject.UID == p.UID) {
			c.readEvent(normalise(e))
		}
	}
	return c.failures()
}
