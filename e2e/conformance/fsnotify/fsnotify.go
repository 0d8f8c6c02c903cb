// Package fsnotify stands in for github.com/fsnotify/fsnotify where tests run in
// virtual time: a goroutine that waits for the kernel keeps a testing/synctest bubble
// from ever being idle. Whoever changes a file tells of it.
package fsnotify

import (
	"path/filepath"
	"sync"
)

// Op is what happened to a file.
type Op uint32

// The operations, as in the original.
const (
	Create Op = 1 << iota
	Write
	Remove
	Rename
	Chmod
)

// Event is one operation on one file of a watched directory.
type Event struct {
	Name string
	Op   Op
}

// Watcher delivers the events of directories, in order, none lost. Equal ones in a
// row are one, as with inotify.
type Watcher struct {
	Events chan Event
	Errors chan error

	mu    sync.Mutex
	queue []Event
	wake  chan struct{}
	done  chan struct{}
	once  sync.Once
	over  sync.WaitGroup
}

var (
	mu       sync.Mutex
	watchers = map[string]map[*Watcher]struct{}{} // by directory
)

// NewWatcher makes a watcher of nothing.
func NewWatcher() (*Watcher, error) {
	w := &Watcher{
		Events: make(chan Event), Errors: make(chan error),
		wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	w.over.Go(w.pump)
	return w, nil
}

// Add watches a directory.
func (w *Watcher) Add(dir string) error {
	mu.Lock()
	defer mu.Unlock()
	dir = filepath.Clean(dir)
	if watchers[dir] == nil {
		watchers[dir] = map[*Watcher]struct{}{}
	}
	watchers[dir][w] = struct{}{}
	return nil
}

// Close ends the watcher.
func (w *Watcher) Close() error {
	mu.Lock()
	for dir, set := range watchers {
		if delete(set, w); len(set) == 0 {
			delete(watchers, dir)
		}
	}
	mu.Unlock()
	w.once.Do(func() { close(w.done) })
	w.over.Wait()
	return nil
}

// Tell tells every watcher of name's directory what happened to name.
func Tell(name string, op Op) {
	mu.Lock()
	defer mu.Unlock()
	for w := range watchers[filepath.Dir(name)] {
		w.push(Event{name, op})
	}
}

func (w *Watcher) push(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.queue); n > 0 && w.queue[n-1] == e {
		return
	}
	w.queue = append(w.queue, e)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *Watcher) pump() {
	for {
		w.mu.Lock()
		var e Event
		some := len(w.queue) > 0
		if some {
			e, w.queue = w.queue[0], w.queue[1:]
		}
		w.mu.Unlock()
		if !some {
			select {
			case <-w.wake:
				continue
			case <-w.done:
				return
			}
		}
		select {
		case w.Events <- e:
		case <-w.done:
			return
		}
	}
}
