package logstream

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
)

// The end of a body may be the end of the API server, too.
func TestTheKubeletsWordsThatAreCutAreNoOutput(t *testing.T) {
	full := body(numbered(2)...)
	for _, k := range kubelog.Texts {
		for cut := range len(full) + 1 {
			for n := 3 + cut%3; n < len(k.Text); n += 3 {
				s := newTestSplicer()
				s.respond(t, full[:cut]+k.Text[:n], true, false)
				s.seal(false) // nothing more will be heard
				if got := s.captured(); !strings.HasPrefix(full, got) {
					t.Fatalf("cut at %d: captured %q", cut, got)
				}
				s = newTestSplicer()
				s.respond(t, full[:cut]+k.Text[:n], true, false)
				s.oneFile = true
				s.respond(t, full, false, false)
				if _, equal := s.respond(t, full, false, false); !equal || s.captured() != full {
					t.Fatalf("cut at %d: equal %v, captured %q", cut, equal, s.captured())
				}
			}
		}
	}
}

// A file is known by its head, and there the words may be.
func TestTheKubeletsWordsInTheHeadOfAFileDoNotMakeItAnother(t *testing.T) {
	for _, length := range []int{10, 200, 230, 300} {
		full := body(strings.Repeat("x", length), "two")
		for cut := range len(body(strings.Repeat("x", length))) {
			s := newTestSplicer()
			s.respond(t, full[:cut]+kubelog.Texts[0].Text, true, false)
			s.oneFile = true
			s.respond(t, full[:cut]+kubelog.Texts[0].Text, false, false)
			s.respond(t, full, false, true)
			_, equal := s.respond(t, full, false, true)
			if !equal || s.captured() != full || len(s.l.gaps) > 0 {
				t.Fatalf("%d bytes, cut at %d: equal %v, captured %q, gaps %+v", length, cut, equal, s.captured(), s.l.gaps)
			}
		}
	}
}

// Kubelets may learn other words.
func TestALastLineWithoutATimestampIsNoOutput(t *testing.T) {
	full := body(numbered(2)...)
	s := newTestSplicer()
	if a, _ := s.respond(t, full+"words unknown", true, false); a != kubelog.Failed {
		t.Errorf("a stream's end means %v", a)
	}
	s.oneFile = true
	for range 3 {
		if a, equal := s.respond(t, full+"words unknown", false, false); a != kubelog.Failed || equal {
			t.Errorf("a read's end means %v, equal %v", a, equal)
		}
	}
	s.respond(t, full+"words", true, false)
	if s.seal(false); s.captured() != full {
		t.Errorf("captured %q", s.captured())
	}
}

func TestALongLineThatNobodyProvesIsKept(t *testing.T) {
	full := body("one", strings.Repeat("long ", 3000))
	full = full[:len(full)-1]
	s := newTestSplicer()
	s.respond(t, full, true, false)
	if s.seal(false); s.captured() != full {
		t.Errorf("captured %d bytes of %d", len(s.captured()), len(full))
	}
}

// The node is out of inotify instances, says so, and is cut off while it does.
func TestAnEmptyLogAfterWordsThatWereCutIsEmpty(t *testing.T) {
	for n := 1; n <= len(outOfWatchers); n++ {
		inBubble(t, Options{}, nil, func(b *bench) {
			b.n.fault = func(k int, _ *corev1.PodLogOptions) *fault {
				if k == 1 {
					return &fault{words: outOfWatchers[:n]}
				}
				return nil
			}
			b.n.start("a", "a1")
			b.c.Handle(b.p.running("a", "a1"))
			time.Sleep(time.Second)
			b.n.exit("a")
			b.c.Handle(b.p.ended("a", "a1"))
			if cert := b.drain()[0]; cert.Proof != Verified || cert.Bytes != 0 {
				t.Errorf("cut after %d bytes: certificate %+v", n, cert)
			}
		})
	}
}
