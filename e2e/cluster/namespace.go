package cluster

import (
	"context"
	_ "embed" // for namespace.sh
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

//go:embed namespace.sh
var namespaceScript string

// tunables are the kernel settings that a kubelet insists on: v1.36.3,
// k8s.io/component-helpers/node/util/sysctl.
func tunables() map[string]string {
	return map[string]string{
		"vm.overcommit_memory":      "1",
		"vm.panic_on_oom":           "0",
		"kernel.panic":              "10",
		"kernel.panic_on_oops":      "1",
		"kernel.keys.root_maxkeys":  "1000000",
		"kernel.keys.root_maxbytes": "25000000",
	}
}

// mountPoints are directories of the machine that exist for namespace.sh to
// mount over. What is in them is not touched.
func mountPoints() []string {
	return []string{"/run/containerd", "/var/lib/kubelet", "/var/log/containers"}
}

// madeHere marks a mount point that was missing on this machine.
const madeHere = ".made-by-podlife-e2e"

// startNamespace starts the process that holds the cluster's mounts.
func (c *Cluster) startNamespace(ctx context.Context) error {
	for _, dir := range mountPoints() {
		if err := os.Mkdir(dir, 0o711); os.IsExist(err) {
			continue
		} else if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, madeHere), nil, 0o600); err != nil {
			return err
		}
	}
	for name, value := range tunables() {
		if err := os.WriteFile(c.path("sysctl", name), []byte(value+"\n"), 0o600); err != nil {
			return err
		}
	}
	holder := filepath.Join(c.state.Programs, "pause")
	err := c.launch(namespace, "unshare", "--mount", "--propagation", "slave",
		"sh", "-c", namespaceScript, "sh", c.dir, c.mark(), holder)
	if err != nil {
		return err
	}
	return c.await(ctx, namespace, 10*time.Second, func(context.Context) error {
		exe, err := os.Readlink(procPath(c.state.Processes[namespace].PID, "exe"))
		if err == nil && exe != holder {
			err = fmt.Errorf("%s has not made its mounts yet", exe)
		}
		return err
	})
}

// inNamespace returns the command that runs argv among the cluster's mounts, as
// the process that is started: nsenter executes it in its place.
func (c *Cluster) inNamespace(argv ...string) []string {
	mounts := procPath(c.state.Processes[namespace].PID, "ns/mnt")
	return append([]string{"nsenter", "--mount=" + mounts, "--"}, argv...)
}

// removeMountPoints removes the mount points that a cluster made, once the last
// one has gone: removing a directory takes away what other namespaces have
// mounted there.
func removeMountPoints() {
	used := usedMountPoints()
	for _, dir := range mountPoints() {
		entries, err := os.ReadDir(dir)
		if err != nil || used[dir] || len(entries) != 1 || entries[0].Name() != madeHere {
			continue
		}
		_ = os.Remove(filepath.Join(dir, madeHere))
		_ = os.Remove(dir)
	}
}

func usedMountPoints() map[string]bool {
	used := map[string]bool{}
	for _, mounts := range namespaces() {
		for line := range strings.Lines(mounts.info) {
			if fields := strings.Fields(line); len(fields) > 4 {
				used[fields[4]] = true
			}
		}
	}
	return used
}

// members lists the processes among the cluster's mounts: what was started here,
// and the shims that containerd left. Not those within containers, which have
// mounts of their own.
func (c *Cluster) members() []int {
	var all []int
	for _, mounts := range namespaces() {
		if strings.Contains(mounts.info, " "+c.mark()+" ") {
			all = append(all, mounts.pids...)
		}
	}
	return all
}

// mountsBelow lists what this process sees mounted below dir, deepest first.
func mountsBelow(dir string) []string {
	info, _ := os.ReadFile("/proc/self/mountinfo")
	var points []string
	for line := range strings.Lines(string(info)) {
		if fields := strings.Fields(line); len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			points = append([]string{fields[4]}, points...)
		}
	}
	return points
}

type mounts struct {
	pids []int
	info string // as in /proc/PID/mountinfo
}

// namespaces returns every mount namespace of the machine that has a process.
func namespaces() map[string]*mounts {
	all := map[string]*mounts{}
	for _, pid := range pids() {
		name, err := os.Readlink(procPath(pid, "ns/mnt"))
		if err != nil {
			continue // It has ended, or has no mounts to speak of.
		}
		if all[name] == nil {
			info, err := os.ReadFile(procPath(pid, "mountinfo"))
			if err != nil {
				continue
			}
			all[name] = &mounts{info: string(info)}
		}
		all[name].pids = append(all[name].pids, pid)
	}
	return all
}

func (c *Cluster) mark() string { return "podlife-e2e-" + c.state.ID }

func hostPort(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
