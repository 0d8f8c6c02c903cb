package cluster

import (
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// searchPath is where system programs are, whatever the caller's PATH.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// needed maps the machine's programs that a cluster uses to their Debian packages.
func needed(kubernetes string) map[string]string {
	programs := map[string]string{
		"runc":    "runc",
		"busybox": "busybox-static",
		"nsenter": "util-linux",
		"unshare": "util-linux",
		"mount":   "mount",
	}
	if kubernetes == Kubernetes136 {
		for _, name := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
			programs[name] = "containerd"
		}
	}
	return programs
}

// ensurePackages installs what is missing, where that is possible and wanted.
func ensurePackages(ctx context.Context, cfg Config) error {
	missing := missingPackages(cfg.Kubernetes)
	if len(missing) == 0 {
		return nil
	}
	names := strings.Join(missing, ", ")
	if _, err := exec.LookPath("apt-get"); cfg.NoInstall || err != nil {
		return fmt.Errorf("cluster: install these first (Debian's packages): %s", names)
	}
	_, _ = fmt.Fprintln(cfg.Progress, "installing Debian packages:", names)
	install := append([]string{"install", "-y", "--no-install-recommends"}, missing...)
	for _, args := range [][]string{{"update"}, install} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("cluster: installing %s: apt-get %s: %w\n%s", names, args[0], err, lastLines(out, 10))
		}
	}
	if missing = missingPackages(cfg.Kubernetes); len(missing) != 0 {
		return fmt.Errorf("cluster: still missing after their installation: %s", strings.Join(missing, ", "))
	}
	return nil
}

func missingPackages(kubernetes string) []string {
	var missing []string
	for program, pkg := range needed(kubernetes) {
		path, err := findProgram(program)
		if err == nil && program == "busybox" {
			err = checkStatic(path) // It has to run in an image of its own.
		}
		if err != nil && !slices.Contains(missing, pkg) {
			missing = append(missing, pkg)
		}
	}
	slices.Sort(missing)
	return missing
}

func findProgram(name string) (string, error) { return findIn(searchPath, name) }

func findIn(path, name string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		file := filepath.Join(dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("cluster: no %s in %s", name, path)
}

func checkStatic(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for _, part := range f.Progs {
		if part.Type == elf.PT_INTERP {
			return fmt.Errorf("cluster: %s is not statically linked", path)
		}
	}
	return nil
}
