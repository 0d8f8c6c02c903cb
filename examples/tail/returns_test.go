package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/logstream"
)

// breakOff ends a tail that an interrupt, now to come, does not end in an hour.
func (s *stage) breakOff() {
	go func() {
		select {
		case <-s.ended:
		case <-time.After(time.Hour):
			s.tail.out.fail(errors.New("it hung for an hour after the interrupt"))
		}
	}()
}

func TestFollowersOfOnePodDoNotWaitForEachOther(t *testing.T) {
	var b []string
	for i := range 200 {
		b = append(b, fmt.Sprint("echo ", i+1), "sleep 1")
	}
	s := playOn(t, options{selector: "app=web"}, func(s *stage) { s.out = &pipe{Writer: &s.stdout, speed: 400} }, func(s *stage) {
		p := newPod("web", script("a", "seq 400", "sleep 2", "exit 1"))
		p.Spec.Containers = append(p.Spec.Containers, script("b", b...))
		s.create("default", p)
		time.Sleep(25 * time.Second) // a has run twice, its first run is still being printed
		s.label("web", "db")
		time.Sleep(4 * time.Second)
		s.label("web", "web")
		time.Sleep(30 * time.Minute)
		s.breakOff()
	})
	if s.took > 30*time.Minute {
		t.Errorf("the tail does not end after an interrupt: %v\n%s", s.took, s.stderr.String())
	}
}

func followerOf(s *stage, tl *tailer) *follower {
	return &follower{t: tl, namespace: "default", name: "web", tallies: map[string]*tally{}, told: map[any]bool{}, done: make(chan struct{})}
}

func TestAPodThatReturnsLosesAndRepeatsNoLine(t *testing.T) {
	now := time.Date(2026, 1, 1, 10, 0, 0, 0, time.UTC)
	line := func(at time.Duration, text string) logstream.Line {
		return logstream.Line{ContainerID: "a0", Time: now.Add(at), Text: []byte(text)}
	}
	for name, all := range map[string][]logstream.Line{
		"equal times (conmon)": {line(1, "1"), line(1, "2"), line(1, "3")},
		"stdout and stderr":    {line(1, "1"), line(3, "2"), line(2, "3")},
		"clock set back":       {line(time.Hour, "1"), line(time.Hour+1, "2"), line(1, "3"), line(2, "4")},
		"clock back before":    {line(time.Hour, "1"), line(1, "2"), line(2, "3"), line(3, "4")},
	} {
		t.Run(name, func(t *testing.T) {
			s := &stage{t: t}
			tl := &tailer{out: newPrinter(t.Context(), true, &s.stdout, io.Discard)}
			play := func(n int) uint64 {
				f := followerOf(s, tl)
				f.printLines("a", func(yield func(logstream.Line, error) bool) {
					for _, l := range all[:n] {
						if !yield(l, nil) {
							return
						}
					}
				})
				close(f.done)
				return f.tally("a0").lines.Load()
			}
			play(2) // the pod leaves here
			if n := play(len(all)); n != uint64(len(all)) {
				t.Errorf("said to be printed: %d", n)
			}
			s.expect(map[string][]string{"default/web a#0": numbers(len(all))})
		})
	}
}

func TestAPieceOfALineIsNotGluedToTheNextLine(t *testing.T) {
	s := &stage{t: t}
	tl := &tailer{out: newPrinter(t.Context(), true, &s.stdout, io.Discard)}
	f := followerOf(s, tl)
	now := time.Now().UTC()
	f.printLines("a", func(yield func(logstream.Line, error) bool) {
		_ = yield(logstream.Line{ContainerID: "a1", Time: now, Text: []byte("piece"), Partial: true, More: true}, nil) &&
			yield(logstream.Line{ContainerID: "a1", Time: now.Add(1), Text: []byte("next")}, nil)
	})
	s.expect(map[string][]string{"default/web a#0": {"piece", "next"}})
}

func TestASecondOutageIsReported(t *testing.T) {
	var down atomic.Bool
	s := playOn(t, options{}, func(s *stage) {
		s.Fault(func(r *http.Request) testutil.Fault {
			if down.Load() && strings.HasSuffix(r.URL.Path, "/log") {
				return testutil.Fault{Status: http.StatusServiceUnavailable, Message: "no kubelet"}
			}
			return testutil.Fault{}
		})
	}, func(s *stage) {
		down.Store(true)
		s.create("default", newPod("web", script("a", "echo x", "sleep 1", "exit 1")))
		time.Sleep(2 * time.Minute)
		down.Store(false)
		time.Sleep(20 * time.Minute)
		down.Store(true)
		s.create("default", never(newPod("later", script("a", "echo x", "sleep 1"))))
		time.Sleep(2 * time.Minute)
		down.Store(false)
		time.Sleep(2 * time.Minute)
	})
	if n := strings.Count(s.stderr.String(), "logs cannot be read"); n < 2 {
		t.Errorf("%d outages are told of, want 2:\n%s", n, s.stderr.String())
	}
}

func TestAPodThatReturnsWhileItsNodeDoesNotAnswerIsPrintedToItsEnd(t *testing.T) {
	for _, back := range []time.Duration{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13} {
		t.Run(fmt.Sprint(back), func(t *testing.T) {
			var down atomic.Bool
			down.Store(true)
			s := playOn(t, options{selector: "app=web"}, func(s *stage) {
				s.Fault(func(r *http.Request) testutil.Fault {
					if down.Load() && strings.HasSuffix(r.URL.Path, "/log") && r.URL.Query().Get("container") == "a" {
						return testutil.Fault{Status: http.StatusServiceUnavailable, Message: "no kubelet"}
					}
					return testutil.Fault{}
				})
			}, func(s *stage) {
				var b []string
				for i := range 100 {
					b = append(b, fmt.Sprint("echo ", i+1), "sleep 1")
				}
				p := never(newPod("web", script("a", "seq 5")))
				p.Spec.Containers = append(p.Spec.Containers, script("b", b...))
				s.create("default", p)
				time.Sleep(20 * time.Second)
				s.label("web", "db")
				time.Sleep(20*time.Second + back*time.Second)
				s.label("web", "web")
				time.Sleep(time.Second)
				down.Store(false)
				time.Sleep(10 * time.Minute)
				s.breakOff()
			})
			if s.took > 30*time.Minute {
				t.Errorf("the tail does not end after an interrupt: %v", s.took)
			}
		})
	}
}
