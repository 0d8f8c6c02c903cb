package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/podwatch"
)

// shown notes when the watch first showed a container ID of each of so many slots. It is
// a pod's first handler.
type shown struct {
	slots int

	mu sync.Mutex
	at time.Time
}

func (s *shown) Handle(ev watch.Event) {
	pod, ok := ev.Object.(*corev1.Pod)
	if !ok || ev.Type == watch.Deleted {
		return
	}
	n := 0
	for i := range pod.Status.ContainerStatuses {
		if pod.Status.ContainerStatuses[i].ContainerID != "" {
			n++
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n == s.slots && s.at.IsZero() {
		s.at = time.Now()
	}
}

// What a swap of all slots that is asked for at once waits for is the node, not us.
func TestTheFirstPatchFollowsTheStatusThatShowsTheLastPlaceholder(t *testing.T) {
	s := ownSite(t, cluster.Config{})
	w, err := podwatch.New(s.client, podwatch.Options{Namespace: namespace, Events: podwatch.EventsRequired})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, w.Run)
	if err := w.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, busy := range []int{0, 2} {
		for _, slots := range []int{1, 3, 10} {
			var whole, ours []time.Duration
			for range 3 {
				var load []*corev1.Pod
				for i := range busy { // other builds of ten that begin meanwhile
					load = append(load, swappable(fmt.Sprintf("load%d", i), 10))
				}
				a, b := firstPatch(t, s, w, load, slots)
				whole, ours = append(whole, a), append(ours, b)
			}
			t.Logf("%2d placeholders, beside %d pods of 10 that start: create to patch: %s; of that, status to patch: %s",
				slots, busy, spread(whole), spread(ours))
			slices.Sort(ours)
			if m := ours[len(ours)/2]; m > time.Second { // a machine that does much else is not to fail
				t.Errorf("%d placeholders: the patch comes %s after the status that shows the last one", slots, m)
			}
		}
	}
}

func swappable(name string, slots int) *corev1.Pod {
	var all []corev1.Container
	for i := range slots {
		all = append(all, slot(fmt.Sprintf("s%d", i), "sleep", "600"))
	}
	return newPod(name, all...)
}

// firstPatch returns how long it was from create to the patch, and from the status that
// shows the last placeholder.
func firstPatch(t *testing.T, s site, w *podwatch.Watcher, load []*corev1.Pod, slots int) (whole, ours time.Duration) {
	t.Helper()
	pod := swappable("first", slots)
	split := eventsplit.New(pod.Namespace, pod.Name, eventsplit.Options{Placeholder: func(string) bool { return true }})
	defer split.Close()
	last := &shown{slots: slots}
	track, err := w.Track(pod.Namespace, pod.Name, last, split)
	if err != nil {
		t.Fatal(err)
	}
	defer track.Close()
	t.Run("", func(t *testing.T) { // whose end deletes the pods
		for _, p := range load {
			createOn(t, s.client, p)
		}
		begin := time.Now()
		pod = createOn(t, s.client, pod)
		track.Created(pod)
		var patched time.Time
		var images, names []string
		for _, c := range pod.Spec.Containers {
			names, images = append(names, c.Name), append(images, c.Name+"="+*busyboxImage)
		}
		err := split.Swap(t.Context(), func(ctx context.Context) (*corev1.Pod, error) {
			patched = time.Now()
			return patchImages(ctx, s.client, pod, images...)
		}, names...)
		if err != nil {
			t.Fatal(err)
		}
		last.mu.Lock()
		defer last.mu.Unlock()
		whole, ours = patched.Sub(begin), patched.Sub(last.at)
	})
	return whole, ours
}
