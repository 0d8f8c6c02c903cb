package eventsplit

import (
	"github.com/go-vela/podlife/internal/podstatus"
)

// waitingReasons are the reasons of a container's state.waiting that name a trouble (v1.36
// pkg/kubelet/images/types.go, pkg/kubelet/container/sync_result.go,
// pkg/kubelet/kuberuntime/kuberuntime_container.go, cri-api/pkg/errors).
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

	"CreateContainerError":    {ClassCreate, "", true},
	"PreCreateHookError":      {ClassCreate, "", true},
	"PreStartHookError":       {ClassCreate, "", true},
	"PostStartHookError":      {ClassStart, "", true},
	"RunContainerError":       {ClassStart, "", true},
	podstatus.ReasonCrashLoop: {ClassCrashLoop, "", true},

	"CreatePodSandboxError": {ClassSandbox, "", true},
	"ConfigPodSandboxError": {ClassSandbox, "", true},

	"KillContainerError":    {ClassRuntime, "", true},
	"KillPodSandboxError":   {ClassRuntime, "", true},
	"RemoveContainerError":  {ClassRuntime, "", true},
	"ResizePodInPlaceError": {ClassRuntime, "", true},
}

// isProgress reports whether a waiting reason names no trouble.
func isProgress(reason string) bool {
	switch reason {
	case "", "ContainerCreating", "PodInitializing", podstatus.ReasonRestartingAll:
		return true
	}
	return false
}

// classifyWaiting returns the Failure that a waiting reason with its message means. The reason
// must not be progress.
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
