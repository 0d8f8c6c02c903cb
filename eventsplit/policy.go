package eventsplit

import "time"

// DefaultPolicy is how long Kubernetes gets to get over trouble, where
// Options.Policy says nothing else:
//
//   - what it cannot get over (an image that does not exist, a name that is no
//     image's, a registry that refuses), it gets no time for;
//   - a missing Secret or ConfigMap, which may be created a moment later, 30 s;
//   - a pull that failed for the network, the registry's or the node's limits, 3 min;
//   - the runtime failing to create or start the container, 1 min;
//   - volumes and the pod's sandbox, 5 min;
//   - a pod that no node takes, or a node that does not answer, any time: the
//     caller's context is the deadline.
func DefaultPolicy(f *Failure) (grace time.Duration, fatal bool) {
	if !f.MayRecover {
		return 0, true
	}
	switch f.Class {
	case ClassConfig:
		return 30 * time.Second, true
	case ClassImagePull:
		return 3 * time.Minute, true
	case ClassCreate, ClassStart:
		return time.Minute, true
	case ClassVolume, ClassSandbox, ClassQuota, ClassDenied, ClassPodSecurity, ClassForbidden:
		return 5 * time.Minute, true
	case ClassCrashLoop:
		// It is restarted because its restart policy says so.
		return 0, false
	}
	return 0, false
}
