// Package testutil is a simulated Kubernetes cluster for tests and for examples.
//
// It speaks the real HTTP protocol to a real client-go, over an in-memory
// transport: nothing listens anywhere, and inside a testing/synctest bubble hours
// pass in milliseconds. It behaves as a cluster of v1.36.3 was seen to behave,
// surprises included; where that matters a comment says what was seen, or where
// in Kubernetes' source it is written (paths are below its root, or below
// pkg/kubelet/kuberuntime). Nothing is scripted: what a pod goes through comes out
// of the same steps that the kubelet takes.
//
//	c := testutil.New(testutil.Options{Images: map[string]testutil.Program{"sh": testutil.Shell}})
//	go c.Run(ctx)
//	client := c.Client()
//
// # What it plays
//
//   - The API server: pods, Events and namespaces; create, get, list, watch,
//     update, patch, delete; label and field selectors, resourceVersions, bookmarks,
//     expired history, preconditions, graceful deletion (store.go to delete.go).
//   - The scheduler and the node: init containers, sidecars, image swaps, restart
//     policies and rules, back-off, deadlines, grace periods, Events with their
//     budgets (kubelet.go to status.go).
//   - pods/log, and the rotation of logs with what it costs their readers (logs.go,
//     rotate.go; the files and their reader are in package nodelog).
//   - Trouble: see [Fault] and the methods named Drop, Compact and Restart.
//
// # What it does not
//
// Probes, hooks, volumes, networks, ephemeral containers, finalizers, admission,
// authorization, server-side apply, more than one node.
package testutil
