package cluster

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// Ctr runs containerd's client on what containerd keeps for the kubelet.
func (c *Cluster) Ctr(ctx context.Context, args ...string) error {
	if err := c.load(); err != nil {
		return err
	}
	return c.ctr(ctx, nil, args...)
}

// emptyScript takes away what a node keeps in memory: containerd's state and that of
// runc, with what is mounted there, and the shims' sockets.
const emptyScript = `while read -r _ _ _ _ point _; do
	case $point in "$1"/*) umount -l "$point" || : ;; esac
done </proc/self/mountinfo
rm -rf "$1" "$2" "$3"/*`

// Reboot does to the node's containers what a loss of power does: kubelet, containerd,
// its shims and all containers are killed, and what they keep in memory is gone; then
// containerd and kubelet are started. The API server lives on.
func (c *Cluster) Reboot(ctx context.Context) error {
	for _, name := range []string{Kubelet, Containerd} {
		if err := c.Stop(ctx, name, true); err != nil {
			return err
		}
	}
	if err := c.loseMemory(ctx); err != nil {
		return err
	}
	return errors.Join(c.Start(ctx, Containerd), c.Start(ctx, Kubelet))
}

func (c *Cluster) loseMemory(ctx context.Context) error {
	_, unlock, err := c.change(ctx, Containerd)
	if err != nil {
		return err
	}
	defer unlock()
	err = c.killAll(ctx, c.containers(), func() []int {
		return slices.DeleteFunc(c.members(), func(pid int) bool {
			for _, p := range c.state.Processes {
				if p.PID == pid && p.alive() {
					return true
				}
			}
			return false
		})
	})
	if err != nil {
		return err
	}
	argv := c.inNamespace("sh", "-c", emptyScript, "sh", c.path("containerd", "state"), c.path("containerd", "runc"), c.path("run"))
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("cluster: emptying containerd's state: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
