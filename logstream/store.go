package logstream

import (
	"container/list"
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Log bytes live in chunks. A run's first chunk starts small and grows, so that
// ten thousand runs of a few lines stay cheap; the others are of full size.
const (
	chunkSize  = 64 << 10
	chunkFirst = 512
	chunkSmall = 4 << 10 // a finished run keeps as little as this in memory: a slot takes chunkSize
)

// diskRetry is how long a disk that refused is left alone.
const diskRetry = 10 * time.Second

// errDropped: the bytes asked for are no longer kept.
var errDropped = errors.New("logstream: no longer kept")

// errBudget is why output is dropped where the disk is not to blame.
var errBudget = errors.New("the budget of memory and disk is used up")

// graver returns the one of two reasons for a loss that a person has to know: that the
// disk failed rather than that the budget is used up, else the first.
func graver(a, b error) error {
	if a == nil || errors.Is(a, errBudget) && b != nil {
		return b
	}
	return a
}

// chunk is a piece of one run's log. Its place changes over its life: in memory,
// in the spill file, dropped. n and what is above mu belong to the run's lock.
type chunk struct {
	of    *share
	start int64  // where it begins in the run's log
	base  uint64 // lines before it
	first int64  // newest timestamp before it
	times span   // of the lines that begin in it, and perhaps of their neighbours
	top   int64  // the newest of these up to its end

	mu   sync.RWMutex // guards data, slot, lost
	data []byte       // full length allocated; nil unless in memory
	n    int          // bytes used; fixed once sealed
	slot int64        // in the spill file; -1: none
	lost error        // why it was dropped; nil: it was not

	elem *list.Element // in one of its share's lists; guarded by store.mu
}

// level is where a sealed chunk is.
type level int

const (
	inMemory level = iota
	onDisk
)

// share is what one run holds. Guarded by store.mu.
type share struct {
	sealed [2]list.List     // its sealed chunks, oldest first
	lost   error            // the gravest reason for which some were dropped; nil: none was
	tell   func(lost error) // is told of lost; nil: nobody is. It does not block.
}

// store is the budget of all runs of a Streamer: memory first, then one unlinked
// file of equal slots, then what is oldest is dropped.
type store struct {
	memLimit, diskLimit int64
	create              func() (spillFile, error)
	tell                func(err error) // is told that the disk refuses, and (nil) that it works again; it does not block
	gaps                atomic.Int64    // noticed in all logs; all that a run lost counts as one

	mu      sync.Mutex
	mem     int64
	disk    int64
	dropped int64 // bytes, ever
	errs    int64 // of the disk, ever
	holders [2]map[*share]struct{}
	chunks  [2]int // of all shares
	file    spillFile
	free    []int64   // free slots
	slots   int64     // slots the file has
	growAt  time.Time // until then the disk has no room for another slot
	spillAt time.Time // until then it takes nothing at all
	refused error     // what the disk said last, as long as it is not known to work again
	triedAt time.Time // when it said that
	trouble chan struct{}
	pool    sync.Pool
}

type spillFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
}

// newStore makes a store whose spill file is in dir; "": os.TempDir().
func newStore(mem, disk int64, dir string) *store {
	s := &store{
		memLimit: mem, diskLimit: disk, tell: func(error) {}, trouble: make(chan struct{}, 1),
		create: func() (spillFile, error) { return createSpill(dir) },
	}
	for at := range s.holders {
		s.holders[at] = map[*share]struct{}{}
	}
	s.pool.New = func() any { return new([chunkSize]byte) }
	return s
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

// watch looks whether the disk works, now and, when it has refused, until it does again.
func (s *store) watch(ctx context.Context) {
	if s.diskLimit < chunkSize {
		return
	}
	for {
		s.check()
		select {
		case <-s.trouble:
		case <-ctx.Done():
			return
		}
		t := time.NewTimer(diskRetry)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// check writes a chunk that nobody needs: to a slot of the file that there is, which is
// nobody else's meanwhile, or to a file of its own. It holds no lock while it writes: a
// disk that hangs holds up nobody who does not need it.
func (s *store) check() {
	s.mu.Lock()
	if s.refused != nil && time.Since(s.triedAt) < diskRetry { // it was tried meanwhile
		s.alert()
		s.mu.Unlock()
		return
	}
	file, slot := s.file, int64(0)
	if file != nil {
		slot = s.freeSlot()
	}
	s.mu.Unlock()
	err := s.try(file, slot)
	s.mu.Lock()
	defer s.mu.Unlock()
	if file != nil && file == s.file {
		s.giveSlots(slot)
	}
	switch {
	case errors.Is(err, os.ErrClosed): // with its last chunk: another try, in time
		s.alert()
	case err == nil:
		s.works()
	case s.chunks[onDisk] > 0:
		s.growAt = s.refuse(err)
	default:
		s.spillAt = s.refuse(err)
	}
}

func (s *store) try(file spillFile, slot int64) error {
	zeros := make([]byte, chunkSize)
	if file != nil {
		_, err := file.WriteAt(zeros, slot*chunkSize)
		return err
	}
	file, err := s.create()
	if err != nil {
		return err
	}
	_, err = file.WriteAt(zeros, 0)
	return errors.Join(err, file.Close())
}

// freeSlot returns a slot of the file that is not in use.
func (s *store) freeSlot() (slot int64) {
	if n := len(s.free); n > 0 {
		slot, s.free = s.free[n-1], s.free[:n-1]
		return slot
	}
	s.slots++
	return s.slots - 1
}

// refuse notes that the disk refused, and returns until when to leave it alone.
func (s *store) refuse(err error) time.Time {
	s.errs++
	if s.refused == nil {
		s.tell(err)
	}
	s.refused, s.triedAt = err, time.Now()
	s.alert()
	return s.triedAt.Add(diskRetry)
}

// works notes that the disk took what it was given.
func (s *store) works() {
	if s.refused != nil {
		s.tell(nil)
	}
	s.refused, s.growAt, s.spillAt = nil, time.Time{}, time.Time{}
}

// alert wakes watch.
func (s *store) alert() {
	select {
	case s.trouble <- struct{}{}:
	default:
	}
}

// buffer returns a full-size buffer that give takes back.
func (s *store) buffer() []byte { return s.pool.Get().(*[chunkSize]byte)[:] }

func (s *store) give(b []byte) {
	if cap(b) == chunkSize {
		s.pool.Put((*[chunkSize]byte)(b[:chunkSize]))
	}
}

// grow gives c a buffer of size bytes, keeping its content, and evicts sealed
// chunks for it.
func (s *store) grow(c *chunk, size int) {
	s.mu.Lock()
	s.mem += int64(size - len(c.data))
	s.fit(c.of)
	s.mu.Unlock()
	s.resize(c, size)
}

// fit evicts what does not fit in the memory, for the run by.
func (s *store) fit(by *share) {
	for s.mem > s.memLimit && s.chunks[inMemory] > 0 {
		s.evict(s.victim(inMemory, by))
	}
}

func (s *store) resize(c *chunk, size int) {
	var b []byte
	if size == chunkSize {
		b = s.buffer()
	} else {
		b = make([]byte, size)
	}
	copy(b, c.data[:c.n])
	c.mu.Lock()
	old := c.data
	c.data = b
	c.mu.Unlock()
	s.give(old) // no reader is in it any more
}

// seal says that c is written no more and may be evicted.
func (s *store) seal(c *chunk) {
	s.mu.Lock()
	s.put(c, inMemory)
	s.fit(c.of)
	s.mu.Unlock()
}

// settle is seal for the last chunk of a log: what it does not use is given back.
func (s *store) settle(c *chunk) {
	if unused := len(c.data) - c.n; unused >= chunkFirst {
		s.resize(c, c.n)
		s.mu.Lock()
		s.mem -= int64(unused)
		s.mu.Unlock()
	}
	if c.n >= chunkSmall {
		s.seal(c)
	}
}

func (s *store) put(c *chunk, at level) {
	c.elem = c.of.sealed[at].PushBack(c)
	s.chunks[at]++
	s.holders[at][c.of] = struct{}{}
}

func (s *store) take(c *chunk, at level) {
	c.of.sealed[at].Remove(c.elem)
	c.elem = nil
	s.chunks[at]--
	if c.of.sealed[at].Len() == 0 {
		delete(s.holders[at], c.of)
	}
}

// victim is the chunk that makes room for another one of the run by: its own
// oldest if it holds an equal part or more, else the oldest of the run that holds
// most. A run that floods drives out its own output before that of others.
func (s *store) victim(at level, by *share) *chunk {
	who := by
	if by.sealed[at].Len()*len(s.holders[at]) < s.chunks[at] {
		for h := range s.holders[at] {
			if h.sealed[at].Len() > who.sealed[at].Len() {
				who = h
			}
		}
	}
	return who.sealed[at].Front().Value.(*chunk)
}

// evict moves c out of memory. The content of a sealed chunk is fixed, so it is
// written without c.mu: readers go on.
func (s *store) evict(c *chunk) {
	s.take(c, inMemory)
	slot, why := s.spill(c)
	c.mu.Lock()
	b := c.data
	c.data, c.slot, c.lost = nil, slot, why
	c.mu.Unlock()
	s.mem -= int64(len(b))
	s.give(b)
	if why != nil {
		s.noteLost(c, why)
		return
	}
	s.put(c, onDisk)
}

// noteLost counts a chunk that was dropped, and tells of a run's first, and of its first
// that the disk is to blame for.
func (s *store) noteLost(c *chunk, why error) {
	s.dropped += int64(c.n)
	sh := c.of
	if sh.lost == nil {
		s.gaps.Add(1)
	} else if !errors.Is(sh.lost, errBudget) || errors.Is(why, errBudget) {
		return
	}
	sh.lost = why
	if sh.tell != nil {
		sh.tell(why)
	}
}

// spill writes c to a slot of the file. When there is none to be had it says why.
func (s *store) spill(c *chunk) (slot int64, why error) {
	now, why := time.Now(), errBudget
	room := s.disk+chunkSize <= s.diskLimit
	if room && s.refused != nil {
		why = s.refused
	}
	grow := room && !now.Before(s.growAt)
	if now.Before(s.spillAt) || !grow && s.chunks[onDisk] == 0 {
		return -1, why
	}
	if s.file == nil {
		f, err := s.create()
		if err != nil {
			s.spillAt = s.refuse(err)
			return -1, err
		}
		s.file = f
	}
	if grow {
		slot := s.freeSlot()
		err := s.writeSlot(c, slot)
		if err == nil {
			s.works()
			return slot, nil
		}
		s.free = append(s.free, slot)
		s.growAt, why = s.refuse(err), err // the disk is full: the slots in use have to do
		if s.closeEmpty() {
			return -1, err
		}
	}
	slot = s.dropSpilled(s.victim(onDisk, c.of), why)
	err := s.writeSlot(c, slot)
	if err == nil {
		if !room {
			s.works()
		}
		return slot, nil
	}
	s.spillAt = s.refuse(err) // what is there may be read yet: it stays
	if !s.closeEmpty() {
		s.giveSlots(slot)
	}
	return -1, err
}

func (s *store) writeSlot(c *chunk, slot int64) error {
	_, err := s.file.WriteAt(c.data[:c.n], slot*chunkSize)
	if err == nil {
		s.disk += chunkSize
	}
	return err
}

// dropSpilled drops a chunk in the file, and returns its slot.
func (s *store) dropSpilled(c *chunk, why error) (slot int64) {
	s.take(c, onDisk)
	c.mu.Lock()
	slot = c.slot
	c.slot, c.lost = -1, why
	c.mu.Unlock()
	s.disk -= chunkSize
	s.noteLost(c, why)
	return slot
}

// lose drops a chunk that cannot be read back. Its slot is not used again.
func (s *store) lose(c *chunk, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.slot >= 0 { // it is changed under s.mu, too
		s.errs++
		s.dropSpilled(c, why)
		s.closeEmpty()
	}
}

// release frees chunks for good. The file goes with its last slot.
func (s *store) release(cs []*chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var slots []int64
	for _, c := range cs {
		c.mu.Lock()
		b, slot := c.data, c.slot
		c.data, c.slot, c.lost = nil, -1, errDropped
		c.mu.Unlock()
		switch {
		case b != nil:
			s.mem -= int64(len(b))
			if c.elem != nil {
				s.take(c, inMemory)
			}
			s.give(b)
		case slot >= 0:
			s.disk -= chunkSize
			s.take(c, onDisk)
			slots = append(slots, slot)
		}
	}
	if !s.closeEmpty() {
		s.giveSlots(slots...)
	}
}

// closeEmpty closes a file that holds nothing: unlinked, it is gone then.
func (s *store) closeEmpty() bool {
	if s.file == nil || s.disk > 0 {
		return false
	}
	_ = s.file.Close()
	s.file, s.free, s.slots = nil, nil, 0
	return true
}

// giveSlots gives slots back, and what they took of the disk.
func (s *store) giveSlots(slots ...int64) {
	s.free = append(s.free, slots...)
	for i := 0; i < len(slots); {
		n := 1 // side by side: one call for all of them
		for i+n < len(slots) && slots[i+n] == slots[i]+int64(n) {
			n++
		}
		punch(s.file, slots[i]*chunkSize, int64(n)*chunkSize)
		i += n
	}
}

// read copies bytes of c from off on.
func (s *store) read(c *chunk, p []byte, off int) (int, error) {
	n, err := c.read(s, p, off)
	if err != nil && !errors.Is(err, errDropped) {
		if n > 0 {
			return n, nil
		}
		s.lose(c, err)
		return 0, errDropped
	}
	return n, err
}

func (c *chunk) read(s *store, p []byte, off int) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	switch {
	case c.data != nil:
		return copy(p, c.data[off:]), nil
	case c.lost != nil:
		return 0, errDropped
	}
	// A slot is freed under c.mu only, and the file closed after its last slot:
	// holding c.mu, both are ours.
	return s.file.ReadAt(p, c.slot*chunkSize+int64(off))
}

func (s *store) usage() (mem, disk, dropped int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mem, s.disk, s.dropped
}

func (s *store) diskErrors() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errs
}

// dropped is why it was; nil: it is kept.
func (c *chunk) dropped() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.lost
}
