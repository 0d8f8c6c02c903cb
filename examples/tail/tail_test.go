package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/logstream"
)

// stage is a simulated cluster and what the tail of it prints.
type stage struct {
	*testutil.Cluster
	t              *testing.T
	tail           *tailer
	status         int
	stdout, stderr strings.Builder // to be read when the tail has ended
}

// play tails, in virtual time, what script does; the interrupt comes when it returns.
func play(t *testing.T, o options, script func(*stage)) (s *stage) {
	t.Helper()
	return playOn(t, o, func(*stage) {}, script)
}

// playOn is play on a cluster that is prepared before the tail begins.
func playOn(t *testing.T, o options, prepare, script func(*stage)) (s *stage) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s = &stage{t: t, Cluster: testutil.New(testutil.Options{
			Namespaces: []string{"other"},
			Images:     map[string]testutil.Program{"demo/sh": testutil.Shell, "demo/long": long},
		})}
		alive, stop := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() { defer close(stopped); _ = s.Run(alive) }()
		ctx, interrupt := context.WithCancel(t.Context())
		ended := make(chan struct{})
		if o.namespace == "" {
			o.namespace = "default"
		}
		out := &printer{out: &s.stdout, err: &s.stderr, json: o.output != "text"}
		var err error
		if s.tail, err = newTailer(s.Config(), o, out); err != nil {
			t.Fatal(err)
		}
		prepare(s)
		go func() { defer close(ended); s.status = s.tail.run(ctx) }()
		script(s)
		interrupt()
		<-ended
		stop()
		<-stopped
	})
	s.t = t
	return s
}

// long prints a line of 200,000 bytes, and one that has no end.
func long(_ context.Context, _ []string, out io.Writer) int {
	fmt.Fprintf(out, "%s\n%s", strings.Repeat("x", 200_000), strings.Repeat("y", 130_000))
	return 0
}

func (s *stage) create(namespace string, p *corev1.Pod) {
	s.t.Helper()
	if err := create(s.t.Context(), s.Cluster, namespace, p); err != nil {
		s.t.Error(err)
	}
}

func (s *stage) remove(name string, grace int64) {
	s.t.Helper()
	if err := s.Client().CoreV1().Pods("default").Delete(s.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		s.t.Error(err)
	}
}

// messages are the lines printed as JSON, by pod, container and run.
func (s *stage) messages() map[string][]string {
	s.t.Helper()
	all := map[string][]string{}
	for text := range strings.Lines(s.stdout.String()) {
		var l logLine
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			s.t.Fatalf("%v: %s", err, text)
		}
		if _, err := time.Parse(time.RFC3339Nano, l.Timestamp); err != nil || l.Timestamp < "2000" {
			s.t.Errorf("timestamp %q: %v", l.Timestamp, err)
		}
		key := fmt.Sprintf("%s/%s %s#%d", l.Namespace, l.PodName, l.ContainerName, l.Run)
		all[key] = append(all[key], l.Message)
	}
	return all
}

func (s *stage) expect(want map[string][]string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.messages()); diff != "" {
		s.t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// says checks that one line on stderr has all the words.
func (s *stage) says(words ...string) {
	s.t.Helper()
	for line := range strings.Lines(s.stderr.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return
		}
	}
	s.t.Errorf("no line on stderr has the words %q:\n%s", words, s.stderr.String())
}

func never(p *corev1.Pod) *corev1.Pod {
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	return p
}

func numbers(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprint(i+1))
	}
	return lines
}

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
		if head, n, ok := strings.Cut(line, ": "); ok && strings.Contains(head, "inotify") {
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

func TestAGapIsALineOnStderr(t *testing.T) {
	s := play(t, options{}, func(s *stage) {
		s.create("default", newPod("web", script("a", "seq 5", "sleep 600")))
		time.Sleep(10 * time.Second)
		s.remove("web", 0)
		time.Sleep(10 * time.Second)
	})
	s.expect(map[string][]string{"default/web a#0": numbers(5)})
	s.says("default/web a#0", "gap", "may be missing", "deleted")
	s.says("default/web a#0", "Incomplete")
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

func TestTextHasAPrefixAndColoursOnATerminalAlone(t *testing.T) {
	s := play(t, options{output: "text"}, func(s *stage) {
		s.create("default", never(newPod("web", script("a", "echo hello"))))
		time.Sleep(5 * time.Second)
	})
	if want := "web a#0 | hello\n"; s.stdout.String() != want {
		t.Errorf("got %q, want %q", s.stdout.String(), want)
	}
	var b strings.Builder
	p := &printer{out: &b, colour: true}
	p.line(source{"default", "web", "a", 0}, time.Time{}, []byte("hello"))
	if got := b.String(); !strings.HasPrefix(got, "\x1b[3") || !strings.HasSuffix(got, "web a#0 |\x1b[0m hello\n") {
		t.Errorf("on a terminal: %q", got)
	}
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

func TestTheSummaryIsBounded(t *testing.T) {
	var b strings.Builder
	p := &printer{err: &b}
	for i := range 10_000 {
		p.keep(source{"default", "web", "a", i}, logstream.Certificate{Proof: logstream.Verified, Lines: 2})
	}
	p.summary()
	if n := strings.Count(b.String(), "\n"); n != kept+2 {
		t.Errorf("%d lines", n)
	}
	if !strings.Contains(b.String(), "20000 lines of 10000 runs: 10000 verified") {
		t.Error(b.String())
	}
}

func TestTheBuiltInShowEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var stdout, stderr strings.Builder
		if status := command(t.Context(), nil, &stdout, &stderr); status != 0 {
			t.Errorf("exit status %d", status)
		}
		for _, want := range []string{"web migrate#0 | done", "web proxy#0 | proxy up", "flaky worker#1 | starting", "moment only#0 | alive", "GET /favicon.ico"} {
			if strings.Count(stdout.String(), want) != 1 {
				t.Errorf("not once on stdout: %q\n%s", want, stdout.String())
			}
		}
		for _, want := range []string{"simulated", "demo/shh", "read again after a break", "0 incomplete"} {
			if !strings.Contains(stderr.String(), want) {
				t.Errorf("not on stderr: %q\n%s", want, stderr.String())
			}
		}
	})
}

func TestBadUsageExitsWith2AndASentence(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":         {[]string{"-nope"}, "nope"},
		"an argument":             {[]string{"x"}, `"x"`},
		"an output that is none":  {[]string{"-o", "yaml"}, `"yaml"`},
		"a selector that is none": {[]string{"-l", "=="}, `"=="`},
		"a kubeconfig not there":  {[]string{"-kubeconfig", empty + "-not"}, "empty-not"},
		"an empty kubeconfig":     {[]string{"-kubeconfig", empty}, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			if status := command(t.Context(), c.args, &stdout, &stderr); status != exitUsage {
				t.Errorf("exit status %d, want %d", status, exitUsage)
			}
			if !strings.Contains(stderr.String(), c.want) || stdout.Len() > 0 {
				t.Errorf("stderr %q, stdout %q; want %q on stderr alone", stderr.String(), stdout.String(), c.want)
			}
		})
	}
}
