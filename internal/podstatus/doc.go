// Package podstatus reads facts from a pod's spec and status: which run a container
// status shows, how that run ended, whether the kubelet starts it again, and which of two
// versions of a pod is the newer one.
//
// Every function is pure: it does no I/O, has no clock, keeps nothing and changes nothing.
// Each rule of Kubernetes that more than one package of this module goes by is written
// here, and only here, with the place in the Kubernetes sources where the rule stands.
package podstatus
