package testutil_test

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/go-vela/podlife/internal/testutil"
)

var update = flag.Bool("update", false, "write the traces in testdata instead of comparing with them")

// images are the images of these tests.
var images = map[string]testutil.Program{"sh": testutil.Shell, "deaf": testutil.Deaf}

// story runs a test against a whole cluster, in virtual time.
type story struct {
	*testing.T
	ctx context.Context
	*testutil.Cluster
	kubernetes.Interface

	start time.Time
	uid   string // of the pod, left out of the trace
	mu    sync.Mutex
	lines []string
	ids   map[string]string
}

func tell(t *testing.T, o testutil.Options, play func(*story)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Images = images
		if o.Pull == nil {
			o.Pull = func(string) (time.Duration, error) { return 300 * time.Millisecond, nil }
		}
		ctx, cancel := context.WithCancel(t.Context())
		c := testutil.New(o)
		s := &story{T: t, ctx: ctx, Cluster: c, Interface: c.Client(), start: time.Now(), ids: map[string]string{}}
		var all sync.WaitGroup
		defer all.Wait()
		defer cancel()
		all.Go(func() { _ = c.Run(ctx) })
		all.Go(s.watchPods)
		all.Go(s.watchEvents)
		synctest.Wait()
		play(s)
	})
}

// say adds a line to the trace, with the time.
func (s *story) say(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := strings.TrimSpace(fmt.Sprintf(format, args...))
	if strings.HasPrefix(format, " ") {
		line = "  " + line
	}
	line = fmt.Sprintf("%7.3f  %s", time.Since(s.start).Seconds(), line)
	s.lines = append(s.lines, line)
}

func (s *story) watchPods() {
	w, err := s.CoreV1().Pods("").Watch(s.ctx, metav1.ListOptions{})
	if err != nil {
		s.Error(err)
		return
	}
	for e := range w.ResultChan() {
		p, ok := e.Object.(*corev1.Pod)
		if !ok { // the end of the test cuts the watch
			continue
		}
		var states []string
		for _, c := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
			states = append(states, c.Name+":"+s.state(c))
		}
		deleted := ""
		if p.DeletionTimestamp != nil {
			deleted = fmt.Sprintf(" deleted with grace %d", *p.DeletionGracePeriodSeconds)
		}
		s.say("%s gen=%d observed=%d %s%s %s", e.Type, p.Generation, p.Status.ObservedGeneration, p.Status.Phase, deleted, strings.Join(states, " "))
	}
}

// state is a container's status in a few letters; container IDs become A, B, ...
func (s *story) state(c corev1.ContainerStatus) string {
	text := ""
	switch {
	case c.State.Waiting != nil:
		text = "Waiting(" + c.State.Waiting.Reason + ")"
	case c.State.Running != nil:
		text = "Running"
	case c.State.Terminated != nil:
		text = fmt.Sprintf("Terminated(%d %s)", c.State.Terminated.ExitCode, c.State.Terminated.Reason)
	}
	if c.ContainerID != "" {
		text += fmt.Sprintf(" %s rc=%d %s", s.id(c.ContainerID), c.RestartCount, c.Image)
	}
	if last := c.LastTerminationState.Terminated; last != nil {
		text += fmt.Sprintf(" last=%d/%s", last.ExitCode, s.id(last.ContainerID))
	}
	return text
}

func (s *story) id(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.ids[id]; !ok {
		s.ids[id] = string(rune('A' + len(s.ids)))
	}
	return s.ids[id]
}

func (s *story) watchEvents() {
	w, err := s.CoreV1().Events("").Watch(s.ctx, metav1.ListOptions{})
	if err != nil {
		s.Error(err)
		return
	}
	for e := range w.ResultChan() {
		ev, ok := e.Object.(*corev1.Event)
		if !ok {
			continue
		}
		where := strings.TrimSuffix(strings.TrimPrefix(ev.InvolvedObject.FieldPath, "spec.containers{"), "}")
		s.say("  %s %s %s x%d: %s", ev.Type, where, ev.Reason, ev.Count, ev.Message)
	}
}

// run creates a pod and waits.
func (s *story) run(p *corev1.Pod, d time.Duration) *corev1.Pod {
	s.Helper()
	p = create(s.ctx, s.T, s, p)
	s.uid = string(p.UID)
	s.wait(d)
	return p
}

func (s *story) wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (s *story) swap(container, image string) {
	s.Helper()
	if _, err := patchImage(s.ctx, s, "p", container, image); err != nil {
		s.Fatal(err)
	}
}

// log reads a log, "" for the options' defaults.
func (s *story) log(o corev1.PodLogOptions) string {
	body, err := s.CoreV1().Pods("default").GetLogs("p", &o).Stream(s.ctx)
	if err != nil {
		return "error: " + err.Error()
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return string(b) + "error: " + err.Error()
	}
	return string(b)
}

// trace compares what was seen with testdata/NAME.txt.
func (s *story) trace(name string) {
	s.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	// What comes at one instant, from two watches, has no order: pods before Events.
	slices.SortStableFunc(s.lines, func(a, b string) int {
		return cmp.Or(cmp.Compare(a[:7], b[:7]), cmp.Compare(strings.Count(a[:11], " "), strings.Count(b[:11], " ")))
	})
	got := strings.ReplaceAll(strings.Join(s.lines, "\n")+"\n", s.uid, "UID")
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			s.Error(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		s.Error(err)
	}
	if diff := gocmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
		s.Errorf("(-want +got):\n%s", diff)
	}
}

// steps is a pod with a container on the pause image for each script, named a,
// b, ...; a step is made of it by swapping the image.
func steps(scripts ...string) *corev1.Pod {
	p := pod("p")
	for i, s := range scripts {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: string(rune('a' + i)), Image: "pause:1", Args: []string{s}})
	}
	return p
}

// on sets the images of a pod's containers.
func on(p *corev1.Pod, images ...string) *corev1.Pod {
	for i, image := range images {
		p.Spec.Containers[i].Image = image
	}
	return p
}

const nope = "127.0.0.1:1/nope:1"

// The traces in testdata are what a real kubelet, v1.36.3 or v1.37.2, was seen to do, with
// the times of this one. Each test is named by what surprises in it.

func TestASwapShowsNeitherWaitingNorTheEndOfThePlaceholder(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(steps("sleep 3; exit 3", ""), 5*time.Second)
		s.swap("a", "sh:1")
		s.wait(10 * time.Second)
		s.trace("swap")
	})
}

func TestAQuickStepNeverShowsRunning(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(steps("echo quick", ""), 5*time.Second)
		s.swap("a", "sh:1")
		s.wait(10 * time.Second)
		s.trace("quick")
	})
}

func TestAFailedPullShowsThePlaceholderCompleted(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(steps("", ""), 5*time.Second)
		s.swap("a", nope)
		s.wait(30 * time.Second)
		s.swap("a", "sh:1") // changes nothing any more
		s.wait(30 * time.Second)
		s.trace("failed-pull")
	})
}

func TestAFailedPullOfTheOnlyContainerEndsThePodSucceeded(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(steps(""), 5*time.Second)
		s.swap("a", nope)
		s.wait(30 * time.Second)
		s.trace("failed-pull-only")
	})
}

// The pair that nothing tells apart afterwards: A is the placeholder in one, the
// step in the other.
func TestAnImagePatchedTooEarly(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p := steps("", "")
		p.Spec.NodeName = "localhost"
		s.run(p, 0)
		s.swap("a", nope)
		s.wait(10 * time.Second)
		s.trace("early-bad")
	})
	var scheduled atomic.Bool
	tell(t, testutil.Options{Unschedulable: func(*corev1.Pod) string {
		if scheduled.Load() {
			return ""
		}
		return "0/1 nodes are available"
	}}, func(s *story) {
		s.run(steps("sleep 5", ""), 2*time.Second)
		s.swap("a", "sh:1")
		scheduled.Store(true)
		s.wait(10 * time.Second)
		s.trace("early-good")
	})
}

func TestAFailedPullIsRetriedWhereTheContainerWouldBeRestarted(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p := steps("", "")
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		s.run(p, 5*time.Second)
		s.swap("a", nope)
		s.wait(60 * time.Second)
		s.trace("failed-pull-always")
	})
}

func TestACrashingContainerIsHeldBack(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p := on(steps("echo x; exit 1"), "sh:1")
		p.Spec.RestartPolicy = corev1.RestartPolicyOnFailure
		s.run(p, 60*time.Second)
		s.trace("crash-loop")
	})
}

func TestACommandThatIsMissingEndsWith128(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p := on(steps("", ""), "sh:1")
		p.Spec.Containers[0].Command = []string{"/no/such/thing"}
		s.run(p, 10*time.Second)
		s.trace("missing-command")
	})
}

func TestInitContainersRunInOrderAndSidecarsEndLast(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p, always := on(steps("sleep 2"), "sh:1"), corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = []corev1.Container{
			{Name: "first", Image: "sh:1", Args: []string{"sleep 2"}},
			{Name: "side", Image: "sh:1", Args: []string{"sleep 1000"}, RestartPolicy: &always},
			{Name: "last", Image: "sh:1", Args: []string{"echo 1"}},
		}
		s.run(p, 30*time.Second)
		s.trace("init")
	})
}

func TestAPodIsNotReadyBeforeItsSidecarsAre(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p, always := on(steps("sleep 2"), "sh:1"), corev1.ContainerRestartPolicyAlways
		p.Spec.InitContainers = []corev1.Container{
			{Name: "first", Image: "sh:1", Args: []string{"sleep 2"}},
			{Name: "side", Image: "sh:1", Args: []string{"sleep 1000"}, RestartPolicy: &always},
		}
		s.run(p, time.Second)
		p, err := s.CoreV1().Pods("default").Get(s.ctx, "p", metav1.GetOptions{})
		if err != nil {
			s.Fatal(err)
		}
		for _, c := range p.Status.Conditions {
			if want := "containers with unready status: [side a]"; c.Type == corev1.PodReady && c.Message != want {
				s.Errorf("%s: %q, want %q", c.Type, c.Message, want)
			}
		}
	})
}

func TestAFailingInitContainerFailsThePod(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p := on(steps(""), "sh:1")
		p.Spec.InitContainers = []corev1.Container{{Name: "first", Image: "sh:1", Args: []string{"exit 4"}}}
		s.run(p, 30*time.Second)
		s.trace("init-failed")
	})
}

func TestAKubeletThatDiesBetweenKillAndStartFailsTheSwap(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(steps("", ""), 5*time.Second)
		s.swap("a", "sh:1")
		s.wait(200 * time.Millisecond) // it pulls
		if err := s.RestartKubelet(s.ctx, 3*time.Second); err != nil {
			s.Fatal(err)
		}
		s.wait(30 * time.Second)
		s.trace("kubelet-died")
	})
}

func TestStepsOfAPodStartOneAfterTheOther(t *testing.T) {
	tell(t, testutil.Options{Pull: func(string) (time.Duration, error) { return 20 * time.Second, nil }}, func(s *story) {
		s.run(steps("sleep 1", "sleep 1", ""), 5*time.Second)
		s.swap("a", "sh:1")
		s.swap("b", "sh:2")
		s.wait(60 * time.Second)
		s.trace("two-swaps")
	})
}

func TestAPodIsEndedAtItsDeadline(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p, limit := steps("", ""), int64(10)
		p.Spec.ActiveDeadlineSeconds = &limit
		s.run(p, 30*time.Second)
		s.trace("deadline")
	})
}

func TestAnImageWithNothingToExecuteCannotStart(t *testing.T) {
	images["empty"] = nil
	tell(t, testutil.Options{}, func(s *story) {
		s.run(on(steps("", ""), "empty:1"), 10*time.Second)
		p, err := s.CoreV1().Pods("default").Get(s.ctx, "p", metav1.GetOptions{})
		if err != nil {
			s.Fatal(err)
		}
		ended := p.Status.ContainerStatuses[0].State.Terminated
		if ended == nil || ended.ExitCode != 128 || ended.Reason != "StartError" || ended.StartedAt.Unix() != 0 || ended.ContainerID == "" {
			s.Errorf("%+v", p.Status.ContainerStatuses[0].State)
		}
	})
}

func TestARunThatStartedBesideACrashLoopIsShownAtOnce(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p := on(steps("sleep 5960ms; exit 1", "sleep 600ms; exit 1"), "sh:1", "sh:1")
		p.Spec.RestartPolicy = corev1.RestartPolicyAlways
		s.run(p, 20*time.Second)
		s.trace("crash-loop-beside")
	})
}
