package logstream

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// A run may end at the moment in which its reader begins to wait for more of it. The
// reader waits for the next run then, and for nothing that has passed. What makes the
// moment long here is that the reader looks through a list of gaps in it.
func TestAReaderMissesNoRunThatFollowsAtOnce(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s := New(nil, Options{})
	gaps := make([]gapMark, 1<<14)
	for i := range gaps {
		gaps[i].at = 1 << 40
	}
	for i := range 30 {
		c := s.Pod("n", "p", nil)
		first, second := newRun(c, "a", "a1", 0), newRun(c, "a", "a2", 1)
		first.log.gaps, c.order = gaps, []*run{first, second}
		r := c.Reader(ctx, "a", ReadOptions{})
		read, reading := make(chan error, 1), atomic.Bool{}
		go func() {
			reading.Store(true)
			_, err := r.Read(make([]byte, 1))
			read <- err
		}()
		for !reading.Load() {
			runtime.Gosched()
		}
		first.log.finish(Verified, "")
		for !waits(&second.log) && len(read) == 0 && ctx.Err() == nil {
			runtime.Gosched()
		}
		second.log.write([]byte("x\n"))
		second.log.commit(2, 0, span{}, 0, true)
		if err := <-read; err != nil {
			t.Fatalf("round %d: %v", i, err)
		}
	}
}

func waits(l *runLog) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0
}
