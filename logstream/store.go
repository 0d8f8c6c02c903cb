package logstream

import (
	"container/list"
	"errors"
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

// chunk is a piece of one run's log: in memory, on its way to the disk, on the disk,
// dropped. The fields above mu, and n until the chunk is sealed, belong to the run's lock.
type chunk struct {
	of    *share
	start int64  // where it begins in the run's log
	base  uint64 // lines before it
	first int64  // newest timestamp before it
	times span   // of the lines that begin in it, and perhaps of their neighbours
	top   int64  // the newest of these up to its end

	mu   sync.RWMutex // guards data, slot, file, lost
	data []byte       // full length allocated; nil unless in memory
	n    int          // bytes used; fixed once sealed
	file *spill       // that has it; nil: none has
	slot int64        // its place in there
	lost error        // why it was dropped; nil: it was not

	// Guarded by store.mu.
	elem    *list.Element // in one of its share's lists; nil: in none
	writing bool          // on its way to the disk; its data is still in memory
}

// level is where a sealed chunk is. A chunk on its way to the disk has a slot there.
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

// store is the budget of all runs of a Streamer: memory first, then one unlinked file of
// equal slots, then the oldest is dropped. Nothing is asked of the disk under a lock.
type store struct {
	memLimit, diskLimit int64
	create              func() (spillFile, error) // guarded by mu
	tell                func(err error)           // is told that the disk refuses, and (nil) that it works again; it does not block
	gaps                atomic.Int64              // noticed in all logs; all that a run lost counts as one
	maxWrites           int                       // see the constant

	mu       sync.Mutex
	mem      int64 // bytes held in memory
	inFlight int64 // of them on their way to the disk
	disk     int64
	dropped  int64 // bytes, ever
	holders  [2]map[*share]struct{}
	chunks   [2]int          // of all shares
	waiting  []chan struct{} // for a write to end
	spill    *spill          // nil: there is none
	health   diskHealth
	trouble  chan struct{}
	hung     atomic.Int32 // calls of the disk that nobody waits for any more
	pool     sync.Pool
}

// newStore makes a store whose spill file is in dir; "": os.TempDir().
func newStore(mem, disk int64, dir string) *store {
	s := &store{
		memLimit: mem, diskLimit: disk, tell: func(error) {}, trouble: make(chan struct{}, 1),
		create: func() (spillFile, error) { return createSpill(dir) }, maxWrites: maxWrites,
	}
	for at := range s.holders {
		s.holders[at] = map[*share]struct{}{}
	}
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

// grow gives c a buffer of size bytes, keeping its content. Where the memory is used up it
// waits until older output is written, if the run has any of its own there: the first
// chunks of a run are on top of the budget.
func (s *store) grow(c *chunk, size int) {
	more := int64(size - len(c.data))
	s.mu.Lock()
	waited := false
	for !s.fit(more, c.of) && c.of.sealed[inMemory].Len() > 0 {
		s.wait()
		waited = true
	}
	if waited {
		s.wake()
	}
	s.mem += more
	s.mu.Unlock()
	s.resize(c, size)
}

// fit has chunks leave the memory until more bytes of the run by fit in it. It reports false
// when a write has to end first.
func (s *store) fit(more int64, by *share) bool {
	for s.mem-s.inFlight+more > s.memLimit && s.chunks[inMemory] > 0 {
		if !s.evict(s.victim(inMemory, by), by) {
			return false
		}
	}
	return true
}

// wait waits for its turn to look again. It gives up s.mu meanwhile.
func (s *store) wait() {
	turn := make(chan struct{})
	s.waiting = append(s.waiting, turn)
	s.mu.Unlock()
	<-turn
	s.mu.Lock()
}

// wake has the one that has waited longest look again, who wakes the next if it waits no
// more: when a write ends there may be hundreds.
func (s *store) wake() {
	if len(s.waiting) > 0 {
		close(s.waiting[0])
		s.waiting = s.waiting[1:]
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

// seal says that c is written no more and may leave the memory.
func (s *store) seal(c *chunk) {
	s.mu.Lock()
	s.put(c, inMemory)
	s.fit(0, c.of)
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

// put lists c among its share's chunks, by age. It is nearly always the newest.
func (s *store) put(c *chunk, at level) {
	l := &c.of.sealed[at]
	e := l.Back()
	for e != nil && e.Value.(*chunk).start > c.start {
		e = e.Prev()
	}
	if e != nil {
		c.elem = l.InsertAfter(c, e)
	} else {
		c.elem = l.PushFront(c)
	}
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

// evict has c written to the disk for the run by, or drops it. It reports false when
// another write has to end before.
func (s *store) evict(c *chunk, by *share) bool {
	h, now := &s.health, time.Now()
	room, why := s.disk+chunkSize <= s.diskLimit, errBudget
	if room && h.refused != nil {
		why = h.refused
	}
	grow := room && !now.Before(h.growAt)
	if now.Before(h.spillAt) || !grow && s.chunks[onDisk] == 0 {
		s.drop(c, inMemory, why)
		return true
	}
	most := s.maxWrites
	if c.of != by {
		most += spareWrites
	}
	old, wait := (*chunk)(nil), h.writes >= most
	if !grow {
		old = s.victim(onDisk, c.of)
		wait = wait || old.writing || old.file.isTried()
	}
	switch {
	case wait && !h.stalled:
		return false
	case wait:
		s.drop(c, inMemory, h.refused)
	case grow:
		if s.spill == nil {
			s.spill = &spill{ready: make(chan struct{})}
		}
		s.write(c, flight{file: s.spill, slot: s.spill.takeSlot(), grows: true})
	case old.of == c.of && old.start > c.start: // a write of it failed
		s.drop(c, inMemory, why)
	default:
		f := flight{file: old.file, slot: old.slot}
		s.drop(old, onDisk, why)
		s.write(c, f)
	}
	return true
}

// drop gives c up. On the disk its slot is its caller's now.
func (s *store) drop(c *chunk, at level, why error) {
	s.take(c, at)
	b := c.leave(why)
	s.mem -= int64(len(b))
	s.give(b)
	if at == onDisk {
		s.disk -= chunkSize
	}
	s.dropped += int64(c.n)
	sh := c.of
	if sh.lost == nil {
		s.gaps.Add(1)
	} else if !errors.Is(sh.lost, errBudget) || errors.Is(why, errBudget) {
		return
	}
	sh.lost = why
	if sh.tell != nil { // of the first that is dropped, and of the first that the disk is to blame for
		sh.tell(why)
	}
}

// leave makes c lost, and returns the buffer that it had. The file of a chunk that is
// being read there is known to the reader.
func (c *chunk) leave(why error) (b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, c.data, c.lost = c.data, nil, why
	return b
}

// lose drops a chunk that cannot be read back. Its slot is not used again.
func (s *store) lose(c *chunk, why error) {
	s.mu.Lock()
	if c.elem == nil { // it is lost already
		s.mu.Unlock()
		return
	}
	s.health.errs++
	s.drop(c, onDisk, why)
	tidy := s.leaveSlots(c.file, 1)
	s.mu.Unlock()
	tidy()
}

// release frees chunks for good. The file goes with its last slot.
func (s *store) release(cs []*chunk) {
	var file *spill // there is one at a time
	var slots []int64
	s.mu.Lock()
	for _, c := range cs {
		b := c.leave(errDropped)
		switch {
		case c.writing: // the rest when the write ends
			s.take(c, onDisk)
			continue
		case b != nil:
			s.mem -= int64(len(b))
			if c.elem != nil {
				s.take(c, inMemory)
			}
			s.give(b)
		case c.elem != nil:
			s.disk -= chunkSize
			s.take(c, onDisk)
			file, slots = c.file, append(slots, c.slot)
		}
	}
	tidy := func() {}
	if file != nil {
		tidy = s.leaveSlots(file, len(slots), slots...)
	}
	s.mu.Unlock()
	tidy()
}

// read copies bytes of c from off on. What the disk does not give back in readPatience is
// dropped.
func (s *store) read(c *chunk, p []byte, off int) (int, error) {
	c.mu.RLock()
	data, file, slot, lost := c.data, c.file, c.slot, c.lost
	n := 0
	if data != nil {
		n = copy(p, data[off:])
	}
	c.mu.RUnlock()
	switch {
	case data != nil:
		return n, nil
	case lost != nil:
		return 0, errDropped
	}
	n, err := s.readSlot(file, slot, p, off)
	// The slot was another's from when c was dropped.
	if c.dropped() != nil {
		return 0, errDropped
	}
	if err != nil && n == 0 {
		s.lose(c, err)
		return 0, errDropped
	}
	return n, nil
}

func (s *store) usage() (mem, disk, dropped int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mem, s.disk, s.dropped
}

func (s *store) diskErrors() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.health.errs
}

// dropped is why it was; nil: it is kept.
func (c *chunk) dropped() error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.lost
}
