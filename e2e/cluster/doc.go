// Package cluster runs a real Kubernetes on a bare Linux machine for tests: etcd,
// kube-apiserver, kubelet and containerd, built from their Go modules, with Debian's
// runc. It needs root, Go and a module proxy; no Docker and no image registry.
//
// Config.Kubernetes says which version of Kubernetes, and with it of containerd, to run.
//
// # What it does
//
// [Up] builds the programs (once; they are cached), installs what is missing of
// Debian's packages, starts the cluster and returns when its node takes pods.
// There is no scheduler, no controller manager and no pod network: a pod sets
// nodeName to [NodeName] and hostNetwork to true, and its images are those of
// this package, which are loaded and never pulled.
//
// # Guarantees
//
//   - Everything listens on loopback. Ports are chosen free and kept in the state
//     directory, so clusters with different state directories live side by side,
//     and beside one that something else started.
//   - All of a cluster's programs share a mount namespace of their own. Where
//     containerd and kubelet insist on a path of the machine, they find the state
//     directory's there: /run/containerd, /var/lib/kubelet, /var/log/containers,
//     and the kernel settings that a kubelet wants to change. No mount is ever
//     made where the rest of the machine could see it, and iptables is not touched.
//   - [Down] ends exactly what Up started. A process is known by its PID together
//     with its start time, or by the mount namespace it is in; a container by its
//     cgroup. Whatever state the cluster is in, calling Down once more is safe.
//   - An Up that fails ends what it had started.
//
// # Non-guarantees
//
// It is made for tests: etcd does not sync to disk, a kubelet never evicts, and
// nothing survives Down. What Down leaves is the build cache and the Debian packages.
//
// # Concurrency
//
// Up, Down, Stop and Start on one state directory wait for each other, between
// processes too. Different directories are independent.
package cluster
