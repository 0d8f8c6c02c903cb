package cluster

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// sleeper starts a process that is none of a cluster's.
func sleeper(t *testing.T) process {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux's /proc")
	}
	// A command named as proc(5) warns of: stat's fields are counted from the last ")".
	name := filepath.Join(t.TempDir(), "a) R (b")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	if err := exec.CommandContext(t.Context(), "cp", sleep, name).Run(); err != nil {
		t.Fatal(err)
	}
	p, err := start(filepath.Join(t.TempDir(), "log"), searchPath, name, "60")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(p.PID, syscall.SIGKILL) })
	return p
}

func TestRecycledPIDIsNotSignalled(t *testing.T) {
	p := sleeper(t)
	other := p
	other.Started-- // Who had this PID before.
	if other.alive() {
		t.Error("a process that had this PID before is said to be alive")
	}
	if err := other.end(t.Context(), syscall.SIGKILL, time.Second); err != nil {
		t.Errorf("ending a process that has ended: %v", err)
	}
	other = p
	other.Boot = "another"
	if other.alive() {
		t.Error("a process of another boot is said to be alive")
	}
	if !p.alive() {
		t.Fatal("the process that has this PID now was ended")
	}
	if err := p.end(t.Context(), syscall.SIGTERM, 10*time.Second); err != nil {
		t.Errorf("ending the process itself: %v", err)
	}
	if p.alive() {
		t.Error("the process itself is said to be alive after its end")
	}
}

const withoutLeader = "PODLIFE_TEST_WITHOUT_LEADER"

// A test's child whose first thread ends while another one goes on.
func init() {
	if os.Getenv(withoutLeader) == "" {
		return
	}
	go func() { time.Sleep(time.Minute); os.Exit(1) }()
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0) // init runs on the first thread
}

// The threads of a process that is killed end one by one. While one is left, its files
// are open, and its port is taken: an API server that was started again too early could
// not have it.
func TestAProcessIsAliveUntilItsLastThreadHasEnded(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux's /proc")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(withoutLeader, "yes")
	p, err := start(filepath.Join(t.TempDir(), "log"), searchPath, self)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(p.PID, syscall.SIGKILL) })
	for state := ""; state != "Z"; time.Sleep(time.Millisecond) {
		if state, _, err = stat(p.PID); err != nil {
			t.Fatal(err)
		}
	}
	if !p.alive() {
		t.Error("it is said to have ended")
	}
	if err := p.end(t.Context(), syscall.SIGKILL, 10*time.Second); err != nil {
		t.Error(err)
	}
}

func TestEndedProcessThatNobodyCollectedIsNotAlive(t *testing.T) {
	p := sleeper(t)
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := p.awaitEnd(t.Context(), 10*time.Second); err != nil { // Its parent is this process.
		t.Error(err)
	}
}
