package main

import (
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
)

func TestEveryRunOfEveryContainerIsPrinted(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	s := play(t, options{}, func(s *stage) {
		p := newPod("web", script("app", "echo app", "sleep 1", "exit 1"))
		p.Spec.InitContainers = []corev1.Container{script("init", "echo init"), script("sidecar", "echo sidecar", "sleep 90")}
		p.Spec.InitContainers[1].RestartPolicy = &always
		s.create("default", p)
		time.Sleep(50 * time.Second)
	})
	s.expect(map[string][]string{
		"default/web init#0": {"init"}, "default/web sidecar#0": {"sidecar"},
		"default/web app#0": {"app"}, "default/web app#1": {"app"}, "default/web app#2": {"app"}, "default/web app#3": {"app"},
	})
	s.says("default/web", `"app"`, "again and again")
}

func TestOnlyTheSelectedPodsAreTailedTheOldAndTheNew(t *testing.T) {
	s := play(t, options{selector: "app=web"}, func(s *stage) {
		s.create("default", never(newPod("web", script("a", "echo early"))))
		s.create("default", never(newPod("db", script("a", "echo not selected"))))
		s.create("other", never(newPod("web", script("a", "echo elsewhere"))))
		time.Sleep(time.Minute)
		late := never(newPod("late", script("a", "echo late")))
		late.Labels["app"] = "web"
		s.create("default", late)
		time.Sleep(5 * time.Second)
	})
	s.expect(map[string][]string{"default/web a#0": {"early"}, "default/late a#0": {"late"}})
}

func TestAnInterruptDrainsSaysWhatTheLogsAreWorthAndExitsWith0(t *testing.T) {
	s := play(t, options{}, func(s *stage) {
		s.create("default", never(newPod("ended", script("a", "seq 1000"))))
		s.create("default", never(newPod("live", script("a", "seq 10", "sleep 600"))))
		time.Sleep(1100 * time.Millisecond) // the one has ended some milliseconds ago
	})
	if s.status != 0 {
		t.Errorf("exit status %d", s.status)
	}
	s.expect(map[string][]string{"default/ended a#0": numbers(1000), "default/live a#0": numbers(10)})
	s.says("default/ended a#0", "Verified", "1000 lines")
	s.says("default/live a#0", "Unverified", "10 lines")
	s.says("1010 lines of 2 runs", "1 verified", "1 unverified", "0 incomplete")
}

func TestTheAPIServerAndTheKubeletMayGoAwayForAWhile(t *testing.T) {
	var lines, want []string
	for i := range 120 {
		want = append(want, fmt.Sprint("line ", i))
		lines = append(lines, "echo line "+fmt.Sprint(i), "sleep 1")
	}
	for name, c := range map[string]struct {
		harm  func(*stage) error
		words []string
	}{
		"the API server": {func(s *stage) error { return s.RestartServer(s.t.Context(), 20*time.Second) }, []string{"lost contact"}},
		"the kubelet":    {func(s *stage) error { return s.RestartKubelet(s.t.Context(), 20*time.Second) }, []string{"logs cannot be read"}},
		"a short while":  {func(s *stage) error { return s.RestartKubelet(s.t.Context(), time.Second) }, []string{"2 verified"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := play(t, options{}, func(s *stage) {
				s.create("default", never(newPod("web", script("a", lines...))))
				time.Sleep(30 * time.Second)
				if err := c.harm(s); err != nil {
					t.Error(err)
				}
				s.create("default", never(newPod("later", script("a", "echo later"))))
				time.Sleep(100 * time.Second)
			})
			s.expect(map[string][]string{"default/web a#0": want, "default/later a#0": {"later"}})
			s.says(c.words...)
			s.says("read again after a break: 1")
			s.says("2 verified", "0 unverified", "0 incomplete")
			if name == "the API server" {
				s.says("contact again")
			}
		})
	}
}

func TestLogsThatAreReadInIntervalsAreCounted(t *testing.T) {
	want := map[string][]string{}
	s := playOn(t, options{}, func(s *stage) {
		s.Fault(func(r *http.Request) testutil.Fault {
			if r.URL.Query().Get("follow") != "true" {
				return testutil.Fault{}
			}
			return testutil.Fault{Status: http.StatusOK, Message: "failed to create fsnotify watcher: too many open files"}
		})
	}, func(s *stage) {
		for i := range 20 {
			name := fmt.Sprint("pod-", i)
			s.create("default", never(newPod(name, script("a", "seq 10", "sleep 300", "seq 10"))))
			want["default/"+name+" a#0"] = append(numbers(10), numbers(10)...)
		}
		time.Sleep(6 * time.Minute)
	})
	s.expect(want)
	told, said := 0, 0 // the pods start within some seconds
	for line := range strings.Lines(s.stderr.String()) {
		if head, n, ok := strings.Cut(line, ": "); ok && strings.Contains(head, "in intervals") {
			count, err := strconv.Atoi(strings.TrimSpace(n))
			if err != nil {
				t.Error(err)
			}
			told, said = told+count, said+1
		}
	}
	if told != 20 || said > 10 {
		t.Errorf("%d logs are told of in %d lines, want 20 in a few:\n%s", told, said, s.stderr.String())
	}
	s.says("20 verified")
}

func TestAContainerThatCannotRunIsSaidOnceAndPrintedWhenItRunsAfterAll(t *testing.T) {
	s := play(t, options{}, func(s *stage) {
		s.create("default", never(newPod("typo", corev1.Container{Name: "a", Image: "demo/shh", Args: []string{"echo after all"}})))
		time.Sleep(10 * time.Minute)
		if _, err := s.Client().CoreV1().Pods("default").Patch(s.t.Context(), "typo", "application/strategic-merge-patch+json",
			[]byte(`{"spec":{"containers":[{"name":"a","image":"demo/sh"}]}}`), metav1.PatchOptions{}); err != nil {
			t.Error(err)
		}
		time.Sleep(10 * time.Minute)
	})
	s.says("default/typo", `"a"`, "demo/shh", "not found")
	if n := strings.Count(s.stderr.String(), "demo/shh\" was not found"); n != 1 {
		t.Errorf("said %d times:\n%s", n, s.stderr.String())
	}
	s.expect(map[string][]string{"default/typo a#0": {"after all"}})
}

func TestAGapIsALineOnStderrAndAnObjectInItsPlace(t *testing.T) {
	s := play(t, options{}, func(s *stage) {
		s.create("default", newPod("web", script("a", "seq 5", "sleep 600")))
		time.Sleep(10 * time.Second)
		s.remove("web", 0)
		time.Sleep(10 * time.Second)
	})
	s.expect(map[string][]string{"default/web a#0": numbers(5)})
	if _, gaps := s.objects(); !reflect.DeepEqual(gaps, map[string][]int{"default/web a#0": {5}}) {
		t.Errorf("gaps behind lines %v", gaps)
	}
	s.says("default/web a#0", "gap", "may be missing", "deleted")
	s.says("default/web a#0", "Unverified")
}

func TestAPodThatIsGoneHoldsNoMemory(t *testing.T) {
	play(t, options{}, func(s *stage) {
		for i := range 20 {
			name := fmt.Sprint("pod-", i)
			s.create("default", newPod(name, script("a", "seq 1000", "sleep 600")))
		}
		time.Sleep(5 * time.Second)
		if st := s.tail.logs.Stats(); st.Captures != 20 || st.Memory == 0 {
			t.Errorf("before: %+v", st)
		}
		for i := range 20 {
			s.remove(fmt.Sprint("pod-", i), 1)
		}
		time.Sleep(time.Minute)
		if st := s.tail.logs.Stats(); st.Captures != 0 || st.Live != 0 || st.Memory != 0 || st.Disk != 0 {
			t.Errorf("20 pods are gone, and yet: %+v", st)
		}
		if st := s.tail.pods.Stats(); st.Tracked != 0 || st.Pods != 0 {
			t.Errorf("20 pods are gone, and yet: %+v", st)
		}
		s.tail.printed.Range(func(id, _ any) bool { t.Errorf("remembered: %v", id); return true })
		if n := len(s.tail.left); n > 0 {
			t.Errorf("%d runs of pods that were deleted may come back", n)
		}
	})
}

func TestALongLineIsPrintedAsOne(t *testing.T) {
	s := play(t, options{}, func(s *stage) {
		s.create("default", newPod("web", corev1.Container{Name: "a", Image: "demo/long"}))
		time.Sleep(8 * time.Second)
	})
	want := []string{strings.Repeat("x", 200_000), strings.Repeat("y", 130_000)}
	s.expect(map[string][]string{"default/web a#0": want, "default/web a#1": want})
}

func TestRefusedPodsAreExitStatus1(t *testing.T) {
	s := playOn(t, options{}, func(s *stage) {
		s.Fault(func(r *http.Request) testutil.Fault {
			return testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "pods is forbidden: User cannot list"}
		})
	}, func(*stage) { time.Sleep(time.Minute) })
	if s.status != exitFailed {
		t.Errorf("exit status %d, want %d", s.status, exitFailed)
	}
	s.says("tail:", "User cannot list")
}
