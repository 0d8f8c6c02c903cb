package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/internal/testutil"
)

// outcome is what one run of the program left behind.
type outcome struct {
	status         int
	stdout, stderr string
	pods           int
}

// play runs a pipeline on a simulated cluster in virtual time. change may make
// the cluster a bad one; interrupt is when Ctrl-C comes (0: never).
func play(t *testing.T, p *Pipeline, o options, interrupt time.Duration, change func(*testutil.Cluster)) (got outcome) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cluster := simulate(p, "default")
		alive, stop := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() { defer close(stopped); _ = cluster.Run(alive) }()
		if change != nil {
			change(cluster)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if interrupt > 0 {
			defer time.AfterFunc(interrupt, cancel).Stop()
		}
		if o.pod.Namespace == "" {
			o.pod.Namespace = "default"
		}
		if o.timeout == 0 {
			o.timeout = time.Hour
		}
		var stdout, stderr strings.Builder
		out := &printer{out: &stdout, err: &stderr, json: o.json}
		got = outcome{status: run(ctx, cluster.Config(), p, o, out), stdout: stdout.String(), stderr: stderr.String()}
		cluster.Fault(nil)
		pods, err := cluster.Client().CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			t.Error(err)
		}
		got.pods = len(pods.Items)
		stop()
		<-stopped
	})
	if got.pods != 0 {
		t.Errorf("%d pods are left in the cluster", got.pods)
	}
	return got
}

func asJSON() options { return options{json: true} }

// lines decodes JSON output: its log and event lines, and the result that must
// come last. It has as many gaps of each step as were printed.
func (o outcome) lines(t *testing.T) (logs map[string][]string, events []eventLine, steps []StepResult) {
	t.Helper()
	logs = map[string][]string{}
	gaps := map[string]int{}
	for text := range strings.Lines(o.stdout) {
		if steps != nil {
			t.Errorf("behind the result: %s", text)
		}
		var l struct {
			Type, Step, Line, Reason, Message string
			Steps                             []StepResult
		}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		switch l.Type {
		case "log":
			logs[l.Step] = append(logs[l.Step], l.Line)
		case "event":
			events = append(events, eventLine{"event", l.Step, l.Reason, l.Message})
		case "gap":
			gaps[l.Step]++
		case "result":
			steps = l.Steps
		default:
			t.Errorf("unknown type: %s", text)
		}
	}
	for _, r := range steps {
		want(t, "gaps of "+r.Name, r.Gaps, gaps[r.Name])
	}
	return logs, events, steps
}

// brief is a step's result in one word each, for comparison.
func brief(steps []StepResult) (s []string) {
	for _, r := range steps {
		s = append(s, r.Name+" "+r.Outcome+" "+r.Log)
	}
	return s
}

func want[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestTheBuiltInPipelineSucceedsAndLosesNoLine(t *testing.T) {
	got := play(t, builtin(), asJSON(), 0, nil)
	logs, events, steps := got.lines(t)
	want(t, "exit status", got.status, 0)
	want(t, "steps", strings.Join(brief(steps), ", "), "quick succeeded verified, count succeeded verified, report succeeded verified")
	want(t, "quick", strings.Join(logs["quick"], "|"), "alive for some milliseconds, and this line was not lost")
	want(t, "count", strings.Join(logs["count"], " "), "1 2 3 4 5 6 7 8 9 10")
	want(t, "lines of count", steps[1].Lines, 10)
	if len(events) == 0 {
		t.Error("no Events were printed")
	}
	for _, s := range steps {
		if s.ExitCode == nil || *s.ExitCode != 0 || s.Failure != nil {
			t.Errorf("%s: exit code %v, failure %v", s.Name, s.ExitCode, s.Failure)
		}
	}
}

func TestTextOutputPrefixesEveryLineWithItsStep(t *testing.T) {
	got := play(t, builtin(), options{}, 0, nil)
	for _, line := range []string{"[quick] alive for some milliseconds, and this line was not lost\n", "[count] 10\n"} {
		if !strings.Contains(got.stdout, line) {
			t.Errorf("%q is not in the output:\n%s", line, got.stdout)
		}
	}
	want(t, "stderr", got.stderr, "")
}

func steps(ss ...Step) *Pipeline {
	return &Pipeline{Name: "test", Placeholder: "demo/pause", Steps: ss}
}

func TestAfterTheFirstFailureTheRestIsSkipped(t *testing.T) {
	got := play(t, steps(Step{"bad", "demo/exit", []string{"3"}}, Step{"next", "demo/echo", nil}), asJSON(), 0, nil)
	_, _, result := got.lines(t)
	want(t, "exit status", got.status, 1)
	want(t, "steps", strings.Join(brief(result), ", "), "bad failed verified, next skipped none")
	want(t, "exit code", *result[0].ExitCode, 3)
	want(t, "lines", result[0].Lines, 0) // it ran, printed nothing, and that is proven
	want(t, "stderr", got.stderr, "pipeline: step \"bad\" (image demo/exit) failed: exit code 3 (Error)\n")
}

func TestAnImageThatCannotBePulledIsAnErrorInTheRegistrysWords(t *testing.T) {
	for name, p := range map[string]*Pipeline{
		"in the middle": steps(Step{"ok", "demo/echo", nil}, Step{"bad", "no/such:1", nil}, Step{"next", "demo/echo", nil}),
		"alone":         steps(Step{"bad", "no/such:1", nil}),
	} {
		t.Run(name, func(t *testing.T) {
			got := play(t, p, asJSON(), 0, nil)
			_, _, result := got.lines(t)
			want(t, "exit status", got.status, 1)
			for _, r := range result {
				if r.Name != "bad" {
					continue
				}
				if r.Outcome != "error" || r.ExitCode != nil || r.Log != "none" || r.Failure == nil || r.Failure.Class != "ImagePull" {
					t.Errorf("result %+v, failure %+v", r, r.Failure)
				}
			}
			for _, word := range []string{`step "bad"`, "no/such:1", "not found"} {
				if !strings.Contains(got.stderr, word) {
					t.Errorf("stderr %q does not say %q", got.stderr, word)
				}
			}
			want(t, "sentences", strings.Count(got.stderr, "\n"), 1)
		})
	}
}

func TestACreateThatIsRefusedIsOneSentenceAndStatus1(t *testing.T) {
	refuse := func(status int, reason metav1.StatusReason, message string) func(*testutil.Cluster) {
		return func(c *testutil.Cluster) {
			c.Fault(func(r *http.Request) testutil.Fault {
				if r.Method != http.MethodPost {
					return testutil.Fault{}
				}
				return testutil.Fault{Status: status, Reason: reason, Message: message}
			})
		}
	}
	for name, c := range map[string]struct {
		namespace string
		change    func(*testutil.Cluster)
		word      string
	}{
		"unknown namespace": {"nope", nil, `"nope" not found`},
		"forbidden":         {"", refuse(403, metav1.StatusReasonForbidden, `pods is forbidden: User "ci" cannot create resource "pods"`), "cannot create"},
		"quota":             {"", refuse(403, metav1.StatusReasonForbidden, `pods "x" is forbidden: exceeded quota: compute, requested: pods=1, used: pods=4, limited: pods=4`), "quota"},
		"admission":         {"", refuse(400, metav1.StatusReasonBadRequest, `admission webhook "policy.example.com" denied the request: no demo images`), "no demo images"},
	} {
		t.Run(name, func(t *testing.T) {
			o := asJSON()
			o.pod.Namespace = c.namespace
			got := play(t, builtin(), o, 0, c.change)
			_, _, result := got.lines(t)
			want(t, "exit status", got.status, 1)
			want(t, "steps", strings.Join(brief(result), ", "), "quick error none, count skipped none, report skipped none")
			if !strings.Contains(got.stderr, c.word) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("stderr %q, want one sentence with %q", got.stderr, c.word)
			}
		})
	}
}

func TestAPodThatWasCreatedThoughTheAnswerWasLostIsDeleted(t *testing.T) {
	got := play(t, builtin(), asJSON(), 0, func(c *testutil.Cluster) {
		c.Fault(func(r *http.Request) testutil.Fault {
			if r.Method != http.MethodPost {
				return testutil.Fault{}
			}
			return testutil.Fault{Err: http.ErrHandlerTimeout, Applied: true}
		})
	})
	want(t, "exit status", got.status, 1)
}

// A user who may do nothing reads of the pod alone, not of the watch, nor of a
// deletion that there is no need for.
func TestAClusterThatAnswersNothingElseIsOneSentence(t *testing.T) {
	for name, c := range map[string]struct {
		fault testutil.Fault
		word  string
	}{
		"all forbidden":      {testutil.Fault{Status: 403, Reason: metav1.StatusReasonForbidden, Message: `pods is forbidden: User "ci" can do nothing`}, "can do nothing"},
		"connection refused": {testutil.Fault{Err: &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}}, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			got := play(t, builtin(), asJSON(), 0, func(cluster *testutil.Cluster) {
				cluster.Fault(func(*http.Request) testutil.Fault { return c.fault })
			})
			_, _, result := got.lines(t)
			want(t, "exit status", got.status, 1)
			want(t, "steps", strings.Join(brief(result), ", "), "quick error none, count skipped none, report skipped none")
			if result[0].Failure == nil || !strings.Contains(result[0].Failure.Message, c.word) {
				t.Errorf("failure %+v, want a message with %q", result[0].Failure, c.word)
			}
			if !strings.Contains(got.stderr, c.word) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("stderr %q, want one sentence with %q", got.stderr, c.word)
			}
		})
	}
}

// play checks that no pod is left.
func TestThePodIsDeletedThough(t *testing.T) {
	unavailable := testutil.Fault{Status: 503, Reason: metav1.StatusReasonServiceUnavailable, Message: "not now"}
	deletions := 0
	for name, fault := range map[string]func(*http.Request) testutil.Fault{
		"no log can be read": func(r *http.Request) testutil.Fault {
			if strings.HasSuffix(r.URL.Path, "/log") {
				return unavailable
			}
			return testutil.Fault{}
		},
		"its deletion fails at first": func(r *http.Request) testutil.Fault {
			if r.Method != http.MethodDelete {
				return testutil.Fault{}
			}
			if deletions++; deletions > 3 {
				return testutil.Fault{}
			}
			return unavailable
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := play(t, builtin(), asJSON(), 0, func(c *testutil.Cluster) { c.Fault(fault) })
			_, _, result := got.lines(t)
			want(t, "outcome", result[0].Outcome, "succeeded")
		})
	}
}

// A step's log that cannot be read for a while is given up by the step, and not by the
// pipeline: what is captured in the end is printed.
func TestWhatIsCapturedLateIsPrintedToo(t *testing.T) {
	for name, c := range map[string]struct {
		unreadable time.Duration // from the first request for the log on
		want       string
		gaps       int
	}{
		"after the step gave it up": {drainTime + 15*time.Second, "count succeeded verified", 0},
		"never":                     {time.Hour, "count succeeded incomplete", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var mu sync.Mutex
			var until time.Time
			got := play(t, steps(Step{"count", "demo/count", []string{"20"}}), asJSON(), 0, func(cluster *testutil.Cluster) {
				cluster.Fault(func(r *http.Request) testutil.Fault {
					if !strings.HasSuffix(r.URL.Path, "/log") {
						return testutil.Fault{}
					}
					mu.Lock()
					defer mu.Unlock()
					if until.IsZero() {
						until = time.Now().Add(c.unreadable)
					}
					if time.Now().After(until) {
						return testutil.Fault{}
					}
					return testutil.Fault{Status: 503, Reason: metav1.StatusReasonServiceUnavailable, Message: "not now"}
				})
			})
			logs, _, result := got.lines(t)
			want(t, "steps", strings.Join(brief(result), ", "), c.want)
			want(t, "gaps", result[0].Gaps, c.gaps)
			want(t, "lines", uint64(len(logs["count"])), result[0].Lines)
			if c.gaps == 0 {
				want(t, "lines", len(logs["count"]), 20)
			}
		})
	}
}

// slowly is a stdout whose reader takes its time.
type slowly struct{ strings.Builder }

func (s *slowly) Write(p []byte) (int, error) {
	time.Sleep(20 * time.Second)
	return s.Builder.Write(p)
}

func TestASlowReaderOfTheOutputGetsEveryLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := steps(Step{"count", "demo/count", []string{"20"}})
		cluster := simulate(p, "default")
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() { defer close(stopped); _ = cluster.Run(ctx) }()
		var stdout slowly
		var stderr strings.Builder
		o := options{timeout: time.Hour, pod: PodOptions{Namespace: "default"}}
		want(t, "exit status", run(ctx, cluster.Config(), p, o, &printer{out: &stdout, err: &stderr}), 0)
		want(t, "lines", strings.Count(stdout.String(), "[count] "), 20)
		stop()
		<-stopped
	})
}

// full is a stdout that has room for so many bytes, and for more when it was refused.
type full struct {
	strings.Builder
	room int
}

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.room)
	f.room -= n
	f.Builder.Write(p[:n])
	if n < len(p) {
		f.room = 1 << 20
		return n, syscall.ENOSPC
	}
	return n, nil
}

// What is printed is the beginning of the output: nothing follows the half of a line.
func TestAStdoutThatFailsIsSaidAndIsNoSuccess(t *testing.T) {
	for _, output := range []string{"text", "json"} {
		synctest.Test(t, func(t *testing.T) {
			p := steps(Step{"count", "demo/count", []string{"20"}}, Step{"exit", "demo/echo", []string{"a"}})
			cluster := simulate(p, "default")
			ctx, stop := context.WithCancel(t.Context())
			stopped := make(chan struct{})
			go func() { defer close(stopped); _ = cluster.Run(ctx) }()
			stdout := &full{room: 300}
			var stderr strings.Builder
			o := options{timeout: time.Hour, pod: PodOptions{Namespace: "default"}}
			status := run(ctx, cluster.Config(), p, o, &printer{out: stdout, err: &stderr, json: output == "json"})
			want(t, "exit status", status, 1)
			want(t, "bytes printed", stdout.Len(), 300)
			want(t, "stderr", stderr.String(), "pipeline: stdout: no space left on device: what follows was not printed\n")
			stop()
			<-stopped
		})
	}
}

// Whoever looks at a page of the output and does not go on may still interrupt.
func TestAFrozenStdoutKeepsNoPodAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := steps(Step{"count", "demo/count", []string{"20"}}, Step{"slow", "demo/nosuch", nil})
		cluster := simulate(p, "default")
		alive, stop := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() { defer close(stopped); _ = cluster.Run(alive) }()
		frozen, w := io.Pipe()
		ctx, interrupt := context.WithCancel(t.Context())
		ended := make(chan int)
		go func() {
			o := options{timeout: time.Hour, pod: PodOptions{Namespace: "default"}}
			ended <- run(ctx, cluster.Config(), p, o, &printer{out: w, err: io.Discard, terminal: true})
		}()
		time.Sleep(time.Minute)
		interrupt()
		time.Sleep(2 * time.Minute)
		pods, err := cluster.Client().CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
		if err != nil || len(pods.Items) != 0 {
			t.Errorf("%d pods are left (%v)", len(pods.Items), err)
		}
		_ = frozen.Close()
		want(t, "exit status", <-ended, cli.Interrupted)
		stop()
		<-stopped
	})
}

func TestAWatchThatIsRefusedEndsThePipelineInsteadOfHangingIt(t *testing.T) {
	got := play(t, builtin(), asJSON(), 0, func(c *testutil.Cluster) {
		c.Fault(func(r *http.Request) testutil.Fault {
			if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/pods") {
				return testutil.Fault{}
			}
			return testutil.Fault{Status: 403, Reason: metav1.StatusReasonForbidden, Message: `pods is forbidden: User "ci" cannot list resource "pods"`}
		})
	})
	want(t, "exit status", got.status, 1)
	if !strings.Contains(got.stderr, `cannot list resource "pods"`) || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("stderr %q, want one sentence that says what is forbidden", got.stderr)
	}
}

func TestCtrlCDrainsAndDeletesThePod(t *testing.T) {
	got := play(t, steps(Step{"slow", "demo/count", []string{"1000"}}, Step{"next", "demo/echo", nil}), asJSON(), 5*time.Second, nil)
	logs, _, result := got.lines(t)
	want(t, "exit status", got.status, cli.Interrupted)
	want(t, "steps", strings.Join(brief(result), ", "), "slow error incomplete, next skipped none")
	if n := uint64(len(logs["slow"])); n == 0 || n > result[0].Lines {
		t.Errorf("%d lines were printed, %d captured", n, result[0].Lines)
	}
}

func TestATimeoutGivesTheStepUp(t *testing.T) {
	o := asJSON()
	o.timeout = 5 * time.Second
	got := play(t, steps(Step{"slow", "demo/count", []string{"1000"}}), o, 0, nil)
	_, _, result := got.lines(t)
	want(t, "exit status", got.status, 1)
	want(t, "class", result[0].Failure.Class, "Timeout")
	want(t, "stderr", got.stderr, "pipeline: step \"slow\" (image demo/count) was given up: waiting for container \"slow\": it is running: timed out after 5s\n")
}

func TestThePlainCommandNeedsNoCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stdout, stderr strings.Builder
		file := filepath.Join(t.TempDir(), "p.yaml")
		if err := os.WriteFile(file, []byte(good), 0o600); err != nil {
			t.Fatal(err)
		}
		want(t, "exit status", command(t.Context(), []string{"-f", file}, &stdout, &stderr), 0)
		if !strings.Contains(stdout.String(), "[one] a\n[one] b\n") || !strings.Contains(stderr.String(), "simulated") {
			t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
		}
	})
}
