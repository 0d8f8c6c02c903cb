package cluster

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"
)

func TestNothingStartsWhileItIsToBeQuiet(t *testing.T) {
	cache := t.TempDir()
	c := &Cluster{state: state{Programs: filepath.Join(cache, "key")}}
	release, err := Quiet(t.Context(), cache)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.starting(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a start in the quiet: %v, want it to wait", err)
	}
	release()
	for range 2 { // side by side
		started, err := c.starting(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer started()
	}
	ctx, cancel = context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := Quiet(ctx, cache); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("quiet while something starts: %v, want it to wait", err)
	}
}
