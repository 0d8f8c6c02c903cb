// Package nodelog is the log of one container on a simulated node: the files that
// its runtime writes and its kubelet rotates, and what the kubelet reads of them.
//
// The files hold the bytes that a real node's would, and [Log.Open] takes the steps
// of the kubelet's own reader, one by one. So what that costs its readers comes out
// by itself: a follower that stays with a file that was rotated, one that skips a
// file and sends another one twice, a line without a time.
//
// Where a comment says logs.go or tail.go, that is k8s.io/cri-client/pkg/logs, the
// same in v0.36.3 and in v0.37.2; container_log_manager.go is that of
// k8s.io/kubernetes/pkg/kubelet/logs, the same in v1.36.3 and in v1.37.2. The module
// e2e/conformance plays random histories to this reader and to the kubelet's own and
// compares what they send, byte by byte.
//
// Nothing here is about pods, requests or HTTP: package testutil has those.
package nodelog
