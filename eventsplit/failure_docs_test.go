package eventsplit

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// cause is one place where Kubernetes says that something is wrong.
type cause struct {
	source string
	class  Class
}

// failedEvents are Events of the kubelet's reasons Failed and BackOff, which only the message
// tells apart.
var failedEvents = []corev1.Event{
	{Reason: "Failed", Message: `Failed to pull image "img": EOF`},
	{Reason: "Failed", Message: `Error: secret "build" not found`},
	{Reason: "Failed", Message: "Error: failed to start container"},
	{Reason: "Failed", Message: "Error: context deadline exceeded"},
	{Reason: "Failed", Message: "error making pod data directories: disk full"},
	{Reason: "BackOff", Message: "Back-off restarting failed container"},
	{Reason: "BackOff", Message: `Back-off pulling image "img"`},
}

// ownerRefusals are reasons for which a Job cannot create its pod.
var ownerRefusals = []string{
	`exceeded quota: compute, requested: cpu=2, used: cpu=3, limited: cpu=4`, `admission webhook "w" denied the request: no`,
	`violates PodSecurity "restricted:latest": privileged`, `pods "x-" is forbidden: no`, `Pod "x-" is invalid: spec`,
	`failed calling webhook "w": dial tcp: connection refused`, `no idea`,
}

// everyCause returns everything that this package can say, class by source, from the package's
// own tables.
func everyCause() map[cause]bool {
	all := map[cause]bool{}
	for reason := range waitingReasons {
		all[cause{"waiting reason of a container", classifyWaiting(reason, "").Class}] = true
	}
	all[cause{"waiting reason of a container", classifyWaiting("Strange", "").Class}] = true
	for e := range everyEvent() {
		f, _ := classifyEvent(&e)
		switch {
		case isDisruption(f.Class):
			all[cause{"announced end (Event)", f.Class}] = true
		default:
			all[cause{"Event of a container", f.Class}] = true
			all[cause{"Event of the pod", f.Class}] = true
		}
	}
	for _, message := range ownerRefusals {
		all[cause{"Event of the owner", ownerFailure(metav1.Now(), message).Class}] = true
	}
	for _, class := range disruptionClasses {
		all[cause{"condition DisruptionTarget", class}] = true
	}
	all[cause{"condition PodScheduled", ClassUnschedulable}] = true
	all[cause{"phase Unknown", ClassNodeLost}] = true
	all[cause{"reason of a pending pod", ClassRejected}] = true
	for _, class := range podReasons {
		all[cause{"reason of a failed pod", class}] = true
	}
	all[cause{"reason of a failed pod", ClassOther}] = true
	return all
}

// everyEvent yields one Event of each kind that tells of a trouble.
func everyEvent() func(yield func(corev1.Event) bool) {
	return func(yield func(corev1.Event) bool) {
		events := slices.Clone(failedEvents)
		for _, reason := range slices.Sorted(maps.Keys(eventReasons)) {
			events = append(events, corev1.Event{Reason: reason, Message: "words"})
		}
		for _, e := range events {
			if e.Type = corev1.EventTypeWarning; isNormalTrouble(e.Reason) {
				e.Type = corev1.EventTypeNormal
			}
			if !yield(e) {
				return
			}
		}
	}
}

func TestTheDocsSayWhenEachCauseIsOver(t *testing.T) {
	docs, err := os.ReadFile("../docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(docs), "## When a cause is over")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := map[cause]int{}
	for line := range strings.Lines(table) {
		cell := strings.Split(line, " | ")
		if len(cell) != 4 || strings.HasPrefix(line, "| source") || strings.HasPrefix(line, "| ---") {
			continue
		}
		source := strings.TrimPrefix(cell[0], "| ")
		for class := range strings.SplitSeq(cell[1], ", ") {
			c := cause{source, Class(class)}
			if rows[c]++; rows[c] > 1 {
				t.Errorf("two rows for %s of the %s", c.class, c.source)
			}
			if minutes := fmt.Sprintf("%d min |", lapse(c.class)/time.Minute); source == "Event of the pod" && c.class != ClassImagePull && !strings.HasPrefix(cell[3], minutes) {
				t.Errorf("the row of %s of the %s says %q, the code %q", c.class, c.source, cell[3], minutes)
			}
		}
	}
	all := everyCause()
	for c := range all {
		if rows[c] == 0 {
			t.Errorf("no row says when %s of the %s is over", c.class, c.source)
		}
	}
	for c := range rows {
		if !all[c] {
			t.Errorf("a row for %s of the %s, which is never said", c.class, c.source)
		}
	}
}

// What an Event of the pod says counts until a fixed time after its newest repetition, and no
// longer. An Event that announces an end does not explain a deletion long after it.
func TestWhatAnEventOfThePodSaysLapses(t *testing.T) {
	for e := range everyEvent() {
		f, _ := classifyEvent(&e)
		t.Run(e.Reason+" "+string(f.Class), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				never := func(*Failure) (time.Duration, bool) { return 0, false }
				s := New(testNS, testPod, Options{Policy: never})
				defer s.Close()
				p := podOf(mounts("a", "img"))
				p.ResourceVersion = ""
				s.Handle(modified(p.DeepCopy()))
				tell := func(count int32) {
					again := e
					again.UID, again.Count = types.UID("e"), count
					again.InvolvedObject = corev1.ObjectReference{Kind: "Pod", Namespace: testNS, Name: testPod}
					again.LastTimestamp = metav1.Now()
					s.Handle(watch.Event{Type: watch.Added, Object: &again})
				}
				tell(1)
				time.Sleep(2 * time.Minute)
				tell(2)
				if isDisruption(f.Class) {
					time.Sleep(announcementLapse + time.Second)
					p.DeletionTimestamp = &metav1.Time{Time: time.Now()}
					s.Handle(modified(p.DeepCopy()))
					if st := s.State(""); classOf(st.Failure) != ClassDeleted {
						t.Errorf("deleted long after: %s", stateText(st))
					}
					return
				}
				ofPod := f.Class != ClassImagePull // else it concerns the container that mounts the image
				time.Sleep(lapse(f.Class) - time.Second)
				synctest.Wait()
				if st := s.State(""); (classOf(st.Waiting) == f.Class) != ofPod {
					t.Errorf("before it lapses: %s", stateText(st))
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				for _, slot := range []string{"", "a", "b"} {
					if st := s.State(slot); classOf(st.Waiting) == f.Class || st.Failure != nil {
						t.Errorf("after it has lapsed: %s", stateText(st))
					}
				}
			})
		})
	}
}
