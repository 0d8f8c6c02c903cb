package eventsplit

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/internal/podstatus"
)

// FuzzAnySequenceKeepsTheInvariants gives the Splitter any sequence of pods, Events and notices,
// possible and impossible ones, and checks what the package guarantees.
func FuzzAnySequenceKeepsTheInvariants(f *testing.F) {
	f.Add([]byte("\x00\x11\x22\x33\x44\x55\x66\x77\x88\x99\xaa\xbb\xcc\xdd\xee\xff"))
	f.Add([]byte("00010000000\xe30000001210000010001")) // a run gets its ID, and shows one before it
	for seed := range 24 {
		b := make([]byte, 120)
		x := uint32(seed*2654435761 + 12345)
		for i := range b {
			x = x*1664525 + 1013904223
			b[i] = byte(x >> 24)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			fz := newFuzzer(t, data)
			for len(fz.data) > 0 {
				fz.step()
				synctest.Wait() // a waiting swap may call its patch now
				fz.check()
			}
			fz.s.Close()
			fz.check()
			fz.wg.Wait()
		})
	})
}

type fuzzer struct {
	t            *testing.T
	data         []byte
	s            *Splitter
	wg           sync.WaitGroup
	pod          *corev1.Pod
	failures     map[string]*Failure // by slot; once set, they stay
	placeholders map[string]bool     // by slot/ID: the answer that was given
	told         map[string]uint64   // how many entries were checked
	started      map[string]bool     // by slot/ID
	ended        map[string]*State
}

var fuzzSlots = []string{"i", "s", "a", "b", "e"} // init, sidecar, placeholder, regular, ephemeral

func newFuzzer(t *testing.T, data []byte) *fuzzer {
	fz := &fuzzer{
		t: t, data: data, failures: map[string]*Failure{}, placeholders: map[string]bool{}, told: map[string]uint64{},
		started: map[string]bool{}, ended: map[string]*State{},
	}
	fz.s = New(testNS, testPod, Options{Placeholder: func(slot string) bool { return slot == "a" || slot == "s" }, Buffer: 32})
	always := corev1.ContainerRestartPolicyAlways
	fz.pod = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: testNS, Name: testPod, UID: "u"},
		Spec: corev1.PodSpec{
			RestartPolicy:       []corev1.RestartPolicy{"Never", "Always", "OnFailure"}[fz.byte()%3],
			InitContainers:      []corev1.Container{{Name: "i", Image: "i"}, {Name: "s", Image: "s", RestartPolicy: &always}},
			Containers:          []corev1.Container{{Name: "a", Image: "pause"}, {Name: "b", Image: "b"}},
			EphemeralContainers: []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "e"}}},
		},
	}
	return fz
}

func (fz *fuzzer) byte() byte {
	if len(fz.data) == 0 {
		return 0
	}
	b := fz.data[0]
	fz.data = fz.data[1:]
	return b
}

func (fz *fuzzer) step() {
	switch op := fz.byte(); {
	case op < 170:
		for range op%3 + 1 {
			fz.mutate()
		}
		t := watch.Modified
		if op == 169 {
			t = watch.Deleted
		}
		fz.s.Handle(watch.Event{Type: t, Object: fz.pod.DeepCopy()})
	case op < 220:
		fz.event()
	case op < 240:
		time.Sleep(time.Duration(fz.byte()) * time.Second)
		synctest.Wait()
	case op < 244:
		reasons := []metav1.StatusReason{"Stale", "Fresh", "OutOfScope", "Nonsense"}
		fz.s.Handle(watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: reasons[op-240]}})
	case op < 254:
		fz.swap()
	default:
		fz.s.Handle(watch.Event{Type: watch.Bookmark, Object: &corev1.Pod{}})
	}
}

// swap patches the image of a container, or does not, and gets any answer.
func (fz *fuzzer) swap() {
	c := &fz.pod.Spec.Containers[fz.byte()%2]
	image := []string{"pause", "step", "other"}[fz.byte()%3]
	answer := fz.byte()
	name := c.Name
	fz.wg.Go(func() {
		err := fz.s.Swap(fz.t.Context(), func(context.Context) (*corev1.Pod, error) {
			switch answer % 5 {
			case 0:
				return nil, apierrors.NewForbidden(corev1.Resource("pods"), testPod, nil)
			case 1:
				return nil, errNet
			case 2:
				c.Image = image
				return nil, errNet
			case 3:
				c.Image = image
				return nil, nil
			}
			c.Image = image
			return fz.pod.DeepCopy(), nil
		}, name)
		if err == nil && answer%5 < 3 {
			fz.t.Errorf("a patch that failed made a swap")
		}
	})
}

func (fz *fuzzer) mutate() {
	p := fz.pod
	switch op := fz.byte(); {
	case op < 170:
		fz.status()
	case op < 185: // versions come in any order, or without one
		p.ResourceVersion = ""
		if v := fz.byte(); v > 60 {
			p.ResourceVersion = strconv.Itoa(int(v))
		}
	case op < 200:
		p.Spec.Containers[0].Image = []string{"pause", "step"}[fz.byte()%2]
	case op < 215:
		p.Status.Phase = []corev1.PodPhase{"", "Pending", "Running", "Running", "Succeeded", "Failed", "Unknown"}[fz.byte()%7]
	case op < 225:
		p.Status.Reason = []string{"", "Evicted", "OutOfcpu", "Odd"}[fz.byte()%4]
	case op < 235:
		p.Status.Conditions = []corev1.PodCondition{{
			Type:   []corev1.PodConditionType{corev1.DisruptionTarget, corev1.PodScheduled, corev1.PodReadyToStartContainers}[fz.byte()%3],
			Status: []corev1.ConditionStatus{"True", "False"}[fz.byte()%2], Reason: "Unschedulable",
		}}
	case op < 238:
		now := metav1.Now()
		p.DeletionTimestamp = &now
	case op < 240:
		p.UID = []types.UID{"u", "v"}[fz.byte()%2]
	}
}

func (fz *fuzzer) status() {
	name := fuzzSlots[int(fz.byte())%len(fuzzSlots)]
	st := corev1.ContainerStatus{Name: name, RestartCount: int32(fz.byte() % 5), Ready: fz.byte()%2 == 0}
	id := func() string { return []string{"", "A", "B", "C", "D"}[fz.byte()%5] }
	term := func() *corev1.ContainerStateTerminated {
		reasons := []string{"Completed", "Error", "OOMKilled", "StartError", podstatus.ReasonStatusUnknown}
		n := fz.byte()
		return &corev1.ContainerStateTerminated{ContainerID: id(), ExitCode: int32(n % 3), Reason: reasons[int(n)%len(reasons)]}
	}
	switch fz.byte() % 4 {
	case 0:
		st.State.Waiting = &corev1.ContainerStateWaiting{Reason: []string{"ContainerCreating", "ErrImagePull", "CrashLoopBackOff", "CreateContainerConfigError", "InvalidImageName", "Odd"}[fz.byte()%6]}
	case 1:
		st.ContainerID = id()
		st.State.Running = &corev1.ContainerStateRunning{}
	case 2:
		st.State.Terminated = term()
	}
	if fz.byte()%3 == 0 {
		st.LastTerminationState.Terminated = term()
	}
	list := &fz.pod.Status.ContainerStatuses
	switch name {
	case "i", "s":
		list = &fz.pod.Status.InitContainerStatuses
	case "e":
		list = &fz.pod.Status.EphemeralContainerStatuses
	}
	for i := range *list {
		if (*list)[i].Name == name {
			(*list)[i] = st
			return
		}
	}
	*list = append(*list, st)
}

func (fz *fuzzer) event() {
	n := fz.byte()
	texts := []string{"Failed to pull image \"step\": not found", "Error: ErrImagePull", "Error: secret \"x\" not found", "(combined from similar events): \"step\"", "", "rpc error: code = "}
	e := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{UID: types.UID(fmt.Sprint(n % 16))},
		InvolvedObject: corev1.ObjectReference{Kind: []string{"Pod", "Pod", "Pod", "Job"}[n%4], Name: testPod, Namespace: testNS, UID: []types.UID{"u", "v", ""}[n%3]},
		Type:           []string{"Normal", "Warning"}[fz.byte()%2],
		Reason:         []string{"Failed", "BackOff", "FailedMount", "Pulling", "Evicted", "FailedCreate"}[fz.byte()%6],
		Message:        texts[int(fz.byte())%len(texts)],
	}
	if k := int(fz.byte()); k%6 < len(fuzzSlots) {
		e.InvolvedObject.FieldPath = "spec.containers{" + fuzzSlots[k%6] + "}"
	}
	fz.s.Handle(watch.Event{Type: watch.Added, Object: e})
}

// check checks the guarantees of the package.
func (fz *fuzzer) check() {
	t := fz.t
	for _, name := range append([]string{""}, fuzzSlots...) {
		st := fz.s.State(name)
		if Ended(st) && st.Outcome == nil {
			t.Fatalf("%s: ended without an outcome: %s", name, stateText(st))
		}
		if old := fz.failures[name]; name != "" && old != nil && (st.Failure == nil || st.Failure.Class != old.Class || st.Failure.Message != old.Message) {
			t.Fatalf("%s: a failure was taken back: %v, then %v", name, old, st.Failure)
		}
		if st.Failure != nil && name != "" {
			fz.failures[name] = st.Failure
			if st.Phase == PhaseRunning || !st.Final {
				t.Fatalf("%s: failed and not at its end: %s", name, stateText(st))
			}
			_ = st.Failure.Error()
		}
		fz.checkEntries(name)
		for _, id := range []string{"A", "B", "C", "D"} {
			fz.checkPlaceholder(name, id, st)
		}
	}
}

func (fz *fuzzer) checkPlaceholder(name, id string, st State) {
	fz.s.mu.Lock()
	sl := fz.s.slots[name]
	known := sl != nil && sl.find(id) >= 0
	fz.s.mu.Unlock()
	if name == "" || !known {
		return
	}
	key := name + "/" + id
	is := fz.s.IsPlaceholder(name, id)
	if was, asked := fz.placeholders[key]; asked && was != is {
		fz.t.Fatalf("%s: IsPlaceholder was %v and is %v", key, was, is)
	}
	fz.placeholders[key] = is
	if is && st.ContainerID == id {
		fz.t.Fatalf("State speaks of a placeholder: %s", stateText(st))
	}
}

func (fz *fuzzer) checkEntries(name string) {
	fz.s.mu.Lock()
	tl := &fz.s.record.timeline
	if name != "" {
		sl := fz.s.slots[name]
		if sl == nil {
			fz.s.mu.Unlock()
			return
		}
		tl = &sl.timeline
	}
	entries, _ := tl.since(max(fz.told[name], 1))
	size := len(tl.ring)
	fz.s.mu.Unlock()
	if size > 32 {
		fz.t.Fatalf("%s: %d entries kept, 32 allowed", name, size)
	}
	for _, e := range entries {
		if e.Seq < fz.told[name] {
			fz.t.Fatalf("%s: sequence numbers go back", name)
		}
		fz.told[name] = e.Seq + 1
		if e.State != nil && name != "" && e.State.ContainerID != "" {
			fz.checkRun(name+"/"+e.State.ContainerID, *e.State)
		}
	}
}

func (fz *fuzzer) checkRun(key string, st State) {
	switch st.Phase {
	case PhaseRunning:
		if fz.ended[key] != nil {
			fz.t.Fatalf("%s runs after its end: %s", key, stateText(st))
		}
		fz.started[key] = true
	case PhaseEnded:
		if !fz.started[key] && (st.Outcome == nil || !podstatus.NeverStarted(&corev1.ContainerStateTerminated{Reason: st.Outcome.Reason, ExitCode: st.Outcome.ExitCode})) {
			fz.t.Fatalf("%s ended before it started: %s", key, stateText(st))
		}
		if old := fz.ended[key]; old != nil && old.Outcome != st.Outcome {
			fz.t.Fatalf("%s ended twice: %s, then %s", key, stateText(*old), stateText(st))
		}
		fz.ended[key] = &st
	}
}
