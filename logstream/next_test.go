package logstream

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
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

// What nobody can know ends nobody's wait, but for the reader's ctx; a refusal is known.
func TestAReaderThatWaitsForARunEndsWithTheWordsOfARefusedWatch(t *testing.T) {
	const words = `list pods in namespace "n": pods is forbidden: User "worker" cannot list resource "pods"`
	for reason, code := range map[metav1.StatusReason]int32{metav1.StatusReasonForbidden: 403, metav1.StatusReasonUnauthorized: 401} {
		refusal := watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: reason, Code: code, Message: words}}
		fresh := watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: reasonFresh}}
		for name, before := range map[string]bool{"begins before it": true, "begins after it": false} {
			for text, seen := range map[string]bool{"": false, "one\n": true} {
				t.Run(fmt.Sprint(reason, " ", name, " ", seen), func(t *testing.T) {
					inBubble(t, Options{}, nil, func(b *bench) {
						b.p = newPod(corev1.RestartPolicyAlways, "a")
						if seen {
							b.run("a", "a1", "one")
							b.drain()
						}
						if !before {
							b.c.Handle(refusal)
						}
						ended := make(chan error, 1)
						go func() {
							got, err := b.readAll("a", ReadOptions{})
							if got != text {
								t.Errorf("read %q", got)
							}
							ended <- err
						}()
						synctest.Wait()
						if before {
							b.c.Handle(refusal)
						}
						err, status := <-ended, apierrors.APIStatus(nil)
						if !errors.As(err, &status) || status.Status().Code != code || !strings.Contains(err.Error(), words) {
							t.Errorf("ends with %v", err)
						}
						b.c.Handle(fresh)
						ctx, cancel := context.WithTimeout(b.ctx, time.Hour)
						defer cancel()
						if got, err := b.readAllIn(ctx, "a", ReadOptions{}); got != text || !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("after it was taken back: read %q, %v", got, err)
						}
					})
				})
			}
		}
	}
}

func TestAReaderOfNoContainerEndsAtOnce(t *testing.T) {
	for name, o := range map[string]ReadOptions{"": {}, "from the end": {FromEnd: true}, "a snapshot": {Snapshot: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{}, nil, func(b *bench) {
				b.begin("a", "a1", "one")
				if text, err := b.readAll("", o); text != "" || !errors.Is(err, errNoSlot) {
					t.Errorf("read %q, %v", text, err)
				}
				for _, err := range b.c.Reader(b.ctx, "", o).Lines() {
					if !errors.Is(err, errNoSlot) {
						t.Errorf("a line, %v", err)
					}
				}
			})
		})
	}
}
