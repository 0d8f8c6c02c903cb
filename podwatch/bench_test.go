package podwatch

import (
	"context"
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiruntime "k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/cache"
)

// heard is a Handler that says so.
type heard chan struct{}

func (h heard) Handle(ev watch.Event) {
	if ev.Type != watch.Error {
		h <- struct{}{}
	}
}

// tracked is a running watcher, without a watch, that tracks n pods; update
// brings a new version of one of them and waits until its handler has it.
func tracked(tb testing.TB, n int) (w *Watcher, update func()) {
	w, err := New(fake.NewSimpleClientset(), Options{})
	if err != nil {
		tb.Fatal(err)
	}
	if err := w.begin(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		w.finish()
		w.core.wg.Wait()
	})
	h := make(heard)
	for i := range n {
		p := numbered(i, 1)
		t, err := w.Track(p.Namespace, p.Name, h)
		if err != nil {
			tb.Fatal(err)
		}
		podHandler{w}.OnAdd(p, true)
		t.Created(p)
		<-h
	}
	versions := [2]*corev1.Pod{numbered(n/2, 1), numbered(n/2, 2)}
	v := 0
	return w, func() {
		v = 1 - v
		podHandler{w}.OnUpdate(versions[1-v], versions[v])
		<-h
	}
}

func numbered(i, version int) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ci", Name: fmt.Sprintf("build-%d", i), UID: types.UID(fmt.Sprint(i)), ResourceVersion: fmt.Sprint(version),
	}}
}

// BenchmarkUpdate is the time from the informer's call to the end of the
// handler's, with a goroutine started in between.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{1, 100, 10_000} {
		b.Run(fmt.Sprintf("tracked=%d", n), func(b *testing.B) {
			_, update := tracked(b, n)
			b.ReportAllocs()
			for b.Loop() {
				update()
			}
		})
	}
}

func TestAnUpdateCostsTheSameHoweverManyPodsAreTracked(t *testing.T) {
	allocs := func(n int) float64 {
		_, update := tracked(t, n)
		return testing.AllocsPerRun(200, update)
	}
	one, many := allocs(1), allocs(10_000)
	if many > one+1 || one > 4 {
		t.Errorf("%v allocations with one tracked pod, %v with 10,000", one, many)
	}
}

func TestAnIdleTrackingHasNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	w, update := tracked(t, 1000)
	update()
	// The last delivery's goroutine may be about to end.
	for _, t := range w.trackings.all() {
		for t.busy() {
			runtime.Gosched()
		}
	}
	if n := runtime.NumGoroutine() - before; n > 10 {
		t.Errorf("%d goroutines for 1,000 idle trackings", n)
	}
}

func (t *Tracking) busy() bool {
	t.box.mu.Lock()
	defer t.box.mu.Unlock()
	return t.box.busy
}

// BenchmarkTrackedPod is what a tracked pod costs while nothing happens, against
// an informer for each pod.
func BenchmarkTrackedPod(b *testing.B) {
	const n = 500
	b.Run("podwatch", func(b *testing.B) {
		for b.Loop() {
			report(b, n, func() { tracked(b, n) })
		}
	})
	b.Run("informer-per-pod", func(b *testing.B) {
		for b.Loop() {
			report(b, n, func() { informers(b, n) })
		}
	})
}

func report(b *testing.B, n int, start func()) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	start()
	runtime.GC()
	runtime.ReadMemStats(&after)
	memory := after.HeapAlloc + after.StackInuse - before.HeapAlloc - before.StackInuse
	b.ReportMetric(float64(memory)/float64(n), "B/pod")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/float64(n), "goroutines/pod")
}

// informers runs n informers of one pod each, over watches that cost nothing.
func informers(b *testing.B, n int) {
	ctx, cancel := context.WithCancel(b.Context())
	b.Cleanup(cancel)
	c := fake.NewSimpleClientset() // opts out of WatchList
	for i := range n {
		p := numbered(i, 1)
		lw := &cache.ListWatch{
			ListWithContextFunc: func(context.Context, metav1.ListOptions) (apiruntime.Object, error) {
				return &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Pod{*p}}, nil
			},
			WatchFuncWithContext: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
				return watch.NewFake(), nil
			},
		}
		inf := cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(lw, c), &corev1.Pod{}, 0, cache.Indexers{})
		reg, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{})
		if err != nil {
			b.Fatal(err)
		}
		go inf.RunWithContext(ctx)
		for !reg.HasSynced() {
			runtime.Gosched()
		}
	}
}
