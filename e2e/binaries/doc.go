// Package binaries pins the programs of the real cluster, each set of them in a module
// of its own, so that their several hundred dependencies stay out of every other go.mod
// of this repository, and containerd's and Kubernetes' do not have to agree: its go.mod
// has the version, its tools.go the programs. Package cluster, in its build.go, says
// which modules make a version of Kubernetes.
//
// To move to a newer patch of Kubernetes change k8s.io/kubernetes in go.mod, each
// replaced staging module with it, and run go mod tidy.
package binaries
