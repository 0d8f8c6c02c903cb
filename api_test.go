package podlife_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/printer"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/api.txt anew")

// packages are what users import.
var packages = []string{"podwatch", "eventsplit", "logstream"}

var layout = printer.Config{Mode: printer.UseSpaces, Tabwidth: 4}

const golden = "docs/api.txt"

// The exported API is a promise: whoever changes it changes the golden file in
// the same commit, where a reviewer sees it.
func TestExportedAPIIsTheGoldenOne(t *testing.T) {
	var got bytes.Buffer
	for _, p := range packages {
		writeAPI(t, &got, p)
	}
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("the exported API differs from %s; if that is meant: go test -run %s . -update (-want +got)\n%s", golden, t.Name(), diff)
	}
}

// writeAPI prints the exported declarations of a package, without comments and
// bodies, in the order of go doc.
func writeAPI(t *testing.T, w *bytes.Buffer, dir string) {
	t.Helper()
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range sources(t, dir) {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	p, err := doc.NewFromFiles(fset, files, dir)
	if err != nil {
		t.Fatal(err)
	}
	show := func(node ast.Node) {
		if f, ok := node.(*ast.FuncDecl); ok {
			f.Body = nil
		}
		var b bytes.Buffer
		if err := layout.Fprint(&b, fset, node); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String() + "\n") {
			if strings.TrimSpace(line) != "" { // where a comment stood
				w.WriteString(line)
			}
		}
	}
	values := func(vs []*doc.Value) {
		for _, v := range vs {
			show(v.Decl)
		}
	}
	funcs := func(fs []*doc.Func) {
		for _, f := range fs {
			show(f.Decl)
		}
	}
	w.WriteString("package " + p.Name + "\n\n")
	values(p.Consts)
	values(p.Vars)
	funcs(p.Funcs)
	for _, typ := range p.Types {
		show(typ.Decl)
		values(typ.Consts)
		values(typ.Vars)
		funcs(typ.Funcs)
		funcs(typ.Methods)
	}
	w.WriteByte('\n')
}

// sources returns the Go files directly in dir.
func sources(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no Go files in %s (%v)", dir, err)
	}
	return names
}

// goFiles returns every Go file of this module: e2e is another one.
func goFiles(t *testing.T) (files []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "e2e" || d.Name() == "testdata" || path != "." && strings.HasPrefix(d.Name(), ".")):
			return fs.SkipDir
		case strings.HasSuffix(path, ".go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
