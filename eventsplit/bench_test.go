package eventsplit

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/watch"
)

// bigPod is a pod of twenty running containers.
func bigPod(version string) *corev1.Pod {
	names := make([]string, 20)
	for i := range names {
		names[i] = fmt.Sprintf("step-%d", i)
	}
	p := onePod(version, names...)
	for _, name := range names {
		withRunning(p, name, name+"-id")
	}
	return p
}

func TestHandlingAnUnchangedPodAllocatesNothing(t *testing.T) {
	for _, c := range []struct{ name, first, second string }{
		{"the same version again", "7", "7"},
		{"new versions without a change", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := New(testNS, testPod, Options{Placeholder: func(slot string) bool { return slot == "step-3" }})
			defer s.Close()
			s.Handle(modified(bigPod(c.first)))
			ev := modified(bigPod(c.second))
			if n := testing.AllocsPerRun(100, func() { s.Handle(ev) }); n != 0 {
				t.Errorf("%v allocations, want 0", n)
			}
		})
	}
}

func BenchmarkHandleUnchangedPod(b *testing.B) {
	s := New(testNS, testPod, Options{})
	defer s.Close()
	ev := modified(bigPod(""))
	s.Handle(ev)
	b.ReportAllocs()
	for b.Loop() {
		s.Handle(ev)
	}
}

func BenchmarkHandleOneChangedSlotOfTwenty(b *testing.B) {
	s := New(testNS, testPod, Options{})
	defer s.Close()
	pods := [2]watch.Event{modified(bigPod("")), modified(bigPod(""))}
	pods[1].Object.(*corev1.Pod).Status.ContainerStatuses[7].Ready = true
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		s.Handle(pods[i%2])
		i++
	}
}

// BenchmarkDecodeAndHandle measures the whole cost of a watch event; Handle is a part of that.
func BenchmarkDecodeAndHandle(b *testing.B) {
	s := New(testNS, testPod, Options{})
	defer s.Close()
	raw, err := json.Marshal(bigPod(""))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		p := &corev1.Pod{}
		if err := json.Unmarshal(raw, p); err != nil {
			b.Fatal(err)
		}
		s.Handle(modified(p))
	}
}

func BenchmarkWakeThousandWaiters(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		s := New(testNS, testPod, Options{})
		s.Handle(modified(onePod("1", "a")))
		var waiting, done sync.WaitGroup
		for range 1000 {
			waiting.Add(1)
			done.Go(func() {
				once := false
				_, _ = s.Wait(b.Context(), "a", func(st State) bool {
					if !once {
						once = true
						waiting.Done()
					}
					return Started(st)
				})
			})
		}
		waiting.Wait()
		s.Handle(modified(withRunning(onePod("2", "a"), "a", "A")))
		done.Wait()
		s.Close()
	}
}

func BenchmarkEvent(b *testing.B) {
	s := New(testNS, testPod, Options{})
	defer s.Close()
	s.Handle(modified(bigPod("1")))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		i++
		e := &corev1.Event{Reason: "Pulling", Type: corev1.EventTypeNormal, Count: 1}
		e.UID = "uid-" + "x"
		e.Name = strconv.Itoa(i)
		e.Count = int32(i)
		e.InvolvedObject = corev1.ObjectReference{Kind: "Pod", Namespace: testNS, Name: testPod, FieldPath: "spec.containers{step-7}"}
		s.Handle(watch.Event{Type: watch.Added, Object: e})
	}
}
