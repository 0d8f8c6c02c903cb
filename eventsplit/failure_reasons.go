package eventsplit

// Reasons that the code compares with.
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
	reasonPodFailed        = "Failed"         // of a pod whose status gives no reason
	reasonInspectFailed    = "InspectFailed"
	reasonFailedCreate     = "FailedCreate" // of an owner whose pod the API server refused
)

// verdict is what a reason alone tells.
type verdict struct {
	class      Class
	cause      Cause
	mayRecover bool
}

// isDisruption reports whether a class is that of a disruption: something outside of the pod
// ends the pod.
func isDisruption(c Class) bool {
	switch c {
	case ClassEvicted, ClassPreempted, ClassNodeLost:
		return true
	}
	return false
}
