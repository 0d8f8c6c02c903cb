package eventsplit

import (
	"github.com/go-vela/podlife/internal/podstatus"
)

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
	"CrashLoopBackOff":     {ClassCrashLoop, "", true},

	"CreatePodSandboxError": {ClassSandbox, "", true},
	"ConfigPodSandboxError": {ClassSandbox, "", true},

	"KillContainerError":    {ClassRuntime, "", true},
	"KillPodSandboxError":   {ClassRuntime, "", true},
	"RemoveContainerError":  {ClassRuntime, "", true},
	"ResizePodInPlaceError": {ClassRuntime, "", true},
}

// isProgress tells whether a waiting reason says that nothing is wrong.
func isProgress(reason string) bool {
	switch reason {
	case "", "ContainerCreating", "PodInitializing", podstatus.ReasonRestartingAll:
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
