package eventsplit

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// docs/failures.md has a row for every cause that says when the cause is over.

// announcementLapse is how long an Event that announces a disruption explains a deletion. The
// pods of a node that does not answer are deleted after 5 minutes.
const announcementLapse = 10 * time.Minute

// lapse returns how long the newest Event about a pod explains that nothing starts in the pod:
// longer than it takes until the Event is repeated if the trouble goes on.
func lapse(c Class) time.Duration {
	switch c {
	case ClassSandbox: // each attempt may take 4 min 15 s; the kubelet drops all but one in 5 min after 25
		return 6 * time.Minute
	case ClassUnschedulable: // pkg/scheduler/backend/queue/scheduling_queue.go:66, v1.36: every 5 min
		return 6 * time.Minute
	}
	return 3 * time.Minute // volumes: at least every 2 min 2 s (pkg/util/goroutinemap/exponentialbackoff, v1.36)
}

// cured reports whether a pod shows that what an Event said of the pod is over, in whatever
// order the two came. started says whether something in the pod got as far as its image, which
// the kubelet pulls when the pod's volumes and sandbox are there (v1.36
// pkg/kubelet/kuberuntime/kuberuntime_manager.go SyncPod).
func cured(f *Failure, p *corev1.Pod, started bool) bool {
	if podstatus.IsTerminal(p) || f.Reason == reasonFailedCreate { // the pod was created after all
		return true
	}
	switch f.Class {
	case ClassUnschedulable:
		return isScheduled(p)
	case ClassVolume, ClassSandbox:
		return (started || isTrue(p, corev1.PodReadyToStartContainers)) && !sandboxGone(p, f.Event)
	case ClassImagePull, ClassConfig, ClassCreate, ClassStart, ClassCrashLoop:
		return started
	}
	return false
}

// sandboxGone reports whether an Event is about a sandbox that replaces one in which something
// had started, after the node was restarted for instance (v1.36 pkg/kubelet/status/generate.go
// GeneratePodReadyToStartContainersCondition).
func sandboxGone(p *corev1.Pod, e *corev1.Event) bool {
	c := condition(p, corev1.PodReadyToStartContainers)
	if e == nil || c == nil || c.Status != corev1.ConditionFalse || eventTime(e).Before(c.LastTransitionTime.Time) {
		return false
	}
	had := func(t metav1.Time) bool {
		return !podstatus.KnownTime(t.Time).IsZero() && !t.After(c.LastTransitionTime.Time)
	}
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(st corev1.ContainerStatus) bool {
		r, t, last := st.State.Running, st.State.Terminated, st.LastTerminationState.Terminated
		return r != nil && had(r.StartedAt) || t != nil && had(t.StartedAt) || last != nil && had(last.StartedAt)
	})
}

// curedBy reports whether a later Event of the pod says that what an earlier one said is over.
func curedBy(f *Failure, e *corev1.Event) bool {
	switch e.Reason {
	case "Scheduled":
		return f.Class == ClassUnschedulable
	case "SuccessfulAttachVolume":
		return f.Reason == "FailedAttachVolume"
	case "SuccessfulMountVolume":
		return f.Class == ClassVolume
	}
	switch f.Class {
	case ClassVolume, ClassSandbox, ClassRuntime:
		return isStep(e)
	case ClassImagePull: // of an image volume; the pod may have several
		return isStep(e) && sameImage(f.Image, namedImage(e.Message))
	}
	return false
}

// curedByStep reports whether a step that a container has taken says that what an Event said of
// the container is over. The kubelet pulls, creates and starts in this order, and begins each
// try with the pull (v1.36 pkg/kubelet/kuberuntime/kuberuntime_container.go startContainer).
func curedByStep(f *Failure, e *corev1.Event) bool {
	switch {
	case !isStep(e):
		return false
	case f.Class == ClassImagePull, e.Reason == "Started":
		return true
	case f.Class == ClassStart, f.Class == ClassCrashLoop:
		return false
	}
	return e.Reason == "Created"
}

// announcementOver reports whether a pod shows that an announced end will not come: its node is
// well again, or the condition that announced the end was taken back (v1.36
// pkg/controller/disruption/disruption.go syncStalePodDisruption).
func announcementOver(p *corev1.Pod, hint *Failure, at time.Time) bool {
	c := condition(p, corev1.DisruptionTarget)
	return nodeIsWell(p, hint, at) || c != nil && c.Status == corev1.ConditionFalse && !c.LastTransitionTime.Time.Before(at)
}

// nodeIsWell reports whether a pod shows that its node has recovered since an Event said that
// the node is not ready. The node controller sets the pod's condition Ready to False (v1.36
// pkg/controller/util/node/controller_utils.go MarkPodsNotReady), and only a living kubelet sets
// it to True again. An eviction that was announced is called off by an Event of its own.
func nodeIsWell(p *corev1.Pod, hint *Failure, at time.Time) bool {
	if hint.Reason != reasonNodeNotReady && hint.Reason != reasonRebooted {
		return false
	}
	c := condition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue && !c.LastTransitionTime.Time.Before(at)
}
