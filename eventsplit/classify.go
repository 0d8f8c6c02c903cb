package eventsplit

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Reasons the code itself looks for.
const (
	reasonErrImagePull     = "ErrImagePull"
	reasonImagePullBackOff = "ImagePullBackOff"
	reasonImageInspect     = "ImageInspectError"
	reasonCrashLoop        = "CrashLoopBackOff"
	reasonStatusUnknown    = "ContainerStatusUnknown"
	reasonRestartingAll    = "RestartingAllContainers"
	reasonStartError       = "StartError"
	reasonCannotRun        = "ContainerCannotRun"
	reasonBackOff          = "BackOff"
	reasonTaintEviction    = "TaintManagerEviction"
	reasonPreempted        = "Preempted"
	reasonNoScaleUp        = "NotTriggerScaleUp"
	reasonNodeNotReady     = "NodeNotReady"
	reasonRebooted         = "Rebooted"
	reasonPodUnknown       = "Unknown" // of a pod whose node does not answer
	reasonPodFailed        = "Failed"  // of a pod that does not say why
	reasonInspectFailed    = "InspectFailed"
	reasonFailedCreate     = "FailedCreate" // of an owner, whose pod is refused
)

// saidAsNormal reports whether a Normal Event says that something is wrong. All others
// that do are Warnings (v1.36: pkg/controller/tainteviction/taint_eviction.go:600,
// pkg/scheduler/framework/preemption/executor.go:157, pkg/kubelet/images/
// image_manager.go; the cluster autoscaler's processors/status/eventing_scale_up_processor.go).
func saidAsNormal(reason string) bool {
	switch reason {
	case reasonTaintEviction, reasonPreempted, reasonNoScaleUp, reasonBackOff:
		return true
	}
	return false
}

// calledOff reports whether an Event takes back what one of the same reason announced
// (pkg/controller/tainteviction/taint_eviction.go:613, v1.36).
func calledOff(e *corev1.Event) bool {
	return e.Reason == reasonTaintEviction && strings.HasPrefix(e.Message, "Cancelling deletion")
}

// endUnknown reports whether a Terminated state says that nobody knows how the run
// ended. The exit code that comes with it is nobody's: 137 of the kubelet
// (pkg/kubelet/kubelet_pods.go, v1.36), 255 of containerd, whose program's own 255 has
// reason Error (internal/cri/server/helpers.go:250-263, v2.4.2), -137 of a virtual
// kubelet (virtual-kubelet node/sync.go).
func endUnknown(t *corev1.ContainerStateTerminated) bool {
	switch t.Reason {
	case reasonStatusUnknown, reasonRestartingAll: // the latter of a container that the kubelet removed
		return true
	case "Unknown":
		return t.ExitCode == 255
	case "NotFound":
		return t.ExitCode == -137
	}
	return false
}

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
	reasonImageInspect:          {ClassImagePull, "", true},
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
	reasonCrashLoop:        {ClassCrashLoop, "", true},

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
	"NotFound":         ClassLost, // a virtual kubelet whose provider lost the pod (virtual-kubelet node/sync.go)

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

// eventReasons are the reasons of Events that need no look at the message.
var eventReasons = map[string]verdict{
	reasonInspectFailed: {ClassImagePull, "", true},
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
	reasonNoScaleUp:                   {ClassUnschedulable, "", true},
	"FailedKillPod":                   {ClassRuntime, "", true},
	"ExceededGracePeriod":             {ClassRuntime, "", true},
	"BackoffLimitExceeded":            {ClassPodEnded, "", false},
	"DeadlineExceeded":                {ClassDeadline, "", false},
	"Evicted":                         {ClassEvicted, "", false},
	reasonTaintEviction:               {ClassNodeLost, "", true},
	reasonPreempted:                   {ClassPreempted, "", false},
	"Preempting":                      {ClassPreempted, "", false},
	reasonNodeNotReady:                {ClassNodeLost, "", true},
	"NodeShutdown":                    {ClassNodeLost, "", false},
	"Shutdown":                        {ClassNodeLost, "", false},
	reasonRebooted:                    {ClassNodeLost, "", true},
}

// isDisruption reports whether a class is something done to the pod from outside.
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
	if f.Class == ClassCreate && reason == "CreateContainerError" && containsAny(f.Message, startErrors...) {
		f.Class = ClassStart
	}
	if f.Class == ClassStart && lacksCommand(f.Message) {
		f.MayRecover = false
	}
	return f
}

// classifyEvent makes a Failure of an Event that says why something does not run,
// and tells how much it says; nil when it is not such an Event.
func classifyEvent(e *corev1.Event) (*Failure, int) {
	if e.Type == corev1.EventTypeNormal && !saidAsNormal(e.Reason) || calledOff(e) {
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
	if f.Class == ClassStart && lacksCommand(text) {
		f.MayRecover = false
	}
	return rankWords
}

// configErrors are what the kubelet says when it cannot make up a container's
// configuration, before any runtime is asked (pkg/kubelet/kubelet_pods.go
// makeEnvironmentVariables and makeMounts, pkg/kubelet/kuberuntime/
// security_context_others.go, pkg/kubelet/util/manager/watch_based_manager.go, v1.36).
var configErrors = []string{
	"construct envvars", `secret "`, `configmap "`, `object "`, "couldn't get secret", "couldn't get configMap", "couldn't find key",
	"couldn't find env", "couldn't parse env file", "environment variable key", "FileKeyRef", "failed to sync secret cache",
	"failed to sync configmap cache", "unsupported fieldPath", "invalid key subscript", "unsupported container resource",
	"runAsNonRoot", "non-root policy", "non-numeric user", "supplementalGroupsPolicy", "subPath", "SubPath", "cannot find volume",
	"recursive read-only mount", "unable to find target container",
}

// startErrors are what runtimes say when the container is there and its process is
// not: containerd's "failed to start container" and "failed to create containerd task"
// (internal/cri/server/container_start.go, v2.4.2), runc's "unable to start container
// process: exec", crun's "executable file `x` not found in $PATH" and "exec container
// process `x`". CRI-O runs the OCI runtime's create when the kubelet asks it to create
// the container, so these come with "container create failed" and CreateContainerError
// (internal/oci/runtime_oci.go:344, v1.37).
var startErrors = []string{
	"failed to start container", "failed to create containerd task", "OCI runtime", "start failed", "exec: ", "exec /",
	"executable file", "open executable", "container process", "xec format error", "o command specified",
}

// runtimeClass tells at which step of starting a container an error came.
func runtimeClass(text string) Class {
	switch {
	case containsAny(text, startErrors...):
		return ClassStart
	case containsAny(text, configErrors...):
		return ClassConfig
	}
	return ClassCreate
}

// lacksCommand reports whether the image has no such command, or none that can be
// executed, or none at all: neither changes until the image or the command does (runc v1.3
// libcontainer/standard_init_linux.go and os/exec; crun's exec errors; containerd v2.4.2
// internal/cri/opts/spec_opts.go:77).
func lacksCommand(text string) bool {
	return containsAny(text, "not found in $PATH", "xec format error", "o command specified") ||
		containsAny(text, "exec: ", "open executable", "exec container process") &&
			containsAny(strings.ToLower(text), "no such file or directory", "permission denied", "is a directory")
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

// Classify tells everything that a pod and Events say is wrong now: of the pod first
// (Slot ""), then of each container in the order of the spec; nothing when nothing
// is. What the pod, or a later Event, shows to be over is not told. It is pure: it has
// no clock, remembers nothing, and knows of no swap, so it cannot tell a failed one
// from a container that ended with exit code 0; a Splitter can. Events of other pods
// are ignored, in whatever order they are given. The pod may be nil, and nothing is
// kept or changed.
func Classify(p *corev1.Pod, events []*corev1.Event) []*Failure {
	c := classifier{byslot: map[string]*slot{}}
	if p != nil {
		c.readPod(p)
	}
	c.readEvents(slices.DeleteFunc(slices.Clone(events), func(e *corev1.Event) bool {
		return e == nil || p != nil && e.InvolvedObject.UID != "" && p.UID != "" && e.InvolvedObject.UID != p.UID
	}))
	return c.failures()
}
