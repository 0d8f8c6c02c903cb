package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Down ends the cluster of a state directory (empty: the default one) with all
// its containers, and removes the directory. Without a cluster it does nothing.
// Progress may be nil.
func Down(ctx context.Context, dir string, progress io.Writer) error {
	if progress == nil {
		progress = io.Discard
	}
	c, err := Open(dir)
	if errors.Is(err, ErrNotUp) {
		return nil
	}
	if err != nil {
		return err
	}
	unlock, err := lock(ctx, c.dir)
	if err != nil {
		return err
	}
	defer unlock()
	c.out = progress
	if err := c.load(); errors.Is(err, ErrNotUp) {
		return os.Remove(c.dir) // Others have taken it down; only the lock has made it again.
	} else if err != nil {
		return err
	}
	return c.down(ctx)
}

// Down ends the cluster; see the function Down.
func (c *Cluster) Down(ctx context.Context) error { return Down(ctx, c.dir, c.out) }

// down ends all with SIGKILL, as nothing of it is kept: first who starts
// processes, then what they have started.
func (c *Cluster) down(ctx context.Context) error {
	for _, name := range []string{Kubelet, Containerd} {
		if err := c.state.Processes[name].end(ctx, syscall.SIGKILL, time.Second); err != nil {
			return err
		}
	}
	containers := c.containers()
	err := c.killAll(ctx, containers, func() []int {
		left := c.members()
		for _, p := range c.state.Processes {
			if p.alive() { // of one that is about to end its mounts are gone first
				left = append(left, p.PID)
			}
		}
		return left
	})
	if err != nil {
		return err
	}
	removeMountPoints()
	for _, point := range mountsBelow(c.dir) {
		if err := unmount(point); err != nil {
			return fmt.Errorf("cluster: unmounting %s: %w", point, err)
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		return err
	}
	c.say("ended %d containers and all that was started for %s", len(containers), c.dir)
	return nil
}

// killAll kills these containers' processes, and the others that are left, until there
// are none, and removes the containers' cgroups.
func (c *Cluster) killAll(ctx context.Context, containers []string, others func() []int) error {
	err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		left := others()
		for _, id := range containers {
			left = append(left, processesOf(id)...)
		}
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		}
		return len(left) == 0, nil
	})
	if err != nil {
		return fmt.Errorf("cluster: processes of %s do not end: %w", c.dir, err)
	}
	for _, id := range containers {
		removeCgroups(id)
	}
	return nil
}

// containers lists the IDs of all containers, those of pods included, that
// containerd and runc keep something of.
func (c *Cluster) containers() []string {
	var ids []string
	for _, dir := range []string{"containerd/state/io.containerd.runtime.v2.task/k8s.io", "containerd/runc/k8s.io"} {
		entries, _ := os.ReadDir(c.path(dir))
		for _, e := range entries {
			ids = append(ids, e.Name())
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// cgroups lists the cgroups of a container: one in each hierarchy of version 1,
// one in all with version 2. They are named by the ID, 64 random digits.
func cgroups(id string) []string {
	v1, _ := filepath.Glob("/sys/fs/cgroup/*/k8s.io/" + id)
	v2, _ := filepath.Glob("/sys/fs/cgroup/k8s.io/" + id)
	return append(v1, v2...)
}

// processesOf lists the processes in a container, whoever their parent is.
func processesOf(id string) []int {
	var all []int
	for _, dir := range cgroups(id) {
		text, _ := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		for field := range strings.FieldsSeq(string(text)) {
			// 0 is a process of a PID namespace that cannot be seen from here.
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 && !slices.Contains(all, pid) {
				all = append(all, pid)
			}
		}
	}
	return all
}

// removeCgroups removes what the kernel lets go: a cgroup without processes.
func removeCgroups(id string) {
	for _, dir := range cgroups(id) {
		_ = os.Remove(dir)
		_ = os.Remove(filepath.Dir(dir))
	}
}
