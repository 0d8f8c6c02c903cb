package eventsplit

// Reasons the code itself looks for.
const (
	reasonErrImagePull     = "ErrImagePull"
	reasonImagePullBackOff = "ImagePullBackOff"
	reasonImageInspect     = "ImageInspectError"
	reasonBackOff          = "BackOff"
	reasonTaintEviction    = "TaintManagerEviction"
	reasonDeviceEviction   = "DeviceTaintManagerEviction"
	reasonNodeEviction     = "NodeControllerEviction"
	reasonPreempted        = "Preempted"
	reasonNoScaleUp        = "NotTriggerScaleUp"
	reasonNodeNotReady     = "NodeNotReady"
	reasonRebooted         = "Rebooted"
	reasonProviderFailed   = "ProviderFailed" // of a pod that a virtual kubelet cannot create
	reasonPodUnknown       = "Unknown"        // of a pod whose node does not answer
	reasonPodFailed        = "Failed"         // of a pod that does not say why
	reasonInspectFailed    = "InspectFailed"
	reasonFailedCreate     = "FailedCreate" // of an owner, whose pod is refused
)

type verdict struct {
	class      Class
	cause      Cause
	mayRecover bool
}

// isDisruption reports whether a class is something done to the pod from outside.
func isDisruption(c Class) bool {
	switch c {
	case ClassEvicted, ClassPreempted, ClassNodeLost:
		return true
	}
	return false
}
