package podlife_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Whoever renames a test, or drops it, finds here what it held.
func TestEverySurpriseOfKubernetesNamesATestThatExistsAndTracesThatDo(t *testing.T) {
	text, err := os.ReadFile("docs/kubernetes.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := testNames(t)
	named, trace := regexp.MustCompile("`(Test[A-Za-z0-9]+)`"), regexp.MustCompile("`([a-zA-Z0-9-]+\\.txt)`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || strings.HasPrefix(line, "| Surprise") {
			continue
		}
		rows++
		tests := named.FindAllStringSubmatch(line, -1)
		if len(tests) == 0 {
			t.Errorf("no test holds: %s", line)
		}
		for _, m := range tests {
			if !exists[m[1]] {
				t.Errorf("there is no %s, which is to hold: %s", m[1], line)
			}
		}
		for _, m := range trace.FindAllStringSubmatch(line, -1) {
			if _, err := os.Stat(filepath.Join("eventsplit/testdata", m[1])); err != nil {
				t.Error(err)
			}
		}
	}
	if rows < 40 {
		t.Errorf("%d surprises were read, want those of all tables", rows)
	}
}

// testNames returns the names of all tests, those of the modules below included.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names, declared := map[string]bool{}, regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			names[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestTheArchitectureNamesFilesThatExist(t *testing.T) {
	text, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, file := range goFiles(t) {
		exists[filepath.Base(file)] = true
	}
	named := regexp.MustCompile("`([a-z_]+\\.go)`").FindAllSubmatch(text, -1)
	if len(named) < 40 {
		t.Errorf("%d files are named, want those of every package's map", len(named))
	}
	for _, m := range named {
		if name := string(m[1]); !exists[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
