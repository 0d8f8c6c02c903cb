package testutil_test

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
)

// follow reads a log until it ends, in the background; the result has the time.
func (s *story) follow(o corev1.PodLogOptions) <-chan string {
	o.Follow = true
	result := make(chan string, 1)
	go func() {
		text := s.log(o)
		result <- fmt.Sprintf("%.1f %q", time.Since(s.start).Seconds(), text)
	}()
	return result
}

func (s *story) expect(what, got, want string) {
	s.Helper()
	if got != want {
		s.Errorf("%s: got  %.400q\nwant %.400q", what, got, want)
	}
}

func TestAFollowIsBoundToOneRun(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(steps("echo one; sleep 3; echo two", ""), 5*time.Second)
		early := s.follow(corev1.PodLogOptions{Container: "a"})
		s.swap("a", "sh:1")
		s.wait(200 * time.Millisecond) // the placeholder is dead, its status is still the newest
		s.expect("right after the patch", s.log(corev1.PodLogOptions{Container: "a"}), "")
		s.wait(time.Second)
		late := s.follow(corev1.PodLogOptions{Container: "a"})
		s.wait(time.Second)
		s.expect("while it runs", s.log(corev1.PodLogOptions{Container: "a"}), "one\n")
		s.expect("of the placeholder", <-early, `5.7 ""`)
		s.expect("of the step", <-late, `9.2 "one\ntwo\n"`) // ended at 8.455
		s.expect("previous", s.log(corev1.PodLogOptions{Container: "a", Previous: true}), "unable to retrieve container logs for "+s.previous("a"))
	})
}

// previous is the containerID of the run before.
func (s *story) previous(container string) string {
	p, err := s.CoreV1().Pods("default").Get(s.ctx, "p", metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	for _, c := range p.Status.ContainerStatuses {
		if c.Name == container {
			return c.LastTerminationState.Terminated.ContainerID
		}
	}
	return ""
}

func TestALogCanBeCutAndStamped(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(on(steps("seq 3; sleep 1200ms; echo 4", ""), "sh:1"), 5*time.Second)
		n := func(n int64) *int64 { return &n }
		all := s.log(corev1.PodLogOptions{Container: "a", Timestamps: true})
		if ok, _ := regexp.MatchString(`^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z \d\n){4}$`, all); !ok {
			s.Errorf("stamped: %q", all)
		}
		s.expect("tail", s.log(corev1.PodLogOptions{Container: "a", TailLines: n(2)}), "3\n4\n")
		s.expect("limit", s.log(corev1.PodLogOptions{Container: "a", LimitBytes: n(3)}), "1\n2")
		// 1 to 3 were written at 0.555 s, 4 at 1.755 s.
		since := metav1.NewTime(s.start.Add(999 * time.Millisecond))
		s.expect("since, rounded down", s.log(corev1.PodLogOptions{Container: "a", SinceTime: &since}), "1\n2\n3\n4\n")
		raw, err := s.CoreV1().RESTClient().Get().Namespace("default").Resource("pods").Name("p").SubResource("log").
			Param("container", "a").Param("sinceTime", "2000-01-01T00:00:00.999Z").DoRaw(s.ctx) // client-go rounds too
		if err != nil {
			s.Error(err)
		}
		s.expect("since, rounded down by the server", string(raw), "1\n2\n3\n4\n")
		since = metav1.NewTime(s.start.Add(1999 * time.Millisecond))
		s.expect("since, rounded down", s.log(corev1.PodLogOptions{Container: "a", SinceTime: &since}), "4\n")
	})
}

func TestLongAndUnfinishedLinesComeBackAsTheyWere(t *testing.T) {
	long := strings.Repeat("x", 40_000)
	images["lines"] = func(_ context.Context, _ []string, out io.Writer) int {
		fmt.Fprint(out, long+"\n\nlast")
		return 0
	}
	tell(t, testutil.Options{}, func(s *story) {
		s.run(on(steps(""), "lines:1"), 5*time.Second)
		s.expect("plain", s.log(corev1.PodLogOptions{}), long+"\n\nlast")
		stamp := func(record int) string { return fmt.Sprintf("2000-01-01T00:00:00.55500000%dZ ", record) }
		s.expect("stamped", s.log(corev1.PodLogOptions{Timestamps: true}), stamp(0)+long+"\n"+stamp(3)+"\n"+stamp(4)+"last")
	})
}

func TestALogThatIsNotThereIsAnError(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		log := func(o corev1.PodLogOptions) string { return s.log(o) }
		s.expect("no pod", log(corev1.PodLogOptions{}), `error: pods "p" not found`)
		p := on(steps("", "", ""), "sh:1", nope)
		p.Spec.Containers[2].Args = []string{"sleep 10"}
		s.run(p, 0)
		s.expect("not scheduled", log(corev1.PodLogOptions{Container: "a"}), "")
		s.wait(100 * time.Millisecond)
		s.expect("which", log(corev1.PodLogOptions{}), `error: a container name must be specified for pod p, choose one of: [a b c]`)
		s.expect("unknown", log(corev1.PodLogOptions{Container: "x"}), `error: container x is not valid for pod p`)
		s.expect("creating", log(corev1.PodLogOptions{Container: "a"}), `error: container "a" in pod "p" is waiting to start: ContainerCreating`)
		s.wait(5 * time.Second)
		s.expect("pull", log(corev1.PodLogOptions{Container: "b"}), `error: container "b" in pod "p" is waiting to start: image can't be pulled`)
		s.expect("previous", log(corev1.PodLogOptions{Container: "c", Previous: true}), `error: previous terminated container "c" in pod "p" not found`)
		both := corev1.PodLogOptions{Container: "c", SinceSeconds: new(int64)}
		s.expect("invalid", log(both), `error: PodLogOptions "p" is invalid: sinceSeconds: Invalid value: "0": must be greater than or equal to 1`)
	})
}

func TestARestartedKubeletEndsFollowsWithoutAnError(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(on(steps("seq 2; sleep 10; echo end"), "sh:1"), 5*time.Second)
		cut := s.follow(corev1.PodLogOptions{})
		s.wait(time.Second)
		go func() { _ = s.RestartKubelet(s.ctx, 3*time.Second) }()
		s.expect("cut", <-cut, `6.0 "1\n2\n"`)
		s.wait(time.Second)
		if got := s.log(corev1.PodLogOptions{}); !strings.HasSuffix(got, "dial tcp 10.0.0.1:10250: connect: connection refused") {
			s.Errorf("down: %s", got)
		}
		s.wait(2500 * time.Millisecond)
		s.expect("just up", s.log(corev1.PodLogOptions{}), "error: the server could not find the requested resource ( pods/log p)")
		s.wait(time.Second)
		s.expect("again", <-s.follow(corev1.PodLogOptions{}), `11.3 "1\n2\nend\n"`)
	})
}

func TestALogOutlivesItsPodOnlyInAnOpenFollow(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(on(steps("echo 1; sleep 8; echo 2"), "sh:1"), 5*time.Second)
		open := s.follow(corev1.PodLogOptions{})
		s.wait(time.Second)
		if err := s.CoreV1().Pods("default").Delete(s.ctx, "p", *metav1.NewDeleteOptions(0)); err != nil {
			s.Fatal(err)
		}
		s.expect("after the deletion", s.log(corev1.PodLogOptions{}), `error: pods "p" not found`)
		s.expect("open", <-open, `6.7 "1\n"`) // SIGTERM ended it
	})
}
