package e2e

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-vela/podlife/internal/testutil"
)

// The simulated cluster, which the library's other tests run on, tells the stories
// that the real one told, as far as it can play them: what is to become of each
// slot, and the timelines of the golden traces recorded on the real one.
func TestTheSimulatedClusterTellsTheRealOnesStories(t *testing.T) {
	t.Parallel()
	for _, s := range slices.Concat(swapStories(t), endStories(), plainStories(t)) {
		if s.real {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := testutil.New(testutil.Options{
					Images: map[string]testutil.Program{*pauseImage: testutil.Pause, "podlife.test/pause": testutil.Pause, *busyboxImage: simulatedShell},
					Pull:   pullSimulated,
				})
				runUntilCleanup(t, c.Run)
				s.runOn(t, c.Client(), false)
			})
		})
	}
}

// simulatedShell is busybox, which as PID 1 does not hear a SIGTERM while it sleeps.
func simulatedShell(ctx context.Context, args []string, out io.Writer) int {
	switch {
	case slices.Equal(args, []string{"sleep", "300"}):
		return testutil.Deaf(ctx, args, out)
	case slices.Equal(args, []string{"sh", "-c", untilTold}):
		return testutil.Pause(ctx, args, out)
	}
	return testutil.Shell(ctx, args, out)
}

// pullSimulated has the images that a node of the real cluster has.
func pullSimulated(image string) (time.Duration, error) {
	if image == *busyboxImage || image == *pauseImage || image == "podlife.test/pause:2" {
		return 0, nil
	}
	return 0, fmt.Errorf("failed to pull and unpack image %q: failed to do request: dial tcp 127.0.0.1:1: connect: connection refused", image)
}
