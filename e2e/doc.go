// Package e2e holds podlife to its word on a real cluster. Its tests use the
// cluster of the environment variable KUBECONFIG when that is set; else they
// bring one up for themselves, which takes root and Linux, and end it when they
// end, whichever way.
//
//	go test -timeout 30m ./...  # brings a cluster up and down; the first time it builds it
//	go test -short ./...        # skips what needs one
//
// It is Kubernetes 1.37 with containerd 2.4; with -kubernetes 1.36 it is that version with
// Debian's containerd 1.6.
//
// With -record the tests write what the cluster shows as test data of eventsplit
// (its testdata/real-*.txt and the recorded part of apierrors.jsonl); then
//
//	go test ./eventsplit -run GoldenTraces -update
//
// in the module above adds what eventsplit says to it. Without it they hold what
// eventsplit says on the cluster against that. Stories that take long, or show little
// that others do not, are played to be recorded only. A test of eventsplit lists the
// scripts that no recorded trace backs, each with the reason.
//
// See package cluster for the cluster, and cmd/cluster to keep one for a while.
// On another cluster the flags -node-name, -pause-image, -busybox-image and
// -print-image say where and of what to make pods.
package e2e
