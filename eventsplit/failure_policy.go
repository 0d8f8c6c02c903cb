package eventsplit

import (
	"strings"
	"time"
)

// These are the graces of DefaultPolicy. Each outlasts the timer after which Kubernetes tries
// again or helps itself; docs/failures.md has the sums and their sources.
const (
	configGrace   = 2 * time.Minute  // a sync of the pod each minute, and its back-off of 15 s
	pullGrace     = 6 * time.Minute  // 5 min between two pulls, and the back-off
	createGrace   = 5 * time.Minute  // two requests of 2 min to the runtime, and the back-off
	sandboxGrace  = 9 * time.Minute  // two requests of 4 min to the runtime, and the back-off
	mountGrace    = 5 * time.Minute  // 2 min 3 s to mount, and 2 min 2 s before it is tried again
	attachGrace   = 12 * time.Minute // 6 min until a volume is detached by force, and both of these
	refusalsGrace = 7 * time.Minute  // 5 min until a quota is counted anew, and a minute between two tries of a Job
)

// DefaultPolicy returns how long Kubernetes gets to overcome a trouble where
// Options.Policy is nil. It is never less patient than Kubernetes' own timers:
//
//   - what Kubernetes cannot overcome (an image that does not exist, a name that is no
//     image's, a registry that refuses, a command that the image lacks): no time;
//   - a missing Secret or ConfigMap: 2 min;
//   - a pull that failed because of the network, a limit of the registry or the node, or
//     the node's disk: 6 min;
//   - a runtime that fails to create or start the container: 5 min;
//   - the pod's sandbox: 9 min;
//   - a volume that is attached and cannot be mounted: 5 min; one that is still attached
//     elsewhere: 12 min;
//   - an owner that may not create the pod yet (a full quota, a webhook that does not
//     answer, a service account that is still to come): 7 min;
//   - a pod that no node takes, a node that does not answer, a container that its restart
//     policy starts again and again, a reason that this package does not know: any time.
//     The caller's context is the deadline.
//
// The grace is counted from when the Splitter first saw the class of trouble, and anew when
// the class changes. Failure.Since says when the trouble began.
func DefaultPolicy(f *Failure) (grace time.Duration, fatal bool) {
	if !f.MayRecover {
		return 0, true
	}
	switch f.Class {
	case ClassConfig:
		return configGrace, true
	case ClassImagePull:
		return pullGrace, true
	case ClassCreate, ClassStart:
		return createGrace, true
	case ClassSandbox:
		return sandboxGrace, true
	case ClassVolume:
		if isAttached(f) {
			return mountGrace, true
		}
		return attachGrace, true
	case ClassQuota, ClassForbidden, ClassTransient:
		return refusalsGrace, true
	}
	return 0, false
}

// isAttached reports whether a volume that cannot be mounted is on the node already: SetUp comes
// after WaitForAttach and MountDevice (v1.36
// pkg/volume/util/operationexecutor/operation_generator.go:483-608).
func isAttached(f *Failure) bool {
	return strings.Contains(f.Message, "MountVolume.SetUp failed") || f.Reason == "ImageVolumeMountFailed"
}
