package testutil

import (
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/tools/record"
)

// recorder makes the kubelet's Events. What becomes of repeated, similar and too
// many Events is decided by client-go's own correlator, the kubelet's: the same
// Event again is a count, patched; the tenth different message of one reason
// within ten minutes goes into one "(combined from similar events)" that keeps
// the fieldPath of the first; a pod gets 25 Events of a type, then one every five
// minutes (client-go v0.35.3 tools/record/events_cache.go:40-48).
type recorder struct {
	store *store
	node  string
	id    func() string

	turn       chan struct{} // held while one Event is made; a channel, so that time goes on meanwhile
	correlator *record.EventCorrelator
	last       time.Time
}

// newRecorder is a new kubelet's: it remembers no Event of the one before it.
func newRecorder(s *store, node string, id func() string) *recorder {
	return &recorder{store: s, node: node, id: id, turn: make(chan struct{}, 1), correlator: record.NewEventCorrelatorWithOptions(record.CorrelatorOptions{})}
}

// event records one Event about a pod (fieldPath "") or one of its containers.
func (r *recorder) event(pod *corev1.Pod, fieldPath, kind, reason, message string) {
	r.turn <- struct{}{}
	defer func() { <-r.turn }()
	r.tick()
	now := metav1.Time{Time: seconds(time.Now())}
	e := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", pod.Name, r.last.UnixNano()), Namespace: pod.Namespace},
		InvolvedObject: reference(pod, fieldPath),
		Reason:         reason, Message: message, Type: kind, Count: 1,
		FirstTimestamp: now, LastTimestamp: now,
		Source:              corev1.EventSource{Component: "kubelet", Host: r.node},
		ReportingController: "kubelet", ReportingInstance: r.node,
	}
	result, err := r.correlator.EventCorrelate(e)
	if err != nil || result.Skip {
		return
	}
	var v *version
	if result.Event.Count > 1 { // said before: one object, whose count grows
		v, err = r.patch(result.Event, result.Patch)
	}
	if v == nil {
		result.Event.ResourceVersion = ""
		v, err = r.store.create(events, result.Event, r.id())
	}
	if err == nil {
		r.correlator.UpdateState(v.object.(*corev1.Event))
	}
}

// patch applies the correlator's patch to an Event, unless it is gone.
func (r *recorder) patch(e *corev1.Event, patch []byte) (*version, error) {
	return r.store.write(events.key(e.Namespace, e.Name), func(old object) (object, error) {
		if old == nil {
			return nil, fmt.Errorf("event %q is gone", e.Name)
		}
		was, err := json.Marshal(old)
		if err != nil {
			return nil, err
		}
		is, err := strategicpatch.StrategicMergePatch(was, patch, &corev1.Event{})
		if err != nil {
			return nil, err
		}
		o := &corev1.Event{}
		return o, json.Unmarshal(is, o)
	})
}

// tick makes sure that no two Events come at one instant, even where time stands
// still: their names are times, some of them the correlator's own
// (client-go v0.35.3 tools/record/util/util.go:50-57).
func (r *recorder) tick() {
	if early := time.Until(r.last); early >= 0 {
		time.Sleep(early + 1)
	}
	r.last = time.Now()
}

func reference(pod *corev1.Pod, fieldPath string) corev1.ObjectReference {
	return corev1.ObjectReference{
		Kind: "Pod", APIVersion: "v1", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion, FieldPath: fieldPath,
	}
}

// fieldPath is how an Event names a container.
func fieldPath(pod *corev1.Pod, name string) string {
	for _, c := range pod.Spec.InitContainers {
		if c.Name == name {
			return "spec.initContainers{" + name + "}"
		}
	}
	return "spec.containers{" + name + "}"
}

// scheduled is an Event of the scheduler's, who uses events.k8s.io: there is an
// eventTime, but no timestamps, no count and no source (kubernetes v1.36.3
// pkg/scheduler/schedule_one.go).
func scheduled(s *store, id string, pod *corev1.Pod, kind, reason, message string) {
	now := time.Now()
	e := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", pod.Name, now.UnixNano()), Namespace: pod.Namespace},
		InvolvedObject: reference(pod, ""),
		Reason:         reason, Message: message, Type: kind, EventTime: metav1.MicroTime{Time: now},
		Action: "Binding", ReportingController: "default-scheduler", ReportingInstance: "default-scheduler-" + string(types.UID(id))[:5],
	}
	_, _ = s.create(events, e, id)
}

// eventsLive is how long an Event is kept (kubernetes v1.36.3
// pkg/controlplane/apiserver/options/options.go:129). Watches see it DELETED.
const eventsLive = time.Hour

// expireEvents removes what is too old.
func expireEvents(s *store) {
	old, _ := s.list(events.name, "", func(o object) bool { return time.Since(o.GetCreationTimestamp().Time) > eventsLive })
	for _, v := range old {
		_, _ = s.delete(events, v.GetNamespace(), v.GetName(), metav1.DeleteOptions{})
	}
}
