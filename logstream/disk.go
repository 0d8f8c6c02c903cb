package logstream

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"
)

// A disk may be slow, refuse, or hang. Every call of it is made by a goroutine of its own
// that holds no lock, so whoever has no need of the disk does not wait for it.
const (
	// maxWrites is how many chunks a run that holds an equal part of the memory or more has
	// written at a time, all such runs together; the others have spareWrites on top. They
	// are in memory until they are written.
	maxWrites   = 32
	spareWrites = 8

	// writePatience is for how long none of the writes in flight ends until the disk is
	// taken to hang: what has to wait for one is dropped from then on.
	writePatience = 2 * time.Second
	// readPatience is for how long a read waits for the disk.
	readPatience = 5 * time.Second
	// mostHung is how many calls of the disk may hang with nobody waiting for them any
	// more. Past it the disk is not even asked.
	mostHung = 4
	// diskRetry is for how long a disk that refused is left alone.
	diskRetry = 10 * time.Second
)

var (
	errWriteHangs = fmt.Errorf("the disk has taken nothing for %v: %w", writePatience, os.ErrDeadlineExceeded)
	errReadHangs  = fmt.Errorf("the disk has given nothing back for %v: %w", readPatience, os.ErrDeadlineExceeded)
)

type spillFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// createSpill makes a file that nothing leaves behind, however the process ends.
func createSpill(dir string) (spillFile, error) {
	f, err := os.CreateTemp(dir, "logstream-") // mode 0600
	if err != nil {
		return nil, err
	}
	_ = os.Remove(f.Name())
	return f, nil
}

// spill is a file of slots, each as large as a chunk. It is made by the first write to it.
type spill struct {
	ready chan struct{} // closed when file and err are set
	file  spillFile
	err   error

	// Guarded by store.mu.
	made     bool    // or being made
	free     []int64 // free slots
	slots    int64   // slots it has
	used     int64   // slots in use
	again    int     // slots written again, or being
	againOne bool    // one was
}

// open makes the file if nobody did.
func (f *spill) open(makes bool, create func() (spillFile, error)) error {
	if makes {
		f.file, f.err = create()
		close(f.ready)
	}
	<-f.ready
	return f.err
}

// takeSlot returns a slot that is not in use.
func (f *spill) takeSlot() (slot int64) {
	f.used++
	if n := len(f.free); n > 0 {
		slot, f.free = f.free[n-1], f.free[:n-1]
		return slot
	}
	f.slots++
	return f.slots - 1
}

// isTried reports whether a slot is being written again for the first time: a file may
// refuse that, and every try costs what was in the slot.
func (f *spill) isTried() bool { return f.again > 0 && !f.againOne }

// flight is a write that was begun: of a chunk, or of zeros, to see whether the disk works.
type flight struct {
	file    *spill
	slot    int64
	grows   bool // the slot is a new one
	makes   bool // so is the file
	chunk   *chunk
	data    []byte
	refusal int64 // how often the disk had refused before
}

// diskHealth is what is known of the disk. Guarded by store.mu.
type diskHealth struct {
	writes   int       // in flight
	endedAt  time.Time // when one ended last, or when the first of them began
	watched  bool      // a timer looks at them
	stalled  bool      // none has ended for writePatience
	refusals int64     // of a write, ever
	errs     int64     // and with them, of a read
	refused  error     // what it said last, as long as it is not known to work again
	triedAt  time.Time // when it said that
	growAt   time.Time // until then it has no room for another slot
	spillAt  time.Time // until then it takes nothing at all
}

// watch looks whether the disk works, now and, when it has refused, until it does again.
func (s *store) watch(ctx context.Context) {
	if s.diskLimit < chunkSize {
		return
	}
	for ctx.Err() == nil {
		s.check()
		select {
		case <-s.trouble:
		case <-ctx.Done():
			continue
		}
		t := time.NewTimer(diskRetry)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
		}
	}
}

// flush waits for all writes but those that hang.
func (s *store) flush() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.health.writes > 0 && !s.health.stalled {
		s.wait()
	}
	s.wake()
}

// check writes a chunk that nobody needs: to the file that there is, or to one of its own.
func (s *store) check() {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &s.health
	if h.writes >= s.maxWrites || h.refused != nil && time.Since(h.triedAt) < diskRetry {
		s.alert() // it was tried meanwhile, or is; another try, in time
		return
	}
	file := s.spill
	if file == nil {
		file = &spill{ready: make(chan struct{})}
	}
	s.write(nil, flight{file: file, slot: file.takeSlot(), grows: true})
}

// write begins to write c to a slot; nil: zeros.
func (s *store) write(c *chunk, f flight) {
	h := &s.health
	f.makes, f.file.made = !f.file.made, true
	if f.refusal = h.refusals; c != nil {
		s.take(c, inMemory)
		s.put(c, onDisk)
		s.disk += chunkSize
		s.inFlight += int64(len(c.data))
		c.writing, f.chunk, f.data = true, c, c.data
	}
	if !f.grows {
		f.file.again++
	}
	if h.writes++; h.writes == 1 {
		h.endedAt = time.Now()
		s.watchWrites()
	}
	create, n := s.create, chunkSize
	if c != nil {
		n = c.n
	}
	go func() {
		err := f.file.open(f.makes, create)
		if err == nil {
			data := f.data
			if data == nil {
				data = make([]byte, chunkSize)
			}
			_, err = f.file.file.WriteAt(data[:n], f.slot*chunkSize)
		}
		if tidy := s.written(f, err); tidy != nil {
			tidy()
		}
	}()
}

// watchWrites has the writes in flight looked at, unless one ends.
func (s *store) watchWrites() {
	h := &s.health
	if h.watched {
		return
	}
	h.watched = true
	time.AfterFunc(writePatience-time.Since(h.endedAt), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		h.watched = false
		switch {
		case h.writes == 0 || h.stalled:
		case time.Since(h.endedAt) < writePatience:
			s.watchWrites()
		default:
			h.stalled = true
			s.refuse(errWriteHangs)
			s.wake()
		}
	})
}

// written is the end of a write. It returns what is to be done with no lock held.
func (s *store) written(f flight, err error) (tidy func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, c := &s.health, f.chunk
	stalled := h.stalled
	h.endedAt, h.stalled = time.Now(), false
	if h.writes--; stalled && h.writes > 0 {
		s.watchWrites()
	}
	if !f.grows {
		f.file.again--
		f.file.againOne = f.file.againOne || err == nil
	}
	switch {
	case err == nil:
		room := s.disk+chunkSize <= s.diskLimit
		if (f.grows || !room) && (stalled || f.refusal == h.refusals) {
			s.works()
		}
	case f.grows && s.chunks[onDisk] > 0: // the slots in use have to do
		h.growAt = s.refuse(err)
	default: // what is there may be read yet: it stays
		h.spillAt = s.refuse(err)
	}
	if c == nil {
		s.wake()
		return s.leaveSlots(f.file, 1, f.slot)
	}
	c.writing = false
	s.inFlight -= int64(len(f.data))
	kept := c.elem != nil
	switch {
	case !kept: // it was freed meanwhile
		s.disk -= chunkSize
		s.mem -= int64(len(f.data))
		s.give(f.data)
	case err == nil:
		c.mu.Lock()
		c.data, c.file, c.slot = nil, f.file, f.slot
		c.mu.Unlock()
		s.mem -= int64(len(f.data))
		s.give(f.data)
	default:
		s.disk -= chunkSize
		s.take(c, onDisk)
		s.put(c, inMemory)
	}
	s.fit(0, c.of)
	s.wake()
	if kept && err == nil {
		return nil
	}
	return s.leaveSlots(f.file, 1, f.slot)
}

// leaveSlots is the end of n slots of f. It needs s.mu, and returns what is to be done
// without: to give those slots back that may be used again. The file goes with the last one
// that was in use: unlinked, it is gone then.
func (s *store) leaveSlots(f *spill, n int, slots ...int64) (tidy func()) {
	f.used -= int64(n)
	empty := f.used == 0
	if empty && f == s.spill {
		s.spill = nil
	}
	return func() {
		asked := f.file == nil || s.within(writePatience, func() {
			if empty {
				_ = f.file.Close()
				return
			}
			punchAll(f.file, slots)
			s.freeSlots(f, slots)
		})
		if !asked { // what they took of the disk stays with them
			s.freeSlots(f, slots)
		}
	}
}

func (s *store) freeSlots(f *spill, slots []int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f.free = append(f.free, slots...)
}

// punchAll gives back what slots took of the disk.
func punchAll(f spillFile, slots []int64) {
	for i := 0; i < len(slots); {
		n := 1 // side by side: one call for all of them
		for i+n < len(slots) && slots[i+n] == slots[i]+int64(n) {
			n++
		}
		punch(f, slots[i]*chunkSize, int64(n)*chunkSize)
		i += n
	}
}

// refuse notes that the disk refused, and returns until when to leave it alone.
func (s *store) refuse(err error) time.Time {
	h := &s.health
	h.refusals++
	h.errs++
	if h.refused == nil {
		s.tell(err)
	}
	h.refused, h.triedAt = err, time.Now()
	s.alert()
	return h.triedAt.Add(diskRetry)
}

// works notes that the disk took what it was given.
func (s *store) works() {
	h := &s.health
	if h.refused != nil {
		s.tell(nil)
	}
	h.refused, h.growAt, h.spillAt = nil, time.Time{}, time.Time{}
}

// alert wakes watch.
func (s *store) alert() {
	select {
	case s.trouble <- struct{}{}:
	default:
	}
}

// within runs f, which asks the disk, and reports whether it ended within d. When it does
// not, it goes on; and when too many do, it is not run at all.
func (s *store) within(d time.Duration, f func()) bool {
	if s.hung.Load() >= mostHung {
		return false
	}
	ended, left := make(chan struct{}), make(chan struct{})
	go func() {
		f()
		select {
		case ended <- struct{}{}:
		case <-left:
			s.hung.Add(-1)
		}
	}()
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		s.hung.Add(1)
		close(left)
		return false
	}
}

// readSlot reads what is at off of a slot. The disk may be in the buffer for longer than
// anybody waits for it, so it gets one of its own.
func (s *store) readSlot(f *spill, slot int64, p []byte, off int) (n int, err error) {
	p = p[:min(len(p), chunkSize-off)]
	b, got, failed := s.buffer(), 0, error(nil)
	if !s.within(readPatience, func() { got, failed = f.file.ReadAt(b[:len(p)], slot*chunkSize+int64(off)) }) {
		return 0, errReadHangs
	}
	n = copy(p, b[:got])
	s.give(b)
	return n, failed
}
