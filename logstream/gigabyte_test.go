package logstream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/metrics"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// lineWithoutEnd is text of which any 16 bytes tell their place, generated as it is read:
// 15 hexadecimal digits and a space, over and over.
type lineWithoutEnd struct {
	block [chunkSize]byte // at the multiple of its size that at says
	at    int64
}

func newEndless() *lineWithoutEnd {
	e := &lineWithoutEnd{at: -1}
	for i := range chunkSize / 16 {
		copy(e.block[16*i:], fmt.Sprintf("%015x ", i))
	}
	return e
}

// fill puts the text at off into p.
func (e *lineWithoutEnd) fill(p []byte, off int64) {
	for len(p) > 0 {
		if at := off / chunkSize; at != e.at {
			digits := fmt.Appendf(nil, "%012x", at)
			eight, four := binary.LittleEndian.Uint64(digits), binary.LittleEndian.Uint32(digits[8:])
			for i := 0; i < chunkSize; i += 16 {
				binary.LittleEndian.PutUint64(e.block[i:], eight)
				binary.LittleEndian.PutUint32(e.block[i+8:], four)
			}
			e.at = at
		}
		n := copy(p, e.block[off%chunkSize:])
		p, off = p[n:], off+int64(n)
	}
}

// find says where text that is there begins; it has 31 bytes at least.
func (e *lineWithoutEnd) find(text []byte) (off int64) {
	i := bytes.IndexByte(text, ' ')
	if i >= 0 && len(text) >= i+17 {
		if _, err := fmt.Sscanf(string(text[i+1:i+17]), "%x ", &off); err == nil {
			return off*16 - int64(i+1)
		}
	}
	return -1
}

const oneStamp = "2026-11-22T10:00:00.000000001Z "

// giant is an Opener of one line of size bytes without a newline. With a pace, the
// stream never gets further ahead of the readers than that.
type giant struct {
	size, pace int64
	mu         sync.Mutex
	moved      *sync.Cond
	read       [2]int64 // by the readers
	streamed   chan struct{}
	once       sync.Once
}

func newGiant(size, pace int64) *giant {
	g := &giant{size: size, pace: pace, streamed: make(chan struct{})}
	g.moved = sync.NewCond(&g.mu)
	return g
}

func (g *giant) OpenLog(_ context.Context, _, _ string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	return &giantBody{g: g, o: o, text: newEndless()}, nil
}

// seen says that a reader has got to off.
func (g *giant) seen(reader int, off int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.read[reader] = off
	g.moved.Broadcast()
}

type giantBody struct {
	g    *giant
	o    *corev1.PodLogOptions
	text *lineWithoutEnd
	pos  int64 // oneStamp included
}

func (b *giantBody) Close() error { return nil }

func (b *giantBody) Read(p []byte) (int, error) {
	g := b.g
	if b.pos < int64(len(oneStamp)) {
		n := copy(p, oneStamp[b.pos:])
		b.pos += int64(n)
		return n, nil
	}
	off := b.pos - int64(len(oneStamp))
	if off == g.size {
		if b.o.Follow {
			g.once.Do(func() { close(g.streamed) })
		}
		return 0, io.EOF
	}
	if b.o.Follow && g.pace > 0 {
		g.mu.Lock()
		for off > min(g.read[0], g.read[1])+g.pace {
			g.moved.Wait()
		}
		g.mu.Unlock()
	}
	n := int(min(int64(len(p)), g.size-off))
	b.text.fill(p[:n], off)
	b.pos += int64(n)
	return n, nil
}

// follower checks what a reader gets of a giant.
type follower struct {
	*testing.T
	g         *giant
	id        int
	text      *lineWithoutEnd
	want      []byte
	off       int64
	got, lost int64
	gap       bool   // the next piece may be further on
	start     []byte // of that piece
	skip      int    // bytes of a gap's text that are still to come
}

const gapMarker = "<gap>\n"

// read takes what Read brings: text, and gaps in lines of their own.
func (f *follower) read(p []byte) {
	for len(p) > 0 {
		if f.skip > 0 {
			k := min(f.skip, len(p))
			p, f.skip = p[k:], f.skip-k
			continue
		}
		j := len(p)
		if k := bytes.IndexByte(p, '<'); k >= 0 {
			j, f.skip = k, len(gapMarker)
		}
		if k := bytes.IndexByte(p[:j], '\n'); k >= 0 { // the end of the line that the gap is in
			j, f.skip = k, len(gapMarker)+1
		}
		f.take(p[:j])
		f.gap = f.gap || f.skip > 0
		p = p[j:]
	}
}

func (f *follower) take(p []byte) {
	if len(p) == 0 {
		return
	}
	if f.gap {
		if f.start = append(f.start, p...); len(f.start) < 31 {
			return
		}
		p, f.start, f.gap = f.start, nil, false
		at := f.text.find(p)
		if at < f.off {
			f.Fatalf("a piece of %d bytes from %d on, after %d", len(p), at, f.off)
		}
		f.lost += at - f.off
		f.off = at
	}
	f.want = append(f.want[:0], p...)
	f.text.fill(f.want, f.off)
	if !bytes.Equal(f.want, p) {
		f.Fatalf("a piece of %d bytes differs at %d", len(p), f.off)
	}
	f.off += int64(len(p))
	f.got += int64(len(p))
	f.g.seen(f.id, f.off)
	if f.g.pace == 0 {
		<-f.g.streamed // this one is slow
	}
}

// peaks are the most of something while a test runs.
type peaks struct {
	heap, memory, disk int64
	stop               chan struct{}
	wg                 sync.WaitGroup
}

func heapNow() int64 {
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}} // MemStats.HeapAlloc, without stopping the world
	metrics.Read(s)
	return int64(s[0].Value.Uint64())
}

func watchPeaks(s *Streamer) *peaks {
	p := &peaks{stop: make(chan struct{})}
	before := heapNow()
	p.wg.Go(func() {
		for {
			st := s.Stats()
			p.heap, p.memory, p.disk = max(p.heap, heapNow()-before), max(p.memory, st.Memory), max(p.disk, st.Disk)
			select {
			case <-p.stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	return p
}

func (p *peaks) end() {
	close(p.stop)
	p.wg.Wait()
}

// overhead is what a run may take on top of the budget, as the package's docs say.
const (
	overheadLive   = 3 * chunkSize // a live run, in the middle of a line
	overheadBuffer = 3 * chunkSize // while it delivers, or is verified
	overheadReader = chunkSize
)

func TestAGigabyteWithoutNewlineTakesNoMoreThanTheBudget(t *testing.T) {
	const memory, disk = 4 << 20 / min(slowed, 8), 16 << 20 / min(slowed, 8)
	for name, c := range map[string]struct{ disk, pace int64 }{
		"no disk, readers keep up":       {disk: -1, pace: memory / 2},
		"a small disk, readers too slow": {disk: disk},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			g := newGiant(1<<30/slowed, c.pace)
			s := New(g, Options{Memory: memory, Disk: c.disk})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); _ = s.Run(ctx) }()
			defer func() { cancel(); <-done }()
			most := watchPeaks(s)
			capture := s.Pod("n", "p", nil)
			p := newPod(corev1.RestartPolicyNever, "a")
			fs := []*follower{{T: t, g: g, id: 0, text: newEndless()}, {T: t, g: g, id: 1, text: newEndless()}}
			var wg sync.WaitGroup
			for _, f := range fs {
				r := capture.Reader(ctx, "a", ReadOptions{Gap: func(Gap) string { return gapMarker }})
				wg.Go(func() { f.follow(r) })
			}
			capture.Handle(p.running("a", "a1"))
			<-g.streamed
			p.ended("a", "a1")
			certs, err := capture.Drain(ctx, p.pod)
			wg.Wait()
			most.end()

			if err != nil || len(certs) != 1 || certs[0].Bytes != g.size || certs[0].Lines != 1 || certs[0].Proof != Incomplete {
				t.Errorf("%v, certificates %+v", err, certs)
			}
			for _, f := range fs {
				if f.got+f.lost != g.size || (f.lost > 0) != (c.pace == 0) {
					t.Errorf("reader %d got %d bytes and lost %d of %d", f.id, f.got, f.lost, g.size)
				}
			}
			t.Logf("%d MB in %v: most memory %d, disk %d, heap %d; lost %d and %d", g.size/1e6, time.Since(start), most.memory, most.disk, most.heap, fs[0].lost, fs[1].lost)
			inFlight := int64(0)
			if c.disk > 0 {
				inFlight = (maxWrites + spareWrites) * chunkSize
			}
			if most.memory > memory+inFlight+overheadLive || most.disk > max(0, c.disk) {
				t.Errorf("memory %d, disk %d", most.memory, most.disk)
			}
			// What the collector has not collected yet is as much again. (With the race
			// detector a sync.Pool drops what it is given at random.)
			if bound := 2 * (memory + inFlight + int64(overheadLive+overheadBuffer+2*overheadReader+4<<20)); slowed == 1 && most.heap > bound {
				t.Errorf("heap %d, want at most %d", most.heap, bound)
			}
			capture.Close()
			if st := s.Stats(); st.Memory != 0 || st.Disk != 0 {
				t.Errorf("after Close: %+v", st)
			}
		})
	}
}

// follow reads to the end, by Read or by Lines.
func (f *follower) follow(r *Reader) {
	defer func() { f.g.seen(f.id, f.g.size) }()
	var err error
	if f.id == 0 {
		p := make([]byte, 100_000)
		for err == nil {
			var n int
			if n, err = r.Read(p); n > 0 {
				f.read(p[:n])
			}
		}
	} else {
		for l, e := range r.Lines() {
			if err = e; e != nil {
				break
			}
			if l.ContainerID == "" {
				f.gap = true
				continue
			}
			if len(l.Text) > longLine || !l.Partial {
				f.Errorf("a line of %d bytes, partial: %v", len(l.Text), l.Partial)
			}
			f.take(l.Text)
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		f.Error(err)
	}
	if f.off < f.g.size {
		f.lost += f.g.size - f.off
	}
}
