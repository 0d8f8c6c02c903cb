package eventsplit

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// unknownEnds are what a status says where nobody knows how a container ended.
var unknownEnds = []corev1.ContainerStateTerminated{
	{Reason: "ContainerStatusUnknown", ExitCode: 137},
	{Reason: "ContainerStatusUnknown", ExitCode: 137, ContainerID: "A"},
	{Reason: "RestartingAllContainers", ExitCode: 137},
	{Reason: "Unknown", ExitCode: 255, ContainerID: "A"},
	{Reason: "Unknown", ExitCode: 255},
	{Reason: "NotFound", ExitCode: -137},
}

func TestAnEndThatNobodyKnowsIsNoOutcome(t *testing.T) {
	status := func(id string, s corev1.ContainerState) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: "a", ContainerID: id, State: s}}
	}
	for _, end := range unknownEnds {
		for _, c := range []struct {
			name        string
			placeholder bool
			swapped     bool
			init        bool
			seen        bool // it was seen running
		}{
			{name: "a container that was seen running", seen: true},
			{name: "a container that was not"},
			{name: "an init container", init: true, seen: true},
			{name: "a placeholder", placeholder: true, seen: true},
			{name: "a placeholder behind a swap", placeholder: true, swapped: true, seen: true},
		} {
			t.Run(end.Reason+" "+end.ContainerID+" "+c.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := New(testNS, testPod, Options{Placeholder: func(string) bool { return c.placeholder }})
					defer s.Close()
					p := onePod("", "a", "other")
					statuses := &p.Status.ContainerStatuses
					if c.init {
						p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers[:1], p.Spec.Containers[1:]
						statuses = &p.Status.InitContainerStatuses
					}
					if c.seen {
						*statuses = status("A", corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
						s.Handle(modified(p.DeepCopy()))
					}
					if c.swapped {
						p.Spec.Containers[0].Image = "step"
						swap(t, s, p, "a")
					}
					*statuses = status("A", corev1.ContainerState{Terminated: &end})
					s.Handle(modified(p.DeepCopy()))
					time.Sleep(time.Minute)
					synctest.Wait()
					if st := s.State("a"); classOf(st.Failure) != ClassLost || st.Outcome != nil || !st.Final {
						t.Errorf("got %s, want it lost", stateText(st))
					}
					// Classify knows of no run that was replaced.
					if fs := Classify(p, nil); len(fs) != 1 || fs[0].Class != ClassLost || fs[0].Slot != "a" {
						t.Errorf("Classify says %v, want a lost container", fs)
					}
				})
			})
		}
	}
}

// swap makes a swap of slots whose patch is answered with p.
func swap(t *testing.T, s *Splitter, p *corev1.Pod, slots ...string) {
	t.Helper()
	if err := s.Swap(t.Context(), func(context.Context) (*corev1.Pod, error) { return p.DeepCopy(), nil }, slots...); err != nil {
		t.Fatal(err)
	}
}

func TestTheRunBeforeHasNoOutcomeWhereNobodyKnowsItsEnd(t *testing.T) {
	for _, end := range unknownEnds {
		for _, seen := range []bool{true, false} {
			s := New(testNS, testPod, Options{})
			p := withRunning(onePod("", "a"), "a", "A")
			p.Spec.RestartPolicy = corev1.RestartPolicyAlways
			if seen {
				s.Handle(modified(p.DeepCopy()))
			}
			st := &p.Status.ContainerStatuses[0]
			st.ContainerID, st.RestartCount, st.LastTerminationState.Terminated = "B", 1, &end
			s.Handle(modified(p))
			if st := s.State("a"); st.Last != nil || st.ContainerID != "B" || st.Phase != PhaseRunning {
				t.Errorf("%s %q, seen running: %v: got %s, want B to run and nothing said of the run before it", end.Reason, end.ContainerID, seen, stateText(st))
			}
			for e := range bufferedEntries(s, "a") {
				if e.State != nil && (e.State.Outcome != nil || e.State.Last != nil) {
					t.Errorf("%s %q: an outcome was told: %s", end.Reason, end.ContainerID, stateText(*e.State))
				}
			}
			s.Close()
		}
	}
}
