package testutil_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/go-vela/podlife/internal/testutil"
)

// small logs are rotated every ten seconds once they have ten lines of a flood.
var small = testutil.LogRotation{MaxSize: 1300}

// printing is a pod whose container, the first, runs a script from 0.555 s on. Its
// kubelet looks at logs at 10 s, 20 s and so on.
func printing(script string) *corev1.Pod { return on(steps(script), "sh:1") }

// containerID is that of the newest run.
func (s *story) containerID() string {
	p, err := s.CoreV1().Pods("default").Get(s.ctx, "p", metav1.GetOptions{})
	if err != nil {
		s.Fatal(err)
	}
	return p.Status.ContainerStatuses[0].ContainerID
}

// numbers shortens what Flood printed: "1-10 11-20" are two ranges of lines, in
// the order they came in.
func numbers(text string) string {
	var ranges []string
	first, last := 0, -1
	end := func() {
		if last >= first {
			ranges = append(ranges, fmt.Sprintf("%d-%d", first, last))
		}
	}
	rest := ""
	for line := range strings.Lines(text) {
		n := 0
		if _, err := fmt.Sscanf(line, "%d .", &n); err != nil {
			rest += line
			continue
		}
		if n != last+1 {
			end()
			first = n
		}
		last = n
	}
	end()
	return strings.Join(append(ranges, strings.Fields(rest)...), " ")
}

// numbers are those of what a follow brings, without the time.
func (s *story) numbers(o corev1.PodLogOptions) <-chan string {
	result := make(chan string, 1)
	text := s.follow(o)
	go func() {
		var at float64
		var b string
		if _, err := fmt.Sscanf(<-text, "%g %q", &at, &b); err != nil {
			s.Error(err)
		}
		result <- numbers(b)
	}()
	return result
}

// files are the files of the log: name and lines.
func (s *story) files() string {
	var all []string
	for _, f := range s.LogFiles(s.containerID()) {
		all = append(all, f.Name+" "+numbers(f.Text))
	}
	return strings.Join(all, ", ")
}

func TestALogThatIsTooLargeIsRotated(t *testing.T) {
	tell(t, testutil.Options{Logs: small}, func(s *story) {
		s.run(printing("flood 70 1"), 9*time.Second)
		s.expect("before", s.files(), "0.log 1-9")
		s.wait(2500 * time.Millisecond)
		s.expect("once", s.files(), "0.log.20000101-000010 1-10, 0.log 11-11")
		s.expect("a read", numbers(s.log(corev1.PodLogOptions{})), "11-11")
		s.wait(50 * time.Second)
		s.expect("five files", s.files(), "0.log.20000101-000030.gz 21-30, 0.log.20000101-000040.gz 31-40, "+
			"0.log.20000101-000050.gz 41-50, 0.log.20000101-000100 51-60, 0.log 61-61")
		s.wait(time.Minute)
		s.expect("dead", s.files(), "0.log.20000101-000030.gz 21-30, 0.log.20000101-000040.gz 31-40, "+
			"0.log.20000101-000050.gz 41-50, 0.log.20000101-000100 51-60, 0.log 61-70")
	})
}

func TestAFollowThatKeepsUpMissesNothingOfARotation(t *testing.T) {
	tell(t, testutil.Options{Logs: small}, func(s *story) {
		s.run(printing("flood 35 1"), 5*time.Second)
		s.expect("lines", <-s.numbers(corev1.PodLogOptions{}), "1-35")
	})
}

func TestWhatIsWrittenToTheOldFileIsLostToAFollowThatHasTheNewOne(t *testing.T) {
	o := small
	o.Reopen = func(string) (time.Duration, time.Duration, error) {
		return 2 * time.Second, 2 * time.Second, nil
	}
	tell(t, testutil.Options{Logs: o}, func(s *story) {
		s.run(printing("flood 18 1"), 5*time.Second)
		follow := s.numbers(corev1.PodLogOptions{})
		s.wait(5800 * time.Millisecond) // of the two seconds without a file
		s.expect("a read", s.log(corev1.PodLogOptions{}), fmt.Sprintf("failed to try resolving symlinks in path %[1]q: "+
			"lstat %[1]s: no such file or directory", "/var/log/pods/default_p_"+s.uid+"/a/0.log"))
		s.expect("lines", <-follow, "1-12 15-18")
		s.expect("files", s.files(), "0.log.20000101-000010 1-14, 0.log 15-18")
	})
}

// slow lets a follow through so slowly that it lags behind.
func slow(rate int64) func(*http.Request) testutil.Fault {
	return func(r *http.Request) testutil.Fault {
		if r.URL.Query().Get("follow") == "true" {
			return testutil.Fault{Rate: rate}
		}
		return testutil.Fault{}
	}
}

func TestAFollowThatHadNotComeToTheEndOfItsFileWhenThatWasRotatedStaysWithIt(t *testing.T) {
	tell(t, testutil.Options{Logs: small}, func(s *story) {
		s.Fault(slow(200)) // two lines a second
		s.run(printing("flood 10 0; sleep 12; flood 3 0; sleep 5"), 9*time.Second)
		s.expect("lines", <-s.numbers(corev1.PodLogOptions{}), "1-10")
		s.expect("a read", numbers(s.log(corev1.PodLogOptions{})), "1-3")
	})
}

func TestAFollowThatLagsByTwoRotationsSkipsAFileAndGetsAnotherOneTwice(t *testing.T) {
	tell(t, testutil.Options{Logs: small}, func(s *story) {
		s.Fault(slow(45)) // 22 s for ten lines
		s.run(printing("sleep 3; flood 10 0; sleep 10; flood 11 0; sleep 10; flood 3 0; sleep 60"), time.Second)
		s.expect("lines", <-s.numbers(corev1.PodLogOptions{}), "1-10 1-3 1-3")
		s.expect("files", s.files(), "0.log.20000101-000010.gz 1-10, 0.log.20000101-000020 1-11, 0.log 1-3")
	})
}

func TestARotationThatFailsSendsAFollowTheFileAgain(t *testing.T) {
	o, times := small, 0
	o.Reopen = func(string) (time.Duration, time.Duration, error) {
		if times++; times == 1 {
			return time.Millisecond, 0, errors.New("no space left on device")
		}
		return time.Millisecond, 0, nil
	}
	tell(t, testutil.Options{Logs: o}, func(s *story) {
		s.run(printing("flood 22 1"), 5*time.Second)
		s.expect("lines", <-s.numbers(corev1.PodLogOptions{}), "1-10 1-22")
		s.expect("files", s.files(), "0.log.20000101-000020 1-20, 0.log 21-22")
	})
}

func TestAKubeletThatDiedWhileItRotatedLeavesTheLogToTheNextOne(t *testing.T) {
	o := small
	o.Reopen = func(string) (time.Duration, time.Duration, error) { return time.Second, 0, nil }
	tell(t, testutil.Options{Logs: o}, func(s *story) {
		s.run(printing("flood 18 1"), 10500*time.Millisecond)
		if err := s.RestartKubelet(s.ctx, time.Second); err != nil {
			s.Fatal(err)
		}
		s.wait(time.Minute)
		s.expect("files", s.files(), "0.log.20000101-000010 1-12, 0.log 13-18")
	})
}

func TestANodeWithoutInotifyInstancesSaysSoAfterAllLines(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.Fault(func(*http.Request) testutil.Fault { return testutil.Fault{NoWatcher: true} })
		s.run(printing("seq 2; sleep 60"), 5*time.Second)
		s.expect("a follow", <-s.follow(corev1.PodLogOptions{}), `5.0 "1\n2\nfailed to create fsnotify watcher: too many open files"`)
		s.expect("a read", s.log(corev1.PodLogOptions{}), "1\n2\n")
	})
}

func TestAFollowCanBeEndedAfterAWhileOrAtARotation(t *testing.T) {
	for want, f := range map[string]testutil.Fault{
		`8.0 "1-8"`:   {EndAfter: 3 * time.Second},
		`10.0 "1-10"`: {LostAtRotation: true},
		`13.3 "1-13"`: {},
	} {
		tell(t, testutil.Options{Logs: small}, func(s *story) {
			s.Fault(func(*http.Request) testutil.Fault { return f })
			s.run(printing("flood 13 1"), 5*time.Second)
			var at float64
			var text string
			if _, err := fmt.Sscanf(<-s.follow(corev1.PodLogOptions{}), "%g %q", &at, &text); err != nil {
				s.Error(err)
			}
			s.expect("follow", fmt.Sprintf("%.1f %q", at, numbers(text)), want)
		})
	}
}

func TestTheRestOfALineHasNoStampAndATailOfItHas(t *testing.T) {
	images["parts"] = func(ctx context.Context, _ []string, out io.Writer) int {
		fmt.Fprint(out, strings.Repeat("x", 16384)+"the ")
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
		fmt.Fprint(out, "rest\nnext\n")
		return 0
	}
	tell(t, testutil.Options{}, func(s *story) {
		s.run(on(steps(""), "parts:1"), 5*time.Second)
		since, tail := metav1.NewTime(s.start.Add(2*time.Second)), int64(2)
		s.expect("since", s.log(corev1.PodLogOptions{Timestamps: true, SinceTime: &since}), "the rest\n2000-01-01T00:00:02.555000001Z next\n")
		s.expect("tail", s.log(corev1.PodLogOptions{Timestamps: true, TailLines: &tail}),
			"2000-01-01T00:00:02.555000000Z the rest\n2000-01-01T00:00:02.555000001Z next\n")
	})
}

func TestTheRuntimesClockIsItsOwn(t *testing.T) {
	stamp := func(now time.Time, i int) time.Time { return now.Add(-time.Duration(i) * time.Minute) }
	tell(t, testutil.Options{Stamp: stamp}, func(s *story) {
		s.run(printing("seq 3"), 5*time.Second)
		s.expect("stamped", s.log(corev1.PodLogOptions{Timestamps: true}),
			"2000-01-01T00:00:00.555000000Z 1\n1999-12-31T23:59:00.555000000Z 2\n1999-12-31T23:58:00.555000000Z 3\n")
		since := metav1.NewTime(s.start)
		s.expect("since", s.log(corev1.PodLogOptions{SinceTime: &since}), "1\n")
	})
}

func TestALogRequestTellsWhichRunItWasAnsweredFrom(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(printing("sleep 6; echo x"), 5*time.Second)
		s.log(corev1.PodLogOptions{})
		<-s.follow(corev1.PodLogOptions{})
		s.log(corev1.PodLogOptions{Previous: true})
		var from []string
		for _, r := range s.Requests() {
			if r.Verb == "log" {
				from = append(from, r.ContainerID, r.FirstByte.Format("05.000"))
			}
		}
		s.expect("from", fmt.Sprint(from), fmt.Sprintf("[%[1]s 00.000 %[1]s 06.555  00.000]", s.containerID()))
	})
}

func TestAWatchThatLagsTellsEverythingLate(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.Fault(func(*http.Request) testutil.Fault { return testutil.Fault{Lag: 3 * time.Second} })
		p := create(s.ctx, s.T, s, pod("q", "a"))
		w, err := s.CoreV1().Pods("default").Watch(s.ctx, metav1.ListOptions{ResourceVersion: p.ResourceVersion})
		if err != nil {
			s.Fatal(err)
		}
		defer w.Stop()
		e := <-w.ResultChan()
		if d := time.Since(s.start); d < 3*time.Second || e.Object.(*corev1.Pod).Spec.NodeName == "" {
			s.Errorf("%s %s after %s", e.Type, e.Object.(*corev1.Pod).Spec.NodeName, d)
		}
		p, err = s.CoreV1().Pods("default").Get(s.ctx, "q", metav1.GetOptions{})
		if err != nil || p.Status.Phase != corev1.PodRunning {
			s.Errorf("%s, %v", p.Status.Phase, err)
		}
	})
}

func TestStatusesThatComeLateAreTheNewestOnly(t *testing.T) {
	slow := func(types.NamespacedName) time.Duration { return 20 * time.Second }
	tell(t, testutil.Options{Status: slow}, func(s *story) {
		p := printing("exit 1")
		p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		s.run(p, time.Minute)
		s.trace("late-statuses")
	})
}
