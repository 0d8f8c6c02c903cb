package logstream

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// A podScript makes the pod's versions.
type podScript struct {
	pod *corev1.Pod
	rv  int
}

func newPod(policy corev1.RestartPolicy, slots ...string) *podScript {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: types.UID("u")}}
	p.Spec.RestartPolicy = policy
	for _, s := range slots {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: s})
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: s, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}},
		})
	}
	return &podScript{pod: p}
}

func (s *podScript) event(t watch.EventType) watch.Event {
	s.rv++
	s.pod.ResourceVersion = fmt.Sprint(s.rv)
	return watch.Event{Type: t, Object: s.pod.DeepCopy()}
}

func (s *podScript) status(slot string) *corev1.ContainerStatus {
	for i := range s.pod.Status.ContainerStatuses {
		if st := &s.pod.Status.ContainerStatuses[i]; st.Name == slot {
			return st
		}
	}
	panic(slot)
}

// running says that id runs in slot; what was there before becomes its last state.
func (s *podScript) running(slot, id string) watch.Event {
	st := s.status(slot)
	if st.ContainerID != "" {
		if st.State.Terminated != nil {
			st.LastTerminationState = st.State
		}
		if st.State.Running != nil {
			st.LastTerminationState.Terminated = terminated(st.ContainerID)
		}
		st.RestartCount++
	}
	st.ContainerID, st.State = id, corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: wholeSecond()}}
	return s.event(watch.Modified)
}

func terminated(id string) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ContainerID: id, FinishedAt: wholeSecond()}
}

// wholeSecond is now, as a status has it.
func wholeSecond() metav1.Time { return metav1.NewTime(time.Now().Truncate(time.Second)) }

func (s *podScript) ended(slot, id string) watch.Event {
	st := s.status(slot)
	t := terminated(id)
	if st.State.Running != nil {
		t.StartedAt = st.State.Running.StartedAt
	}
	st.ContainerID, st.State = id, corev1.ContainerState{Terminated: t}
	return s.event(watch.Modified)
}

// waiting says that slot waits for its next run.
func (s *podScript) waiting(slot, reason string) watch.Event {
	st := s.status(slot)
	st.LastTerminationState, st.State = st.State, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
	return s.event(watch.Modified)
}

func closedEvent() watch.Event {
	return watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: reasonClosed}}
}

func outOfScope() *metav1.Status { return &metav1.Status{Reason: reasonOutOfScope} }
