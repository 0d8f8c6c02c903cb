package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-vela/podlife/examples/internal/cli"
)

const good = `
name: hello
placeholder: pause
steps:
  - name: one
    image: demo/echo
    commands: [a, b]
`

func TestAPipelineFileIsReadWhole(t *testing.T) {
	p, err := parsePipeline([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "hello" || p.Placeholder != "pause" || len(p.Steps) != 1 || p.Steps[0].Image != "demo/echo" || len(p.Steps[0].Commands) != 2 {
		t.Errorf("got %+v", p)
	}
}

func TestABadPipelineIsRefusedInOneSentenceThatNamesTheFault(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"not YAML":             {"steps: [", "not YAML"},
		"not a pipeline":       {"- a\n- b", "not a pipeline"},
		"a misspelt key":       {strings.Replace(good, "commands", "command", 1), `"command"`},
		"no name":              {strings.Replace(good, "name: hello", "", 1), "name is missing"},
		"a name with a space":  {strings.Replace(good, "hello", "hello world", 1), `"hello world"`},
		"a name too long":      {strings.Replace(good, "hello", strings.Repeat("h", 60), 1), "longer than 57"},
		"no placeholder":       {strings.Replace(good, "placeholder: pause", "", 1), "placeholder is missing"},
		"nothing at all":       {"", "name is missing"},
		"no steps":             {"name: a\nplaceholder: b\nsteps: []", "steps is empty"},
		"a step without name":  {strings.Replace(good, "name: one", "name:", 1), "steps[0].name is missing"},
		"a step without image": {strings.Replace(good, "image: demo/echo", "", 1), `step "one" has no image`},
		"two steps of a name":  {good + "  - name: one\n    image: x\n", `two steps are called "one"`},
		"the placeholder's":    {strings.Replace(good, "demo/echo", "pause", 1), "placeholder's image"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parsePipeline([]byte(c.file))
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one sentence with %q", err, c.want)
			}
		})
	}
}

func TestBadUsageExitsWith2AndASentence(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	pipeline := file("good.yaml", good)
	noServer := file("noserver", `{"apiVersion":"v1","kind":"Config","current-context":"c",
		"contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}],"clusters":[{"name":"k","cluster":{}}],"users":[{"name":"u","user":{}}]}`)
	noCA := file("noca", `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"k","user":"u"}}],
		"clusters":[{"name":"k","cluster":{"server":"https://127.0.0.1:1","certificate-authority-data":"Zm9v"}}],"users":[{"name":"u","user":{}}]}`)
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":             {[]string{"-nope"}, "nope"},
		"an argument":                 {[]string{"x"}, `"x"`},
		"an output that is none":      {[]string{"-o", "yaml"}, `"yaml"`},
		"no time":                     {[]string{"-timeout", "0s"}, "positive"},
		"a file that is not there":    {[]string{"-f", filepath.Join(dir, "none.yaml")}, "none.yaml"},
		"a file that is no pipeline":  {[]string{"-f", file("bad.yaml", "steps: [")}, "bad.yaml"},
		"a cluster without pipeline":  {[]string{"-kubeconfig", noServer}, "-f"},
		"a kubeconfig not there":      {[]string{"-kubeconfig", filepath.Join(dir, "none"), "-f", pipeline}, "none"},
		"a kubeconfig without server": {[]string{"-kubeconfig", noServer, "-f", pipeline}, "server"},
		"a certificate that is none":  {[]string{"-kubeconfig", noCA, "-f", pipeline}, "certificate"},
		"an empty kubeconfig":         {[]string{"-kubeconfig", file("empty", ""), "-f", pipeline}, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			if status := command(t.Context(), c.args, &stdout, &stderr); status != cli.Usage {
				t.Errorf("exit status %d, want %d", status, cli.Usage)
			}
			if !strings.Contains(stderr.String(), c.want) || stdout.Len() > 0 {
				t.Errorf("stderr %q, stdout %q; want %q on stderr alone", stderr.String(), stdout.String(), c.want)
			}
		})
	}
}
