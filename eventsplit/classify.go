package eventsplit

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// Classify returns everything that a pod and Events say is wrong now: first what is wrong
// with the pod (Slot ""), then with each container, in the order of the spec. It returns
// nothing when nothing is wrong, and leaves out what the pod, or a later Event, shows to be
// over.
//
// Classify is pure: it has no clock, keeps nothing and changes nothing. It knows of no swap,
// so a failed swap is for it a container that ended with exit code 0; a Splitter can tell.
// The Events may come in any order; those of other pods are ignored. The pod may be nil.
func Classify(p *corev1.Pod, events []*corev1.Event) []*Failure {
	c := classifier{byslot: map[string]*slot{}}
	if p != nil {
		c.readPod(p)
	}
	c.readEvents(slices.DeleteFunc(slices.Clone(events), func(e *corev1.Event) bool {
		return e == nil || p != nil && e.InvolvedObject.UID != "" && p.UID != "" && e.InvolvedObject.UID != p.UID
	}))
	return c.failures()
}

// classifier holds what Classify has read. Its slots have no history.
type classifier struct {
	pod         *corev1.Pod
	cause       *Failure // what befell the pod, or why it waits
	told        *Failure // what an Event says of the pod
	rank        int
	announced   *Failure // a disruption that an Event announced
	announcedAt time.Time
	started     bool // something in the pod got as far as its image
	slots       []*slot
	byslot      map[string]*slot
	found       map[*slot]*Failure
}

func (c *classifier) readPod(p *corev1.Pod) {
	c.pod, c.found = p, map[*slot]*Failure{}
	if c.cause = podCause(p); c.cause == nil && p.DeletionTimestamp != nil && !endedBefore(p, deletionAsked(p)) {
		c.cause = &Failure{Class: ClassDeleted, Message: msgDeleted, Since: p.DeletionTimestamp.Time}
	}
	if c.cause == nil {
		c.cause = podWaiting(p)
	}
	for of := range podstatus.Containers(p) {
		spec := of.Spec
		if spec == nil {
			spec = &corev1.Container{Name: of.Name}
		}
		sl := &slot{name: of.Name, kind: Kind(of.Role), spec: spec, pod: p, volumes: imageVolumes(p, spec)}
		sl.timeline.init(1, State{})
		c.slots = append(c.slots, sl)
		c.byslot[of.Name] = sl
	}
	for _, list := range [][]corev1.ContainerStatus{
		p.Status.InitContainerStatuses, p.Status.ContainerStatuses, p.Status.EphemeralContainerStatuses,
	} {
		for i := range list {
			if sl := c.byslot[list[i].Name]; sl != nil {
				c.readStatus(p, sl, &list[i])
			}
		}
	}
}

// readStatus reads what one status says, without one before it.
func (c *classifier) readStatus(p *corev1.Pod, sl *slot, st *corev1.ContainerStatus) {
	st = sl.withLostRun(st, false)
	sl.observe(st, false)
	if st.State.Running != nil || st.State.Terminated != nil || st.LastTerminationState.Terminated != nil {
		c.started = true
	}
	t := st.State.Terminated
	switch {
	case t != nil && podstatus.Restarts(p, sl.name, t.ExitCode):
	case t != nil && podstatus.EndUnknown(t):
		c.found[sl] = &Failure{Class: ClassLost, Slot: sl.name, Image: sl.specImage(), Reason: t.Reason, Message: t.Message}
	case t != nil && podstatus.NeverStarted(t):
		c.found[sl] = startFailure(sl, &run{outcome: outcomeOf(t)})
	}
}

// readEvents reads Events in the order in which they were recorded, if all of them have a time:
// a later Event may take back what an earlier one says.
func (c *classifier) readEvents(events []*corev1.Event) {
	if !slices.ContainsFunc(events, func(e *corev1.Event) bool { return eventTime(e).IsZero() }) {
		slices.SortStableFunc(events, func(a, b *corev1.Event) int { return eventTime(a).Compare(eventTime(b)) })
	}
	for _, e := range events {
		c.readEvent(normalise(e))
	}
}

func (c *classifier) readEvent(e *corev1.Event) {
	if sl := c.byslot[slotOf(e.InvolvedObject.FieldPath)]; sl != nil {
		sl.explain(e)
		if c.started = c.started || isStep(e); sl.explanation.failure != nil && curedByStep(sl.explanation.failure, e) {
			sl.explanation = explanation{}
		}
		return
	}
	if e.InvolvedObject.FieldPath != "" {
		return // it is about a container that is not known
	}
	if callsOff(e, c.announced) {
		c.announced = nil
	}
	if c.told != nil && curedBy(c.told, e) {
		c.told, c.rank = nil, rankNone
	}
	switch f, rank := classifyEvent(e); {
	case f == nil:
	case isDisruption(f.Class):
		c.announced, c.announcedAt = f, eventTime(e)
	case rank >= c.rank:
		c.told, c.rank = f, rank
	}
}

func (c *classifier) failures() []*Failure {
	var all []*Failure
	if f := c.podFailureNow(); f != nil {
		all = append(all, f)
	}
	for _, sl := range c.slots {
		if f := c.failure(sl); f != nil {
			all = append(all, f)
		}
	}
	if c.pod != nil {
		for _, f := range all {
			f.Node = c.pod.Spec.NodeName
		}
	}
	return all
}

// podFailureNow returns what is wrong with the pod as a whole.
func (c *classifier) podFailureNow() *Failure {
	hint := c.announced
	if hint != nil && c.pod != nil && announcementOver(c.pod, hint, c.announcedAt) {
		hint = nil
	}
	switch {
	case c.cause != nil && c.cause.Class == ClassDeleted && hint != nil && c.mayExplainDeletion():
		f := *hint
		f.MayRecover = false
		return &f
	case c.cause != nil:
		return c.cause
	case hint != nil && (c.pod == nil || !podstatus.IsTerminal(c.pod)):
		return hint
	case c.told == nil || c.pod != nil && cured(c.told, c.pod, c.started):
		return nil
	case c.told.Class == ClassImagePull && len(c.slots) > 0:
		return nil // an image volume's trouble concerns the containers that mount it
	}
	return c.told
}

// mayExplainDeletion reports whether the announced disruption may be why the pod was deleted.
func (c *classifier) mayExplainDeletion() bool {
	return c.announcedAt.IsZero() || deletionAsked(c.pod).Sub(c.announcedAt) <= announcementLapse
}

func (c *classifier) failure(sl *slot) *Failure {
	if f := c.found[sl]; f != nil {
		return f
	}
	if v := c.told; v != nil && v.Class == ClassImagePull && sl.explanation.failure == nil && sl.mounts(v.Image) {
		sl.explanation = explanation{event: v.Event, failure: v, rank: c.rank}
	}
	waits := sl.status == statusNone || sl.status == statusWaiting
	switch {
	case !waits:
		return nil
	case sl.status == statusWaiting && !isProgress(sl.waitReason):
		return sl.trouble(waitingKey{reason: sl.waitReason, message: sl.waitMessage})
	case podstatus.IsTerminal(c.pod):
		return nil
	}
	f := sl.explanation.failure
	if f == nil {
		return nil
	}
	of := *f
	of.Slot, of.Image = sl.name, sl.pulledImage(f)
	return &of
}
