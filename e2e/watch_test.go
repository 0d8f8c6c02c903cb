package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/go-vela/podlife/podwatch"
)

// idlePod returns a pod that no kubelet takes: what becomes of it is the test's to say.
func idlePod(name string) *corev1.Pod {
	pod := newPod(name, slot("step"))
	pod.Spec.NodeName = "nobody"
	return pod
}

// watchPods runs a watcher of the pods that have this build label.
func watchPods(t *testing.T, client kubernetes.Interface, label string, o podwatch.Options) *podwatch.Watcher {
	t.Helper()
	o.Namespace, o.LabelSelector = namespace, buildLabel+"="+label
	w, err := podwatch.New(client, o)
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, w.Run)
	if err := w.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return w
}

func follow(t *testing.T, w *podwatch.Watcher, name string) (*podwatch.Tracking, *witness) {
	t.Helper()
	r := newWitness()
	track, err := w.Track(namespace, name, r)
	if err != nil {
		t.Fatal(err)
	}
	return track, r
}

// followPod follows a pod that exists.
func followPod(t *testing.T, w *podwatch.Watcher, pod *corev1.Pod) *witness {
	t.Helper()
	r := newWitness()
	if _, err := w.TrackPod(pod, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// relabel changes a pod's build label.
func relabel(t *testing.T, pod *corev1.Pod, label string) *corev1.Pod {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, buildLabel, label)
	p, err := world.client.CoreV1().Pods(pod.Namespace).Patch(t.Context(), pod.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// remove deletes a pod at once.
func remove(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	err := world.client.CoreV1().Pods(pod.Namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if err != nil {
		t.Fatal(err)
	}
}

func TestLeavingTheSelectorIsNotAnEnd(t *testing.T) {
	needCluster(t)
	spec := idlePod("leaver")
	w := watchPods(t, world.client, spec.Name, podwatch.Options{})
	track, r := follow(t, w, spec.Name)
	pod := create(t, spec)
	track.Created(pod)

	relabel(t, pod, "elsewhere")
	r.await(t, "OutOfScope", lastHeard(watch.Error, podwatch.OutOfScope))
	if p := track.Pod(); p.DeletionTimestamp != nil || p.UID != pod.UID {
		t.Errorf("the last version in the scope is %s, deleted at %v", p.UID, p.DeletionTimestamp)
	}
	if life, err := track.Confirm(t.Context()); life != podwatch.Alive || err != nil {
		t.Errorf("Confirm of a pod out of scope: %v, %v; want Alive", life, err)
	}
	relabel(t, pod, pod.Name)
	r.await(t, "the pod's return", lastHeard(watch.Modified, ""))
	remove(t, pod)
	r.await(t, "the end", lastHeard(watch.Deleted, ""))
	r.want(t, map[types.UID]string{pod.UID: "pod"}, "ADDED pod", "OutOfScope", "MODIFIED pod", "DELETED pod")
}

// A pod that is being deleted has a deletionTimestamp. When it leaves the
// selector it looks much like one that is gone, and its containers still run.
func TestLeavingTheSelectorWhileTerminatingIsNotAnEnd(t *testing.T) {
	needCluster(t)
	spec := idlePod("leaver") // No kubelet will ever confirm that its containers ended.
	w := watchPods(t, world.client, spec.Name, podwatch.Options{})
	track, r := follow(t, w, spec.Name)
	pod := create(t, spec)
	track.Created(pod)
	if err := world.client.CoreV1().Pods(namespace).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if p := relabel(t, pod, "elsewhere"); p.DeletionTimestamp == nil {
		t.Fatal("the pod is not being deleted")
	}
	r.await(t, "OutOfScope", lastHeard(watch.Error, podwatch.OutOfScope))
	r.want(t, map[types.UID]string{pod.UID: "pod"}, "ADDED pod", "OutOfScope")
}

func TestRecreatedUnderItsNameIsAnEndAndABeginning(t *testing.T) {
	needCluster(t)
	spec := idlePod("twice")
	w := watchPods(t, world.client, spec.Name, podwatch.Options{})
	both, named := follow(t, w, spec.Name)
	track, pinned := follow(t, w, spec.Name)
	first := create(t, spec)
	track.Created(first)
	both.Created(first)
	remove(t, first)
	second := create(t, spec)
	both.Created(second) // its host made the pod anew
	remove(t, second)
	names := map[types.UID]string{first.UID: "first", second.UID: "second"}
	named.await(t, "the end of the second", anyPod(func(typ watch.EventType, p *corev1.Pod) bool {
		return typ == watch.Deleted && p.UID == second.UID
	}))
	for _, r := range []*witness{named, pinned} {
		for _, p := range r.pods(watch.Deleted) {
			if p.DeletionTimestamp == nil {
				t.Errorf("the last state of %s is not that of its deletion", names[p.UID])
			}
		}
	}
	track.Close()
	<-track.Done()
	if d := cmp.Diff([]string{"first"}, ended(pinned, names)); d != "" {
		t.Errorf("ends that the tracking of the first pod heard of (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"first", "second"}, ended(named, names)); d != "" {
		t.Errorf("ends that the tracking of both pods heard of (-want +got):\n%s", d)
	}
	if life, err := track.Confirm(t.Context()); life != podwatch.Gone || err != nil {
		t.Errorf("Confirm: %v, %v; want Gone", life, err)
	}
}

// ended returns the pods whose ends a handler heard of, and that they were said
// once and with nothing after them.
func ended(r *witness, names map[types.UID]string) (all []string) {
	over := map[types.UID]bool{}
	r.so(func(heard []watch.Event) bool {
		for _, ev := range heard {
			p, ok := ev.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			if over[p.UID] {
				all = append(all, fmt.Sprintf("%s %s after its end", ev.Type, names[p.UID]))
			}
			if ev.Type == watch.Deleted {
				over[p.UID] = true
				all = append(all, names[p.UID])
			}
		}
		return true
	})
	return all
}

// The watch has lost contact and still shows an earlier pod of the name.
func TestAStalePodOfTheNameAnswersNothing(t *testing.T) {
	needCluster(t)
	spec := idlePod("stale")
	client, link := clientNamed(t, world.config, spec.Name)
	w := watchPods(t, client, spec.Name, podwatch.Options{})
	stale := create(t, spec)
	first := followPod(t, w, stale)
	first.await(t, "the first pod", lastHeard(watch.Added, ""))

	link.shut()
	first.await(t, "Stale", hasReason(podwatch.Stale))
	remove(t, stale)
	pod := create(t, spec)
	track, r := follow(t, w, spec.Name)
	track.Created(pod)
	if got := track.Pod(); got.UID != pod.UID {
		t.Errorf("after Created the tracking speaks of pod %s, want %s", got.UID, pod.UID)
	}
	r.await(t, "the created pod", anyPod(func(_ watch.EventType, p *corev1.Pod) bool { return p.UID == pod.UID }))
	setMessage(t, pod, "seen after the outage")
	link.open()
	r.await(t, "Fresh", lastHeard(watch.Error, podwatch.Fresh))
	r.want(t, map[types.UID]string{stale.UID: "stale", pod.UID: "created"}, "Stale", "ADDED created", "Fresh")
	if got := track.Pod().Status.Message; got != "seen after the outage" {
		t.Errorf("behind Fresh the newest version says %q", got)
	}
	if n := w.Stats().Gets; n != 0 {
		t.Errorf("%d live GETs, want none: the watch told all", n)
	}
}

// A pod came and went while the watch was down: nobody may wait for it.
func TestAPodThatTheWatchNeverShowedIsFoundGone(t *testing.T) {
	needCluster(t)
	spec := idlePod("never")
	client, link := clientNamed(t, world.config, spec.Name)
	w := watchPods(t, client, spec.Name, podwatch.Options{})
	other := create(t, withLabel(idlePod("other"), spec.Name))
	otherHeard := followPod(t, w, other)
	otherHeard.await(t, "another pod", lastHeard(watch.Added, ""))
	track, r := follow(t, w, spec.Name)

	link.shut()
	r.await(t, "Stale", hasReason(podwatch.Stale))
	pod := create(t, spec)
	remove(t, pod)
	track.Created(pod)
	link.open()
	r.await(t, "the end", anyPod(func(typ watch.EventType, _ *corev1.Pod) bool { return typ == watch.Deleted }))
	r.await(t, "Fresh", hasReason(podwatch.Fresh))
	if d := cmp.Diff([]string{"pod"}, ended(r, map[types.UID]string{pod.UID: "pod"})); d != "" {
		t.Errorf("ends (-want +got):\n%s", d)
	}
}

// A host runs informers anyway. It ends the watcher and goes on.
func TestAHostsInformersOutliveTheWatcher(t *testing.T) {
	needCluster(t)
	spec := idlePod("hosted")
	client, _ := clientNamed(t, world.config, spec.Name)
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = buildLabel + "=" + spec.Name }))
	pods := factory.Core().V1().Pods().Informer()
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	begin := func() (*podwatch.Watcher, func()) {
		w, err := podwatch.FromInformers(client, pods, nil, podwatch.Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.Run(ctx) }()
		if err := w.WaitForSync(t.Context()); err != nil {
			t.Fatal(err)
		}
		return w, func() {
			end()
			if err := <-ended; err != nil {
				t.Errorf("Run returned %v", err)
			}
		}
	}

	w, end := begin()
	track, early := follow(t, w, spec.Name)
	pod := create(t, spec)
	track.Created(pod)
	setMessage(t, pod, "first")
	early.await(t, "the first message", says("first"))
	end()
	if _, err := w.Track(namespace, spec.Name); !errors.Is(err, podwatch.ErrStopped) {
		t.Errorf("Track after the end of Run: %v", err)
	}

	setMessage(t, pod, "second")
	w, end = begin()
	late := followPod(t, w, pod)
	late.await(t, "the second message", says("second"))
	relabel(t, pod, "elsewhere")
	late.await(t, "OutOfScope", lastHeard(watch.Error, podwatch.OutOfScope))
	relabel(t, pod, pod.Name)
	late.await(t, "the pod's return", lastHeard(watch.Modified, ""))
	remove(t, pod)
	late.await(t, "the end", lastHeard(watch.Deleted, ""))
	end()

	names := map[types.UID]string{pod.UID: "pod"}
	early.want(t, names, "ADDED pod", "Closed")
	late.want(t, names, "ADDED pod", "OutOfScope", "MODIFIED pod", "DELETED pod", "Closed")
}

func says(message string) func([]watch.Event) bool {
	return anyPod(func(_ watch.EventType, p *corev1.Pod) bool { return p.Status.Message == message })
}

func withLabel(pod *corev1.Pod, label string) *corev1.Pod {
	pod.Labels[buildLabel] = label
	return pod
}

// setMessage gives a pod's status a message, as a kubelet could.
func setMessage(t *testing.T, pod *corev1.Pod, message string) *corev1.Pod {
	t.Helper()
	p, err := say(t.Context(), world.client, pod, message)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func say(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, message string) (*corev1.Pod, error) {
	patch := fmt.Appendf(nil, `{"status":{"message":%q}}`, message)
	return client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
}
