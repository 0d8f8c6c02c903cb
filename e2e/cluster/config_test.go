package cluster

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestConfigThatCannotWorkIsRefusedWithItsReason(t *testing.T) {
	for name, test := range map[string]struct {
		config Config
		want   string
	}{
		"path too long for sockets": {Config{State: "/tmp/" + strings.Repeat("x", 100)}, "bytes long"},
		"Kubernetes version":        {Config{Kubernetes: "1.2"}, "there are 1.37 and 1.36"},
		"log size":                  {Config{LogMaxSize: "much"}, "100Ki"},
		"log interval":              {Config{LogMonitorInterval: time.Second}, "3 s"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Up(t.Context(), test.config); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want an error with %q", err, test.want)
			}
		})
	}
}

func TestDirectoryWithSomethingElseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(precious, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := checkEmpty(dir); err == nil || !strings.Contains(err.Error(), "thesis.txt") {
		t.Errorf("bringing a cluster up there: got %v, want it refused", err)
	}
	if err := Down(t.Context(), dir, nil); err != nil {
		t.Errorf("taking no cluster down: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Error(err)
	}
}

func TestProgramsAreBuiltAnewWhenTheirSourcesChange(t *testing.T) {
	for _, kubernetes := range []string{Kubernetes137, Kubernetes136} {
		t.Run(kubernetes, func(t *testing.T) {
			module := t.TempDir()
			if err := os.CopyFS(module, os.DirFS("..")); err != nil {
				t.Fatal(err)
			}
			flags, before, err := buildKey(module, kubernetes)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(flags, "gitVersion=v"+kubernetes+".") || !strings.Contains(flags, "gitMajor=1 ") {
				t.Errorf("linker flags %q give the programs no version", flags)
			}
			sources := []string{"cmd/pause/main.go", "cmd/print/main.go"}
			for _, m := range modules(kubernetes) {
				for _, file := range []string{"go.mod", "go.sum", "tools.go"} {
					sources = append(sources, filepath.Join("binaries", m, file))
				}
			}
			for _, name := range sources {
				appendNewline(t, filepath.Join(module, name))
				_, after, err := buildKey(module, kubernetes)
				if err != nil || after == before {
					t.Errorf("%s changed: key %s before, %s after (%v)", name, before, after, err)
				}
				before = after
			}
		})
	}
}

func appendNewline(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// Debian's containerd would hide that the built one is missing.
func TestOnlyTheVersionThatNeedsItInstallsContainerd(t *testing.T) {
	for kubernetes, want := range map[string]bool{Kubernetes137: false, Kubernetes136: true} {
		for program, pkg := range needed(kubernetes) {
			if pkg == "containerd" && !want {
				t.Errorf("Kubernetes %s wants Debian's %s", kubernetes, program)
			}
		}
		if _, got := needed(kubernetes)["containerd"]; got != want {
			t.Errorf("Kubernetes %s wants Debian's containerd: %t", kubernetes, got)
		}
	}
}
