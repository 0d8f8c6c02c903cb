package eventsplit

import (
	corev1 "k8s.io/api/core/v1"
)

// classifier is Classify at work. It has slots without a history.
type classifier struct {
	pod    *Failure // what befell it, or why it waits
	event  explanation
	slots  []*slot
	byslot map[string]*slot
	found  map[*slot]*Failure
}

func (c *classifier) readPod(p *corev1.Pod) {
	c.found = map[*slot]*Failure{}
	if c.pod = podCause(p); c.pod == nil && p.DeletionTimestamp != nil {
		c.pod = &Failure{Class: ClassDeleted, Message: msgDeleted, Since: p.DeletionTimestamp.Time}
	}
	if c.pod == nil {
		c.pod = podWaiting(p)
	}
	containers(p, func(name string, spec *corev1.Container, kind Kind) {
		if spec == nil {
			spec = &corev1.Container{Name: name}
		}
		sl := &slot{name: name, kind: kind, spec: spec}
		sl.init(1, State{})
		c.slots = append(c.slots, sl)
		c.byslot[name] = sl
	})
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

// readStatus finds what one status says without knowing any before it.
func (c *classifier) readStatus(p *corev1.Pod, sl *slot, st *corev1.ContainerStatus) {
	sl.observe(st)
	t := st.State.Terminated
	switch {
	case t != nil && wouldRestart(p, sl.spec, sl.kind, t.ExitCode):
	case t != nil && isLost(t):
		c.found[sl] = &Failure{Class: ClassLost, Slot: sl.name, Image: sl.spec.Image, Reason: t.Reason}
	case t != nil && neverStarted(t):
		c.found[sl] = startFailure(sl, &run{outcome: outcomeOf(t)})
	}
}

func (c *classifier) readEvent(e *corev1.Event) {
	if sl := c.byslot[slotOf(e.InvolvedObject.FieldPath)]; sl != nil {
		sl.explained(e)
		return
	}
	if f, rank := classifyEvent(e); f != nil && e.InvolvedObject.FieldPath == "" && e.Type == corev1.EventTypeWarning && rank >= c.event.rank {
		c.event.take(e, f, rank)
	}
}

func (c *classifier) failures() []*Failure {
	var all []*Failure
	switch {
	case c.pod != nil:
		all = append(all, c.pod)
	case c.event.failure != nil && !c.running():
		all = append(all, c.event.failure)
	}
	for _, sl := range c.slots {
		if f := c.failure(sl); f != nil {
			all = append(all, f)
		}
	}
	return all
}

func (c *classifier) failure(sl *slot) *Failure {
	if f := c.found[sl]; f != nil {
		return f
	}
	switch {
	case sl.status == statusWaiting && !isProgress(sl.waitReason):
		return sl.troubled(waitingKey{reason: sl.waitReason, message: sl.waitMessage})
	case sl.status == statusRunning || sl.status == statusTerminated || sl.explain.failure == nil:
		return nil
	}
	f := *sl.explain.failure
	f.Slot, f.Image = sl.name, sl.specImage()
	return &f
}

func (c *classifier) running() bool {
	for _, sl := range c.slots {
		if sl.current() != nil {
			return true
		}
	}
	return false
}
