package eventsplit

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
)

// lacks are the ways in which the pods of hosts' tests differ from those of a cluster.
var lacks = []struct {
	name string
	lack func(*corev1.Pod)
	swap Class // the class with which a swap ends; "": the step gets its exit code
}{
	{"nothing", func(*corev1.Pod) {}, ""},
	{"a resourceVersion", func(p *corev1.Pod) { p.ResourceVersion = "" }, ""},
	{"a resourceVersion of its own", func(p *corev1.Pod) { p.ResourceVersion = "999" }, ""},
	{"a resourceVersion that can be compared", func(p *corev1.Pod) { p.ResourceVersion += "-fake" }, ""},
	{"a UID", func(p *corev1.Pod) { p.UID = "" }, ""},
	{"containers in its spec", func(p *corev1.Pod) { p.Spec.Containers = nil }, ""},
	{"a spec", func(p *corev1.Pod) { p.Spec = corev1.PodSpec{} }, ""},
	{"a restartPolicy, which is Always", func(p *corev1.Pod) { p.Spec.RestartPolicy = "" }, ""},
	{"a phase", func(p *corev1.Pod) { p.Status.Phase = "" }, ""},
	{"restart counts", eachStatus(func(st *corev1.ContainerStatus) { st.RestartCount = 0 }), ""},
	{"times", eachStatus(func(st *corev1.ContainerStatus) {
		if r := st.State.Running; r != nil {
			r.StartedAt = metav1.Time{}
		}
		if t := st.State.Terminated; t != nil {
			t.StartedAt, t.FinishedAt = metav1.Time{}, metav1.Time{}
		}
	}), ""},
	{"reasons", eachStatus(func(st *corev1.ContainerStatus) {
		if t := st.State.Terminated; t != nil {
			t.Reason = ""
		}
	}), ""},
	{"statuses until a container ends", func(p *corev1.Pod) {
		if len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Terminated == nil {
			p.Status.ContainerStatuses = nil
		}
	}, "hangs"}, // nothing tells that a placeholder runs
	{"a containerID in the state", eachStatus(func(st *corev1.ContainerStatus) {
		if t := st.State.Terminated; t != nil {
			t.ContainerID = ""
		}
	}), ClassLost},
	{"containerIDs", eachStatus(func(st *corev1.ContainerStatus) {
		st.ContainerID = ""
		if t := st.State.Terminated; t != nil {
			t.ContainerID = ""
		}
	}), ClassInvalid},
	{"anything but names and states", func(p *corev1.Pod) {
		p.ResourceVersion, p.UID, p.Spec, p.Status.Phase = "", "", corev1.PodSpec{}, ""
		for i := range p.Status.ContainerStatuses {
			st := &p.Status.ContainerStatuses[i]
			*st = corev1.ContainerStatus{Name: st.Name, State: st.State}
			if t := st.State.Terminated; t != nil {
				st.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: t.ExitCode}
			}
		}
	}, ClassInvalid},
}

func eachStatus(f func(*corev1.ContainerStatus)) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		for i := range p.Status.ContainerStatuses {
			f(&p.Status.ContainerStatuses[i])
		}
	}
}

// story is one pod in all of its versions, each of which lacks something.
type story struct {
	s    *Splitter
	lack func(*corev1.Pod)
	n    int
}

// version returns the pod with an image and a status of its container.
func (y *story) version(image string, status ...corev1.ContainerStatus) *corev1.Pod {
	y.n++
	p := onePod(string(rune('0'+y.n)), "a")
	p.Spec.Containers[0].Image, p.Status.ContainerStatuses = image, status
	y.lack(p)
	return p
}

func (y *story) shows(image string, status ...corev1.ContainerStatus) {
	y.s.Handle(modified(y.version(image, status...)))
	time.Sleep(time.Second)
}

func running(id string, restarts int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "a", ContainerID: id, RestartCount: restarts, State: corev1.ContainerState{
		Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()},
	}}
}

func exited(id string, restarts, code int32) corev1.ContainerStatus {
	return corev1.ContainerStatus{Name: "a", ContainerID: id, RestartCount: restarts, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ContainerID: id, ExitCode: code, Reason: "Error", StartedAt: metav1.Now(), FinishedAt: metav1.Now()},
	}}
}

func TestContainersStartAndEndWhateverAFakePodLacks(t *testing.T) {
	for _, c := range lacks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := &story{s: New(testNS, testPod, Options{}), lack: c.lack}
				defer y.s.Close()
				waits := map[string]chan State{"started": make(chan State, 1), "ended": make(chan State, 1)}
				for name, until := range map[string]func(State) bool{"started": Started, "ended": Ended} {
					go func() {
						st, err := y.s.Wait(t.Context(), "a", until)
						if err != nil {
							t.Errorf("%s: %v", name, err)
						}
						waits[name] <- st
					}()
				}
				y.shows("img")
				y.shows("img", corev1.ContainerStatus{Name: "a", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}})
				y.shows("img", running("A", 0))
				y.shows("img", running("A", 0)) // a resync
				y.shows("img", exited("A", 0, 3))
				synctest.Wait()
				if len(waits["started"]) == 0 || len(waits["ended"]) == 0 {
					t.Fatalf("nothing is told: %s", stateText(y.s.State("a")))
				}
				if st := <-waits["ended"]; st.Outcome == nil || st.Outcome.ExitCode != 3 {
					t.Errorf("got %s, want exit code 3", stateText(st))
				}
				runs := 0
				for e := range bufferedEntries(y.s, "a") {
					if e.State != nil && e.State.Phase == PhaseRunning {
						runs++
					}
				}
				if runs != 1 {
					t.Errorf("it was told to run %d times, want once", runs)
				}
			})
		})
	}
}

func TestASwapInAFakePodWorksOrIsRefused(t *testing.T) {
	for _, c := range lacks {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				y := &story{s: New(testNS, testPod, Options{Placeholder: func(string) bool { return true }}), lack: c.lack}
				defer y.s.Close()
				y.shows("pause")
				y.shows("pause", running("P", 0))
				before := y.version("pause", running("P", 0))
				err := y.s.Swap(within(t, time.Minute), func(context.Context) (*corev1.Pod, error) {
					return y.version("step", running("P", 0)), nil
				}, "a")
				if err == nil {
					y.s.Handle(modified(before)) // the watch is behind the patch
					y.shows("step", running("S", 1))
					y.shows("step", exited("S", 1, 4))
					var st State
					if st, err = y.s.Wait(within(t, time.Minute), "a", Ended); err == nil && st.Outcome.ExitCode != 4 {
						t.Errorf("got %s, want exit code 4", stateText(st))
					}
				}
				var f *Failure
				if errors.As(err, &f); classOf(f) != c.swap && (c.swap != "hangs" || !errors.Is(err, context.DeadlineExceeded)) {
					t.Errorf("got %v, want %q", err, c.swap)
				}
			})
		})
	}
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// An earlier content of a version counts as newer, and takes nothing back.
func TestAnEarlierStatusWithTheSameVersionTakesNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		y := &story{s: New(testNS, testPod, Options{Placeholder: func(string) bool { return true }}), lack: func(p *corev1.Pod) { p.ResourceVersion = "1" }}
		defer y.s.Close()
		var earlier []*corev1.Pod
		shows := func(image string, status ...corev1.ContainerStatus) {
			p := y.version(image, status...)
			earlier = append(earlier, p)
			for _, p := range append([]*corev1.Pod{p}, earlier...) {
				y.s.Handle(modified(p))
			}
			time.Sleep(10 * time.Second)
		}
		shows("pause")
		shows("pause", running("P", 0))
		swap(t, y.s, y.version("step", running("P", 0)), "a")
		shows("step", running("P", 0))
		if !y.s.IsPlaceholder("a", "P") || y.s.IsPlaceholder("a", "S") {
			t.Errorf("P: %v, S: %v", y.s.IsPlaceholder("a", "P"), y.s.IsPlaceholder("a", "S"))
		}
		shows("step", running("S", 1))
		if st := y.s.State("a"); st.Phase != PhaseRunning || st.ContainerID != "S" {
			t.Errorf("got %s, want S to run", stateText(st))
		}
		shows("step", exited("S", 1, 4))
		if st := y.s.State("a"); !Ended(st) || st.Outcome.ExitCode != 4 {
			t.Errorf("got %s, want exit code 4", stateText(st))
		}
	})
}

// The pod is what client-go's clientset for tests stores and what its watch shows.
func TestAPodFromClientGosFakeClientset(t *testing.T) {
	client := fake.NewClientset()
	pods := client.CoreV1().Pods(testNS)
	s := New(testNS, testPod, Options{Placeholder: func(string) bool { return true }})
	defer s.Close()
	w, err := pods.Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	must := func(p *corev1.Pod, err error) *corev1.Pod {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		s.Handle(<-w.ResultChan())
		return p
	}
	p := onePod("", "a")
	p.Spec.Containers[0].Image = "pause"
	must(pods.Create(t.Context(), p, metav1.CreateOptions{}))
	shows := func(st corev1.ContainerStatus) {
		t.Helper()
		now, err := pods.Get(t.Context(), testPod, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		now.Status.ContainerStatuses = []corev1.ContainerStatus{st}
		must(pods.UpdateStatus(t.Context(), now, metav1.UpdateOptions{}))
	}
	shows(running("P", 0))
	if err := s.Swap(t.Context(), func(ctx context.Context) (*corev1.Pod, error) {
		patch := []byte(`{"spec":{"containers":[{"name":"a","image":"step"}]}}`)
		return pods.Patch(ctx, testPod, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
	}, "a"); err != nil {
		t.Fatal(err)
	}
	s.Handle(<-w.ResultChan())
	shows(running("S", 1))
	shows(exited("S", 1, 4))
	if st, err := s.Wait(t.Context(), "a", Ended); err != nil || st.Outcome.ExitCode != 4 {
		t.Errorf("got %s, %v, want exit code 4", stateText(st), err)
	}
}

// A version without a spec does not turn restartPolicy Never into Always.
func TestASpecHoldsWhereALaterVersionLacksIt(t *testing.T) {
	s := New(testNS, testPod, Options{})
	defer s.Close()
	s.Handle(modified(withRunning(onePod("1", "a", "b"), "a", "A")))
	p := withTerminated(onePod("2", "a", "b"), "a", "A", 3)
	p.Spec = corev1.PodSpec{}
	s.Handle(modified(p))
	if st := s.State("a"); !st.Final || st.Outcome == nil || st.Outcome.ExitCode != 3 {
		t.Errorf("got %s, want it final with exit code 3", stateText(st))
	}
}
