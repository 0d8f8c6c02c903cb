package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// process names a process for good: its PID can be given to another one, but not
// with the same start time in the same boot.
type process struct {
	PID     int    `json:"pid"`
	Started uint64 `json:"started"` // clock ticks since boot
	Boot    string `json:"boot"`
}

// start runs argv detached from this process and its terminal, with this PATH, its
// output appended to the file log.
func start(log, path string, argv ...string) (process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return process{}, err
	}
	defer func() { _ = out.Close() }()
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // It outlives every context of this process.
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Env = append(os.Environ(), "PATH="+path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return process{}, err
	}
	return identify(cmd.Process.Pid)
}

func identify(pid int) (process, error) {
	_, started, err := stat(pid)
	if err != nil {
		return process{}, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return process{}, err
	}
	return process{PID: pid, Started: started, Boot: strings.TrimSpace(string(boot))}, nil
}

// stat reads the state letter and the start time from proc(5)'s stat.
func stat(pid int) (state string, started uint64, err error) {
	text, err := os.ReadFile(procPath(pid, "stat"))
	if err != nil {
		return "", 0, err
	}
	// The command, in parentheses, may hold anything; the last ")" ends it.
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return "", 0, fmt.Errorf("cluster: %s: cannot read %q", procPath(pid, "stat"), text)
	}
	started, err = strconv.ParseUint(fields[19], 10, 64)
	return fields[0], started, err
}

func procPath(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// alive reports whether that very process runs. One that ended and waits to be
// collected by its parent does not.
func (p process) alive() bool {
	if p.PID == 0 {
		return false
	}
	now, err := identify(p.PID)
	if err != nil || now != p {
		return false
	}
	state, _, err := stat(p.PID)
	if err != nil || state == "X" {
		return false
	}
	// A Z is the first thread's: others may go on, with the process's files and ports.
	threads, err := os.ReadDir(procPath(p.PID, "task"))
	return state != "Z" || err == nil && len(threads) > 1
}

// signal sends sig to that very process, if it still runs.
func (p process) signal(sig syscall.Signal) error {
	found, err := os.FindProcess(p.PID) // Holds a pidfd: from here on the PID cannot change hands.
	if err != nil || !p.alive() {
		return nil
	}
	defer func() { _ = found.Release() }()
	if err := found.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// end sends sig and waits until the process has ended, with SIGKILL after grace.
func (p process) end(ctx context.Context, sig syscall.Signal, grace time.Duration) error {
	if err := p.signal(sig); err != nil {
		return err
	}
	if err := p.awaitEnd(ctx, grace); err == nil || ctx.Err() != nil {
		return err
	}
	if err := p.signal(syscall.SIGKILL); err != nil {
		return err
	}
	return p.awaitEnd(ctx, 10*time.Second)
}

func (p process) awaitEnd(ctx context.Context, limit time.Duration) error {
	err := wait.PollUntilContextTimeout(ctx, 10*time.Millisecond, limit, true, func(context.Context) (bool, error) {
		return !p.alive(), nil
	})
	if err != nil {
		return fmt.Errorf("cluster: process %d does not end: %w", p.PID, err)
	}
	// Collect it if it was this process that started it; else that is init's to do.
	_, _ = syscall.Wait4(p.PID, nil, syscall.WNOHANG, nil)
	return nil
}

// pids lists all processes of the machine.
func pids() []int {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	all := make([]int, 0, len(dirs))
	for _, d := range dirs {
		if pid, err := strconv.Atoi(filepath.Base(d)); err == nil {
			all = append(all, pid)
		}
	}
	return all
}
