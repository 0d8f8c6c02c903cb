package podwatch

// firstLists says how far the first lists have come, to those that wait for them.
// The core's mutex guards it.
type firstLists struct {
	changed chan struct{}    // closed and replaced with every change
	synced  bool             // the lists that are needed have been handed on
	denied  map[string]error // by resource: refused before it was ever listed
}

func newFirstLists() *firstLists {
	return &firstLists{changed: make(chan struct{}), denied: map[string]error{}}
}

func (l *firstLists) deny(resource string, err error) {
	l.denied[resource] = err
	l.broadcast()
}

func (l *firstLists) grant(resource string) { delete(l.denied, resource) }

func (l *firstLists) done() {
	l.synced = true
	l.broadcast()
}

// broadcast wakes those who wait for a change.
func (l *firstLists) broadcast() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// refusal returns why the first lists cannot come about, or nil.
func (l *firstLists) refusal(mode EventMode) error {
	if err := l.denied[podResource]; err != nil {
		return err
	}
	if mode == EventsRequired {
		return l.denied[eventResource]
	}
	return nil
}
