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

// arrows has the packages of this module that each package of the library may import. The
// three of hosts stand alone: their common language is Kubernetes' types. logstream is in
// layers, and they import downwards only; those that have to do with bytes alone know
// nothing of Kubernetes.
var arrows = map[string]struct {
	uses  []string
	bytes bool // it imports the standard library, and what it uses, alone
}{
	"podwatch":                   {uses: []string{"internal/podstatus"}},
	"eventsplit":                 {uses: []string{"internal/podstatus"}},
	"internal/podstatus":         {},
	"logstream":                  {uses: []string{"internal/podstatus", "logstream/internal/kubelog", "logstream/internal/splice", "logstream/internal/spool", "logstream/internal/stamp"}},
	"logstream/internal/splice":  {uses: []string{"logstream/internal/spool", "logstream/internal/stamp"}, bytes: true},
	"logstream/internal/spool":   {uses: []string{"logstream/internal/stamp"}, bytes: true},
	"logstream/internal/stamp":   {bytes: true},
	"logstream/internal/kubelog": {},
}

// A package that is not in the table, in a folder of the library, may import nothing of
// this module: its arrows are to be thought of when it is made.
func TestPackagesImportNeitherEachOtherNorOtherModules(t *testing.T) {
	for _, file := range goFiles(t) {
		inTest, dir := strings.HasSuffix(file, "_test.go"), filepath.Dir(file)
		arrow, library := arrows[dir]
		library = library || slices.Contains(packages, strings.SplitN(dir, "/", 2)[0])
		for _, path := range imports(t, file) {
			own, ours := strings.CutPrefix(path, module+"/")
			switch {
			case !strings.Contains(strings.SplitN(path, "/", 2)[0], "."): // the standard library
			case ours:
				if library && own != dir && !slices.Contains(arrow.uses, own) && (!inTest || !strings.HasPrefix(own, "internal/testutil")) {
					t.Errorf("%s imports %s", file, path)
				}
			case arrow.bytes && !inTest,
				!slices.ContainsFunc(direct, func(m string) bool { return strings.HasPrefix(path, m+"/") }),
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
