package logstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A fakeDisk is a spill file in memory. Its hooks say what a write or a read at off does
// before it is done: they may sleep, block, or return an error.
type fakeDisk struct {
	write, read func(off int64) error

	mu     sync.Mutex
	data   map[int64][]byte // by slot
	busy   int              // writes that have not returned
	most   int              // and how many there were at a time
	closed bool
}

func (d *fakeDisk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	d.busy++
	d.most = max(d.most, d.busy)
	d.mu.Unlock()
	var err error
	if d.write != nil {
		err = d.write(off)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy--
	if err != nil {
		return 0, err
	}
	if d.data == nil {
		d.data = map[int64][]byte{}
	}
	d.data[off/chunkSize] = bytes.Clone(p)
	return len(p), nil
}

func (d *fakeDisk) ReadAt(p []byte, off int64) (int, error) {
	if d.read != nil {
		if err := d.read(off); err != nil {
			return 0, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if at := off % chunkSize; at < int64(len(d.data[off/chunkSize])) {
		return copy(p, d.data[off/chunkSize][at:]), nil
	}
	return 0, io.EOF
}

func (d *fakeDisk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	return nil
}

// peak is how many writes were made at a time.
func (d *fakeDisk) peak() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.most
}

// storeOn makes a store of mem and disk bytes that spills to d.
func storeOn(d spillFile, mem, disk int64) *store {
	s := newStore(mem, disk, "")
	s.create = func() (spillFile, error) { return d, nil }
	return s
}

// printed is n bytes of a log, of which any eight tell their place and the log's number.
func printed(log int, off int64, n int) []byte {
	b := make([]byte, 0, n+8)
	for at := off &^ 7; at < off+int64(n); at += 8 {
		b = binary.BigEndian.AppendUint64(b, uint64(log)<<40|uint64(at))
	}
	return b[off&7:][:n]
}

// printTo has n more bytes captured in l.
func printTo(l *runLog, n int) {
	const piece = 10_000 // no part of a chunk
	for n > 0 {
		_, end := l.bounds()
		k := min(n, piece)
		l.write(printed(l.number, end, k))
		l.commit(end+int64(k), 0, span{}, 0, true)
		n -= k
	}
}

// readBack reads what there is of l, checks it, and returns how much is missing.
func readBack(t *testing.T, l *runLog) (missing int64) {
	t.Helper()
	end, _ := l.bounds()
	buf := make([]byte, 30_000)
	for off := int64(0); off < end; {
		n, next, err := l.readAt(buf, off, end)
		switch {
		case err != nil && next > off:
			missing += next - off
		case err != nil || n == 0:
			t.Fatalf("log %d at %d of %d: %d bytes, next %d, %v", l.number, off, end, n, next, err)
		case !bytes.Equal(buf[:n], printed(l.number, off, n)):
			t.Fatalf("log %d at %d: other bytes than were printed", l.number, off)
		}
		off = next
	}
	return missing
}

func logsIn(s *store, n int) (logs []*runLog) {
	for i := range n {
		logs = append(logs, &runLog{st: s, id: fmt.Sprint("c", i), number: i})
	}
	return logs
}

// sample calls f every millisecond until stop is called, and fails when f takes time.
func sample(t *testing.T, f func()) (stop func()) {
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			case <-time.After(time.Millisecond):
			}
			start := time.Now()
			if f(); time.Since(start) > 0 {
				t.Errorf("it took %v", time.Since(start))
				return
			}
		}
	}()
	return func() { close(end); <-ended }
}

func TestEightFloodsShareASlowDiskAndStayInTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const memory, floods, each = 1 << 20, 8, 4 << 20
		d := &fakeDisk{write: func(int64) error { time.Sleep(20 * time.Millisecond); return nil }}
		s := storeOn(d, memory, 1<<30)
		most := int64(0)
		stop := sample(t, func() {
			mem, _, _ := s.usage()
			most = max(most, mem)
		})
		start := time.Now()
		var wg sync.WaitGroup
		logs := logsIn(s, floods)
		for _, l := range logs {
			wg.Go(func() { printTo(l, each) })
		}
		wg.Wait()
		took := time.Since(start)
		stop()
		t.Logf("%v, %d writes at a time, %d bytes of memory", took, d.peak(), most)
		if took > time.Second {
			t.Errorf("%v; one write at a time takes %v", took, floods*each/chunkSize*20*time.Millisecond)
		}
		if bound := int64(memory + d.peak()*chunkSize + floods*overheadLive); most > bound {
			t.Errorf("%d bytes of memory, with %d writes at a time", most, d.peak())
		}
		for _, l := range logs {
			if missing := readBack(t, l); missing > 0 {
				t.Errorf("log %d lacks %d bytes", l.number, missing)
			}
		}
		s.flush()
	})
}

func TestARunOfAFewLinesDoesNotWaitForASlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &fakeDisk{write: func(int64) error { time.Sleep(20 * time.Millisecond); return nil }}
		s := storeOn(d, 1<<20, 1<<30)
		logs := logsIn(s, 200)
		var flood sync.WaitGroup
		flood.Go(func() { printTo(logs[0], 16<<20) })
		time.Sleep(50 * time.Millisecond) // the memory is full
		start := time.Now()
		for _, l := range logs[1:] {
			printTo(l, 3000)
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(start) - 199*time.Millisecond; took > 0 {
			t.Errorf("they waited for %v", took)
		}
		flood.Wait()
		s.flush()
	})
}

// stuckDisk is a disk some of whose writes, or reads, block until it is freed.
func stuckDisk(stuck func(off int64) bool, reads bool) (d *fakeDisk, free func()) {
	var freed atomic.Bool
	block := func(off int64) error {
		for hangs := stuck(off); hangs && !freed.Load(); {
			time.Sleep(10 * time.Millisecond)
		}
		return nil
	}
	d = &fakeDisk{}
	if reads {
		d.read = block
	} else {
		d.write = block
	}
	return d, func() {
		freed.Store(true)
		time.Sleep(time.Second)
	}
}

func everywhere(int64) bool { return true }

func TestADiskThatHangsDropsWithItsErrorAndStallsNobody(t *testing.T) {
	for name, stuck := range map[string]func(off int64) bool{
		"from the start": everywhere,
		"later":          func(off int64) bool { return off >= 100*chunkSize },
	} {
		t.Run(name, func(t *testing.T) {
			var told told
			d, free := stuckDisk(stuck, false)
			create := func() (spillFile, error) { return d, nil }
			inBubbleOn(t, create, func(n *node) Opener { return n }, Options{Memory: 1 << 20, Notify: told.notify}, nil, func(b *bench) {
				defer free()
				b.begin("a", "a1")
				stop := sample(b.T, func() { b.s.Stats() })
				start := time.Now()
				b.n.bulk("a", 16<<10)
				b.begin("b", "b1", "one", "two")
				b.n.exit("b")
				b.c.Handle(b.p.ended("b", "b1"))
				if text, err := b.readAll("b", ReadOptions{}); text != "one\ntwo\n" || err != nil {
					t.Errorf("of the other run %q, %v", text, err)
				}
				if took := time.Since(start); took > 2*settle {
					t.Errorf("the other run took %v", took)
				}
				b.n.exit("a")
				b.c.Handle(b.p.ended("a", "a1"))
				cert := b.drain()[0]
				stop()
				if took := time.Since(start); took > writePatience+readPatience {
					t.Errorf("the flood took %v", took)
				}
				checkHoles(b, cert)
				checkBlamed(b, cert, os.ErrDeadlineExceeded)
				kinds := map[NoticeKind]int{}
				for _, n := range told.since() {
					if kinds[n.Kind]++; !errors.Is(n.Err, os.ErrDeadlineExceeded) {
						t.Errorf("notice %v", n)
					}
				}
				if kinds[NoticeDiskFailed] != 1 || kinds[NoticeDropped] != 1 {
					t.Errorf("notices %v", kinds)
				}
				free()
				time.Sleep(2 * diskRetry)
				if k := told.kinds(); len(k) != 1 || k[0] != NoticeDiskResumed {
					t.Errorf("when it works again: %v", k)
				}
			})
		})
	}
}

// What hangs alone costs nothing: its bytes are in memory.
func TestAWriteThatHangsAloneLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var begun atomic.Bool
		d, free := stuckDisk(func(int64) bool { return !begun.Swap(true) }, false)
		s := storeOn(d, 1<<20, 1<<30)
		l := logsIn(s, 1)[0]
		for range 16 {
			printTo(l, 1<<20)
			time.Sleep(time.Second)
		}
		start := time.Now()
		if missing := readBack(t, l); missing > 0 || time.Since(start) > 0 {
			t.Errorf("%d bytes are missing after %v", missing, time.Since(start))
		}
		free()
		if missing := readBack(t, l); missing > 0 {
			t.Errorf("%d bytes are missing once it was written", missing)
		}
		l.free()
		if mem, disk, _ := s.usage(); mem != 0 || disk != 0 || !d.closed {
			t.Errorf("memory %d, disk %d, closed %v", mem, disk, d.closed)
		}
	})
}

func TestCloseDoesNotWaitForADiskThatHangs(t *testing.T) {
	d, free := stuckDisk(everywhere, false)
	create := func() (spillFile, error) { return d, nil }
	inBubbleOn(t, create, func(n *node) Opener { return n }, Options{Memory: 1 << 20}, nil, func(b *bench) {
		defer free()
		b.begin("a", "a1")
		b.n.bulk("a", 8<<10)
		time.Sleep(writePatience)
		start := time.Now()
		b.c.Close()
		b.stop()
		if took := time.Since(start); took > writePatience {
			t.Errorf("Close and Run took %v", took)
		}
		if st := b.s.Stats(); st.Memory > (maxWrites+spareWrites)*chunkSize {
			t.Errorf("what is not in flight is not freed: %+v", st)
		}
		free()
	})
}

func TestAReadBackThatHangsIsAGapInItsPlace(t *testing.T) {
	for name, c := range map[string]struct {
		stuck func(off int64) bool
		takes time.Duration
	}{
		"one place":  {func(off int64) bool { return off/chunkSize == 3 }, readPatience},
		"everything": {everywhere, mostHung * readPatience},
	} {
		t.Run(name, func(t *testing.T) {
			var begun atomic.Bool
			d, free := stuckDisk(func(off int64) bool { return begun.Load() && c.stuck(off) }, true)
			create := func() (spillFile, error) { return d, nil }
			inBubbleOn(t, create, func(n *node) Opener { return n }, Options{Memory: 1 << 20}, nil, func(b *bench) {
				defer free()
				if cert := b.flooded(); cert.Proof != Verified {
					b.Fatalf("certificate %+v", cert)
				}
				begun.Store(true)
				stop := sample(b.T, func() { b.s.Stats() })
				start := time.Now()
				text, err := b.readAll("a", ReadOptions{})
				stop()
				if took := time.Since(start); took != c.takes {
					t.Errorf("it took %v, want %v", took, c.takes)
				}
				var inc *IncompleteError
				if !errors.As(err, &inc) || !strings.HasSuffix(b.n.truth("a"), text[len(text)-1000:]) {
					t.Errorf("read %d bytes, %v", len(text), err)
				}
				cert := b.drain()[0]
				checkHoles(b, cert)
				checkBlamed(b, cert, os.ErrDeadlineExceeded)
				free()
			})
		})
	}
}

// Whatever a disk does, what is read back is what was printed, and the books are even.
func TestWhateverADiskDoesBytesAreThoseThatWerePrinted(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				rng := rand.New(rand.NewPCG(seed, 13))
				n := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
				worst := n(4) // a good, a slow, a failing, a hanging disk
				misbehave := func(int64) error {
					time.Sleep(time.Duration(n(30)) * time.Millisecond)
					switch n(20) * worst {
					case 2:
						return io.ErrClosedPipe
					case 3:
						time.Sleep(time.Duration(n(20)) * time.Second)
					}
					return nil
				}
				s := newStore(int64(256+n(2048))<<10, int64(n(8))<<20, "")
				s.create = func() (spillFile, error) {
					if err := misbehave(0); err != nil {
						return nil, err
					}
					return &fakeDisk{write: misbehave, read: misbehave}, nil
				}
				var wg sync.WaitGroup
				logs := logsIn(s, 1+n(6))
				for _, l := range logs {
					wg.Go(func() {
						for range 10 + n(30) {
							printTo(l, n(200_000))
							time.Sleep(time.Duration(n(100)) * time.Millisecond)
							if n(10) == 0 {
								readBack(t, l)
							}
						}
						l.finish(Verified, "")
					})
				}
				wg.Wait()
				for _, l := range logs {
					missing := readBack(t, l)
					if holes := l.lost(); (missing > 0) != (len(holes) > 0) {
						t.Errorf("%d bytes are missing, holes %v", missing, holes)
					}
				}
				for _, l := range logs {
					l.free()
				}
				time.Sleep(time.Minute)
				if mem, disk, _ := s.usage(); mem != 0 || disk != 0 {
					t.Errorf("all is freed: memory %d, disk %d", mem, disk)
				}
			})
		})
	}
}

// BenchmarkSpill is a flood through a small memory on a disk that takes a millisecond
// a write: with one write in flight, as many stores do it, and with ours.
func BenchmarkSpill(b *testing.B) {
	for name, writes := range map[string]int{"one write in flight": 1, "ours": maxWrites} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(8 << 20)
			for b.Loop() {
				d := &fakeDisk{write: func(int64) error { time.Sleep(time.Millisecond); return nil }}
				s := storeOn(d, 1<<20, 1<<30)
				s.maxWrites = writes
				var wg sync.WaitGroup
				logs := logsIn(s, 8)
				for _, l := range logs {
					wg.Go(func() { printTo(l, 1<<20) })
				}
				wg.Wait()
				for _, l := range logs {
					l.free()
				}
			}
		})
	}
}
