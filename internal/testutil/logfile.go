package testutil

import (
	"bytes"
	"sync"
	"time"
)

// logFile is a container's log as the runtime writes it: a record a line, each
// with the time at which its line was complete. What a program prints without a
// newline becomes a record when the program ends, as with containerd.
type logFile struct {
	mu      sync.Mutex
	records []record
	partial []byte
	closed  bool
	changed chan struct{} // closed by the next record
}

type record struct {
	time time.Time
	text []byte // with its newline, if it has one
}

func newLogFile() *logFile { return &logFile{changed: make(chan struct{})} }

// Write never fails and never blocks; after the run's end it drops.
func (f *logFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return len(p), nil
	}
	f.partial = append(f.partial, p...)
	for {
		i := bytes.IndexByte(f.partial, '\n')
		if i < 0 {
			return len(p), nil
		}
		f.add(f.partial[:i+1])
		f.partial = f.partial[i+1:]
	}
}

func (f *logFile) add(text []byte) {
	f.records = append(f.records, record{time.Now(), bytes.Clone(text)})
	close(f.changed)
	f.changed = make(chan struct{})
}

func (f *logFile) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.partial) > 0 {
		f.add(f.partial)
		f.partial = nil
	}
	f.closed = true
}

// from returns the records from the nth on, and what the next one closes.
func (f *logFile) from(n int) ([]record, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records[n:], f.changed
}
