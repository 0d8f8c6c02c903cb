package testutil

import "time"

// How long things take on the node. They add up to what was seen on a real
// kubelet, v1.36.3: placeholders run about 320 ms after the pod was created,
// a swap takes 0.4 to 0.6 s, a follow ends some 0.7 s after its container.
const (
	watchTakes   = 5 * time.Millisecond   // until the kubelet or the scheduler hears of a pod
	startupTakes = time.Second            // until a kubelet that is up knows its pods
	bindTakes    = 10 * time.Millisecond  // to schedule a pod
	sandboxTakes = 190 * time.Millisecond // to set up a pod's sandbox
	createTakes  = 20 * time.Millisecond  // to create a container
	startTakes   = 30 * time.Millisecond  // to start it
	stopTakes    = 100 * time.Millisecond // to stop it, beside what its program takes to exit
	pullTakes    = 300 * time.Millisecond // to pull an image, unless Options.Pull says otherwise
	statusTakes  = 10 * time.Millisecond  // to write a status to the API server: a GET and a PATCH

	reopenTakes = 2 * time.Millisecond   // until the runtime has made a new file for a log that was rotated
	turnTakes   = 200 * time.Microsecond // until it writes to that file

	// relistTakes is until a pod that a sync has changed is looked at again: new
	// in 1.36 (pkg/kubelet/kubelet.go:2270-2275); everything else, exits first of
	// all, waits for plegPeriod.
	relistTakes = 10 * time.Millisecond
	// plegPeriod is how often the kubelet looks at all its containers
	// (pkg/kubelet/kubelet.go:215).
	plegPeriod = time.Second
	// retryPeriod is when a sync that failed is tried again, times 1 to 1.5
	// (pkg/kubelet/pod_workers.go:1547); resyncPeriod is the longest it can be.
	retryPeriod  = 10 * time.Second
	resyncPeriod = time.Minute
	retryJitter  = 1.25

	// followEnds is how long after a container's exit a follow of its log ends:
	// the kubelet asks the runtime once a second (k8s.io/cri-client
	// pkg/logs/logs.go:487).
	followEnds = 700 * time.Millisecond
)
