package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/go-vela/podlife/examples/internal/cli"
)

func TestTheBuiltInShowEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stdout, stderr strings.Builder
		if status := command(t.Context(), nil, &stdout, &stderr); status != 0 {
			t.Errorf("exit status %d", status)
		}
		for _, want := range []string{"web migrate#0 | done", "web proxy#0 | proxy up", "flaky worker#1 | starting", "moment only#0 | alive", "GET /favicon.ico"} {
			if strings.Count(stdout.String(), want) != 1 {
				t.Errorf("not once on stdout: %q\n%s", want, stdout.String())
			}
		}
		for _, want := range []string{"simulated", "demo/shh", "the log is read again", "0 incomplete"} {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("not on stderr: %q\n%s", want, stderr.String())
			}
		}
	})
}

func TestBadUsageExitsWith2AndASentence(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":         {[]string{"-nope"}, "nope"},
		"an argument":             {[]string{"x"}, `"x"`},
		"an output that is none":  {[]string{"-o", "yaml"}, `"yaml"`},
		"a selector that is none": {[]string{"-l", "=="}, `"=="`},
		"a kubeconfig not there":  {[]string{"-kubeconfig", empty + "-not"}, "empty-not"},
		"an empty kubeconfig":     {[]string{"-kubeconfig", empty}, "empty"},
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
