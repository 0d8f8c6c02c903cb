package logstream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

func lineAt(sec, length int) string {
	return fmt.Sprintf("2026-11-22T10:00:%02d.000000001Z %s\n", sec, strings.Repeat("x", length-stamp.UTC-1))
}

// Chunks that are older than a line are passed over; the line may begin in one all the
// same, when what is written after a pause crosses into the next.
func TestALineIsFoundWhereverItLies(t *testing.T) {
	for name, line := range map[string]string{
		"short":               lineAt(10, 200),
		"longer than a chunk": lineAt(10, 3*chunkSize+100),
		"of many at once":     lineAt(10, 200) + strings.Repeat(lineAt(11, 200), 300),
	} {
		t.Run(name, func(t *testing.T) {
			for before := 4*chunkSize - 300; before < 4*chunkSize+100; before += 50 {
				s := newTestSplicer()
				s.begin(query{}, false)
				for _, part := range []string{lineAt(1, 100), lineAt(2, before-100), line, lineAt(20, chunkSize), lineAt(30, chunkSize)} {
					s.feed([]byte(part))
				}
				ns, _ := s.clock.Parse([]byte(line))
				if got := s.l.find([]byte(line[:200]), 0, s.lineAt, ns); got != int64(before) {
					t.Errorf("after %d bytes: found at %d", before, got)
				}
			}
		})
	}
}

// What is long past is not read: it may be in the spill file.
func TestOldChunksAreNotSearched(t *testing.T) {
	s := newTestSplicer()
	s.begin(query{}, false)
	for i := range 60 {
		s.feed([]byte(lineAt(i, 30_000)))
	}
	_, end := s.l.bounds()
	ns, _ := s.clock.Parse([]byte(lineAt(50, 100)))
	if got, _ := s.l.stretch(0, ns); got < end/2 {
		t.Errorf("the search begins at %d of %d", got, end)
	}
}

func TestAFileThatBeganInABurstIsPlaced(t *testing.T) {
	burst := ""
	for i := range 300 {
		burst += fmt.Sprintf("2026-11-22T10:00:10.%09dZ line %d\n", i+1, i)
	}
	s := newTestSplicer()
	s.begin(query{}, false)
	s.feed([]byte(lineAt(1, 1000)))
	s.feed([]byte(lineAt(2, 4*chunkSize-2000)))
	s.feed([]byte(burst))
	rotated := burst[strings.Index(burst, "2026-11-22T10:00:10.000000008Z"):] + lineAt(20, 100)
	if a, _ := s.respond(t, rotated, false, true); a != kubelog.EOF {
		t.Fatal(a)
	}
	if got, want := s.captured(), lineAt(1, 1000)+lineAt(2, 4*chunkSize-2000)+burst+lineAt(20, 100); got != want {
		t.Errorf("captured %d bytes instead of %d", len(got), len(want))
	}
	if len(s.l.gaps) != 1 || s.l.gaps[0].AfterLine != 9 || s.l.gaps[0].Certain {
		t.Errorf("gaps %+v", s.l.gaps)
	}
}

// A part of a log may be taken back after a reader has left it.
func TestASearchBeyondTheEndOfALogEnds(t *testing.T) {
	s := newTestSplicer()
	s.begin(query{}, false)
	s.feed([]byte(lineAt(1, 100)))
	wanted := []byte(lineAt(2, 100))
	ns, _ := s.clock.Parse(wanted)
	found := make(chan int64, 1)
	go func() { found <- s.l.find(wanted, 0, 1000, ns) }()
	select {
	case got := <-found:
		if got >= 0 {
			t.Errorf("found at %d", got)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on")
	}
}
