package nodelog

// event is what inotify tells of the directory of a log.
type event int

const (
	changed event = iota // or anything else that is no reason to open another file
	created              // the log's name has a file, or has one again
)

// watcher is a follower's inotify instance: it holds what happened since it was made
// and was not taken yet, one event after the other. Changes in a row are one, as in
// the kernel.
type watcher struct {
	log  *Log
	more chan struct{} // capacity 1: there is an event, or a reason to ask again

	events []event // guarded by the log's lock
}

// watch gives a follower its watcher, which hears of nothing once the follower is closed.
func (r *Reader) watch() {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	r.watcher = &watcher{log: l, more: make(chan struct{}, 1)}
	select {
	case <-r.closed:
	default:
		l.watchers[r.watcher] = struct{}{}
	}
}

// unwatch lets a follower's watcher go, if there is one.
func (r *Reader) unwatch() {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	delete(r.log.watchers, r.watcher)
}

// next takes the oldest event.
func (w *watcher) next() (e event, ok bool) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	if len(w.events) == 0 {
		return 0, false
	}
	e = w.events[0]
	w.events = w.events[1:]
	return e, true
}

// tell tells the followers what happened. Called with the lock held.
func (l *Log) tell(e event) {
	for w := range l.watchers {
		if n := len(w.events); n == 0 || e != changed || w.events[n-1] != changed {
			w.events = append(w.events, e)
		}
		w.signal()
	}
}

// wake has the followers ask again what they ask at the end of a file. Called with the
// lock held.
func (l *Log) wake() {
	for w := range l.watchers {
		w.signal()
	}
}

// Wake has the followers that wait ask ReadOptions.AtEnd again.
func (l *Log) Wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wake()
}

func (w *watcher) signal() {
	select {
	case w.more <- struct{}{}:
	default:
	}
}
