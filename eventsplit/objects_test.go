package eventsplit

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// status sets a container's status from its short form in a script.
func (sc *script) status(name, text string) {
	st := corev1.ContainerStatus{Name: name}
	if i := strings.LastIndex(text, "<"); i >= 0 {
		last := append(strings.SplitN(text[i+1:], ":", 3), "", "")
		n, _ := strconv.Atoi(last[1])
		st.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{
			ContainerID: last[0], ExitCode: int32(n), Reason: cmp.Or(last[2], "Completed"),
			StartedAt: metav1.Now(), FinishedAt: metav1.Now(),
		}
		text = text[:i]
	}
	if i := strings.LastIndex(text, "@"); i >= 0 {
		n, _ := strconv.Atoi(text[i+1:])
		st.RestartCount = int32(n)
		text = text[:i]
	}
	part := append(strings.SplitN(text, ":", 5), "", "", "", "", "")
	switch part[0] {
	case "waiting":
		part = append(strings.SplitN(text, ":", 3), "", "")
		st.State.Waiting = &corev1.ContainerStateWaiting{Reason: part[1], Message: part[2]}
	case "running":
		st.ContainerID, st.Ready = part[1], true
		st.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Now()}
	case "terminated":
		id, stateHasNone := strings.CutPrefix(part[1], "~")
		st.ContainerID = id
		if stateHasNone {
			id = ""
		}
		n, _ := strconv.Atoi(part[2])
		st.State.Terminated = &corev1.ContainerStateTerminated{
			ContainerID: id, ExitCode: int32(n), Reason: part[3], Message: part[4],
			StartedAt: metav1.Now(), FinishedAt: metav1.Now(),
		}
		if part[3] == "StartError" {
			st.State.Terminated.StartedAt = metav1.Unix(0, 0)
		}
	default:
		sc.t.Fatalf("script: bad status %q", text)
	}
	list := &sc.pod.Status.ContainerStatuses
	for i := range sc.pod.Spec.InitContainers {
		if sc.pod.Spec.InitContainers[i].Name == name {
			list = &sc.pod.Status.InitContainerStatuses
		}
	}
	for i := range sc.pod.Spec.EphemeralContainers {
		if sc.pod.Spec.EphemeralContainers[i].Name == name {
			list = &sc.pod.Status.EphemeralContainerStatuses
		}
	}
	for i := range *list {
		if (*list)[i].Name == name {
			(*list)[i] = st
			return
		}
	}
	*list = append(*list, st)
}

func (sc *script) event(args []string) {
	uid, args := option(args, "uid")
	count, args := option(args, "count")
	if uid == "" {
		sc.uid++
		uid = "event-" + strconv.Itoa(sc.uid)
	}
	n, _ := strconv.Atoi(count)
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: uid, Namespace: testNS, UID: types.UID(uid)},
		InvolvedObject: corev1.ObjectReference{
			Kind: "Pod", Namespace: testNS, Name: testPod, UID: sc.pod.UID,
		},
		Type: args[1], Reason: args[2], Message: args[3], Count: int32(max(n, 1)),
		FirstTimestamp: metav1.Now(), LastTimestamp: metav1.Now(), Source: corev1.EventSource{Component: "kubelet"},
	}
	if name := args[0]; name == "job" {
		e.InvolvedObject.Kind, e.InvolvedObject.Name, e.InvolvedObject.UID = "Job", "owner", "job-1"
	} else if name != "-" {
		list := "containers"
		for _, c := range sc.pod.Spec.InitContainers {
			if c.Name == name {
				list = "initContainers"
			}
		}
		for _, c := range sc.pod.Spec.EphemeralContainers {
			if c.Name == name {
				list = "ephemeralContainers"
			}
		}
		e.InvolvedObject.FieldPath = fmt.Sprintf("spec.%s{%s}", list, name)
	}
	sc.s.Handle(watch.Event{Type: watch.Added, Object: e})
}
