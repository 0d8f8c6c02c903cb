package logstream

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// A badFile is a spill file on a disk that fails: of room bytes, writes past which
// are cut short, or with places that cannot be read back.
type badFile struct {
	*os.File
	mu       sync.Mutex
	room     int64 // below 0: no bound
	fixed    bool  // a slot cannot be written twice
	written  map[int64]bool
	unread   func(off int64) bool
	writes   int
	failures int
}

func (f *badFile) WriteAt(p []byte, off int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	if f.fixed && f.written[off] {
		f.failures++
		return 0, syscall.EIO
	}
	if over := off + int64(len(p)) - f.room; f.room >= 0 && over > 0 {
		f.failures++
		n, _ := f.File.WriteAt(p[:max(0, int64(len(p))-over)], off)
		return n, syscall.ENOSPC
	}
	f.written[off] = true
	return f.File.WriteAt(p, off)
}

func (f *badFile) ReadAt(p []byte, off int64) (int, error) {
	if f.unread != nil && f.unread(off) {
		return 0, syscall.EIO
	}
	return f.File.ReadAt(p, off)
}

// grow gives the disk room for ever.
func (f *badFile) grow() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.room = -1
}

// onBadDisk has b spill to the file that it returns.
func (b *bench) onBadDisk(room int64) *badFile {
	f := &badFile{room: room, written: map[int64]bool{}}
	b.s.store.create = func() (spillFile, error) {
		file, err := createSpill("")
		if err == nil {
			f.File = file.(*os.File)
		}
		return f, err
	}
	return f
}

// told collects what Notify is told of.
type told struct {
	mu  sync.Mutex
	all []Notice
}

func (t *told) notify(n Notice) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = append(t.all, n)
}

// since returns the notices since it was last asked.
func (t *told) since() []Notice {
	synctest.Wait()
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.all
	t.all = nil
	return all
}

func (t *told) kinds() (kinds []NoticeKind) {
	for _, n := range t.since() {
		kinds = append(kinds, n.Kind)
	}
	return kinds
}

// brokenDisks are disks that do not work when the Streamer begins: by Options.Dir, or by
// what it is to make the spill file.
func brokenDisks(t *testing.T) map[string]struct {
	dir    string
	create func() (spillFile, error)
	err    error
} {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	refuse := func(err error) func() (spillFile, error) {
		return func() (spillFile, error) { return nil, &fs.PathError{Op: "open", Path: "/tmp/x", Err: err} }
	}
	return map[string]struct {
		dir    string
		create func() (spillFile, error)
		err    error
	}{
		"no directory":    {dir: filepath.Join(t.TempDir(), "none"), err: syscall.ENOENT},
		"not a directory": {dir: file, err: syscall.ENOTDIR},
		"read-only":       {create: refuse(syscall.EROFS), err: syscall.EROFS},
		"not writable":    {create: refuse(syscall.EACCES), err: syscall.EACCES},
		"full":            {create: func() (spillFile, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) }, err: syscall.ENOSPC},
	}
}

func TestADiskThatDoesNotWorkIsToldOfAtTheStartAndMemoryIsUsedAlone(t *testing.T) {
	for name, c := range brokenDisks(t) {
		t.Run(name, func(t *testing.T) {
			var told told
			opt := Options{Memory: 1 << 20, Dir: c.dir, Notify: told.notify}
			inBubbleOn(t, c.create, func(n *node) Opener { return n }, opt, nil, func(b *bench) {
				if n := told.since(); len(n) != 1 || n[0].Kind != NoticeDiskFailed || !errors.Is(n[0].Err, c.err) {
					t.Errorf("at the start %v", n)
				}
				b.run("b", "b1", "one")
				if cert := b.drain()[0]; cert.Proof != Verified {
					t.Errorf("certificate %+v", cert)
				}
				if time.Sleep(time.Hour); len(told.since()) > 0 {
					t.Error("it is told of again")
				}
				b.flooded()
				cert := b.drain()[1]
				checkDropped(b, cert)
				checkBlamed(b, cert, c.err)
				if n := told.since(); len(n) != 1 || n[0].Kind != NoticeDropped || n[0].ContainerID != "a1" || !errors.Is(n[0].Err, c.err) {
					t.Errorf("of what was dropped: %v", n)
				}
				if st := b.s.Stats(); st.DiskErrors == 0 || st.Gaps != int64(len(cert.Gaps)) || st.Dropped == 0 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

func TestADiskThatWorksAgainIsToldOfOnceWhetherItIsNeededOrNot(t *testing.T) {
	for _, needed := range []bool{false, true} {
		var told told
		var works atomic.Bool
		create := func() (spillFile, error) {
			if works.Load() {
				return createSpill("")
			}
			return nil, syscall.EROFS
		}
		inBubbleOn(t, create, func(n *node) Opener { return n }, Options{Memory: 256 << 10, Notify: told.notify}, nil, func(b *bench) {
			b.begin("a", "a1")
			if needed {
				b.n.bulk("a", 1024)
			}
			time.Sleep(time.Minute + diskRetry/2)
			works.Store(true)
			time.Sleep(2 * diskRetry)
			want := []NoticeKind{NoticeDiskFailed, NoticeDiskResumed}
			if needed {
				want = []NoticeKind{NoticeDiskFailed, NoticeDropped, NoticeDiskResumed}
			}
			if d := cmp.Diff(want, told.kinds()); d != "" {
				t.Errorf("needed: %v; notices (-want +got):\n%s", needed, d)
			}
			dropped := b.s.Stats().Dropped
			b.n.bulk("a", 1024)
			time.Sleep(time.Minute)
			if st := b.s.Stats(); st.Dropped != dropped || st.Disk == 0 || len(told.since()) > 0 {
				t.Errorf("%+v, %d dropped before", st, dropped)
			}
		})
	}
}

func TestADiskThatFailsLaterIsToldOfUntilItWorks(t *testing.T) {
	var told told
	inBubble(t, Options{Memory: 1 << 20, Notify: told.notify}, nil, func(b *bench) {
		f := b.onBadDisk(2*chunkSize + 1)
		b.begin("a", "a1")
		b.n.bulk("a", 4096)
		time.Sleep(5 * time.Minute) // full all the while
		if d := cmp.Diff([]NoticeKind{NoticeDiskFailed, NoticeDropped}, told.kinds()); d != "" {
			t.Errorf("full (-want +got):\n%s", d)
		}
		f.grow()
		time.Sleep(2 * diskRetry)
		if d := cmp.Diff([]NoticeKind{NoticeDiskResumed}, told.kinds()); d != "" {
			t.Errorf("room again (-want +got):\n%s", d)
		}
		b.n.bulk("a", 4096)
		synctest.Wait()
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		cert := b.drain()[0]
		checkHoles(b, cert) // what the tries wrote is nobody's log
		checkBlamed(b, cert, syscall.ENOSPC)
	})
}

func TestWhatTheBudgetDropsIsToldOnceAndNotPutDownToTheDisk(t *testing.T) {
	for name, disk := range map[string]int64{"no disk": -1, "a small disk": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			var told told
			inBubble(t, Options{Memory: 1 << 20, Disk: disk, Notify: told.notify, Dir: t.TempDir()}, nil, func(b *bench) {
				cert := b.flooded()
				checkDropped(b, cert)
				if n := told.since(); len(n) != 1 || n[0].Kind != NoticeDropped || !errors.Is(n[0].Err, errBudget) {
					t.Errorf("notices %v", n)
				}
				if st := b.s.Stats(); st.DiskErrors != 0 || st.Gaps != 1 || cert.Why != whyDropped {
					t.Errorf("%+v, %s", st, cert.Why)
				}
			})
		})
	}
}

func TestARunThatLostOutputToTheBudgetAndThenToTheDiskBlamesTheDisk(t *testing.T) {
	var told told
	inBubble(t, Options{Memory: 1 << 20, Disk: 1 << 20, Notify: told.notify}, nil, func(b *bench) {
		f := b.onBadDisk(-1)
		if cert := b.flooded(); cert.Why != whyDropped {
			t.Fatalf("certificate %+v", cert)
		}
		f.unread = func(int64) bool { return true }
		if _, err := b.readAll("a", ReadOptions{}); err == nil {
			t.Error("nothing is missing")
		}
		checkBlamed(b, b.drain()[0], syscall.EIO)
		if n := told.since(); len(n) != 2 || !errors.Is(n[0].Err, errBudget) || !errors.Is(n[1].Err, syscall.EIO) {
			t.Errorf("notices %v", n)
		}
		if st := b.s.Stats(); st.DiskErrors == 0 || st.Gaps != 1 {
			t.Errorf("%+v", st)
		}
	})
}

func TestTheSpillFileIsNobodyElsesAndLeavesNothingBehind(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	file, err := createSpill("")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	st, err := file.(*os.File).Stat()
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && sys.Nlink != 0 {
		t.Errorf("%d names", sys.Nlink)
	}
	if files, _ := os.ReadDir(os.Getenv("TMPDIR")); len(files) > 0 {
		t.Errorf("%v can be seen", files)
	}
}

func TestADiskThatFillsUpKeepsTheNewestAndSaysWhatIsLost(t *testing.T) {
	for name, room := range map[string]int64{
		"at once":      0,
		"in a slot":    5*chunkSize + 1000,
		"after a slot": 3 * chunkSize,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
				f := b.onBadDisk(room)
				cert := b.flooded()
				checkDropped(b, cert)
				checkBlamed(b, cert, syscall.ENOSPC)
				if f.failures != 1 || b.s.Stats().Disk > room {
					t.Errorf("%d writes failed, disk %d", f.failures, b.s.Stats().Disk)
				}
			})
		})
	}
}

func TestADiskThatRefusesIsLeftAloneForAWhile(t *testing.T) {
	for name, create := range map[string]func() (spillFile, error){
		"no file": func() (spillFile, error) { return nil, syscall.EMFILE },
		"full":    func() (spillFile, error) { return os.OpenFile("/dev/full", os.O_RDWR, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
				var tries atomic.Int32 // by the store's own watch, too
				b.s.store.create = func() (spillFile, error) {
					tries.Add(1)
					return create()
				}
				checkDropped(b, b.flooded())
				if n := tries.Load(); n != 1 {
					t.Errorf("tried %d times", n)
				}
				time.Sleep(diskRetry)
				b.n.start("b", "b1")
				b.c.Handle(b.p.running("b", "b1"))
				b.n.bulk("b", 1024)
				synctest.Wait()
				if n := tries.Load(); n != 2 {
					t.Errorf("tried %d times", n)
				}
			})
		})
	}
}

func TestADiskThatHasRoomAgainIsUsedAgain(t *testing.T) {
	inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
		f := b.onBadDisk(2*chunkSize + 1)
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.bulk("a", 4096)
		synctest.Wait()
		if st := b.s.Stats(); st.Disk != 2*chunkSize || st.Dropped == 0 {
			t.Errorf("full: %+v", st)
		}
		f.grow()
		time.Sleep(diskRetry)
		dropped := b.s.Stats().Dropped
		b.n.bulk("a", 4096)
		synctest.Wait()
		if st := b.s.Stats(); st.Disk < 3<<20 || st.Dropped != dropped {
			t.Errorf("room again: %+v; %d dropped before", st, dropped)
		}
		b.n.exit("a")
		b.c.Handle(b.p.ended("a", "a1"))
		cert := b.drain()[0]
		checkHoles(b, cert)
		checkBlamed(b, cert, syscall.ENOSPC)
	})
}

// checkBlamed checks that a certificate puts a loss down to the disk's error.
func checkBlamed(b *bench, cert Certificate, err error) {
	b.Helper()
	blames := func(why string) bool { return strings.Contains(why, err.Error()) }
	if !blames(cert.Why) || !slices.ContainsFunc(cert.Gaps, func(g Gap) bool { return blames(g.Why) }) {
		b.Errorf("certificate %+v does not blame %v", cert, err)
	}
}

// checkHoles compares what is read of a run with its truth and its gaps: every
// line is there once, or in a certain gap.
func checkHoles(b *bench, cert Certificate) {
	b.Helper()
	if cert.Proof != Incomplete || len(cert.Gaps) == 0 {
		b.Fatalf("certificate %+v", cert)
	}
	truth := strings.SplitAfter(b.n.truth("a"), "\n")
	text, err := b.readAll("a", ReadOptions{})
	var inc *IncompleteError
	if !errors.As(err, &inc) {
		b.Errorf("read ends in %v", err)
	}
	for i, c := range []*Certificate{&cert, &inc.Certificate} {
		lines := strings.SplitAfter(text, "\n")
		at := 0
		for _, g := range c.Gaps {
			k := int(g.AfterLine) - at
			if k < 0 || k > len(lines) || !g.Certain || !strings.HasPrefix(g.Why, "output was dropped") {
				b.Fatalf("certificate %d: gap %+v after %d lines, %d to come", i, g, at, len(lines))
			}
			if d := cmp.Diff(truth[at:at+k], lines[:k]); d != "" {
				b.Fatalf("before gap %+v (-want +got):\n%.1000s", g, d)
			}
			at, lines = at+k, lines[k:]
			for at < len(truth) && len(lines) > 0 && truth[at] != lines[0] {
				at++
			}
		}
		if d := cmp.Diff(truth[at:], lines); d != "" {
			b.Fatalf("after the last gap (-want +got):\n%.1000s", d)
		}
	}
	var told []Gap
	if _, err := b.readAll("a", ReadOptions{Gap: func(g Gap) string { told = append(told, g); return "" }}); err != nil {
		b.Error(err)
	}
	if d := cmp.Diff(inc.Gaps, told); d != "" {
		b.Errorf("gaps told (-want +got):\n%s", d)
	}
}

func TestASlotThatCannotBeWrittenAgainCostsItsOwnChunkOnly(t *testing.T) {
	inBubble(t, Options{Memory: 1 << 20, Disk: 1 << 20}, nil, func(b *bench) {
		f := b.onBadDisk(-1)
		f.fixed = true
		cert := b.flooded()
		checkHoles(b, cert)
		checkBlamed(b, cert, syscall.EIO)
		if st := b.s.Stats(); st.Disk != 15*chunkSize || f.failures != 1 {
			t.Errorf("%+v, %d failures", st, f.failures)
		}
	})
}

func TestADiskThatCannotBeReadIsAGapInItsPlace(t *testing.T) {
	for name, unread := range map[string]func(slot int64) bool{
		"first":   func(slot int64) bool { return slot == 0 },
		"some":    func(slot int64) bool { return slot%7 == 3 || slot == 11 },
		"last":    func(slot int64) bool { return slot >= 100 },
		"nothing": func(int64) bool { return true },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
				f := b.onBadDisk(-1)
				if cert := b.flooded(); cert.Proof != Verified {
					t.Fatalf("certificate %+v", cert)
				}
				f.unread = func(off int64) bool { return unread(off / chunkSize) }
				if text, err := b.readAll("a", ReadOptions{}); err == nil || len(text) == 0 {
					t.Errorf("read %d bytes, %v", len(text), err)
				}
				cert := b.drain()[0]
				checkHoles(b, cert)
				checkBlamed(b, cert, syscall.EIO)
				b.c.Close()
				certs, _ := b.c.Drain(b.ctx, nil)
				if d := cmp.Diff(cert, certs[0]); d != "" {
					t.Errorf("after Close (-want +got):\n%s", d)
				}
			})
		})
	}
}

func TestADiskThatReadsInPiecesLosesNothing(t *testing.T) {
	inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
		f := b.onBadDisk(-1)
		if cert := b.flooded(); cert.Proof != Verified {
			t.Fatalf("certificate %+v", cert)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		b.s.store.file = &shortReads{f, rng}
		if text, err := b.readAll("a", ReadOptions{}); text != b.n.truth("a") || err != nil {
			t.Errorf("read %d bytes, %v", len(text), err)
		}
	})
}

// shortReads brings less than it is asked for, with an error, as a file does that
// fails in the middle.
type shortReads struct {
	*badFile
	rng *rand.Rand
}

func (f *shortReads) ReadAt(p []byte, off int64) (int, error) {
	if k := 1 + f.rng.IntN(len(p)); k < len(p) {
		n, _ := f.badFile.ReadAt(p[:k], off)
		return n, syscall.EIO
	}
	return f.badFile.ReadAt(p, off)
}

func TestARunThatFloodsDrivesOutItsOwnOutput(t *testing.T) {
	for name, opt := range map[string]Options{
		"on disk":   {Memory: 256 << 10, Disk: 4 << 20},
		"in memory": {Memory: 4 << 20, Disk: -1},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, opt, nil, func(b *bench) {
				b.n.start("b", "b1")
				b.c.Handle(b.p.running("b", "b1"))
				b.n.bulk("b", 1024)
				synctest.Wait()
				b.n.exit("b")
				b.c.Handle(b.p.ended("b", "b1"))
				b.drain()
				b.flooded()
				for _, c := range b.drain() {
					if want := map[string]Proof{"a": Incomplete, "b": Verified}[c.Slot]; c.Proof != want {
						t.Errorf("certificate %+v, want %s", c, want)
					}
				}
				b.wantText("b", b.n.truth("b"))
			})
		})
	}
}

func TestWhatEndedRunsHoldIsInTheBudgetToo(t *testing.T) {
	st := newStore(1<<20, 64<<20, "")
	var logs []*splicer
	text := body(strings.Split(strings.Repeat(strings.Repeat("z", 400)+" ", 60), " ")...) // 26 KB
	for range 500 {
		s := &splicer{l: &runLog{st: st, id: "c"}}
		s.begin(query{}, false)
		s.feed([]byte(text))
		s.end(true)
		s.l.finish(Verified, "")
		logs = append(logs, s)
	}
	if mem, disk, dropped := st.usage(); mem > 1<<20+chunkSize || disk == 0 || dropped > 0 {
		t.Errorf("memory %d, disk %d, dropped %d", mem, disk, dropped)
	}
	for _, s := range logs {
		if s.captured() != text {
			t.Fatal("comes back changed")
		}
		s.l.free()
	}
	if mem, disk, _ := st.usage(); mem != 0 || disk != 0 || st.file != nil || len(st.holders[0])+len(st.holders[1]) > 0 {
		t.Errorf("not freed: %d, %d", mem, disk)
	}
}

var _ io.ReadCloser = (*Reader)(nil)
