package eventsplit

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// unknownEnds are the states by which a status says that nobody knows how a container ended.
var unknownEnds = []corev1.ContainerStateTerminated{
	{Reason: "ContainerStatusUnknown", ExitCode: 137},
	{Reason: "ContainerStatusUnknown", ExitCode: 137, ContainerID: "A"},
	{Reason: "RestartingAllContainers", ExitCode: 137},
	{Reason: "Unknown", ExitCode: 255, ContainerID: "A"},
	{Reason: "Unknown", ExitCode: 255},
	{Reason: "NotFound", ExitCode: -137},
}

func TestARunWhoseEndNobodyKnowsHasNoOutcome(t *testing.T) {
	status := func(id string, s corev1.ContainerState) []corev1.ContainerStatus {
		return []corev1.ContainerStatus{{Name: "a", ContainerID: id, State: s}}
	}
	for _, end := range unknownEnds {
		for _, c := range []struct {
			name        string
			placeholder bool
			swapped     bool
			init        bool
			seen        bool // a version showed it running
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

// swap swaps slots with a patch that returns p.
func swap(t *testing.T, s *Splitter, p *corev1.Pod, slots ...string) {
	t.Helper()
	if err := s.Swap(t.Context(), func(context.Context) (*corev1.Pod, error) { return p.DeepCopy(), nil }, slots...); err != nil {
		t.Fatal(err)
	}
}

func TestAnEarlierRunWhoseEndNobodyKnowsHasNoOutcome(t *testing.T) {
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

// When a container is removed behind the kubelet's back, the run before is the newest that the
// node has, and the status shows that run again.
func TestAStatusThatShowsAnOlderRunAgainMeansThatTheNewerOneIsLost(t *testing.T) {
	after := func(st corev1.ContainerStatus, last string, code int32) corev1.ContainerStatus {
		st.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: last, ExitCode: code, Reason: "Completed"}
		return st
	}
	const lost = "lost"
	for _, c := range []struct {
		name     string
		policy   corev1.RestartPolicy
		kind     Kind
		late     int // the index of the first status that the Splitter sees
		statuses []corev1.ContainerStatus
		swapped  []int // the indexes of the statuses before which the image was patched
		version  func(i int) string
		want     string // lost, or the run that State tells of
	}{
		{name: "a step, and its placeholder again", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), after(exited("P", 1, 0), "P", 0),
		}, swapped: []int{1}, want: lost},
		{name: "the kubelet before v1.36, which does not keep the count", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), exited("P", 0, 0),
		}, swapped: []int{1}, want: lost},
		{name: "a second step, and the first again", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), after(running("T", 2), "S", 9), after(exited("S", 2, 9), "S", 9),
		}, swapped: []int{1, 2}, want: lost},
		{name: "a second step, and the placeholder again", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), after(running("T", 2), "S", 9), after(exited("P", 2, 0), "S", 9),
		}, swapped: []int{1, 2}, want: lost},
		{name: "a step that nobody saw", statuses: []corev1.ContainerStatus{
			running("P", 0), after(exited("P", 1, 0), "P", 0),
		}, swapped: []int{1}, want: lost},
		{name: "OnFailure, and the kubelet takes the placeholder's success for the step's", policy: "OnFailure", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), after(exited("P", 1, 0), "P", 0),
		}, swapped: []int{1}, want: lost},
		{name: "OnFailure, and the placeholder had failed", policy: "OnFailure", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 137), after(exited("P", 1, 137), "P", 137), after(running("T", 2), "P", 137),
		}, swapped: []int{1}, want: "T"},
		{name: "a run that was restarted, and is again", policy: "Always", statuses: []corev1.ContainerStatus{
			running("A", 0), after(running("B", 1), "A", 1), after(exited("A", 1, 1), "A", 1), after(running("C", 2), "A", 1),
		}, want: "C"},
		{name: "the same where the count is the older run's", policy: "Always", statuses: []corev1.ContainerStatus{
			running("A", 0), after(running("B", 1), "A", 1), exited("A", 0, 1), after(running("C", 1), "A", 1),
		}, want: "C"},
		{name: "an init container that had been restarted", kind: KindInit, policy: "OnFailure", statuses: []corev1.ContainerStatus{
			running("A", 0), after(running("B", 1), "A", 1), after(exited("A", 1, 1), "A", 1), after(running("C", 2), "A", 1),
		}, want: "C"},
		{name: "a sidecar that had been restarted", kind: KindSidecar, statuses: []corev1.ContainerStatus{
			running("A", 0), after(running("B", 1), "A", 0), after(exited("A", 1, 0), "A", 0), after(running("C", 2), "A", 0),
		}, want: "C"},
		{name: "a Splitter that was made late", late: 2, statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), after(exited("P", 1, 0), "P", 0),
		}, swapped: []int{1}, want: lost},
		{name: "one made between", late: 1, statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), after(exited("P", 1, 0), "P", 0),
		}, swapped: []int{1}, want: lost},

		{name: "an older version that comes late", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), exited("P", 0, 0),
		}, swapped: []int{1}, version: func(i int) string { return []string{"1", "3", "2"}[i] }, want: "S"},
		{name: "a constant version, where old and new cannot be told apart", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), exited("P", 0, 0),
		}, swapped: []int{1}, version: func(int) string { return "1" }, want: "S"},
		{name: "no versions", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), exited("P", 0, 0),
		}, swapped: []int{1}, version: func(int) string { return "" }, want: "S"},
		{name: "no versions, and the count says so", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), after(exited("P", 1, 0), "P", 0),
		}, swapped: []int{1}, version: func(int) string { return "" }, want: lost},
		{name: "an older run that is shown to run", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), running("P", 0),
		}, swapped: []int{1}, want: "S"},
		{name: "a step that had ended", policy: "Always", statuses: []corev1.ContainerStatus{
			running("P", 0), after(running("S", 1), "P", 0), after(exited("S", 1, 7), "P", 0), after(exited("P", 1, 0), "P", 0),
		}, swapped: []int{1}, want: "S"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(testNS, testPod, Options{Placeholder: func(string) bool { return len(c.swapped) > 0 }})
				defer s.Close()
				image := "pause"
				for i, st := range c.statuses {
					version := strconv.Itoa(i + 1)
					if c.version != nil {
						version = c.version(i)
					}
					patched := slices.Contains(c.swapped, i)
					if patched {
						image += "+"
					}
					if i < c.late {
						continue
					}
					p := onePod(version, "a", "other")
					p.Spec.Containers[0].Image = image
					p.Spec.RestartPolicy = cmp.Or(c.policy, corev1.RestartPolicyNever)
					p.Status.ContainerStatuses = []corev1.ContainerStatus{st}
					if c.kind == KindInit || c.kind == KindSidecar {
						p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers[:1], p.Spec.Containers[1:]
						p.Status.InitContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
					}
					if c.kind == KindSidecar {
						always := corev1.ContainerRestartPolicyAlways
						p.Spec.InitContainers[0].RestartPolicy = &always
					}
					if patched && i > c.late {
						if err := s.Swap(t.Context(), func(context.Context) (*corev1.Pod, error) { return nil, nil }, "a"); err != nil {
							t.Fatal(err)
						}
					}
					s.Handle(modified(p))
					time.Sleep(10 * time.Second)
				}
				st := s.State("a")
				if c.want == lost {
					if classOf(st.Failure) != ClassLost || st.Failure.Cause != "" || st.Outcome != nil || !st.Final {
						t.Errorf("got %s, want it lost", stateText(st))
					}
					var f *Failure
					if _, err := s.Wait(within(t, time.Minute), "a", Ended); !errors.As(err, &f) || f != st.Failure {
						t.Errorf("Wait returned %v, want the state's failure", err)
					}
					if _, known, err := nextKnown(s, "a", "the last"); !known || err == nil {
						t.Error("NextRun still waits for a run to follow")
					}
				} else if st.ContainerID != c.want || st.Failure != nil {
					t.Errorf("got %s, want it of %s", stateText(st), c.want)
				}
				if len(c.swapped) > 0 && !s.IsPlaceholder("a", "P") {
					t.Error("P is no placeholder any more")
				}
				for e := range bufferedEntries(s, "a") {
					if len(c.swapped) > 0 && e.State != nil && (e.State.ContainerID == "P" || e.State.Outcome != nil && e.State.Outcome.ExitCode == 0) {
						t.Errorf("the placeholder was told: %s", stateText(*e.State))
					}
				}
			})
		})
	}
}

func TestClassifyRecognisesAnOlderRunShownInPlaceOfALostOne(t *testing.T) {
	for _, c := range []struct {
		policy corev1.RestartPolicy
		lost   bool
	}{
		{corev1.RestartPolicyNever, true},
		{corev1.RestartPolicyOnFailure, false}, // it may be the newest run, which waited to be restarted
		{corev1.RestartPolicyAlways, false},
	} {
		p := withTerminated(onePod("", "a"), "a", "A", 0)
		p.Spec.RestartPolicy = c.policy
		st := &p.Status.ContainerStatuses[0]
		if fs := Classify(p, nil); len(fs) != 0 {
			t.Errorf("%s: Classify says %v of a run that ended", c.policy, fs)
		}
		st.RestartCount, st.LastTerminationState.Terminated = 1, st.State.Terminated
		if fs := Classify(p, nil); (len(fs) == 1 && fs[0].Class == ClassLost) != c.lost {
			t.Errorf("%s: Classify says %v, lost: %v", c.policy, fs, c.lost)
		}
	}
}
