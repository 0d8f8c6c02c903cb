package testutil

import (
	"bytes"
	"io"
	"slices"
	"sync"
	"time"
)

const (
	// maxRecord is where containerd cuts a long line (max_container_log_line_size).
	maxRecord = 16384
	// recordOverhead is what a record takes in its file beside its text: the time,
	// "stdout", "F" or "P", spaces and the newline.
	recordOverhead = 41
)

// logRecord is one line of a log file as the runtime writes it: a line of the
// program, or a part of one (partial: the line goes on in the next record).
type logRecord struct {
	time    time.Time
	data    []byte
	partial bool
}

// logFile is one file of a container's log: an inode, whatever its name.
type logFile struct {
	records []logRecord
	size    int64
}

// rotatedFile is a file that no longer has the log's own name.
type rotatedFile struct {
	*logFile
	name string
	gzip bool
}

// containerLog is the log of one container. Its runtime writes to one file, its
// kubelet gives files other names and reads the one that has the log's name. The
// two are not always the same file: see [containerLog.rotate].
type containerLog struct {
	stamp func(now time.Time, i int) time.Time // of the i-th record

	mu       sync.Mutex
	line     []byte        // begun, not ended
	count    int           // of records
	closed   bool          // the container is dead
	out      *logFile      // that the runtime writes to
	current  *logFile      // that has the log's name; nil while none has
	rotated  []rotatedFile // oldest first
	watchers map[*logWatcher]bool
}

// newContainerLog is the log of a new container; a nil stamp is containerd's, which
// asks the clock for each record: no two have one time, even where time stands still.
func newContainerLog(stamp func(time.Time, int) time.Time) *containerLog {
	if stamp == nil {
		var last time.Time
		stamp = func(now time.Time, _ int) time.Time {
			last = latest(now, last.Add(1))
			return last
		}
	}
	f := &logFile{}
	return &containerLog{stamp: stamp, out: f, current: f, watchers: map[*logWatcher]bool{}}
}

// Write is the program's. A line is in the file once it ends or is too long: a
// prompt without a newline is not there yet.
func (l *containerLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
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
	l.tell(fileWritten)
	return n, nil
}

// add moves the line to the file. Called with the lock held.
func (l *containerLog) add(partial bool) {
	at := l.stamp(time.Now(), l.count)
	l.count++
	l.out.records = append(l.out.records, logRecord{time: at, data: l.line, partial: partial})
	l.out.size += int64(len(l.line)) + recordOverhead
	l.line = nil
}

// close ends the log. A last line without a newline is a partial record: it
// comes back without a newline.
func (l *containerLog) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	l.closed = true
}

// flush writes what there is of a line. Called with the lock held.
func (l *containerLog) flush() {
	if len(l.line) > 0 {
		l.add(true)
		l.tell(fileWritten)
	}
}

// open is the file that has the log's name, nil while none has.
func (l *containerLog) open() *logFile {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}

// from returns the records of one of the log's files from the i-th on.
func (l *containerLog) from(f *logFile, i int) []logRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f.records[i:len(f.records):len(f.records)]
}

// fileEvent is what inotify tells of the directory of a log.
type fileEvent int

const (
	fileWritten   fileEvent = iota // or anything else that is no reason to open another file
	fileRecreated                  // the log's name has a file again
)

// logWatcher is a follower's inotify instance: it holds what happened since it
// was made and was not taken yet, one event after the other. Equal events in a
// row are one, as in the kernel.
type logWatcher struct {
	log    *containerLog
	more   chan struct{} // capacity 1
	events []fileEvent
	waited bool // for more, at least once; the follower's own
}

func (l *containerLog) watch() *logWatcher {
	w := &logWatcher{log: l, more: make(chan struct{}, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.watchers[w] = true
	return w
}

func (w *logWatcher) close() {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	delete(w.log.watchers, w)
}

// next takes the oldest event.
func (w *logWatcher) next() (e fileEvent, ok bool) {
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
func (l *containerLog) tell(e fileEvent) {
	for w := range l.watchers {
		if n := len(w.events); n == 0 || w.events[n-1] != e {
			w.events = append(w.events, e)
		}
		signal(w.more)
	}
}

// LogFile is one file of a container's log on its node.
type LogFile struct {
	Name string // 0.log, 0.log.20000101-000010 or 0.log.20000101-000000.gz
	Text string // what the container printed to it
	Size int64  // in bytes, uncompressed, times and tags included
}

// LogFiles returns the files of a container's log, the current one last; it may
// not be there for a moment. Of a container that was removed there are none.
func (c *Cluster) LogFiles(containerID string) []LogFile {
	it := c.node.runtime.named(containerID)
	if it == nil {
		return nil
	}
	l := it.log
	l.mu.Lock()
	defer l.mu.Unlock()
	files := slices.Clone(l.rotated)
	if l.current != nil {
		files = append(files, rotatedFile{logFile: l.current, name: it.logName()})
	}
	var all []LogFile
	for _, f := range files {
		all = append(all, LogFile{Name: f.name, Text: f.text(), Size: f.size})
	}
	return all
}

func (f *logFile) text() string {
	var b []byte
	for _, r := range f.records {
		if b = append(b, r.data...); !r.partial {
			b = append(b, '\n')
		}
	}
	return string(b)
}
