// Package testutil is a simulated Kubernetes cluster for tests and for examples.
//
// It speaks the real HTTP protocol to a real client-go, over an in-memory
// transport: nothing listens anywhere, and inside a testing/synctest bubble hours
// pass in milliseconds. It behaves as a cluster of v1.36.3 was seen to behave,
// surprises included; where that matters a comment says what was seen, or where
// in Kubernetes' source it is written.
package testutil
