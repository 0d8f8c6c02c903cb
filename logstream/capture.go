package logstream

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/internal/podstatus"
)

// Runs tells work from placeholders: an eventsplit.Splitter is one. A nil Runs
// takes every run for work.
type Runs interface {
	// IsPlaceholder says whether a run is no work: such a run is not even opened.
	// It does not block.
	IsPlaceholder(slot, containerID string) bool
	// NextRun blocks until the run of slot that follows after is known; after ""
	// asks for the first. It ends in io.EOF when none will follow, in an error that
	// wraps context.Cause of a ctx that ended, or in the reason why the slot cannot run.
	NextRun(ctx context.Context, slot, after string) (id string, err error)
}

// Reasons of the statuses with which a watch tells of itself.
const (
	reasonClosed     metav1.StatusReason = "Closed"
	reasonOutOfScope metav1.StatusReason = "OutOfScope"
	reasonFresh      metav1.StatusReason = "Fresh"
)

// Capture is the log of one pod: every run of every container that is work. Make
// one with [Streamer.Pod]. Its methods may be called from any goroutine.
type Capture struct {
	s               *Streamer
	namespace, name string
	runs            Runs

	mu      sync.Mutex
	uid     types.UID
	version string // newest resourceVersion seen
	over    bool   // the pod is deleted or its tracking ended: nothing new will be heard
	deleted bool   // it is deleted
	done    bool   // the pod has finished: slots has all that it has
	closed  bool
	refused *metav1.Status // with which the API server refuses the watch; nil: it does not
	slots   map[string]*slot
	order   []*run
	readers map[*Reader]struct{}
	wake    chan struct{} // closed and replaced at every change
	gone    chan struct{} // closed when Close has freed all
}

// slot is a container by name.
type slot struct {
	runs   []*run
	final  bool   // no run will follow
	noNext bool   // nor has one begun that no status told of yet
	seen   bool   // newest is known
	newest int32  // the number of its newest run that a status told of; -1: there was none
	image  string // of the newest run that a status told of while it was the current one

	nameless bool  // a run that has no ID has begun, by a status, and has not ended, by any
	which    int32 // its number
	before   int32 // runs before it that nobody saw
}

// Handle takes what a watch of the pod delivers: Added, Modified and Deleted with
// a *corev1.Pod, Error with a *metav1.Status whose Reason is Closed or OutOfScope, or
// Forbidden or Unauthorized: the API server refuses the watch, and without a [Runs] readers
// that wait for a run end with its refusal, until Fresh comes.
// Everything else is ignored, and so is what older versions of the pod say, but for
// their deletion. It does not block and keeps nothing of the object.
func (c *Capture) Handle(ev watch.Event) {
	switch o := ev.Object.(type) {
	case *corev1.Pod:
		if o != nil && o.Namespace == c.namespace && o.Name == c.name {
			c.handlePod(o, ev.Type == watch.Deleted)
		}
	case *metav1.Status:
		if ev.Type != watch.Error || o == nil {
			return
		}
		switch o.Reason {
		case reasonClosed:
			c.handleEnd(lifeClosed)
		case reasonOutOfScope:
			c.handleEnd(lifeBlind)
		case metav1.StatusReasonForbidden, metav1.StatusReasonUnauthorized:
			c.handleRefusal(o)
		case reasonFresh:
			c.handleRefusal(nil)
		}
	}
}

// handleRefusal notes with what the API server refuses the watch; nil: no more.
func (c *Capture) handleRefusal(s *metav1.Status) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = s.DeepCopy()
	c.changedLocked()
}

func (c *Capture) handlePod(p *corev1.Pod, deleted bool) {
	sights := sightings(p)
	work := c.ask(sights)

	c.mu.Lock()
	// A deletion that a watch missed comes with the last version that it had.
	older := c.isOlder(p)
	if c.closed || older && (!deleted || p.UID != c.uid) {
		c.mu.Unlock()
		return
	}
	found := len(c.order)
	if !older {
		c.take(p, sights, work)
	}
	c.deleted = c.deleted || deleted
	switch {
	case c.deleted:
		c.end(lifeGone)
		c.over = true
	case c.over: // a Drain knows of it what no handler will hear
		c.end(lifeClosed)
	}
	started := c.order[found:]
	c.changedLocked()
	c.mu.Unlock()
	for _, r := range started {
		c.s.start(r)
	}
}

// take takes in a version of the pod.
func (c *Capture) take(p *corev1.Pod, sights []sighting, work map[string]bool) {
	if c.uid != "" && c.uid != p.UID {
		c.end(lifeGone)
		c.slots, c.over, c.deleted = map[string]*slot{}, false, false
	}
	known := c.uid == p.UID && c.version != ""
	c.uid, c.version = p.UID, p.ResourceVersion
	c.done = podstatus.IsTerminal(p)
	for _, s := range sights {
		if c.slots[s.slot] == nil { // of which an earlier version had no status
			c.slots[s.slot] = &slot{seen: known, newest: -1}
		}
		c.see(s, work)
	}
	if p.DeletionTimestamp != nil {
		c.noteDying()
	}
}

// noteDying notes that the pod is deleted or is about to be.
func (c *Capture) noteDying() {
	for _, sl := range c.slots {
		for _, r := range sl.runs {
			if r.dying.IsZero() {
				r.dying = time.Now()
			}
		}
	}
}

// ask finds out which of the runs are work. Runs is asked without the lock.
func (c *Capture) ask(sights []sighting) map[string]bool {
	work := map[string]bool{}
	for _, s := range sights {
		for _, id := range []string{s.last, s.cur} {
			if id != "" {
				work[s.slot+"/"+id] = c.runs == nil || !c.runs.IsPlaceholder(s.slot, id)
			}
		}
	}
	return work
}

// isOlder says whether p is older than what is known.
func (c *Capture) isOlder(p *corev1.Pod) bool {
	if c.version == "" || p.ResourceVersion == c.version {
		return false
	}
	cmp, ok := podstatus.CompareVersions(p.ResourceVersion, c.version)
	return ok && cmp < 0
}

// see takes in what a status says of a slot.
func (c *Capture) see(s sighting, work map[string]bool) {
	sl := c.slots[s.slot]
	missed := int32(0) // between the runs that were seen
	if sl.seen {
		missed = max(0, s.newest()-sl.newest-1)
	}
	sl.seen, sl.newest, sl.final, sl.noNext = true, max(s.newest(), sl.newest), s.final, s.noNext
	c.seeNameless(sl, s, missed)
	for _, id := range []string{s.last, s.cur} {
		if id == "" || sl.find(id) != nil {
			continue
		}
		if id == s.last && s.cur != "" {
			missed = max(0, missed-1) // it is the last of them
		}
		if !work[s.slot+"/"+id] {
			continue
		}
		r := newRun(c, s.slot, id, s.number(id))
		r.missed, missed = missed, 0
		// The first run of an image is started again at once, should it end; a placeholder
		// has another image, though it may be the same by another name.
		r.first = s.all || r.log.number == 0 || id == s.cur && sl.image != "" && s.image != sl.image ||
			c.runs != nil && (id == s.last || s.last == "" || !work[s.slot+"/"+s.last])
		sl.runs = append(sl.runs, r)
		c.order = append(c.order, r)
	}
	if s.cur != "" {
		sl.image = s.image
	}
	for _, r := range sl.runs {
		switch r.id {
		case s.cur:
			r.at = s.curAt
		case s.last:
			r.at = s.lastAt
			r.waited = r.waited || s.waits
		}
		// Another's patch of the pod tells nothing new, and the kubelet may have said more.
		if l := s.life(r.id); l != r.told || r.toldAt.IsZero() {
			r.told, r.toldAt = l, time.Now()
			r.setLife(l)
		}
	}
}

// seeNameless takes in what a status says of a run that the node gives no ID: kwok and
// other virtual kubelets may not, nor does the kubelet of a plain init container whose
// status it lost (kubernetes v1.36.3 pkg/kubelet/kubelet_pods.go:2699). Requests for a log
// name no run, so without an ID nobody can tell whose log an answer is.
func (c *Capture) seeNameless(sl *slot, s sighting, missed int32) {
	switch {
	case !sl.nameless || s.restarts < sl.which:
	case s.restarts > sl.which, s.ended && s.cur == "":
		c.endNameless(s.slot, sl)
	case s.cur != "": // it got one
		sl.nameless = false
	}
	isKnown := func(r *run) bool { return r.log.number >= int(s.restarts) }
	if !s.begun || slices.ContainsFunc(sl.runs, isKnown) {
		return
	}
	if sl.nameless && sl.which == s.restarts {
		missed = sl.before // it was seen to begin
	}
	if sl.nameless, sl.which, sl.before = true, s.restarts, missed; s.ended {
		c.endNameless(s.slot, sl)
	}
}

// endNameless makes a run without an ID one of the runs: nothing of it is captured, which
// its certificate says.
func (c *Capture) endNameless(name string, sl *slot) {
	r := newRun(c, name, "", int(sl.which))
	r.life, r.missed = lifeEnded, sl.before
	sl.nameless, sl.runs, c.order = false, append(sl.runs, r), append(c.order, r)
}

func (sl *slot) find(id string) *run {
	for _, r := range sl.runs {
		if r.id == id {
			return r
		}
	}
	return nil
}

// setLife needs c.mu. Deleted and closed are for good.
func (r *run) setLife(l life) {
	if r.life == l || r.life == lifeGone || r.life == lifeClosed {
		return
	}
	was := r.life
	r.life, r.lifeAt = l, time.Now()
	if was == lifeAlive && (l == lifeEnded || l == lifePrevious) && r.mayHaveNexts() {
		r.kickStream() // it may go on for as long as that one runs
	}
	select {
	case r.poke <- struct{}{}:
	default:
	}
}

func (c *Capture) handleEnd(l life) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	found := len(c.order)
	c.end(l)
	if l == lifeClosed {
		c.over = true
	}
	started := c.order[found:]
	c.changedLocked()
	c.mu.Unlock()
	for _, r := range started {
		c.s.start(r)
	}
}

// end is the end of what will be heard of the pod.
func (c *Capture) end(l life) {
	if l == lifeGone {
		c.noteDying()
	}
	for name, sl := range c.slots {
		if sl.nameless && l != lifeBlind {
			c.endNameless(name, sl)
		}
		for _, r := range sl.runs {
			r.toldAt = time.Time{} // the next status is news, whatever it says
			switch {
			case l == lifeGone:
				r.setLife(lifeGone)
			case r.life == lifeAlive || (l == lifeClosed && r.life == lifeBlind):
				r.setLife(l)
				if l == lifeClosed {
					r.kickStream()
				}
			}
		}
	}
}

func (c *Capture) changed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.changedLocked()
}

func (c *Capture) changedLocked() {
	close(c.wake)
	c.wake = make(chan struct{})
}

// Drain first handles newest, the newest version of the pod that the caller knows
// (nil: none): its own handler may not have heard of it yet. Then it blocks until
// the capture of every run that has ended is final, and returns the certificates
// of all runs, in the order in which they were found; those of runs that go on say
// Live. A run that the node gave no ID has a certificate, too, when it has ended: one that
// is Incomplete, without a ContainerID. With an error, that of ctx or ErrClosed, it returns
// what is known by then. After Drain the pod can be deleted. Nothing is captured before
// [Streamer.Run].
//
// newest may be stale: it is compared with what Handle was given, by
// resourceVersion. It must be the captured pod, as podwatch's Tracking.Pod is, which is
// nil before Created: one that was got by its name may be a leftover of an earlier build,
// and is then captured. Of a pod that replaced another of the same name it ends the
// runs of the one before.
func (c *Capture) Drain(ctx context.Context, newest *corev1.Pod) ([]Certificate, error) {
	if newest != nil {
		c.Handle(watch.Event{Type: watch.Modified, Object: newest}) //nolint:contextcheck // captures outlive a Drain
	}
	for {
		c.mu.Lock()
		wake, closed, over := c.wake, c.closed, true
		runs := append([]*run(nil), c.order...)
		for _, r := range runs {
			if r.life != lifeAlive && r.life != lifeBlind && !r.log.isFinal() {
				over = false
			}
		}
		c.mu.Unlock()
		var err error
		switch {
		case closed: // whatever is final may be so because of that
			err = ErrClosed
		case over:
		case ctx.Err() != nil:
			err = context.Cause(ctx)
		default:
			select {
			case <-wake:
			case <-ctx.Done():
			}
			continue
		}
		certs := make([]Certificate, len(runs))
		for i, r := range runs {
			certs[i] = r.certificate()
		}
		return certs, err
	}
}

// Close ends the pod's readers and streams and frees its buffers. It blocks until
// that is done, whoever called it first; calling it again does nothing. It never fails.
func (c *Capture) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		<-c.gone
		return nil
	}
	c.closed = true
	runs := c.order
	causes := map[*Reader]error{}
	for r := range c.readers {
		causes[r] = c.closeCause(r.slot)
	}
	c.changedLocked()
	c.mu.Unlock()
	for r, cause := range causes {
		r.cancel(cause)
	}
	for _, r := range runs {
		r.close()
	}
	for _, r := range runs {
		<-r.done
		r.log.free()
	}
	c.s.counts.captures.Add(-1)
	close(c.gone)
	return nil
}

// closeCause is what Close ends a reader of slot with: the log of a slot that
// never ran is empty, and that reader misses nothing. It needs c.mu.
func (c *Capture) closeCause(slot string) error {
	sl := c.slots[slot]
	isOf := func(r *run) bool { return r.slot == slot }
	if sl != nil && sl.nameless || slices.ContainsFunc(c.order, isOf) {
		return ErrClosed
	}
	return io.EOF
}
