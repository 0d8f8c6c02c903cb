package eventsplit

import (
	"strings"
)

// configErrors are texts of the kubelet when it cannot assemble a container's configuration; it
// asks no runtime then (v1.36 pkg/kubelet/kubelet_pods.go makeEnvironmentVariables and
// makeMounts, pkg/kubelet/kuberuntime/security_context_others.go,
// pkg/kubelet/util/manager/watch_based_manager.go).
var configErrors = []string{
	"construct envvars", `secret "`, `configmap "`, `object "`, "couldn't get secret", "couldn't get configMap", "couldn't find key",
	"couldn't find env", "couldn't parse env file", "environment variable key", "FileKeyRef", "failed to sync secret cache",
	"failed to sync configmap cache", "unsupported fieldPath", "invalid key subscript", "unsupported container resource",
	"runAsNonRoot", "non-root policy", "non-numeric user", "supplementalGroupsPolicy", "subPath", "SubPath", "cannot find volume",
	"recursive read-only mount", "unable to find target container",
}

// startErrors are texts of a runtime that has created the container and cannot start its
// process: containerd's "failed to start container" and "failed to create containerd task"
// (v2.4.2 internal/cri/server/container_start.go), runc's "unable to start container process:
// exec", crun's "executable file `x` not found in $PATH" and "exec container process `x`". CRI-O
// calls the OCI runtime's create while the kubelet asks CRI-O to create the container, so with
// CRI-O these texts come with "container create failed" and the reason CreateContainerError
// (v1.37 internal/oci/runtime_oci.go:344).
var startErrors = []string{
	"failed to start container", "failed to create containerd task", "OCI runtime", "start failed", "exec: ", "exec /",
	"executable file", "open executable", "container process", "xec format error", "o command specified", "error finding executable",
}

// runtimeClass returns the class of an error by the step at which the container's start failed.
func runtimeClass(text string) Class {
	switch {
	case containsAny(text, startErrors...):
		return ClassStart
	case containsAny(text, configErrors...):
		return ClassConfig
	}
	return ClassCreate
}

// lacksCommand reports whether the image lacks the command, or has it as a file that cannot be
// executed, or whether there is no command at all. Only another image or another command cures
// that (runc v1.3 libcontainer/standard_init_linux.go and os/exec; crun's exec errors; gVisor's
// pkg/sentry/fsimpl/user/path.go; hcsshim on Windows; containerd v2.4.2
// internal/cri/opts/spec_opts.go:77).
func lacksCommand(text string) bool {
	return containsAny(text, "not found in $PATH", "xec format error", "o command specified", "error finding executable") ||
		strings.Contains(text, "CreateProcess") && strings.Contains(text, "The system cannot find the file specified") ||
		containsAny(text, "exec: ", "open executable", "exec container process") &&
			containsAny(strings.ToLower(text), "no such file or directory", "permission denied", "is a directory")
}
