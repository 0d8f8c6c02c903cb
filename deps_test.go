package podlife_test

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/go-vela/podlife"

// direct are the only modules that go.mod may require directly, and so the only
// ones that a host takes in with us. The last is for tests.
var direct = []string{"k8s.io/client-go", "k8s.io/apimachinery", "k8s.io/api", "golang.org/x/sync", "github.com/google/go-cmp"}

func TestGoModRequiresNoOtherModule(t *testing.T) {
	data, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "require "))
		if len(fields) < 2 || !strings.HasPrefix(fields[1], "v") || strings.Contains(line, "// indirect") {
			continue
		}
		seen++
		if !slices.Contains(direct, fields[0]) {
			t.Errorf("go.mod requires %s", fields[0])
		}
	}
	if seen != len(direct) {
		t.Errorf("go.mod has %d direct requirements, want the %d of %v", seen, len(direct), direct)
	}
}

// The three packages stand alone: they share Kubernetes' types, and the facts of a pod's status.
func TestPackagesImportNeitherEachOtherNorOtherModules(t *testing.T) {
	for _, file := range goFiles(t) {
		inTest := strings.HasSuffix(file, "_test.go")
		library := slices.Contains(packages, filepath.Dir(file)) || filepath.Dir(file) == "internal/podstatus"
		for _, path := range imports(t, file) {
			switch {
			case !strings.Contains(strings.SplitN(path, "/", 2)[0], "."): // the standard library
			case strings.HasPrefix(path, module+"/"):
				own := strings.TrimPrefix(path, module+"/")
				mayUse := own == filepath.Dir(file) || own == "internal/podstatus" || inTest && strings.HasPrefix(own, "internal/testutil")
				if library && !mayUse {
					t.Errorf("%s imports %s", file, path)
				}
			case !slices.ContainsFunc(direct, func(m string) bool { return strings.HasPrefix(path, m+"/") }),
				!inTest && strings.HasPrefix(path, "github.com/google/go-cmp/"):
				t.Errorf("%s imports %s", file, path)
			}
		}
	}
}

func imports(t *testing.T, file string) (paths []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}
