package logstream

import (
	"container/list"
	"errors"
	"os"
	"sync"
)

// Log bytes live in chunks. A run's first chunk starts small and grows, so that
// ten thousand runs of a few lines stay cheap; the others are of full size.
const (
	chunkSize  = 64 << 10
	chunkFirst = 512
)

// errDropped: the bytes asked for were dropped to stay within the budget.
var errDropped = errors.New("logstream: no longer kept")

// chunk is a piece of one run's log. Its place changes over its life: in memory,
// in the spill file, dropped. n, start and base belong to the run's lock.
type chunk struct {
	start int64  // where it begins in the run's log
	base  uint64 // lines before it
	first int64  // newest timestamp before it

	mu   sync.RWMutex // guards data, slot, gone
	data []byte       // full length allocated; nil unless in memory
	n    int          // bytes used; fixed once sealed
	slot int64        // in the spill file; -1: none
	gone bool

	elem *list.Element // in store.sealed or store.spilled; guarded by store.mu
}

// store is the budget of all runs of a Streamer: memory first, then one unlinked
// file of equal slots, then the oldest is dropped.
type store struct {
	memLimit, diskLimit int64

	mu      sync.Mutex
	mem     int64
	disk    int64
	dropped int64      // bytes, ever
	sealed  *list.List // chunks in memory that may be evicted, oldest first
	spilled *list.List // chunks in the file, oldest first
	file    *os.File
	free    []int64 // free slots
	slots   int64   // slots the file has
	noSpill bool    // the file failed: no more spilling
	pool    sync.Pool
}

func newStore(mem, disk int64) *store {
	s := &store{memLimit: mem, diskLimit: disk, sealed: list.New(), spilled: list.New()}
	s.pool.New = func() any { return new([chunkSize]byte) }
	return s
}

// buffer returns a full-size buffer that give takes back.
func (s *store) buffer() []byte { return s.pool.Get().(*[chunkSize]byte)[:] }

func (s *store) give(b []byte) {
	if cap(b) == chunkSize {
		s.pool.Put((*[chunkSize]byte)(b[:chunkSize]))
	}
}

// grow gives c a buffer of size bytes, keeping its content, and evicts older
// chunks, of any run, for it.
func (s *store) grow(c *chunk, size int) {
	s.mu.Lock()
	s.mem += int64(size - len(c.data))
	for s.mem > s.memLimit && s.sealed.Len() > 0 {
		s.evict(s.sealed.Front().Value.(*chunk))
	}
	s.mu.Unlock()
	var b []byte
	if size == chunkSize {
		b = s.buffer()
	} else {
		b = make([]byte, size)
	}
	copy(b, c.data[:c.n])
	c.mu.Lock()
	c.data = b // a chunk that grows is below full size: its old buffer is not pooled
	c.mu.Unlock()
}

// seal says that c is written no more and may be evicted.
func (s *store) seal(c *chunk) {
	s.mu.Lock()
	c.elem = s.sealed.PushBack(c)
	s.mu.Unlock()
}

// evict moves c out of memory. The content of a sealed chunk is fixed, so it is
// written without c.mu: readers go on.
func (s *store) evict(c *chunk) {
	s.sealed.Remove(c.elem)
	c.elem = nil
	slot := s.spill(c)
	c.mu.Lock()
	b := c.data
	c.data, c.slot = nil, slot
	if slot < 0 {
		c.gone = true
		s.dropped += int64(c.n)
	}
	c.mu.Unlock()
	s.mem -= int64(len(b))
	s.give(b)
	if slot >= 0 {
		c.elem = s.spilled.PushBack(c)
	}
}

// spill writes c to a slot of the file, dropping the oldest one there when the
// disk budget is used up; -1 when there is no room on the disk at all.
func (s *store) spill(c *chunk) int64 {
	if s.diskLimit < chunkSize || s.noSpill {
		return -1
	}
	if s.file == nil {
		f, err := os.CreateTemp("", "logstream-") // mode 0600
		if err != nil {
			s.noSpill = true
			return -1
		}
		_ = os.Remove(f.Name()) // nothing is left behind, however the process ends
		s.file = f
	}
	for {
		if len(s.free) == 0 && s.disk+chunkSize > s.diskLimit {
			s.dropOldestSpilled()
		}
		slot := s.slots
		if n := len(s.free); n > 0 {
			slot, s.free = s.free[n-1], s.free[:n-1]
		} else {
			s.slots++
		}
		_, err := s.file.WriteAt(c.data[:c.n], slot*chunkSize)
		if err == nil {
			s.disk += chunkSize
			return slot
		}
		// The disk is full: live with the slots there are.
		if slot == s.slots-1 {
			s.slots--
		}
		s.diskLimit = s.disk
		if s.spilled.Len() == 0 {
			return -1
		}
		s.free = s.free[:0]
	}
}

func (s *store) dropOldestSpilled() {
	if s.spilled.Len() == 0 {
		return
	}
	c := s.spilled.Remove(s.spilled.Front()).(*chunk)
	c.elem = nil
	c.mu.Lock()
	s.free = append(s.free, c.slot)
	c.slot, c.gone = -1, true
	c.mu.Unlock()
	s.disk -= chunkSize
	s.dropped += int64(c.n)
}

// release frees chunks for good. The file goes with its last slot.
func (s *store) release(cs []*chunk) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range cs {
		c.mu.Lock()
		b, slot := c.data, c.slot
		c.data, c.slot, c.gone = nil, -1, true
		c.mu.Unlock()
		switch {
		case b != nil:
			s.mem -= int64(len(b))
			if c.elem != nil {
				s.sealed.Remove(c.elem)
			}
			s.give(b)
		case slot >= 0:
			s.disk -= chunkSize
			s.free = append(s.free, slot)
			s.spilled.Remove(c.elem)
		}
		c.elem = nil
	}
	if s.file != nil && s.disk == 0 {
		_ = s.file.Close() // unlinked: its content is gone with it
		s.file, s.free, s.slots = nil, nil, 0
	}
}

// read copies bytes of c from off on.
func (s *store) read(c *chunk, p []byte, off int) (int, error) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	switch {
	case c.data != nil:
		return copy(p, c.data[off:]), nil
	case c.gone:
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

func (c *chunk) dropped() bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.gone
}
