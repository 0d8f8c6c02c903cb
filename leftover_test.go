package podlife_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// build is one build's part of the three packages, wired as README shows.
type build struct {
	t       *testing.T
	cluster *testutil.Cluster
	pods    corev1client.PodInterface
	watcher *podwatch.Watcher
	streams *logstream.Streamer

	split *eventsplit.Splitter
	logs  *logstream.Capture
	track *podwatch.Tracking

	image string // of the step

	mu   sync.Mutex
	uids map[types.UID]bool // those that any handler heard of
}

// Handle notes of which pods the handlers hear.
func (b *build) Handle(ev watch.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch o := ev.Object.(type) {
	case *corev1.Pod:
		b.uids[o.UID] = true
	case *corev1.Event:
		b.uids[o.InvolvedObject.UID] = true
	}
}

// heardOf returns of which pods the handlers heard.
func (b *build) heardOf() []types.UID {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.uids))
}

// inCluster runs f in virtual time, with a simulated cluster, a watcher and a
// streamer that run.
func inCluster(t *testing.T, o podwatch.Options, f func(t *testing.T, b *build)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		say := func(text string, then testutil.Program) testutil.Program {
			return func(ctx context.Context, args []string, out io.Writer) int {
				fmt.Fprintln(out, text)
				return then(ctx, args, out)
			}
		}
		exit := func(code int) testutil.Program {
			return func(context.Context, []string, io.Writer) int { return code }
		}
		minute := func(context.Context, []string, io.Writer) int { // is deaf to SIGTERM
			time.Sleep(time.Minute)
			return 3
		}
		cluster := testutil.New(testutil.Options{Images: map[string]testutil.Program{
			"pause": testutil.Pause,
			"step":  say("of a step", exit(3)),
			"slow":  say("of a step", minute),
			"ended": say("of the leftover", exit(7)),
			"runs":  say("of the leftover", testutil.Pause),
			"deaf":  say("of the leftover", testutil.Deaf),
		}})
		ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
		opener, err := logstream.FromConfig(cluster.Config())
		if err != nil {
			t.Fatal(err)
		}
		b := &build{
			t: t, cluster: cluster, pods: cluster.Client().CoreV1().Pods("default"),
			streams: logstream.New(opener, logstream.Options{}), image: "step", uids: map[types.UID]bool{},
		}
		if b.watcher, err = podwatch.New(cluster.Client(), o); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 3)
		go func() { ended <- cluster.Run(ctx) }()
		go func() { ended <- b.watcher.Run(ctx) }()
		go func() { ended <- b.streams.Run(ctx) }()
		f(t, b)
		stop()
		for range 3 {
			<-ended
		}
	})
}

func (b *build) begin() {
	b.t.Helper()
	b.split = eventsplit.New("default", "build", eventsplit.Options{Placeholder: func(string) bool { return true }})
	b.logs = b.streams.Pod("default", "build", b.split)
	var err error
	if b.track, err = b.watcher.Track("default", "build", b.logs, b.split, b); err != nil {
		b.t.Fatal(err)
	}
}

func (b *build) end() {
	b.track.Close()
	b.split.Close()
	_ = b.logs.Close()
}

func (b *build) create(containers ...corev1.Container) *corev1.Pod {
	b.t.Helper()
	p, err := b.pods.Create(b.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "build"},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: containers},
	}, metav1.CreateOptions{})
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *build) delete(o metav1.DeleteOptions) {
	b.t.Helper()
	if err := b.pods.Delete(b.t.Context(), "build", o); err != nil {
		b.t.Fatal(err)
	}
}

func (b *build) logRequests() (n int) {
	for _, r := range b.cluster.Requests() {
		if r.Verb == "log" {
			n++
		}
	}
	return n
}

// untouched checks that nothing of a pod was taken in.
func (b *build) untouched(when string) {
	b.t.Helper()
	synctest.Wait()
	if b.track.Pod() != nil {
		b.t.Errorf("%s: Pod speaks of the leftover", when)
	}
	for _, slot := range []string{"step", "old"} {
		if st := b.split.State(slot); st.Phase != eventsplit.PhaseNotRun || st.Failure != nil || st.ContainerID != "" || st.Kind != "" {
			b.t.Errorf("%s: the state of %s is %+v", when, slot, st)
		}
	}
	if st := b.split.State(""); st.Failure != nil || st.Final {
		b.t.Errorf("%s: the state of the pod is %+v", when, st)
	}
	before := time.Now()
	if certs, err := b.logs.Drain(b.t.Context(), b.track.Pod()); len(certs) != 0 || err != nil || time.Since(before) > 0 {
		b.t.Errorf("%s: Drain returns %v, %v after %s", when, certs, err, time.Since(before))
	}
	if n := b.logRequests(); n != 0 {
		b.t.Errorf("%s: %d requests for the leftover's log", when, n)
	}
	if uids := b.heardOf(); len(uids) != 0 {
		b.t.Errorf("%s: the handlers heard of %v", when, uids)
	}
}

// step runs the step of the build's own pod and checks every answer.
func (b *build) step(mine *corev1.Pod) {
	t, ctx := b.t, b.t.Context()
	t.Helper()
	reader := b.logs.Reader(ctx, "step", logstream.ReadOptions{})
	err := b.split.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) {
		return b.pods.Patch(ctx, "build", types.StrategicMergePatchType,
			fmt.Appendf(nil, `{"spec":{"containers":[{"name":"step","image":%q}]}}`, b.image), metav1.PatchOptions{})
	}, "step")
	if err != nil {
		t.Errorf("Swap: %v", err)
	}
	if text, err := io.ReadAll(reader); string(text) != "of a step\n" || err != nil {
		t.Errorf("the reader has %q, %v", text, err)
	}
	if st, err := b.split.Wait(ctx, "step", eventsplit.Ended); err != nil || st.Outcome == nil || st.Outcome.ExitCode != 3 {
		t.Errorf("Wait returns %+v, %v; want exit code 3", st, err)
	}
	certs, err := b.logs.Drain(ctx, b.track.Pod())
	if err != nil || len(certs) != 1 || certs[0].Slot != "step" || certs[0].Proof != logstream.Verified {
		t.Errorf("Drain returns %+v, %v; want the step's run alone, Verified", certs, err)
	}
	for _, uid := range b.heardOf() {
		if uid != mine.UID {
			t.Errorf("the handlers heard of pod %s; the build's is %s", uid, mine.UID)
		}
	}
	if b.track.Pod().UID != mine.UID {
		t.Error("Pod speaks of another pod")
	}
}

// entries returns what all timelines tell, once the build has ended.
func (b *build) entries() string {
	var all bytes.Buffer
	for _, slot := range []string{"", "step", "old"} {
		for e, err := range b.split.Entries(b.t.Context(), slot) {
			switch {
			case err != nil:
			case e.Event != nil:
				fmt.Fprintln(&all, slot, e.Event.Reason, e.Event.InvolvedObject.UID)
			case e.State != nil:
				fmt.Fprintln(&all, slot, e.State.ContainerID, e.State.Failure)
			}
		}
	}
	return all.String()
}

var leftoverStates = []string{"ended", "running", "being deleted"}

// leave makes the pod of an earlier build, whose containers have come, or come soon,
// to that state.
func (b *build) leave(state string, slots []string, sameImage bool) *corev1.Pod {
	b.t.Helper()
	image, age := map[string]string{"ended": "ended", "running": "runs", "being deleted": "deaf"}[state], 10*time.Second
	if sameImage {
		image = b.image
		if state == "ended" {
			age = 2 * time.Minute
		}
	}
	var spec []corev1.Container
	for _, slot := range slots {
		spec = append(spec, corev1.Container{Name: slot, Image: image})
	}
	p := b.create(spec...)
	time.Sleep(age)
	return p
}

// finish ends the build and checks that its timelines tell of its own pod alone.
func (b *build) finish(leftover, mine *corev1.Pod) {
	b.t.Helper()
	id := "none"
	for _, c := range b.track.Pod().Status.ContainerStatuses {
		id = c.ContainerID
	}
	b.end()
	if all := b.entries(); strings.Contains(all, string(leftover.UID)) || !strings.Contains(all, id) || !strings.Contains(all, string(mine.UID)) {
		b.t.Errorf("the timelines tell (leftover %s, ours %s, its run %s):\n%s", leftover.UID, mine.UID, id, all)
	}
}

// A pod of an earlier build has the name, in whatever state, when a build begins.
func TestNothingOfALeftoverPodReachesTheNewBuild(t *testing.T) {
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	for _, state := range leftoverStates {
		for containers, slots := range map[string][]string{"the same containers": {"step"}, "others": {"old"}, "more": {"step", "old"}} {
			for _, sameImage := range []bool{false, true} {
				for _, tracked := range []string{"before it", "after it"} {
					for _, created := range []string{"before its end is seen", "after its end is seen", "late"} {
						name := fmt.Sprintf("%s/%s/step image %v/tracked %s/created %s", state, containers, sameImage, tracked, created)
						t.Run(name, func(t *testing.T) {
							inCluster(t, podwatch.Options{}, func(t *testing.T, b *build) {
								if tracked == "before it" {
									b.begin()
								}
								if sameImage {
									b.image = "slow"
								}
								leftover := b.leave(state, slots, sameImage)
								if state == "being deleted" {
									b.delete(metav1.DeleteOptions{})
									time.Sleep(time.Second)
								}
								if tracked == "after it" {
									b.begin()
								}
								time.Sleep(10 * time.Second)
								b.untouched("while the leftover is there")
								b.delete(now)
								if created == "after its end is seen" {
									time.Sleep(time.Second)
								}
								mine := b.create(corev1.Container{Name: "step", Image: "pause"})
								if created == "late" {
									time.Sleep(20 * time.Second)
									b.untouched("before Created")
								}
								b.track.Created(mine)
								b.step(mine)
								b.finish(leftover, mine)
							})
						})
					}
				}
			}
		}
	}
}

// The watch may be behind: it shows the leftover's whole life only after Created.
func TestNothingOfALeftoverThatTheWatchShowsAfterCreatedReachesTheNewBuild(t *testing.T) {
	now := metav1.DeleteOptions{GracePeriodSeconds: new(int64)}
	watches := func(resource string, f testutil.Fault) func(*http.Request) testutil.Fault {
		return func(r *http.Request) testutil.Fault {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, resource) {
				return f
			}
			return testutil.Fault{}
		}
	}
	for link, fault := range map[string]func(*http.Request) testutil.Fault{
		"the watch lags":    watches("/pods", testutil.Fault{Lag: 3 * time.Minute}),
		"the Events lag":    watches("/events", testutil.Fault{Lag: 3 * time.Minute}),
		"both lag":          watches("s", testutil.Fault{Lag: 3 * time.Minute}),
		"the watch resumes": watches("s", testutil.Fault{Err: io.ErrUnexpectedEOF}),
		"it lists again":    watches("s", testutil.Fault{Err: io.ErrUnexpectedEOF}),
	} {
		for _, state := range leftoverStates {
			for containers, slots := range map[string][]string{"the same containers": {"step"}, "others": {"old"}, "more": {"step", "old"}} {
				for _, sameImage := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s/%s/step image %v", link, state, containers, sameImage), func(t *testing.T) {
						inCluster(t, podwatch.Options{}, func(t *testing.T, b *build) {
							if sameImage {
								b.image = "slow"
							}
							time.Sleep(5 * time.Second)
							b.cluster.Fault(fault)
							b.cluster.DropWatches(nil)
							time.Sleep(10 * time.Second)
							b.begin()
							leftover := b.leave(state, slots, sameImage)
							if state == "being deleted" {
								b.delete(metav1.DeleteOptions{})
								time.Sleep(time.Second)
							}
							b.delete(now)
							mine := b.create(corev1.Container{Name: "step", Image: "pause"})
							b.track.Created(mine)
							if link == "it lists again" {
								b.cluster.Compact()
							}
							if !strings.Contains(link, "lag") {
								b.cluster.Fault(nil)
							}
							b.step(mine)
							time.Sleep(5 * time.Minute) // what was late has come
							b.finish(leftover, mine)
						})
					})
				}
			}
		}
	}
}

// A build whose Create is answered with "already exists" is given up.
func TestABuildThatIsGivenUpBeforeItsPodExistsLeavesTheLeftoverAlone(t *testing.T) {
	inCluster(t, podwatch.Options{}, func(t *testing.T, b *build) {
		b.create(corev1.Container{Name: "step", Image: "deaf"})
		time.Sleep(10 * time.Second)
		b.delete(metav1.DeleteOptions{})
		b.begin()
		_, err := b.pods.Create(t.Context(), &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "build"},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "step", Image: "pause"}}},
		}, metav1.CreateOptions{})
		if !apierrors.IsAlreadyExists(err) {
			t.Fatalf("Create returns %v", err)
		}
		time.Sleep(15 * time.Second)
		b.untouched("after the refused Create")
		b.end()
		time.Sleep(time.Minute)
		if n := b.logRequests(); n != 0 {
			t.Errorf("%d requests for the leftover's log", n)
		}
	})
}

// Whoever waits is told in the API server's words, whatever it waits for, and
// waits on once the permission is there.
func TestARefusedListEndsEveryWaitOfABuild(t *testing.T) {
	words := `pods is forbidden: User "worker" cannot list resource "pods" in API group "" in the namespace "default"`
	inCluster(t, podwatch.Options{Namespace: "default", Refusal: 20 * time.Second}, func(t *testing.T, b *build) {
		b.cluster.Fault(func(r *http.Request) testutil.Fault {
			if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/pods") {
				return testutil.Fault{Status: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: words}
			}
			return testutil.Fault{}
		})
		b.begin()
		mine := b.create(corev1.Container{Name: "step", Image: "pause"})
		b.track.Created(mine)
		ctx := t.Context()
		for name, wait := range map[string]func() error{
			"Wait": func() error { _, err := b.split.Wait(ctx, "step", eventsplit.Started); return err },
			"Swap": func() error {
				return b.split.Swap(ctx, func(context.Context) (*corev1.Pod, error) { return nil, errors.New("patched") }, "step")
			},
			"NextRun": func() error { _, err := b.split.NextRun(ctx, "step", ""); return err },
			"Reader": func() error {
				_, err := io.ReadAll(b.logs.Reader(ctx, "step", logstream.ReadOptions{}))
				return err
			},
		} {
			err := wait()
			f := (*eventsplit.Failure)(nil)
			if !errors.As(err, &f) || f.Class != eventsplit.ClassForbidden || !strings.Contains(f.Error(), words) {
				t.Errorf("%s ends with %v; want class Forbidden and the API server's words", name, err)
			}
		}
		if certs, err := b.logs.Drain(ctx, b.track.Pod()); len(certs) != 0 || err != nil {
			t.Errorf("Drain returns %v, %v", certs, err)
		}
		b.cluster.Fault(nil)
		time.Sleep(2 * time.Minute)
		b.step(mine)
		b.end()
	})
}
