# Makes the mounts that only a cluster's own programs see, then holds them:
#   unshare --mount --propagation slave sh -c THIS sh STATE MARK HOLDER
# The last mount goes with the last process, whichever way it ends.
set -eu
state=$1 mark=$2 holder=$3

# By this mount's name every process of the cluster is known, shims included.
mount -t tmpfs -o size=4k "$mark" "$state/mark"

# Paths that containerd (shim sockets) and kubelet (device plugins,
# symlinks to logs) cannot be configured away from.
mount --bind "$state/run" /run/containerd
mount --bind "$state/kubelet" /var/lib/kubelet
mount --bind "$state/log-links" /var/log/containers

# A kubelet sets these for the whole machine (pkg/kubelet/cm, setupKernelTunables)
# unless it finds them set. It finds them set; the machine keeps its own.
for setting in "$state"/sysctl/*; do
	mount --bind "$setting" "/proc/sys/$(basename "$setting" | tr . /)"
done

exec "$holder"
