package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/podwatch"
)

// check holds what the handlers of a pod heard against what the API server said.
func (s *stress) check(i int, l *life) {
	s.t.Helper()
	names := map[types.UID]string{l.pod.UID: "pod"}
	for n, r := range l.heard {
		who := fmt.Sprintf("pod %d, handler %d", i, n)
		if d := cmp.Diff([]string{"pod"}, ended(r, names)); d != "" {
			s.t.Errorf("%s: ends (-want +got):\n%s", who, d)
			continue
		}
		if n := len(r.pods(watch.Added)); n != 1 {
			s.t.Errorf("%s: added %d times", who, n)
		}
		if r.overlap {
			s.t.Errorf("%s: two calls at a time", who)
		}
		if !lastHeard(watch.Error, podwatch.Closed)(r.heard) {
			s.t.Errorf("%s: the last call was not Closed", who)
		}
		checkOrder(s.t, who, l.pod.UID, r.heard)
		checkLast(s.t, who, i, l, r.pods(watch.Deleted)[0])
	}
}

// checkLast checks a pod's last state. When its deletion went by unseen, that is
// the last one known.
func checkLast(t *testing.T, who string, i int, l *life, gone *corev1.Pod) {
	t.Helper()
	if l.real {
		end := gone.Status.ContainerStatuses[0].State.Terminated
		if end == nil || end.ExitCode != int32(exitCode(i)) {
			t.Errorf("%s: the step's end is %v, want exit code %d", who, end, exitCode(i))
		}
	}
	if unseen(gone) {
		return
	}
	if want := "word 2 of " + l.pod.Name; !l.real && gone.Status.Message != want {
		t.Errorf("%s: its last words were %q, want %q", who, gone.Status.Message, want)
	}
	if l.last != nil {
		if d := cmp.Diff(l.last.Status, gone.Status); d != "" {
			t.Errorf("%s: the last state (-the API server's +the handler's):\n%s", who, d)
		}
	}
}

// unseen reports whether a pod's deletion went by unseen, by its last known state.
func unseen(gone *corev1.Pod) bool { return gone.DeletionTimestamp == nil }

// checkOrder checks that no version of a pod came twice and none behind a newer
// one, that Stale and Fresh took turns, and that no other pod's Event came.
func checkOrder(t *testing.T, who string, uid types.UID, heard []watch.Event) {
	t.Helper()
	version, stale := 0, false
	for _, ev := range heard {
		switch o := ev.Object.(type) {
		case *corev1.Event:
			if o.InvolvedObject.UID != uid {
				t.Errorf("%s: heard an Event about %v", who, o.InvolvedObject)
			}
		case *corev1.Pod:
			now := 0
			if _, err := fmt.Sscan(o.ResourceVersion, &now); err != nil {
				t.Fatal(err)
			}
			if now < version || now == version && ev.Type != watch.Deleted {
				t.Errorf("%s: %s version %d behind version %d", who, ev.Type, now, version)
			}
			version = now
		case *metav1.Status:
			switch was := stale; o.Reason {
			case podwatch.Stale, podwatch.Fresh:
				if stale = o.Reason == podwatch.Stale; stale == was {
					t.Errorf("%s: %s twice", who, o.Reason)
				}
			case podwatch.Closed:
			default:
				t.Errorf("%s: heard %s", who, o.Reason)
			}
		}
	}
}

// checkWatches holds the own watcher's lists and watches, by the API server's log,
// against what it promises.
func (s *stress) checkWatches(killed, parted time.Time) {
	t, lists := s.t, 0
	all := audited(t, s.cluster, "own-informers")
	for _, r := range all {
		if r.Query.Has("sendInitialEvents") {
			t.Errorf("a request asks for initial events: %+v", r)
		}
		if !slices.Contains([]string{"list", "watch", "get"}, r.Verb) || !slices.Contains([]string{"pods", "events"}, r.Resource) || r.Subresource != "" {
			t.Errorf("an unexpected request: %+v", r)
		}
	}
	once, resumed, anew := []string{"list", "watch"}, []string{"watch"}, []string{"watch", "list", "watch"}
	for _, resource := range []string{"pods", "events"} {
		asked := func(from, to time.Time) []string {
			said := verbsAsked(all, resource, from, to)
			return slices.DeleteFunc(said, func(verb string) bool { return verb == "get" })
		}
		if d := cmp.Diff(once, asked(time.Time{}, killed)); d != "" {
			t.Errorf("requests for %s until the API server was killed (-want +got):\n%s", resource, d)
		}
		// Whether there is something to list depends on what came between the
		// watch's last word and the kill.
		again := asked(killed, parted)
		if !slices.Equal(again, resumed) && !slices.Equal(again, anew) {
			t.Errorf("requests for %s after the API server was killed: %v, want %v or %v", resource, again, resumed, anew)
		}
		lists += len(again) / 2
		if d := cmp.Diff(anew, asked(parted, time.Now())); d != "" {
			t.Errorf("requests for %s after the history was gone (-want +got):\n%s", resource, d)
		}
		lists++
	}
	if got := s.own.Stats(); got.Relists != uint64(lists) || got.Expired < 2 || got.Stale || got.Tracked != 0 || got.Dropped != 0 {
		t.Errorf("%+v, want %d Relists, those of the lost history among them, and nothing left", got, lists)
	}
}

// checkGets checks that the only GETs of pods are those of Confirm, which is
// called for real pods, and one of each pod whose deletion the handler did not see.
func (s *stress) checkGets(userAgent string, lives []*life, handler int) {
	s.t.Helper()
	type span struct{ Least, Most int }
	want := map[string]span{}
	for _, l := range lives {
		var n span
		if l.real && handler == 0 {
			n = span{1, l.confirms}
		}
		if unseen(l.heard[handler].pods(watch.Deleted)[0]) {
			n.Least, n.Most = n.Least+1, n.Most+1
		}
		want[l.pod.Name] = n
	}
	var wrong []string
	for range 20 { // The server answers before it writes its log.
		got := map[string]int{}
		for _, r := range audited(s.t, s.cluster, userAgent) {
			if r.Verb == "get" && r.Code < 500 && r.Code != 429 {
				got[r.Name]++
			}
		}
		wrong = nil
		for name, n := range want {
			if got[name] < n.Least || got[name] > n.Most {
				wrong = append(wrong, fmt.Sprintf("%d of %s, want %v", got[name], name, n))
			}
			delete(got, name)
		}
		for name, n := range got {
			wrong = append(wrong, fmt.Sprintf("%d of %s, want none", n, name))
		}
		if len(wrong) == 0 {
			return
		}
		after(s.t, 100*time.Millisecond)
	}
	s.t.Errorf("GETs by %s: %s", userAgent, strings.Join(wrong, "; "))
}
