package podwatch_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/podwatch"
)

// blocked is a handler whose first call takes a minute.
func blocked() *recorder {
	first := true
	return &recorder{before: func(watch.Event) {
		if first {
			first = false
			time.Sleep(time.Minute)
		}
	}}
}

func TestASlowHandlerGetsTheNewestVersionAndEveryEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		r := blocked()
		tr := h.track(w, "a", r)
		tr.Created(h.create("a"))
		settle(time.Second)
		for i := range 5 {
			h.label("a", fmt.Sprint(i))
			settle(time.Second)
		}
		h.delete("a")
		settle(time.Second)
		tr.Created(h.create("a"))
		settle(time.Second)
		h.label("a", "second")
		settle(time.Second)
		h.delete("a")
		settle(time.Second)
		tr.Created(h.create("a"))
		settle(time.Second)
		r.want(t)
		settle(time.Minute)
		r.want(t, "ADDED pod", "MODIFIED pod 4", "DELETED pod 4", "ADDED pod second", "DELETED pod second", "ADDED pod")
		h.notices.want(t, "coalesced pods default/a", "caught-up pods default/a")
		if n := w.Stats().Coalesced; n != 7 {
			t.Errorf("%d versions coalesced, want 7: labels, and each deletion's mark", n)
		}
	})
}

func TestASlowHandlerDelaysNobodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		slow := blocked()
		var sibling, other recorder
		h.follow(w, "a", slow)
		h.follow(w, "a", &sibling)
		h.follow(w, "b", &other)
		p := h.create("a")
		settle(time.Second)
		h.label("a", "1")
		h.event(p, "e1", "Pulled")
		h.create("b")
		settle(time.Second)
		slow.want(t)
		other.want(t, "ADDED pod")
		if got := sibling.heard(); len(got) != 3 {
			t.Errorf("the sibling heard %q", got)
		}
		settle(time.Minute)
		if got := slow.heard(); len(got) != 3 {
			t.Errorf("the slow one heard %q", got)
		}
	})
}

func TestTheEventsThatWaitAreBoundedAndTheOldestGoFirst(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		r := blocked()
		h.follow(w, "a", r)
		p := h.create("a")
		settle(time.Second)
		for i := range 300 {
			h.event(p, fmt.Sprintf("e%d", i), fmt.Sprintf("R%d", i))
		}
		settle(2 * time.Minute)
		lines := r.heard()
		if len(lines) != 257 || lines[1] != "ADDED event R44 x1" || lines[256] != "ADDED event R299 x1" {
			t.Errorf("%d calls: %q ... %q", len(lines), lines[:2], lines[len(lines)-1])
		}
		if s := w.Stats(); s.Dropped != 44 || s.Events != 256 {
			t.Errorf("%d dropped, %d remembered; want 44 and 256", s.Dropped, s.Events)
		}
		h.notices.want(t, "dropped pods default/a", "caught-up pods default/a")
	})
}

func TestAPodThatLeftAndCameBackBeforeAnyoneWasToldNeverLeft(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{LabelSelector: "app=ci"})
		r := blocked()
		h.follow(w, "a", r)
		h.create("a")
		settle(time.Second)
		for i := range 20 {
			h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`)
			settle(100 * time.Millisecond)
			h.patch("a", fmt.Sprintf(`{"metadata":{"labels":{"app":"ci","v":"%d"}}}`, i))
			settle(100 * time.Millisecond)
		}
		settle(2 * time.Minute)
		r.want(t, "ADDED pod", "MODIFIED pod 19")
	})
}

func TestAnOutageThatEndedBeforeAnyoneWasToldIsNotMentioned(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		r := &recorder{before: func(watch.Event) { time.Sleep(time.Hour) }}
		h.follow(w, "a", r)
		h.create("a")
		settle(time.Second)
		for range 10 {
			h.whileDown(func() {})
		}
		settle(3 * time.Hour)
		r.want(t, "ADDED pod")
	})
}

type panicking struct{}

func (panicking) Handle(watch.Event) { panic("a handler's mistake") }

func TestAPanicInAHandlerEndsTheProcess(t *testing.T) {
	if os.Getenv("PODWATCH_PANIC") != "" {
		inBubble(t, func(t *testing.T, h *harness) {
			w, _ := h.start(podwatch.Options{})
			h.follow(w, "a", panicking{})
			h.create("a")
			settle(time.Second)
		})
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "PODWATCH_PANIC=1")
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "a handler's mistake") {
		t.Errorf("the process ended with %v and said:\n%s", err, out)
	}
}

func TestOnPodHearsOfPodsThatNobodyNamed(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		var asked []string
		heard := map[string]*recorder{}
		h.create("there-before")
		w := h.watcher(podwatch.Options{LabelSelector: "app=ci", OnPod: func(p *corev1.Pod) []podwatch.Handler {
			asked = append(asked, p.Name)
			if strings.HasPrefix(p.Name, "ignored") {
				return nil
			}
			r := &recorder{}
			heard[fmt.Sprint(p.Name, len(asked))] = r
			return []podwatch.Handler{r, nil}
		}})
		var named recorder
		h.follow(w, "named", &named)
		h.run(w)
		h.sync(w)
		h.create("named")
		h.create("ignored")
		settle(time.Second)
		h.label("ignored", "1")
		h.label("there-before", "1")
		settle(time.Second)
		named.want(t, "ADDED pod")
		heard["there-before1"].want(t, "ADDED pod", "MODIFIED pod 1")
		h.delete("there-before")
		settle(time.Second)
		h.create("there-before")
		settle(time.Second)
		heard["there-before1"].want(t, "MODIFIED pod 1", "DELETED pod 1", "ERROR Closed")
		heard["there-before3"].want(t, "ADDED pod")
		h.patch("there-before", `{"metadata":{"labels":{"app":"x"}}}`)
		settle(time.Second)
		heard["there-before3"].want(t, "ERROR OutOfScope", "ERROR Closed")
		if got := strings.Join(asked, " "); got != "there-before ignored there-before" {
			t.Errorf("OnPod was asked about %s", got)
		}
		if n := w.Stats().Tracked; n != 1 {
			t.Errorf("%d pods tracked, want the named one", n)
		}
	})
}

// The tracking of the pod before it, which Created pinned, does not follow it.
func TestOnPodHearsOfAPodWhoseNameIsOnlyTrackedForAnEarlierOne(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		var found recorder
		w, _ := h.start(podwatch.Options{OnPod: func(*corev1.Pod) []podwatch.Handler { return []podwatch.Handler{&found} }})
		var pinned recorder
		tr := h.follow(w, "a", &pinned)
		tr.Created(h.create("a"))
		h.delete("a")
		h.create("a")
		pinned.want(t, "ADDED pod", "MODIFIED pod", "DELETED pod")
		found.want(t, "ADDED pod")
	})
}
