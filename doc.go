// Package podlife is the root of a library of pod-lifecycle primitives for
// programs that run work in Kubernetes pods. It holds no code: see the packages
// podwatch, eventsplit and logstream.
package podlife
