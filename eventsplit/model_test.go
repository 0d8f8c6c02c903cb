package eventsplit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/internal/podstatus"
)

// truth is a container as it really ran.
type truth struct {
	name   string
	runs   []truthRun
	active bool
}

type truthRun struct {
	id   string
	code int32
	gone bool // its container was removed behind the kubelet's back
}

// status returns what a kubelet would publish of the container.
func (c *truth) status() corev1.ContainerStatus {
	st := corev1.ContainerStatus{Name: c.name, RestartCount: int32(max(0, len(c.runs)-1))}
	n := len(c.runs)
	switch {
	case n == 0:
		st.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}
	case c.runs[n-1].gone:
		before := c.newestThere(n)
		st.ContainerID = before.id
		st.State.Terminated = terminatedRun(*before)
	case c.active:
		st.ContainerID = c.runs[n-1].id
		st.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Now()}
	default:
		st.ContainerID = c.runs[n-1].id
		st.State.Terminated = terminatedRun(c.runs[n-1])
	}
	if n > 1 {
		st.LastTerminationState.Terminated = terminatedRun(*c.newestThere(n - 1))
	}
	return st
}

// newestThere returns the newest of the first n runs whose container is on the node; the first
// one always is.
func (c *truth) newestThere(n int) *truthRun {
	for c.runs[n-1].gone {
		n--
	}
	return &c.runs[n-1]
}

func terminatedRun(r truthRun) *corev1.ContainerStateTerminated {
	return &corev1.ContainerStateTerminated{ContainerID: r.id, ExitCode: r.code, Reason: "Error", StartedAt: metav1.Now(), FinishedAt: metav1.Now()}
}

// reference is a Splitter so simple that it is plainly right: it keeps everything.
type reference struct {
	newest int
	ids    []string
	codes  map[string]int32
	missed int
}

func (r *reference) take(version int, st corev1.ContainerStatus) {
	if version <= r.newest {
		return
	}
	r.newest = version
	if t := st.LastTerminationState.Terminated; t != nil {
		r.see(t.ContainerID)
		r.codes[t.ContainerID] = t.ExitCode
	}
	if t := st.State.Terminated; t != nil {
		r.see(t.ContainerID)
		r.codes[t.ContainerID] = t.ExitCode
	}
	if st.State.Running != nil {
		r.see(st.ContainerID)
	}
	if len(r.ids) > 0 {
		r.missed = int(st.RestartCount) + 1 - len(r.ids)
	}
}

func (r *reference) see(id string) {
	if !slices.Contains(r.ids, id) {
		r.ids = append(r.ids, id)
	}
}

// The containers of a kubelet start and end; versions of the pod are lost, repeated and late.
// The Splitter tells what the simple model tells.
func TestRunsAreThoseOfASimpleModel(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			playModel(t, rand.New(rand.NewPCG(seed, 7)))
		})
	}
}

func playModel(t *testing.T, rnd *rand.Rand) {
	names := []string{"a", "b", "c"}
	s := New(testNS, testPod, Options{})
	defer s.Close()
	lives, refs := make([]*truth, len(names)), map[string]*reference{}
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: testNS, Name: testPod, UID: "u"},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyAlways}, Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for i, name := range names {
		lives[i], refs[name] = &truth{name: name}, &reference{codes: map[string]int32{}}
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name, Image: "img"})
	}
	var late []*corev1.Pod
	deliver := func(p *corev1.Pod) {
		var version int
		if _, err := fmt.Sscan(p.ResourceVersion, &version); err != nil {
			t.Fatal(err)
		}
		for _, st := range p.Status.ContainerStatuses {
			refs[st.Name].take(version, st)
		}
		s.Handle(watch.Event{Type: watch.Modified, Object: p})
	}
	for version := 1; version <= 60; version++ {
		c := lives[rnd.IntN(len(lives))]
		if c.active {
			c.active = false
		} else {
			c.runs = append(c.runs, truthRun{id: fmt.Sprintf("%s%d", c.name, len(c.runs)), code: int32(rnd.IntN(3))})
			c.active = true
		}
		p := pod.DeepCopy()
		p.ResourceVersion = fmt.Sprint(version)
		for _, c := range lives {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, c.status())
		}
		switch n := rnd.IntN(10); {
		case n < 4 && version < 60: // the watch does not show it
		case n == 4:
			late = append(late, p)
		case n == 5:
			deliver(p)
			deliver(p)
		default:
			deliver(p)
		}
		if len(late) > 0 && rnd.IntN(3) == 0 {
			deliver(late[0])
			late = late[1:]
		}
	}
	for _, c := range lives {
		compareWithReference(t, s, c, refs[c.name])
	}
}

func compareWithReference(t *testing.T, s *Splitter, c *truth, ref *reference) {
	t.Helper()
	var after string
	for _, want := range ref.ids {
		got, known, err := nextKnown(s, c.name, after)
		if err != nil || !known || got != want {
			t.Fatalf("%s: run after %q is %q (%v), want %q of %v", c.name, after, got, err, want, ref.ids)
		}
		after = got
	}
	if got, known, err := nextKnown(s, c.name, after); known && !errors.Is(err, io.EOF) {
		t.Fatalf("%s: one run too many: %q", c.name, got)
	}
	started, ended, missed := map[string]int{}, map[string]int{}, 0
	for e := range bufferedEntries(s, c.name) {
		missed += e.Missed
		if e.State == nil || e.State.ContainerID == "" {
			continue
		}
		id := e.State.ContainerID
		switch e.State.Phase {
		case PhaseRunning:
			started[id]++
		case PhaseEnded:
			ended[id]++
			if code, ok := ref.codes[id]; e.State.Outcome != nil && (!ok || code != e.State.Outcome.ExitCode) {
				t.Errorf("%s: %s ended with %d, want %d", c.name, id, e.State.Outcome.ExitCode, code)
			}
		}
	}
	for i, id := range ref.ids {
		wantEnded := 1
		if st := s.State(c.name); i == len(ref.ids)-1 && st.Phase == PhaseRunning {
			wantEnded = 0
		}
		if started[id] != 1 || ended[id] != wantEnded {
			t.Errorf("%s: %s started %d times and ended %d times, want 1 and %d", c.name, id, started[id], ended[id], wantEnded)
		}
	}
	if missed != ref.missed {
		t.Errorf("%s: %d runs missed, want %d", c.name, missed, ref.missed)
	}
}

func nextKnown(s *Splitter, name, after string) (string, bool, error) {
	sl := s.slot(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextRun(sl, after)
}

// bufferedEntries yields the entries that are in the ring now.
func bufferedEntries(s *Splitter, name string) func(yield func(Entry) bool) {
	sl := s.slot(name)
	s.mu.Lock()
	entries, _ := sl.timeline.since(1)
	s.mu.Unlock()
	return func(yield func(Entry) bool) {
		for _, e := range entries {
			if !yield(e) {
				return
			}
		}
	}
}

// finals remembers every State that was final, and checks that it stays as it was.
type finals struct {
	t     *testing.T
	s     *Splitter
	names []string
	known map[string]State
}

func (f *finals) check(what string) {
	f.t.Helper()
	checkThatDerivingChangesNothing(f.t, f.s)
	for _, name := range f.names {
		st := f.s.State(name)
		if old, ok := f.known[name]; ok && (st.Outcome != old.Outcome || !sameFailure(st.Failure, old.Failure) || st.Phase != old.Phase || st.ContainerID != old.ContainerID || !st.Final) {
			f.t.Fatalf("after %s: %s was final, and now it is %s", what, stateText(old), stateText(st))
		}
		if settled(st) {
			f.known[name] = st
		}
	}
}

// checkThatDerivingChangesNothing derives every State twice and compares.
func checkThatDerivingChangesNothing(t *testing.T, s *Splitter) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sl := range s.order {
		before := []run{}
		for _, r := range sl.runs {
			before = append(before, *r)
		}
		first, _ := s.derive(sl)
		if second, _ := s.derive(sl); first != second {
			t.Fatalf("%s: derived %s, and then %s", sl.name, stateText(first), stateText(second))
		}
		for i, r := range sl.runs {
			if *r != before[i] {
				t.Fatalf("%s: deriving a State changed run %s", sl.name, r.id)
			}
		}
	}
	outcome, failure := s.record.outcome, s.record.endFailure
	if first, second := s.podState(), s.podState(); first != second || s.record.outcome != outcome || s.record.endFailure != failure {
		t.Fatalf("the pod: derived %s, and then %s", stateText(first), stateText(second))
	}
}

// sameFailure reports whether two Failures are of one class and cause. As long as the pod's spec
// is unknown, each State of a slot has a Failure that is made anew.
func sameFailure(a, b *Failure) bool {
	return a == b || a != nil && b != nil && a.Class == b.Class && a.Cause == b.Cause
}

// Once a State is final, of a container or of the pod, nothing that comes later
// changes what it says of the end: no earlier version delivered again, no tombstone
// with any version, no Event, whether versions can be told apart or not.
func TestNothingThatComesLaterChangesAFinalState(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playToTheEnd(t, rand.New(rand.NewPCG(seed, 11))) })
		})
	}
}

func playToTheEnd(t *testing.T, rnd *rand.Rand) {
	s := New(testNS, testPod, Options{Placeholder: func(slot string) bool { return slot == "p" }})
	defer s.Close()
	f := &finals{t: t, s: s, names: []string{"", "a", "b", "p"}, known: map[string]State{}}
	lives := []*truth{{name: "a"}, {name: "b"}, {name: "p"}}
	pod := onePod("", "a", "b", "p")
	pod.Spec.RestartPolicy = []corev1.RestartPolicy{"Never", "OnFailure", "Always"}[rnd.IntN(3)]
	constant := rnd.IntN(2) == 0
	var versions []*corev1.Pod
	change := func() {
		p := pod.DeepCopy()
		if p.ResourceVersion = "1"; !constant {
			p.ResourceVersion = fmt.Sprint(len(versions) + 1)
		}
		p.Status.ContainerStatuses = nil
		for _, c := range lives {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, c.status())
		}
		versions = append(versions, p)
		if rnd.IntN(3) > 0 {
			s.Handle(modified(p))
			f.check("a version")
			for _, c := range lives {
				if st := s.State(c.name); st.Phase == PhaseRunning && !c.active {
					t.Errorf("%s runs no more, and is said to run: %s", c.name, stateText(st))
				}
			}
		}
		time.Sleep(time.Duration(rnd.IntN(1500)) * time.Millisecond)
	}
	for range 12 {
		c := lives[rnd.IntN(len(lives))]
		switch {
		case c.active && len(c.runs) > 1 && rnd.IntN(3) == 0:
			c.active, c.runs[len(c.runs)-1].gone = false, true
		case c.active:
			c.active = false
		case len(c.runs) == 0 || podstatus.Restarts(pod, c.name, c.newestThere(len(c.runs)).code):
			c.runs = append(c.runs, truthRun{id: fmt.Sprintf("%s%d", c.name, len(c.runs)), code: int32(rnd.IntN(3))})
			c.active = true
		}
		change()
	}
	for _, end := range rnd.Perm(3)[:rnd.IntN(3)+1] {
		switch now := metav1.Now(); end {
		case 0:
			pod.DeletionTimestamp = &now
		case 1:
			pod.Status.Phase = []corev1.PodPhase{corev1.PodSucceeded, corev1.PodFailed}[rnd.IntN(2)]
		case 2:
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: "EvictionByEvictionAPI"}}
		}
		change()
	}
	for range 12 {
		switch p := versions[rnd.IntN(len(versions))]; rnd.IntN(6) {
		case 0:
			s.Handle(watch.Event{Type: watch.Deleted, Object: p})
			f.check("a tombstone")
		case 1:
			s.Handle(watch.Event{Type: watch.Added, Object: &corev1.Event{
				ObjectMeta:     metav1.ObjectMeta{UID: types.UID(fmt.Sprint(rnd.IntN(5)))},
				InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: testNS, Name: testPod},
				Type:           "Warning", Reason: []string{"NodeNotReady", "Evicted", "FailedMount"}[rnd.IntN(3)],
			}})
			f.check("an Event")
		default:
			s.Handle(modified(p))
			f.check("an earlier version")
		}
		time.Sleep(time.Duration(rnd.IntN(6000)) * time.Millisecond)
		synctest.Wait()
		f.check("a while")
	}
	for _, c := range lives {
		for _, r := range c.runs {
			for e := range bufferedEntries(s, c.name) {
				if st := e.State; r.gone && st != nil && st.ContainerID == r.id && st.Outcome != nil {
					t.Errorf("%s: %s was removed, and is said to have an end: %s", c.name, r.id, stateText(*st))
				}
			}
		}
	}
}

// mutate turns a pod into one that hardly any kubelet would publish, with any combination of
// states, runs, policies and conditions, and with or without a spec.
func mutate(rnd *rand.Rand, p *corev1.Pod) {
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	for range rnd.IntN(4) + 1 {
		switch rnd.IntN(10) {
		case 0:
			p.Spec.Containers, p.Spec.RestartPolicy = nil, ""
		case 1:
			p.Spec.RestartPolicy = corev1.RestartPolicy(pick("", "Never", "OnFailure", "Always"))
		case 2:
			p.Status.Phase = corev1.PodPhase(pick("", "Pending", "Running", "Succeeded", "Failed", "Unknown"))
		case 3:
			p.Status.Reason = pick("", "Evicted", "NodeLost", "NotFound", "Strange")
		case 4:
			p.Status.ContainerStatuses = nil
		case 5:
			for i := range p.Status.ContainerStatuses {
				mutateStatus(rnd, &p.Status.ContainerStatuses[i])
			}
		case 6:
			now := metav1.Now()
			p.DeletionTimestamp = &now
		case 7:
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionStatus(pick("True", "False")), Reason: "EvictionByEvictionAPI"}}
		case 8:
			if n := len(p.Spec.Containers); n > 0 {
				c := &p.Spec.Containers[rnd.IntN(n)]
				c.Image = "other"
				onlyOn(c, int32(rnd.IntN(3)), corev1.ContainerRestartRuleAction(pick("Restart", "RestartAllContainers")))
			}
		case 9:
			if rnd.IntN(3) == 0 {
				p.UID = "other"
			}
		}
	}
}

func mutateStatus(rnd *rand.Rand, st *corev1.ContainerStatus) {
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	if rnd.IntN(2) == 0 {
		st.RestartCount = int32(rnd.IntN(5))
	}
	if st.ContainerID = fmt.Sprintf("%s%d", st.Name, rnd.IntN(4)); rnd.IntN(4) == 0 {
		st.ContainerID = ""
	}
	st.State = corev1.ContainerState{}
	switch rnd.IntN(4) {
	case 0:
		st.State.Running = &corev1.ContainerStateRunning{}
	case 1:
		st.State.Terminated = &corev1.ContainerStateTerminated{
			ContainerID: st.ContainerID, ExitCode: int32(rnd.IntN(3)), Reason: pick("Error", "Completed", "ContainerStatusUnknown", "StartError"),
		}
	case 2:
		st.State.Waiting = &corev1.ContainerStateWaiting{Reason: pick("ContainerCreating", "ErrImagePull", "InvalidImageName", "CrashLoopBackOff")}
	}
	if rnd.IntN(2) == 0 {
		st.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ContainerID: fmt.Sprintf("%s%d", st.Name, rnd.IntN(4)), ExitCode: 9, Reason: "Error"}
	}
}

// Fakes, virtual kubelets and transforms make pods that no kubelet makes. They do not change a
// final State either, nor does what a watch reports beyond pods and Events.
func TestNoImpossiblePodChangesAFinalState(t *testing.T) {
	for seed := range uint64(800) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { playFakes(t, rand.New(rand.NewPCG(seed, 5))) })
		})
	}
}

func playFakes(t *testing.T, rnd *rand.Rand) {
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	s := New(testNS, testPod, Options{Placeholder: func(slot string) bool { return slot == "p" }})
	defer s.Close()
	f := &finals{t: t, s: s, names: []string{"", "a", "b", "p"}, known: map[string]State{}}
	pod := onePod("", "a", "b", "p")
	pod.Spec.RestartPolicy = corev1.RestartPolicy(pick("Never", "OnFailure", "Always"))
	for _, name := range f.names[1:] {
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{Name: name})
	}
	versions := rnd.IntN(3)
	for i := range 25 {
		p := pod.DeepCopy()
		if mutate(rnd, p); rnd.IntN(3) > 0 && p.UID == pod.UID {
			pod = p.DeepCopy()
		}
		switch versions {
		case 0:
			p.ResourceVersion = fmt.Sprint(i + 1)
		case 1:
			p.ResourceVersion = fmt.Sprint(rnd.IntN(25) + 1)
		case 2:
			p.ResourceVersion = "7"
		}
		switch rnd.IntN(12) {
		case 0:
			s.Handle(watch.Event{Type: watch.Deleted, Object: p})
		case 1:
			s.Handle(watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: metav1.StatusReason(pick("OutOfScope", "Stale", "Fresh", "Forbidden"))}})
		case 2:
			e := eventAt(0, pick("", "a", "p"), "Warning", pick("NodeNotReady", "Failed", "FailedMount", "Evicted", "InspectFailed"), pick("words", `Failed to pull image "img": pull access denied`))
			e.UID = types.UID(fmt.Sprint(rnd.IntN(50)))
			e.InvolvedObject.Kind, e.InvolvedObject.Namespace, e.InvolvedObject.Name = "Pod", testNS, testPod
			s.Handle(watch.Event{Type: watch.Added, Object: e})
		case 3:
			slot := pick("a", "b", "p")
			go s.Swap(t.Context(), func(context.Context) (*corev1.Pod, error) { return nil, nil }, slot) //nolint:errcheck // whatever comes of it
		default:
			s.Handle(modified(p))
		}
		f.check("a change")
		time.Sleep(time.Duration(rnd.IntN(4)*rnd.IntN(4)*rnd.IntN(4000)) * time.Millisecond)
		synctest.Wait()
		f.check("a while")
	}
}
