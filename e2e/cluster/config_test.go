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
	module := t.TempDir()
	if err := os.CopyFS(module, os.DirFS("..")); err != nil {
		t.Fatal(err)
	}
	flags, before, err := buildKey(module)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(flags, "gitVersion=v1.") || !strings.Contains(flags, "gitMajor=1 ") {
		t.Errorf("linker flags %q give the programs no version", flags)
	}
	for _, name := range []string{"binaries/go.mod", "binaries/go.sum", "cmd/pause/main.go", "cmd/print/main.go"} {
		f, err := os.OpenFile(filepath.Join(module, name), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("\n"); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		_, after, err := buildKey(module)
		if err != nil || after == before {
			t.Errorf("%s changed: key %s before, %s after (%v)", name, before, after, err)
		}
		before = after
	}
}
