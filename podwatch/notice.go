package podwatch

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"
)

// maxNotices bounds the notices that wait for a slow Notify.
const maxNotices = 1024

// note raises a notice. It needs mu held, and is called in the section that
// changes what the notice is about, so that the notices come in the order in
// which things happened. Of those that wait the oldest are dropped when they are
// too many: what is told last holds.
func (w *Watcher) note(n Notice) {
	if w.opts.Notify == nil || w.phase == stopped {
		return
	}
	if len(w.notices) == maxNotices {
		w.notices = slices.Delete(w.notices, 0, 1)
		w.stats.NoticesDropped++
	}
	w.notices = append(w.notices, n)
	w.tell()
}

// tell sees to it that somebody tells the notices; it needs mu held.
func (w *Watcher) tell() {
	if w.phase == running && !w.telling && len(w.notices) > 0 {
		w.telling = true
		w.wg.Go(w.notify)
	}
}

// notify calls Notify, one call at a time, until no notice waits.
func (w *Watcher) notify() {
	for {
		w.mu.Lock()
		if len(w.notices) == 0 {
			w.notices, w.telling = nil, false
			w.mu.Unlock()
			return
		}
		n := w.notices[0]
		w.notices = slices.Delete(w.notices, 0, 1)
		w.mu.Unlock()
		w.opts.Notify(n)
	}
}

// notePod raises a notice about a tracked pod; it needs mu held.
func (w *Watcher) notePod(k NoticeKind, key types.NamespacedName, err error) {
	w.note(Notice{Kind: k, Resource: podResource, Namespace: key.Namespace, Name: key.Name, Err: err})
}

// raise raises a notice about the tracking's pod that [NoticeSettled] will close;
// it needs mu held, as settled does.
func (t *Tracking) raise(k NoticeKind, err error) {
	t.settled()
	t.open = k
	t.w.notePod(k, t.key, err)
}

// settled says that what was raised about the tracking's pod no longer holds.
func (t *Tracking) settled() {
	if t.open != "" {
		t.open = ""
		t.w.notePod(NoticeSettled, t.key, nil)
	}
}

// caughtUp says that the tracking's handlers have taken all that waits, if they
// have and were slow before. It holds the lock under which things come to wait,
// so that this notice and those of the next delay keep their order.
func (t *Tracking) caughtUp() {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	if t.box.forgive() {
		t.w.notePod(NoticeCaughtUp, t.key, nil)
	}
}
