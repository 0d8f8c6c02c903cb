package main

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/go-vela/podlife/e2e/cluster"
)

func TestBadUsageIsToldFromFailure(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "none")
	for name, test := range map[string]struct {
		args []string
		want error
	}{
		"nothing":             {nil, errUsage},
		"unknown command":     {[]string{"start"}, errUsage},
		"unknown flag":        {[]string{"up", "-fast"}, errUsage},
		"operand too many":    {[]string{"down", "now"}, errUsage},
		"no component":        {[]string{"restart", "-kill"}, errUsage},
		"flag after operand":  {[]string{"restart", "kubelet", "-kill", "-state", empty}, cluster.ErrNotUp},
		"status of nothing":   {[]string{"status", "-state", empty}, cluster.ErrNotUp},
		"nothing to end":      {[]string{"down", "-state", empty}, nil},
		"nothing to end, dir": {[]string{"down", "-state", t.TempDir()}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if err := run(t.Context(), test.args); !errors.Is(err, test.want) {
				t.Errorf("cluster %q: got %v, want %v", test.args, err, test.want)
			}
		})
	}
}
