package eventsplit

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/internal/podstatus"
)

const (
	ofPlaceholder = "placeholder"
	ofStep        = "step"
	ofEither      = "unknown"
)

// inheritance is one row of the table in doc.go: what a Splitter that was made after the patch
// finds, and what may restart the container.
type inheritance struct {
	policy corev1.RestartPolicy
	rules  string // "", "own": of the container, on exit code 1; "all": of another one, on 88
	last   string // what ended before the run in question: "", "0", "1", "gone"
	count  int32  // the restartCount of the run in question
	image  string // its imageID, compared with that of the run before: "same", "other", ""
	spec   string // "patched": the patch was seen; ""
}

// restartable is the rule of the kubelet, written out at length.
func (c inheritance) restartable() bool {
	switch {
	case c.rules == "all", c.last == "gone", c.policy == corev1.RestartPolicyAlways, c.policy == "":
		return true
	case c.last == "":
		return c.policy == corev1.RestartPolicyOnFailure || c.rules == "own"
	case c.last == "1":
		return c.policy == corev1.RestartPolicyOnFailure || c.rules == "own"
	}
	return false
}

func (c inheritance) pod(image string) *corev1.Pod {
	p := onePod("", "a", "b")
	p.Spec.RestartPolicy, p.Spec.Containers[0].Image = c.policy, image
	never := corev1.ContainerRestartPolicyNever
	switch c.rules {
	case "own":
		onlyOn(&p.Spec.Containers[0], 1, corev1.ContainerRestartRuleActionRestart)
		p.Spec.Containers[0].RestartPolicy = nil
		if c.policy == corev1.RestartPolicyNever {
			p.Spec.Containers[0].RestartPolicy = &never
		}
	case "all":
		onlyOn(&p.Spec.Containers[1], 88, corev1.ContainerRestartRuleActionRestartAllContainers)
	}
	return p
}

func (c inheritance) lastState() corev1.ContainerState {
	switch c.last {
	case "gone":
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: podstatus.ReasonStatusUnknown}}
	case "":
		return corev1.ContainerState{}
	}
	return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: "P", ExitCode: int32(c.last[0] - '0')}}
}

func eachInheritance(images, specs []string, f func(inheritance)) {
	for _, policy := range []corev1.RestartPolicy{corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure, corev1.RestartPolicyAlways, ""} {
		for _, rules := range []string{"", "own", "all"} {
			for _, last := range []string{"", "0", "1", "gone"} {
				for _, image := range images {
					for _, spec := range specs {
						for count := range int32(3) {
							f(inheritance{policy, rules, last, count, image, spec})
						}
					}
				}
			}
		}
	}
}

// A Splitter that was made after the image was patched has only the status. It never confuses
// the two runs: where the owner cannot be known, there is no outcome.
func TestOwnerOfTheFirstRunThatALateSplitterSees(t *testing.T) {
	eachInheritance([]string{"same"}, []string{""}, func(c inheritance) {
		want := ofEither
		switch {
		case c.count == 0 && (c.last == "" || c.last == "gone"):
			want = ofPlaceholder // every first run is a placeholder
		case !c.restartable():
			want = ofStep
		}
		p := c.pod("step")
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{
			Name: "a", ContainerID: "X", ImageID: "i", RestartCount: c.count, LastTerminationState: c.lastState(),
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			checkWhose(t, want, "X", p)
		})
		if c.count == 0 || c.last != "gone" {
			return
		}
		t.Run(fmt.Sprintf("%+v, and it waits at first", c), func(t *testing.T) {
			waiting := p.DeepCopy()
			st := &waiting.Status.ContainerStatuses[0]
			st.ContainerID, st.ImageID, st.State = "", "", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
			checkWhose(t, want, "X", waiting, p)
		})
	})
}

// The run is the one after the placeholder that a late Splitter saw running.
func TestOwnerOfTheRunAfterAPlaceholderThatALateSplitterSaw(t *testing.T) {
	eachInheritance([]string{"same", "other", ""}, []string{"", "patched"}, func(c inheritance) {
		want := ofEither
		switch {
		case !c.restartable(), c.image == "other", c.spec == "patched" && c.image == "":
			want = ofStep
		}
		if c.count == 0 {
			return // a second run has a restartCount
		}
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			before := c.pod("step")
			if c.spec == "patched" {
				before = c.pod("pause")
			}
			imageID := map[string]string{"same": "i", "other": "j"}[c.image]
			before.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name: "a", ContainerID: "P", ImageID: "i", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}}
			after := c.pod("step")
			after.Status.ContainerStatuses = []corev1.ContainerStatus{{
				Name: "a", ContainerID: "X", ImageID: imageID, RestartCount: c.count, LastTerminationState: c.lastState(),
				State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}}
			checkWhose(t, want, "X", before, after)
		})
	})
}

// The kubelet may restart the placeholder from the old image after a patch was stored (real
// kubelet, v1.37: 25 of 36 placeholders that ended by themselves within a second of the patch).
// A Splitter that made the swap takes none of these runs for the step.
func TestOwnerOfTheRunAfterASwap(t *testing.T) {
	eachInheritance([]string{"same", "other", ""}, []string{""}, func(c inheritance) {
		if c.count != 1 {
			return
		}
		want := ofStep
		if c.restartable() && c.image == "same" {
			want = ofEither
		}
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(testNS, testPod, Options{Placeholder: func(slot string) bool { return slot == "a" }})
				defer s.Close()
				s.Handle(modified(c.pod("pause")))
				shows := func(image, id, imageID string, count int32, last corev1.ContainerState) *corev1.Pod {
					p := c.pod(image)
					p.Status.ContainerStatuses = []corev1.ContainerStatus{{
						Name: "a", ContainerID: id, ImageID: imageID, RestartCount: count, LastTerminationState: last,
						State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
					}}
					return p
				}
				before := shows("pause", "P", "i", 0, corev1.ContainerState{})
				s.Handle(modified(before))
				before.Spec.Containers[0].Image = "step"
				swap(t, s, before, "a")
				after := shows("step", "X", map[string]string{"same": "i", "other": "j"}[c.image], 1, c.lastState())
				s.Handle(modified(after))
				if s.IsPlaceholder("a", "X") || !s.IsPlaceholder("a", "P") {
					t.Error("P is the placeholder, and X is not known to be")
				}
				checkEnd(t, s, want, "X", after)
			})
		})
	})
}

// The runs come after one that may have been the placeholder again.
func TestOwnerOfTheRunsAfterOneOfUnknownOwner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
		defer s.Close()
		shows := func(image, id, imageID string, count int32, last string) *corev1.Pod {
			p := onePod("", "a")
			p.Spec.RestartPolicy, p.Spec.Containers[0].Image = corev1.RestartPolicyAlways, image
			st := running(id, count)
			st.ImageID = imageID
			if last != "" {
				st.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: last, ExitCode: 137}
			}
			p.Status.ContainerStatuses = []corev1.ContainerStatus{st}
			return p
		}
		s.Handle(modified(onePod("", "a")))
		s.Handle(modified(shows("pause", "P", "i", 0, "")))
		swap(t, s, shows("step", "P", "i", 0, ""), "a")
		s.Handle(modified(shows("step", "Q", "i", 1, "P")))
		s.Handle(modified(shows("step", "R", "i", 2, "Q")))
		s.Handle(modified(shows("step", "S", "j", 3, "R")))
		for e := range bufferedEntries(s, "a") {
			if e.State != nil && (e.State.Outcome != nil || e.State.Last != nil) {
				t.Errorf("an outcome was told: %s", stateText(*e.State))
			}
		}
		p := shows("step", "S", "j", 3, "R")
		st := exited("S", 3, 7)
		st.ImageID = "j"
		p.Status.ContainerStatuses[0] = st
		s.Handle(modified(p))
		if st, err := s.Wait(within(t, time.Hour), "a", Ended); err != nil || st.Outcome.ExitCode != 7 {
			t.Errorf("got %s, %v, want the step's exit code", stateText(st), err)
		}
	})
}

// checkWhose plays the versions, the last of which shows a run, lets the run end with exit code
// 7 in an ended pod, and checks that everything that is told fits the owner.
func checkWhose(t *testing.T, want, id string, versions ...*corev1.Pod) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := New(testNS, testPod, Options{Placeholder: func(slot string) bool { return slot == "a" }})
		defer s.Close()
		for _, p := range versions {
			s.Handle(modified(p.DeepCopy()))
		}
		if got := s.IsPlaceholder("a", id); got != (want == ofPlaceholder) {
			t.Errorf("IsPlaceholder says %v, want it to be a %s", got, want)
		}
		if st := s.State("a"); (st.ContainerID == id) != (want != ofPlaceholder) {
			t.Errorf("%s, of a %s", stateText(st), want)
		}
		if next, _, _ := nextKnown(s, "a", ""); (next == id) != (want != ofPlaceholder) {
			t.Errorf("the next run is %q, of a %s", next, want)
		}
		checkEnd(t, s, want, id, versions[len(versions)-1])
	})
}

// checkEnd lets run id of container a end with exit code 7, and the pod with it.
func checkEnd(t *testing.T, s *Splitter, want, id string, running *corev1.Pod) {
	t.Helper()
	p := running.DeepCopy()
	p.Status.Phase = corev1.PodFailed
	p.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: id, ExitCode: 7, Reason: "Error"}}
	s.Handle(modified(p))
	st, err := s.Wait(within(t, time.Hour), "a", Ended)
	var f *Failure
	switch errors.As(err, &f); {
	case want == ofStep && (err != nil || st.Outcome.ExitCode != 7):
		t.Errorf("the step's end: %s, %v", stateText(st), err)
	case want == ofStep:
	case st.Outcome != nil || f == nil || f.Cause != CauseUnattributed:
		t.Errorf("the end of a %s: %s, %v; want no outcome, and a failure that says what is not known", want, stateText(st), err)
	}
	for e := range bufferedEntries(s, "a") {
		if e.State != nil && e.State.Outcome != nil && want != ofStep && e.State.ContainerID == id {
			t.Errorf("an outcome was told: %s", stateText(*e.State))
		}
	}
}

// A Splitter that saw neither the patch nor the start of the placeholder recognises a failed
// pull, in whatever order Event and status come. An Event about the start of the placeholder
// explains nothing.
func TestALateSplitterRecognisesAFailedPull(t *testing.T) {
	for _, c := range []struct {
		name       string
		started    int // how many seconds after the Event the placeholder started
		eventFirst bool
		want       Class
	}{
		{"the Event comes first", -10, true, ClassImagePull},
		{"the status comes first", -10, false, ClassImagePull},
		{"the Event is older than the placeholder", 10, true, ClassPlaceholder},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
				defer s.Close()
				now := time.Now().Truncate(time.Second)
				started := metav1.NewTime(now.Add(time.Duration(c.started) * time.Second))
				p := withRunning(onePod("", "a"), "a", "P")
				p.Spec.Containers[0].Image = "step"
				p.Status.ContainerStatuses[0].State.Running.StartedAt = started
				s.Handle(modified(p.DeepCopy()))
				event := func() {
					s.Handle(watch.Event{Type: watch.Added, Object: &corev1.Event{
						ObjectMeta:     metav1.ObjectMeta{UID: "e"},
						InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: testNS, Name: testPod, UID: "u", FieldPath: "spec.containers{a}"},
						Type:           "Warning", Reason: "Failed", Message: `Failed to pull image "step": not found`,
						FirstTimestamp: metav1.NewTime(now), LastTimestamp: metav1.NewTime(now),
					}})
				}
				if c.eventFirst {
					event()
				}
				s.Handle(modified(withTerminated(p.DeepCopy(), "a", "P", 0)))
				p.Status.ContainerStatuses = nil
				s.Handle(modified(withTerminated(p, "a", "P", 0)))
				if !c.eventFirst {
					time.Sleep(time.Second)
					event()
				}
				st, err := s.Wait(within(t, time.Minute), "a", Ended)
				if classOf(st.Failure) != c.want || st.Outcome != nil {
					t.Errorf("got %s, %v, want %s", stateText(st), err, c.want)
				}
			})
		})
	}
}
