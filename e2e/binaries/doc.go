// Package binaries pins the programs of the real cluster: etcd, kube-apiserver
// and kubelet. It is a module of its own so that their several hundred
// dependencies stay out of every other go.mod of this repository.
//
// To move to another Kubernetes version change k8s.io/kubernetes in go.mod, each
// replaced staging module with it, and run go mod tidy.
package binaries
