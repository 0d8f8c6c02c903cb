package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// witness is a handler that keeps what it hears.
type witness struct {
	delay time.Duration // before each: a slow handler

	mu      sync.Mutex
	heard   []watch.Event
	inside  int
	overlap bool // two calls at a time
	changed chan struct{}
}

func newWitness() *witness { return &witness{changed: make(chan struct{})} }

func (r *witness) Handle(ev watch.Event) {
	r.mu.Lock()
	r.inside++
	r.overlap = r.overlap || r.inside > 1
	r.mu.Unlock()
	if r.delay > 0 {
		<-time.After(r.delay)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inside--
	r.heard = append(r.heard, ev)
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *witness) so(cond func([]watch.Event) bool) (met bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return cond(r.heard), r.changed
}

// wait waits until cond holds of all that was heard.
func (r *witness) wait(ctx context.Context, what string, cond func([]watch.Event) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		met, changed := r.so(cond)
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w; heard %v", what, ctx.Err(), r.story(nil))
		}
	}
}

func (r *witness) await(t *testing.T, what string, cond func([]watch.Event) bool) {
	t.Helper()
	if err := r.wait(t.Context(), what, cond); err != nil {
		t.Fatal(err)
	}
}

// story returns what was heard of pods and of the watch, a line each. names
// gives UIDs names. A version behind another one of its pod is left out: how many
// there are depends on the handler's pace.
func (r *witness) story(names map[types.UID]string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lines []string
	var previous types.UID // of the pod whose version was the last line
	for _, ev := range r.heard {
		line := ""
		var p *corev1.Pod
		switch o := ev.Object.(type) {
		case *corev1.Pod:
			p, line = o, strings.TrimSpace(string(ev.Type)+" "+names[o.UID])
		case *metav1.Status:
			line = string(o.Reason)
		default:
			continue
		}
		if p != nil && ev.Type == watch.Modified && p.UID == previous {
			continue
		}
		previous = ""
		if p != nil && ev.Type != watch.Deleted {
			previous = p.UID
		}
		lines = append(lines, line)
	}
	return lines
}

func (r *witness) want(t *testing.T, names map[types.UID]string, lines ...string) {
	t.Helper()
	if d := cmp.Diff(lines, r.story(names)); d != "" {
		t.Errorf("the handler heard (-want +got):\n%s", d)
	}
}

// pods returns the versions of pods that were heard, with how.
func (r *witness) pods(typ watch.EventType) (all []*corev1.Pod) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ev := range r.heard {
		if p, ok := ev.Object.(*corev1.Pod); ok && ev.Type == typ {
			all = append(all, p)
		}
	}
	return all
}

// lastHeard holds when the newest of pods and statuses that was heard is of this type
// and, for a status, has this reason.
func lastHeard(typ watch.EventType, reason metav1.StatusReason) func([]watch.Event) bool {
	return func(heard []watch.Event) bool {
		for _, ev := range slices.Backward(heard) {
			switch o := ev.Object.(type) {
			case *corev1.Pod:
				return ev.Type == typ
			case *metav1.Status:
				return typ == watch.Error && o.Reason == reason
			}
		}
		return false
	}
}

func anyPod(cond func(watch.EventType, *corev1.Pod) bool) func([]watch.Event) bool {
	return func(heard []watch.Event) bool {
		for _, ev := range heard {
			if p, ok := ev.Object.(*corev1.Pod); ok && cond(ev.Type, p) {
				return true
			}
		}
		return false
	}
}

func hasReason(reason metav1.StatusReason) func([]watch.Event) bool {
	return func(heard []watch.Event) bool {
		for _, ev := range heard {
			if s, ok := ev.Object.(*metav1.Status); ok && s.Reason == reason {
				return true
			}
		}
		return false
	}
}
