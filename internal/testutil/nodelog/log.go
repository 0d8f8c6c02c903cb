package nodelog

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxRecord is where containerd cuts a long line (max_container_log_line_size,
// containerd internal/cri/config/config_unix.go:102).
const maxRecord = 16384

// Options of a Log.
type Options struct {
	ID   string // of the container: containerd://...
	Path string // of the current file

	// Clock, if set, stamps the records of Write. It is given the time in UTC. nil: now,
	// and no two records have the same time, as with containerd.
	Clock Clock

	// Notice is how long after the container's end a follower that waits learns of it:
	// the kubelet asks the runtime once a second (logs.go:62, 487).
	Notice time.Duration

	// Disk, if set, is told of all that happens to the files, in order.
	Disk Disk
}

// A Disk does to real files what happens to the files of a Log. Names have no
// directory. It is called with the log's lock held.
type Disk interface {
	Create(name string)
	Append(name string, data []byte)
	Rename(from, to string) // replaces what has the name already
	Remove(name string)
	Truncate(name string) // to nothing
}

// noDisk is no Disk.
type noDisk struct{}

func (noDisk) Create(string)         {}
func (noDisk) Append(string, []byte) {}
func (noDisk) Rename(string, string) {}
func (noDisk) Remove(string)         {}
func (noDisk) Truncate(string)       {}

// file is one file of a log: an inode, which has a name as long as it is not removed.
type file struct {
	name    string
	data    []byte // never changed in place
	emptied int    // how often
}

// Log is the log of one container. Its runtime writes to one file; its kubelet gives
// files other names, and reads the one that has the log's own name. The two are not
// always the same file. All methods may be called from many goroutines.
type Log struct {
	o    Options
	name string // of the current file

	mu       sync.Mutex
	line     []byte // begun by Write, not ended
	count    int    // of records of Write
	turns    int    // to another file
	ended    time.Time
	removed  bool
	answer   func() error // see Answer
	out      *file        // that the runtime writes to
	current  *file        // that has the log's name; nil while none has
	rotated  []*file      // oldest first
	watchers map[*watcher]struct{}
}

// New is the log of a container that begins to run: one empty file.
func New(o Options) *Log {
	if o.Clock == nil {
		var last time.Time
		o.Clock = func(now time.Time, _, _ int) time.Time {
			if !now.After(last) {
				now = last.Add(1)
			}
			last = now
			return last
		}
	}
	if o.Disk == nil {
		o.Disk = noDisk{}
	}
	l := &Log{o: o, name: path.Base(o.Path), watchers: map[*watcher]struct{}{}}
	l.create()
	l.out = l.current
	return l
}

// create makes the file that has the log's name. Called with the lock held.
func (l *Log) create() {
	l.current = &file{name: l.name}
	l.o.Disk.Create(l.name)
	l.tell(created)
}

// append writes to a file, which may have another name by now, or none. Called with
// the lock held.
func (l *Log) append(f *file, b []byte) {
	f.data = append(f.data, b...)
	if f.name != "" {
		l.o.Disk.Append(f.name, b)
		l.tell(changed)
	}
}

// rename gives a file another name. A file that has that name already loses it.
// Called with the lock held.
func (l *Log) rename(f *file, name string) {
	l.rotated = slices.DeleteFunc(l.rotated, func(other *file) bool {
		if other == f || other.name != name {
			return false
		}
		other.name = ""
		return true
	})
	l.o.Disk.Rename(f.name, name)
	f.name = name
	l.tell(changed)
	if name == l.name {
		l.tell(created)
	}
}

// remove takes a file its name. Called with the lock held.
func (l *Log) remove(f *file) {
	l.o.Disk.Remove(f.name)
	f.name = ""
	l.tell(changed)
}

// Write is the program's output, as containerd takes it. A line is in the file once it
// ends or is too long: a prompt without a newline is not there yet. It fails after the
// container's end.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended.IsZero() {
		return 0, io.ErrClosedPipe
	}
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		part := p
		if end >= 0 {
			part = p[:end]
		}
		if room := maxRecord - len(l.line); len(part) > room {
			l.line = append(l.line, part[:room]...)
			l.add(true)
			p = p[room:]
			continue
		}
		l.line = append(l.line, part...)
		if p = p[len(part):]; end >= 0 {
			l.add(false)
			p = p[1:]
		}
	}
	return n, nil
}

// add moves the line that was begun to the file. Called with the lock held.
func (l *Log) add(partial bool) {
	r := Record{At: l.o.Clock(time.Now().UTC(), l.count, l.turns), Partial: partial, Text: string(l.line)}
	l.count++
	l.line = l.line[:0]
	l.append(l.out, r.raw(nil))
}

// flush writes what was begun of a line: it comes back without a newline. Called with
// the lock held.
func (l *Log) flush() {
	if len(l.line) > 0 {
		l.add(true)
	}
}

// Append writes records, each by itself, as a runtime does that has stamped them.
func (l *Log) Append(rs ...Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range rs {
		l.append(l.out, r.raw(nil))
	}
}

// Tear writes bytes that are no whole record: one whose end never gets to the file,
// or anything else.
func (l *Log) Tear(raw string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.append(l.out, []byte(raw))
}

// Exit is the end of the container. All that it wrote is in the log before anybody
// can learn of it.
func (l *Log) Exit() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended.IsZero() {
		l.flush()
		l.ended = time.Now()
		l.wake()
	}
}

// Remove removes the container and its log, as the kubelet's garbage collection does
// (kubernetes v1.36.3 pkg/kubelet/kuberuntime/kuberuntime_container.go:1381-1398).
func (l *Log) Remove() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removed = true
	for _, f := range l.rotated {
		l.remove(f)
	}
	if l.current != nil {
		l.remove(l.current)
	}
	l.current, l.rotated = nil, nil
	l.wake()
}

// Answer sets what the runtime answers to questions for the container's status, if
// not that status: an error ends a follow, with its words (logs.go:369). To followers a
// runtime that is out of reach is one whose containers run (logs.go:433-438): f returns
// nil for it. f is called without the log's lock; a nil f: the status again.
func (l *Log) Answer(f func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = f
	l.wake()
}

// Running reports whether the container runs, whatever the runtime answers.
func (l *Log) Running() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended.IsZero() && !l.removed
}

// Status is what the runtime answers to questions for the container's status.
func (l *Log) Status() (running bool, err error) { return l.status(false) }

// status is Status for a follower. That the container is dead is known at once
// to whoever has not waited yet, to others after some time.
func (l *Log) status(waited bool) (running bool, err error) {
	l.mu.Lock()
	answer := l.answer
	switch {
	case l.removed:
		err = fmt.Errorf("rpc error: code = NotFound desc = an error occurred when try to find container %q: not found",
			l.o.ID[strings.LastIndexByte(l.o.ID, '/')+1:])
	case l.ended.IsZero() || waited && time.Since(l.ended) < l.o.Notice:
		running = true
	}
	l.mu.Unlock()
	if answer != nil {
		if err := answer(); err != nil {
			return false, err
		}
	}
	return running, err
}

// notices is how long it takes until a follower that waits learns of the container's
// end; ended is false before that.
func (l *Log) notices() (d time.Duration, ended bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.o.Notice - time.Since(l.ended), !l.ended.IsZero()
}

// File is one file of a log.
type File struct {
	Name string // 0.log, 0.log.20000101-000010 or 0.log.20000101-000000.gz
	Text string // what the container printed to it
	Size int64  // in bytes, uncompressed, times and tags included
}

// Files are the files that have names, the current one last; it may not be there for
// a moment.
func (l *Log) Files() (all []File) {
	l.mu.Lock()
	defer l.mu.Unlock()
	files := slices.Clone(l.rotated)
	if l.current != nil {
		files = append(files, l.current)
	}
	for _, f := range files {
		all = append(all, File{Name: f.name, Text: lines(f.data), Size: int64(len(f.data))})
	}
	return all
}

// Size is that of the current file, in bytes; ok is false while there is none.
func (l *Log) Size() (size int64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		return 0, false
	}
	return int64(len(l.current.data)), true
}
