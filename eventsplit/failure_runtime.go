package eventsplit

import (
	"strings"
)

// configErrors are what the kubelet says when it cannot make up a container's
// configuration, before any runtime is asked (pkg/kubelet/kubelet_pods.go
// makeEnvironmentVariables and makeMounts, pkg/kubelet/kuberuntime/
// security_context_others.go, pkg/kubelet/util/manager/watch_based_manager.go, v1.36).
var configErrors = []string{
	"construct envvars", `secret "`, `configmap "`, `object "`, "couldn't get secret", "couldn't get configMap", "couldn't find key",
	"couldn't find env", "couldn't parse env file", "environment variable key", "FileKeyRef", "failed to sync secret cache",
	"failed to sync configmap cache", "unsupported fieldPath", "invalid key subscript", "unsupported container resource",
	"runAsNonRoot", "non-root policy", "non-numeric user", "supplementalGroupsPolicy", "subPath", "SubPath", "cannot find volume",
	"recursive read-only mount", "unable to find target container",
}

// startErrors are what runtimes say when the container is there and its process is
// not: containerd's "failed to start container" and "failed to create containerd task"
// (internal/cri/server/container_start.go, v2.4.2), runc's "unable to start container
// process: exec", crun's "executable file `x` not found in $PATH" and "exec container
// process `x`". CRI-O runs the OCI runtime's create when the kubelet asks it to create
// the container, so these come with "container create failed" and CreateContainerError
// (internal/oci/runtime_oci.go:344, v1.37).
var startErrors = []string{
	"failed to start container", "failed to create containerd task", "OCI runtime", "start failed", "exec: ", "exec /",
	"executable file", "open executable", "container process", "xec format error", "o command specified", "error finding executable",
}

// runtimeClass tells at which step of starting a container an error came.
func runtimeClass(text string) Class {
	switch {
	case containsAny(text, startErrors...):
		return ClassStart
	case containsAny(text, configErrors...):
		return ClassConfig
	}
	return ClassCreate
}

// lacksCommand reports whether the image has no such command, or none that can be
// executed, or none at all: neither changes until the image or the command does (runc v1.3
// libcontainer/standard_init_linux.go and os/exec; crun's exec errors; gVisor's
// pkg/sentry/fsimpl/user/path.go; hcsshim on Windows; containerd v2.4.2
// internal/cri/opts/spec_opts.go:77).
func lacksCommand(text string) bool {
	return containsAny(text, "not found in $PATH", "xec format error", "o command specified", "error finding executable") ||
		strings.Contains(text, "CreateProcess") && strings.Contains(text, "The system cannot find the file specified") ||
		containsAny(text, "exec: ", "open executable", "exec container process") &&
			containsAny(strings.ToLower(text), "no such file or directory", "permission denied", "is a directory")
}
