package podwatch_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"

	"github.com/go-vela/podlife/podwatch"
)

// ciPod is a pod as CI executors make them: n containers with 61 variables each,
// and the managedFields that come of it.
func ciPod(name string, n int) *corev1.Pod {
	p := pod(name)
	p.UID, p.ResourceVersion, p.Generation = types.UID("uid-"+name), "4711", 3
	p.Annotations = map[string]string{"last-applied": strings.Repeat("x", 4096)}
	p.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "ci", FieldsV1: &metav1.FieldsV1{Raw: []byte(strings.Repeat("f", 44<<10))}}}
	always := corev1.ContainerRestartPolicyAlways
	p.Spec.NodeName = "node-1"
	p.Spec.InitContainers = []corev1.Container{{Name: "side", Image: "side:1", RestartPolicy: &always}}
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{
		TargetContainerName:      "step",
		EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "debug:1"},
	}}
	p.Spec.Containers = nil
	for i := range n {
		c := corev1.Container{
			Name: fmt.Sprintf("step-%d", i), Image: fmt.Sprintf("registry.example/image:%d", i),
			RestartPolicyRules: []corev1.ContainerRestartRule{{Action: corev1.ContainerRestartRuleActionRestart}},
		}
		for v := range 61 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d_%d", i, v), Value: strings.Repeat("v", 40)})
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: c.Name, Image: c.Image, ImageID: c.Image + "@sha256:" + strings.Repeat("0", 64),
			ContainerID: "containerd://" + strings.Repeat("1", 64),
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		})
	}
	return p
}

func TestTrimKeepsWhatItDocumentsAndLeavesItsArgumentAlone(t *testing.T) {
	p := ciPod("a", 2)
	now := metav1.Now()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &now, new(int64)
	model := corev1.Volume{Name: "model", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "model:1"}}}
	ofModel := corev1.VolumeMount{Name: "model", MountPath: "/model"}
	p.Spec.Volumes = []corev1.Volume{{Name: "work", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}, model}
	p.Spec.Containers[1].VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: "/work"}, ofModel}
	p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "work", MountPath: "/work"}}
	p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", VolumeMounts: []corev1.VolumeMount{ofModel}}}}
	before := p.DeepCopy()
	got := podwatch.Trim(p)
	if d := cmp.Diff(before, p); d != "" {
		t.Errorf("the argument changed (-before +after):\n%s", d)
	}
	want := p.DeepCopy()
	want.Annotations, want.ManagedFields = nil, nil
	for i := range want.Spec.Containers {
		want.Spec.Containers[i].Env, want.Spec.Containers[i].VolumeMounts = nil, nil
	}
	want.Spec.Volumes, want.Spec.Containers[1].VolumeMounts = []corev1.Volume{model}, []corev1.VolumeMount{ofModel}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Trim (-want +got):\n%s", d)
	}
	if d := cmp.Diff(got, podwatch.Trim(got)); d != "" {
		t.Errorf("Trim is not idempotent (-once +twice):\n%s", d)
	}
	if podwatch.Trim(nil) != nil {
		t.Error("Trim(nil) is not nil")
	}
}

func TestATrimmedCIPodIsATenthOfItself(t *testing.T) {
	whole := perPod(func(p *corev1.Pod) *corev1.Pod { return p.DeepCopy() })
	trimmed := perPod(func(p *corev1.Pod) *corev1.Pod { return podwatch.Trim(p.DeepCopy()) })
	t.Logf("a pod with 10 containers of 61 variables: %d bytes whole, %d trimmed", whole, trimmed)
	if trimmed > whole/8 || trimmed > 16<<10 {
		t.Errorf("%d bytes trimmed of %d", trimmed, whole)
	}
}

func perPod(make func(*corev1.Pod) *corev1.Pod) uint64 {
	const n = 100
	p := ciPod("a", 10)
	kept := [n]*corev1.Pod{}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range kept {
		kept[i] = make(p)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(kept)
	return (after.HeapAlloc - before.HeapAlloc) / n
}

func TestPodIsTrimmedWhetherCreateOrTheWatchBroughtIt(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{})
		tr := h.follow(w, "a")
		made := h.hurry("a")
		tr.Created(made)
		if tr.Pod().Spec.Containers[0].Env != nil {
			t.Error("Created's pod is not trimmed")
		}
		if made.Spec.Containers[0].Env == nil {
			t.Error("Created changed its argument")
		}
		kept := tr.Pod()
		was := kept.DeepCopy()
		h.label("a", "1")
		if now := tr.Pod(); now.Labels["v"] != "1" || now.Spec.Containers[0].Env != nil {
			t.Errorf("Pod is %v", now)
		}
		if d := cmp.Diff(was, kept); d != "" {
			t.Errorf("a pod kept by the host changed (-was +is):\n%s", d)
		}
	})
}

func TestAHostsKeepCannotTakeAwayWhatTheWatcherLivesOn(t *testing.T) {
	for name, keep := range map[string]func(*corev1.Pod) *corev1.Pod{
		"nothing left": func(*corev1.Pod) *corev1.Pod { return &corev1.Pod{} },
		"nil":          func(*corev1.Pod) *corev1.Pod { return nil },
		"in place": func(p *corev1.Pod) *corev1.Pod {
			p.ObjectMeta = metav1.ObjectMeta{}
			return p
		},
		"the whole pod": func(p *corev1.Pod) *corev1.Pod { return p },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				w, _ := h.start(podwatch.Options{LabelSelector: "app=ci", Keep: keep})
				var r recorder
				tr := h.follow(w, "a", &r)
				tr.Created(h.create("a"))
				h.label("a", "1")
				h.patch("a", `{"metadata":{"labels":{"app":"x"}}}`)
				h.patch("a", `{"metadata":{"labels":{"app":"ci"}}}`)
				h.delete("a")
				r.want(t, "ADDED pod", "MODIFIED pod 1", "ERROR OutOfScope", "MODIFIED pod 1", "MODIFIED pod 1", "DELETED pod 1")
				if n := h.requests("get", "pods"); n != 1 {
					t.Errorf("%d live GETs, want one", n)
				}
			})
		})
	}
}

func TestTheScopeReachesTheAPIServer(t *testing.T) {
	inBubble(t, func(t *testing.T, h *harness) {
		w, _ := h.start(podwatch.Options{Namespace: ns, Name: "a", LabelSelector: "app=ci"})
		var r recorder
		tr := h.follow(w, "a", &r)
		p, other := h.create("a"), h.create("b")
		tr.Created(p)
		h.event(p, "e1", "Mine")
		h.event(other, "e2", "Others")
		settle(time.Second)
		r.want(t, "ADDED pod", "ADDED event Mine x1")
		if s := w.Stats(); s.Pods != 1 || s.Events != 1 || s.PodUpdates != 1 || s.EventUpdates != 1 || s.Delivered != 2 || s.Tracked != 1 {
			t.Errorf("%+v: want one pod and one Event", s)
		}
		for _, q := range h.cluster.Requests() {
			if q.Verb != "list" && q.Verb != "watch" {
				continue
			}
			want := "app=ci metadata.name=a"
			if q.Resource == "events" {
				want = " involvedObject.kind=Pod,involvedObject.name=a"
			}
			if got := q.Query.Get("labelSelector") + " " + q.Query.Get("fieldSelector"); got != want || q.Namespace != ns {
				t.Errorf("%s %s in %q asks for %q, want %q", q.Verb, q.Resource, q.Namespace, got, want)
			}
		}
	})
}

// A host's informers keep what the host wants of a pod, and maybe no pod at all.
func TestAHostsOwnTransformsAreTolerated(t *testing.T) {
	for name, c := range map[string]struct {
		transform func(any) (any, error)
		want      []string
	}{
		"trimmed": {func(o any) (any, error) {
			if p, ok := o.(*corev1.Pod); ok {
				return podwatch.Trim(p), nil
			}
			return o, nil
		}, []string{"ADDED pod", "MODIFIED pod", "DELETED pod"}},
		// Nothing is seen of the pod then, and a live GET finds it gone.
		"metadata only": {func(o any) (any, error) {
			if p, ok := o.(*corev1.Pod); ok {
				return &metav1.PartialObjectMetadata{ObjectMeta: p.ObjectMeta}, nil
			}
			return o, nil
		}, []string{"ADDED pod", "DELETED pod"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, h *harness) {
				ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
				f := informers.NewSharedInformerFactory(h.client, 0)
				pods := f.Core().V1().Pods().Informer()
				defer f.Shutdown()
				defer cancel()
				if err := pods.SetTransform(c.transform); err != nil {
					t.Fatal(err)
				}
				w, err := podwatch.FromInformers(h.client, pods, nil, podwatch.Options{})
				if err != nil {
					t.Fatal(err)
				}
				f.Start(ctx.Done())
				h.run(w)
				h.sync(w)
				var r recorder
				h.follow(w, "a", &r)
				h.create("a")
				settle(time.Second)
				h.delete("a")
				settle(10 * time.Second)
				r.want(t, c.want...)
			})
		})
	}
}
