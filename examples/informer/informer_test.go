package main

import (
	"context"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/internal/testutil"
)

// play runs the host on a simulated cluster, in virtual time.
func play(t *testing.T, script func(ctx context.Context, cluster *testutil.Cluster)) (stdout, stderr string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cluster := simulate("default").Cluster
		alive, stop := context.WithCancel(t.Context())
		ctx, interrupt := context.WithCancel(t.Context())
		stopped, ended := make(chan struct{}), make(chan struct{})
		go func() { defer close(stopped); _ = cluster.Run(alive) }()
		var out, err strings.Builder
		go func() {
			defer close(ended)
			if status := run(ctx, cluster.Config(), "default", &printer{out: &out, err: &err}); status != 0 {
				t.Errorf("exit status %d", status)
			}
		}()
		script(t.Context(), cluster)
		interrupt()
		<-ended
		stop()
		<-stopped
		stdout, stderr = out.String(), err.String()
	})
	return stdout, stderr
}

func TestEveryContainerGetsItsVerdictAndTheClusterOneWatchOfPods(t *testing.T) {
	stdout, _ := play(t, func(ctx context.Context, c *testutil.Cluster) {
		if err := show(ctx, c, "default"); err != nil {
			t.Error(err)
		}
		asked := map[string]int{}
		for _, r := range c.Requests() {
			if r.Verb == "list" || r.Verb == "watch" {
				asked[r.Verb+" "+r.Resource]++
			}
		}
		if asked["watch pods"] != 1 || asked["watch events"] != 1 || asked["list pods"] > 1 || asked["list events"] > 1 {
			t.Errorf("the API server was asked for %v", asked)
		}
	})
	got := slices.Sorted(strings.Lines(stdout))
	want := []string{
		"default/build: container \"lint\": exit code 0 (Completed)\n",
		"default/build: container \"test\": exit code 3 (Error)\n",
		"default/typo: container \"test\": image \"demo/shh\" was not found: " +
			"failed to resolve reference \"demo/shh\": demo/shh: not found (check the image's name and tag)\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("verdicts (-want +got):\n%s", diff)
	}
}

func TestTroubleIsTheHostsToNoticeAndTheVerdictsComeAllTheSame(t *testing.T) {
	stdout, stderr := play(t, func(ctx context.Context, c *testutil.Cluster) {
		time.Sleep(time.Second)
		c.Fault(func(*http.Request) testutil.Fault { return testutil.Fault{Status: http.StatusInternalServerError} })
		c.DropWatches(nil)
		time.Sleep(5 * time.Second)
		c.Fault(nil)
		time.Sleep(time.Minute)
		if err := show(ctx, c, "default"); err != nil {
			t.Error(err)
		}
	})
	if n := strings.Count(stdout, "\n"); n != 3 {
		t.Errorf("%d verdicts, want 3:\n%s", n, stdout)
	}
	for _, words := range []string{"the host's own informers: ", "the host's own handler: pod build is new"} {
		if !strings.Contains(stderr, words) {
			t.Errorf("stderr does not say %q:\n%s", words, stderr)
		}
	}
}

func TestWithoutAClusterItEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stdout, stderr strings.Builder
		if status := command(t.Context(), nil, &stdout, &stderr); status != 0 || strings.Count(stdout.String(), "\n") != 3 {
			t.Errorf("exit status %d, stdout:\n%s", status, stdout.String())
		}
	})
}

func TestBadUsageExitsWith2AndASentence(t *testing.T) {
	for want, args := range map[string][]string{
		"nope": {"-nope"}, `"x"`: {"x"}, "absent": {"-kubeconfig", filepath.Join(t.TempDir(), "absent")},
	} {
		var stdout, stderr strings.Builder
		if status := command(t.Context(), args, &stdout, &stderr); status != cli.Usage || !strings.Contains(stderr.String(), want) {
			t.Errorf("%q: exit status %d, stderr %q", args, status, stderr.String())
		}
	}
}
