package testutil

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// maxRecord is where containerd cuts a long line (max_container_log_line_size).
const maxRecord = 16384

// logRecord is one line of a log file as the runtime writes it: a line of the
// program, or a part of one (partial: the line goes on in the next record).
type logRecord struct {
	time    time.Time
	data    []byte
	partial bool
}

// logFile is the log of one container: what the program writes goes in, line by
// line; what the kubelet reads comes out.
type logFile struct {
	mu      sync.Mutex
	records []logRecord
	line    []byte        // begun, not ended
	closed  bool          // the container is dead
	changed chan struct{} // closed by the next write
}

func newLogFile() *logFile { return &logFile{changed: make(chan struct{})} }

// Write is the program's. A line is in the file once it ends or is too long: a
// prompt without a newline is not there yet.
func (f *logFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, io.ErrClosedPipe
	}
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n')
		part := p
		if end >= 0 {
			part = p[:end]
		}
		if room := maxRecord - len(f.line); len(part) > room {
			f.line = append(f.line, part[:room]...)
			f.add(true)
			p = p[room:]
			continue
		}
		f.line = append(f.line, part...)
		if p = p[len(part):]; end >= 0 {
			f.add(false)
			p = p[1:]
		}
	}
	return n, nil
}

// add moves the line to the file. Called with the lock held.
func (f *logFile) add(partial bool) {
	f.records = append(f.records, logRecord{time: time.Now(), data: f.line, partial: partial})
	f.line = nil
	close(f.changed)
	f.changed = make(chan struct{})
}

// close ends the file. A last line without a newline is a partial record: it
// comes back without a newline.
func (f *logFile) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.line) > 0 {
		f.add(true)
	}
	f.closed = true
}

// from returns the records from the i-th on, and a channel closed by the next.
func (f *logFile) from(i int) ([]logRecord, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records[i:len(f.records):len(f.records)], f.changed
}
