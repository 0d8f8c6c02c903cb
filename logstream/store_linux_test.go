package logstream

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// spillFiles are the open files of this process in dir, by what /proc says.
func spillFiles(t *testing.T, dir string) (names []string) {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	for _, fd := range fds {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(name, dir) {
			names = append(names, name)
		}
	}
	return names
}

func TestCloseFreesMemoryDiskAndFile(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", dir)
	inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
		b.flooded()
		if names := spillFiles(t, dir); len(names) != 1 || !strings.HasSuffix(names[0], " (deleted)") {
			t.Errorf("open files %q", names)
		}
		b.c.Close()
		if names := spillFiles(t, dir); len(names) > 0 {
			t.Errorf("open after Close: %q", names)
		}
		if st := b.s.Stats(); st.Memory != 0 || st.Disk != 0 {
			t.Errorf("after Close: %+v", st)
		}
	})
}

func TestWhatACaptureHeldOfTheDiskIsGivenBackWhileOthersGoOn(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	inBubble(t, Options{Memory: 1 << 20}, nil, func(b *bench) {
		blocks := func() int64 {
			st, err := b.s.store.spill.file.(*os.File).Stat()
			if err != nil {
				t.Fatal(err)
			}
			return st.Sys().(*syscall.Stat_t).Blocks * 512
		}
		b.n.start("b", "b1") // shares the disk with a
		b.c.Handle(b.p.running("b", "b1"))
		b.n.bulk("b", 4096)
		synctest.Wait()
		other := b.s.Pod("n", "q", nil)
		q := newPod("Never", "a")
		q.pod.Name = "q"
		b.n.start("a", "a1")
		other.Handle(q.running("a", "a1"))
		b.n.bulk("a", 8192)
		synctest.Wait()
		before := blocks()
		if want := b.s.Stats().Disk; before < want-1<<20 {
			t.Fatalf("%d bytes on disk, %d counted", before, want)
		}
		other.Close()
		if after, want := blocks(), b.s.Stats().Disk; after > want+1<<20 || after > before/2 {
			t.Errorf("%d bytes on disk, %d before, %d counted", after, before, want)
		}
		if text, err := b.readAllIn(context.WithoutCancel(b.ctx), "b", ReadOptions{Snapshot: true}); text != b.n.truth("b") || err != nil {
			t.Errorf("read %d bytes, %v", len(text), err)
		}
	})
}
