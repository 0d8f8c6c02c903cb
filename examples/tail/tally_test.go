package main

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (s *stage) label(name, app string) {
	s.t.Helper()
	if _, err := s.Client().CoreV1().Pods("default").Patch(s.t.Context(), name, "application/strategic-merge-patch+json",
		fmt.Appendf(nil, `{"metadata":{"labels":{"app":%q}}}`, app), metav1.PatchOptions{}); err != nil {
		s.t.Error(err)
	}
}

func TestAPodThatLeavesTheSelectorAndReturnsIsPrintedOnce(t *testing.T) {
	var lines []string
	for i := range 40 {
		lines = append(lines, fmt.Sprint("echo ", i+1), "sleep 1")
	}
	for name, speed := range map[string]int{"at once": 0, "while its lines are still being printed": 40} {
		t.Run(name, func(t *testing.T) {
			s := playOn(t, options{selector: "app=web"}, func(s *stage) { s.out = &pipe{Writer: &s.stdout, speed: speed} }, func(s *stage) {
				s.create("default", never(newPod("web", script("a", lines...))))
				for range 2 {
					time.Sleep(8 * time.Second)
					s.label("web", "db")
					time.Sleep(4 * time.Second)
					s.label("web", "web")
				}
				time.Sleep(time.Minute)
			})
			s.expect(map[string][]string{"default/web a#0": numbers(40)})
			s.says("default/web a#0: Verified, 40 lines")
			s.says("40 lines of 3 runs", "1 verified", "2 unverified", "0 incomplete")
			if strings.Contains(s.stderr.String(), " printed") {
				t.Error(s.stderr.String())
			}
		})
	}
}

func TestWhatIsRememberedOfPodsThatLeftIsBounded(t *testing.T) {
	tail := &tailer{out: newPrinter(t.Context(), false, io.Discard, io.Discard)}
	now := time.Now()
	visit := func(id string, at time.Time, deleted bool) (until time.Time) {
		f := &follower{t: tail, tallies: map[string]*tally{}, done: make(chan struct{})}
		of := f.begin(id, now)
		until, of.last = of.last, at
		close(f.done)
		tail.leave(of, deleted)
		return until
	}
	visit("back", now, false)
	back := &follower{t: tail, tallies: map[string]*tally{}, done: make(chan struct{})}
	of := back.begin("back", now) // and stays
	for i := range 3 * remembered {
		visit(fmt.Sprint(i), now, i%2 == 0)
	}
	kept := 0
	tail.printed.Range(func(any, any) bool { kept++; return true })
	if kept != remembered+1 || len(tail.left) != remembered {
		t.Errorf("%d and %d are remembered, want %d", kept, len(tail.left), remembered)
	}
	if is, _ := tail.printed.Load("back"); is != of {
		t.Error("a run that is back is forgotten")
	}
	for id, want := range map[int]time.Time{3*remembered - 1: now, remembered + 1: now, remembered - 1: {}, 3*remembered - 2: {}} {
		if got := visit(fmt.Sprint(id), now, true); !got.Equal(want) {
			t.Errorf("of run %d: %v, want %v", id, got, want)
		}
	}
}
