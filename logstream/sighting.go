package logstream

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// sighting is what one status says of one slot.
type sighting struct {
	slot          string
	cur, last     string // IDs; empty: none
	running       bool
	begun, ended  bool // a container that has no ID has, by this status
	waits         bool // for the time that is between restarts
	final, noNext bool
	all           bool   // the pod's containers may be restarted together
	image         string // cur's
	restarts      int32
	curAt, lastAt times
}

// times are when a run began and ended, in whole seconds of its node; zero: not known.
type times struct{ began, ended time.Time }

// sightings reads a pod's statuses, by name: a status list is not in the order of
// its spec, and has holes.
func sightings(p *corev1.Pod) []sighting {
	finished := podstatus.IsTerminal(p)
	dying, all := p.DeletionTimestamp != nil, podstatus.RestartsAll(p)
	var out []sighting
	read := func(sts []corev1.ContainerStatus) {
		for i := range sts {
			s, t := sight(&sts[i]), sts[i].State.Terminated
			s.all, s.noNext = all, finished || t != nil && !all && !podstatus.Restarts(p, s.slot, t.ExitCode)
			s.final = s.noNext || t != nil && dying
			// A finished pod may say Running for ever: after an eviction, or when
			// its node was lost.
			s.running, s.ended = s.running && !finished, t != nil || finished
			out = append(out, s)
		}
	}
	read(p.Status.InitContainerStatuses)
	read(p.Status.ContainerStatuses)
	read(p.Status.EphemeralContainerStatuses)
	if finished {
		out = append(out, untold(p, out)...)
	}
	return out
}

// untold are the slots of a finished pod that have no status: they never ran, unless the pod
// succeeded, which says that all of them ended well (some virtual kubelets say no more).
func untold(p *corev1.Pod, seen []sighting) []sighting {
	var out []sighting
	add := func(name string, ran bool) {
		if !slices.ContainsFunc(seen, func(s sighting) bool { return s.slot == name }) {
			out = append(out, sighting{slot: name, final: true, begun: ran, ended: true})
		}
	}
	succeeded := p.Status.Phase == corev1.PodSucceeded
	for i := range p.Spec.InitContainers {
		add(p.Spec.InitContainers[i].Name, succeeded)
	}
	for i := range p.Spec.Containers {
		add(p.Spec.Containers[i].Name, succeeded)
	}
	for i := range p.Spec.EphemeralContainers {
		add(p.Spec.EphemeralContainers[i].Name, false)
	}
	return out
}

// sight reads one status. The ID comes from the state: a waiting container has
// none, though its status may still carry its last one.
func sight(st *corev1.ContainerStatus) sighting {
	s := sighting{slot: st.Name, image: st.Image + " " + st.ImageID, restarts: st.RestartCount}
	id, phase := podstatus.Current(st)
	s.cur, s.running = id, phase == podstatus.Running
	switch phase {
	case podstatus.Running:
		s.curAt.began = st.State.Running.StartedAt.Time
	case podstatus.Terminated:
		s.curAt = timesOf(st.State.Terminated)
	}
	s.begun = s.cur == "" && begun(&st.State)
	s.waits = st.State.Waiting != nil && st.State.Waiting.Reason == podstatus.ReasonCrashLoop
	if t := st.LastTerminationState.Terminated; t != nil && t.ContainerID != s.cur {
		s.last, s.lastAt = t.ContainerID, timesOf(t)
	}
	return s
}

// begun reports whether a container has run, by its state. Of one that it lost sight of, or
// that never began before its pod was ended, the kubelet says ContainerStatusUnknown
// (kubernetes v1.36.3 pkg/kubelet/status/status_manager.go:658-669).
func begun(st *corev1.ContainerState) bool {
	return st.Running != nil || st.Terminated != nil && st.Terminated.Reason != podstatus.ReasonStatusUnknown
}

func timesOf(t *corev1.ContainerStateTerminated) times {
	return times{began: t.StartedAt.Time, ended: t.FinishedAt.Time}
}

// life is what the status says of the run id.
func (s *sighting) life(id string) life {
	switch {
	case s.cur == id && s.running:
		return lifeAlive
	case s.cur == id || (s.cur == "" && s.last == id):
		return lifeEnded
	case s.last == id:
		return lifePrevious
	}
	return lifeUnreadable
}

// number is the run's number: restartCount is that of the newest run, which is the
// last one while the container waits for its next.
func (s *sighting) number(id string) int {
	if id != s.cur && s.cur != "" {
		return int(s.restarts) - 1
	}
	return int(s.restarts)
}

// newest is the number of the newest run; -1: there was none.
func (s *sighting) newest() int32 {
	if s.restarts == 0 && s.cur == "" && s.last == "" && !s.begun {
		return -1
	}
	return s.restarts
}
