package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/podwatch"
)

// play is one pod on a kubelet, with what eventsplit says of it and a tape of
// what it was told.
type play struct {
	client  kubernetes.Interface
	pod     *corev1.Pod
	split   *eventsplit.Splitter
	track   *podwatch.Tracking
	tape    *tape
	real    bool          // not simulated
	plain   bool          // without placeholders
	bare    bool          // no podwatch: track is nil
	missed  bool          // runs may be
	patched chan struct{} // closed when a swap has called its patch
}

// stage creates the pod, every slot of it a placeholder at first unless it is plain,
// watched from before its creation.
func stage(t *testing.T, client kubernetes.Interface, s story) *play {
	t.Helper()
	p := &play{client: client, plain: s.plain, bare: s.bare, missed: s.missed, patched: make(chan struct{})}
	p.attach(t, s.pod)
	p.pod = createOn(t, client, s.pod)
	if p.track != nil {
		p.track.Created(p.pod)
	}
	return p
}

// attach begins to watch, to split and to tape.
func (p *play) attach(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	plain := p.plain
	p.split = eventsplit.New(pod.Namespace, pod.Name, eventsplit.Options{Placeholder: func(string) bool { return !plain }})
	p.tape = newTape(pod, plain)
	if p.bare {
		p.inform(t, pod)
		return
	}
	w, err := podwatch.New(p.client, podwatch.Options{
		Namespace: pod.Namespace, LabelSelector: buildLabel + "=" + pod.Labels[buildLabel], Events: podwatch.EventsRequired,
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, w.Run)
	if p.track, err = w.Track(pod.Namespace, pod.Name, p.tape, p.split); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closing(p.track, p.split))
	if err := w.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func closing(track *podwatch.Tracking, split *eventsplit.Splitter) func() {
	return func() {
		if track != nil {
			track.Close()
			<-track.Done()
		}
		split.Close()
	}
}

// inform lets an informer show the pod.
func (p *play) inform(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	factory := informers.NewSharedInformerFactoryWithOptions(p.client, 0, informers.WithNamespace(pod.Namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = buildLabel + "=" + pod.Labels[buildLabel] }))
	show := func(kind watch.EventType, o any) {
		if unknown, ok := o.(cache.DeletedFinalStateUnknown); ok {
			o = unknown.Obj
		}
		for _, h := range []podwatch.Handler{p.tape, p.split} {
			h.Handle(watch.Event{Type: kind, Object: o.(*corev1.Pod)})
		}
	}
	_, err := factory.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { show(watch.Added, o) },
		UpdateFunc: func(_, o any) { show(watch.Modified, o) },
		DeleteFunc: func(o any) { show(watch.Deleted, o) },
	})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, func(ctx context.Context) error {
		factory.Start(ctx.Done())
		<-ctx.Done()
		factory.Shutdown()
		return nil
	})
	factory.WaitForCacheSync(t.Context().Done())
	t.Cleanup(closing(nil, p.split))
}

// reattach is what a host does that starts anew: it knows what it finds, and what comes.
func (p *play) reattach(t *testing.T) {
	t.Helper()
	closing(p.track, p.split)()
	pod, err := p.client.CoreV1().Pods(p.pod.Namespace).Get(t.Context(), p.pod.Name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p.pod = pod
	p.attach(t, pod)
	p.track.Created(pod)
	eventually(t.Context(), t, "the pod to be known", func() bool { return p.track.Pod() != nil })
}

// swap patches the images of slots, "slot=image" each, all in one.
func (p *play) swap(ctx context.Context, images ...string) error {
	refused := p.tape.swap(images)
	slots := make([]string, len(images))
	for i, text := range images {
		slots[i], _, _ = strings.Cut(text, "=")
	}
	calls := 0
	err := p.split.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) {
		if calls++; calls > 1 {
			return nil, errors.New("the patch was called twice")
		}
		select {
		case <-p.patched:
		default:
			close(p.patched)
		}
		pod, err := patchImages(ctx, p.client, p.pod, images...)
		refused(err)
		return pod, err
	}, slots...)
	return err
}

// patchedByOthers patches images without a Swap.
func (p *play) patchedByOthers(ctx context.Context, t *testing.T, images ...string) {
	t.Helper()
	if _, err := patchImages(ctx, p.client, p.pod, images...); err != nil {
		t.Fatal(err)
	}
}

// mustSwap fails the test if the swap's patch does.
func (p *play) mustSwap(ctx context.Context, t *testing.T, images ...string) {
	t.Helper()
	if err := p.swap(ctx, images...); err != nil {
		t.Fatalf("swap %s: %v", images, err)
	}
}

// placeholdersRun waits until every slot's placeholder does.
func (p *play) placeholdersRun(ctx context.Context, t *testing.T) {
	t.Helper()
	eventually(ctx, t, "every placeholder to run", func() bool { return p.tape.running() == len(p.pod.Spec.Containers) })
}

func eventually(ctx context.Context, t *testing.T, what string, holds func() bool) {
	t.Helper()
	eventuallyEvery(ctx, t, 10*time.Millisecond, what, holds)
}

func eventuallyEvery(ctx context.Context, t *testing.T, interval time.Duration, what string, holds func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(ctx, interval, 2*time.Minute, true, func(context.Context) (bool, error) {
		return holds(), nil
	})
	if err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
}

// fate says in a few words what became of a slot: how its run ended, or why it
// has none. want tells what to wait for: a slot that waits, or that nobody asked
// to run, has no end.
func (p *play) fate(ctx context.Context, slot, want string) string {
	switch {
	case want == "not run":
		if st := p.split.State(slot); st.Phase != eventsplit.PhaseNotRun || st.Failure != nil || st.Outcome != nil {
			return fmt.Sprintf("%+v", st)
		}
		return want
	case want == "runs":
		return p.reaches(ctx, slot, want, func(st eventsplit.State) bool { return st.Phase == eventsplit.PhaseRunning })
	case strings.HasPrefix(want, "waits: "):
		return p.reaches(ctx, slot, want, func(st eventsplit.State) bool {
			return st.Waiting != nil && st.Phase == eventsplit.PhaseWaiting && "waits: "+kindOf(st.Waiting) == want
		})
	}
	st, err := p.split.Wait(ctx, slot, eventsplit.Ended)
	var f *eventsplit.Failure
	switch {
	case errors.As(err, &f) && eventsplit.Ended(st):
		return fmt.Sprintf("exit %d, %s", st.Outcome.ExitCode, kindOf(f))
	case errors.As(err, &f):
		return kindOf(f)
	case err != nil:
		return fmt.Sprintf("%v, when it was %+v", err, p.split.State(slot))
	}
	return fmt.Sprintf("exit %d", st.Outcome.ExitCode)
}

// troubled waits until that is known of a slot, be it fatal or waited for.
func (p *play) troubled(ctx context.Context, t *testing.T, slot, kind string) {
	t.Helper()
	eventually(ctx, t, slot+" to have the trouble "+kind, func() bool {
		st := p.split.State(slot)
		f := cmp.Or(st.Failure, st.Waiting)
		return f != nil && kindOf(f) == kind
	})
}

func (p *play) reaches(ctx context.Context, slot, want string, until func(eventsplit.State) bool) string {
	if st, err := p.split.Wait(ctx, slot, until); err != nil {
		return fmt.Sprintf("%v, when it was %+v", err, st)
	}
	return want
}

// kindOf is a Failure's class, with its cause if it has one.
func kindOf(f *eventsplit.Failure) string {
	if f.Cause == "" {
		return string(f.Class)
	}
	return string(f.Class) + "/" + string(f.Cause)
}

// checkFates compares what became of the slots with what should have; slot "" is
// the pod.
func (p *play) checkFates(ctx context.Context, t *testing.T, want map[string]string) {
	t.Helper()
	for _, slot := range slices.Sorted(maps.Keys(want)) {
		got := p.fate(ctx, slot, want[slot])
		if got != want[slot] {
			t.Errorf("slot %q: got %q, want %q", slot, got, want[slot])
		}
		p.checkAgreement(ctx, t, slot)
		if f := p.split.State(slot).Failure; f != nil {
			t.Logf("%v", f)
		}
	}
}

// checkAgreement: of a slot that failed without a run Wait, State and NextRun say
// the same; one that ran has its runs, and the end of them.
func (p *play) checkAgreement(ctx context.Context, t *testing.T, slot string) {
	t.Helper()
	st := p.split.State(slot)
	if slot == "" || !st.Final {
		return
	}
	id, err := p.split.NextRun(ctx, slot, "")
	if st.ContainerID == "" && st.Failure != nil {
		var f *eventsplit.Failure
		if !errors.As(err, &f) || kindOf(f) != kindOf(st.Failure) {
			t.Errorf("slot %q: NextRun says %q, %v; State says %v", slot, id, err, st.Failure)
		}
		if _, err := p.split.Wait(ctx, slot, eventsplit.Started); !errors.As(err, &f) || kindOf(f) != kindOf(st.Failure) {
			t.Errorf("slot %q: Wait says %v; State says %v", slot, err, st.Failure)
		}
		return
	}
	last := ""
	for err == nil {
		if p.split.IsPlaceholder(slot, id) {
			t.Errorf("slot %q: NextRun gave a placeholder's run", slot)
		}
		last = id
		id, err = p.split.NextRun(ctx, slot, last)
	}
	if !errors.Is(err, io.EOF) || last != st.ContainerID {
		t.Errorf("slot %q: the runs end with %q, %v; want %q and EOF", slot, last, err, st.ContainerID)
	}
}

// checkTimelines ends the play and checks what holds whatever the story: a run
// starts before it ends, and once; a placeholder's is not spoken of.
func (p *play) checkTimelines(ctx context.Context, t *testing.T) map[string][]string {
	t.Helper()
	closing(p.track, p.split)()
	outlines := map[string][]string{}
	for _, slot := range append([]string{""}, p.tape.names()...) {
		var o outline
		phase := map[string]eventsplit.Phase{}
		for e, err := range p.split.Entries(ctx, slot) {
			if err != nil {
				break // The play ended before the slot did.
			}
			if e.Missed > 0 && !p.missed {
				t.Errorf("slot %q: %d runs were missed", slot, e.Missed)
			}
			st := e.State
			if st == nil {
				continue
			}
			o.add(slot, string(st.Phase), st.ContainerID, st.Outcome, st.Failure)
			if st.ContainerID == "" {
				continue
			}
			if p.hasPlaceholder(slot) && st.ContainerID == p.tape.placeholder(slot) {
				t.Errorf("slot %q: the placeholder is spoken of: %+v", slot, st)
			}
			before := phase[st.ContainerID]
			started := before != "" || st.Outcome != nil && st.Outcome.Reason == "StartError"
			if st.Phase == eventsplit.PhaseEnded && !started || before == eventsplit.PhaseEnded && st.Phase == eventsplit.PhaseRunning {
				t.Errorf("slot %q: run %s is %s after %q", slot, st.ContainerID, st.Phase, before)
			}
			phase[st.ContainerID] = st.Phase
		}
		if len(o.lines) > 0 {
			outlines[slot] = o.lines
		}
	}
	return outlines
}

// hasPlaceholder reports whether a slot's first run is no work: an init container's always
// is, for no new image restarts it.
func (p *play) hasPlaceholder(slot string) bool {
	isInit := func(c corev1.Container) bool { return c.Name == slot && c.RestartPolicy == nil }
	return !p.plain && !slices.ContainsFunc(p.pod.Spec.InitContainers, isInit)
}
