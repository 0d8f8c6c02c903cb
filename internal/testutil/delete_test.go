package testutil_test

import (
	"context"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/go-vela/podlife/internal/testutil"
)

// As in kubernetes v1.36.3, where the kubelet's last word is a deletion with grace 0.
func TestAPodIsMarkedBeforeItIsDeleted(t *testing.T) {
	free := func(p *corev1.Pod) {}
	on := func(p *corev1.Pod) { p.Spec.NodeName = "node-1" }
	held := func(p *corev1.Pod) { on(p); p.Finalizers = []string{"example.com/hold"} }
	for name, c := range map[string]struct {
		pod  func(*corev1.Pod)
		do   func(d *deletions)
		want []string
	}{
		"not scheduled": {free, func(d *deletions) { d.delete(-1) }, []string{"MODIFIED gen=2 in 0s, 0", "DELETED gen=2 in 0s, 0"}},
		"forced":        {on, func(d *deletions) { d.delete(0) }, []string{"MODIFIED gen=2 in 0s, 0", "DELETED gen=2 in 0s, 0"}},
		"ended": {on, func(d *deletions) { d.end(); d.delete(-1) }, []string{
			"MODIFIED gen=1", "MODIFIED gen=2 in 0s, 0", "DELETED gen=2 in 0s, 0",
		}},
		"by its kubelet in the end": {on, func(d *deletions) { d.delete(-1); d.delete(-1); d.delete(60); d.pass(); d.delete(0) }, []string{
			"MODIFIED gen=2 in 30s, 30", "MODIFIED gen=2 in 0s, 0", "DELETED gen=2 in 0s, 0",
		}},
		"sooner": {on, func(d *deletions) { d.delete(-1); d.pass(); d.delete(20); d.delete(5) }, []string{
			"MODIFIED gen=2 in 30s, 30", "MODIFIED gen=2 in 10s, 20", "MODIFIED gen=2 in 0s, 1",
		}},
		"held back": {held, func(d *deletions) { d.delete(0); d.delete(0); d.pass(); d.free() }, []string{
			"MODIFIED gen=2 in 0s, 0", "DELETED gen=2 in -10s, 0",
		}},
		"held back, then graceful": {held, func(d *deletions) { d.delete(-1); d.free(); d.pass(); d.delete(0) }, []string{
			"MODIFIED gen=2 in 30s, 30", "MODIFIED gen=2 in 30s, 30", "MODIFIED gen=2 in 0s, 0", "DELETED gen=2 in 0s, 0",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			api(t, func(ctx context.Context, _ *testutil.Cluster, k kubernetes.Interface) {
				d := &deletions{t, ctx, "x", k}
				p := pod("x", "a")
				c.pod(p)
				p = create(ctx, t, k, p)
				w, err := k.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{ResourceVersion: p.ResourceVersion})
				if err != nil {
					t.Fatal(err)
				}
				got := make(chan []string)
				go func() { got <- marks(w) }()
				c.do(d)
				synctest.Wait()
				w.Stop()
				if diff := cmp.Diff(c.want, <-got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// marks says how each version of a pod is marked: when it is to be gone, and its grace.
func marks(w watch.Interface) (got []string) {
	for e := range w.ResultChan() {
		p, ok := e.Object.(*corev1.Pod)
		if !ok { // the end of the test cuts the watch
			continue
		}
		line := fmt.Sprintf("%s gen=%d", e.Type, p.Generation)
		if at := p.DeletionTimestamp; at != nil {
			line += fmt.Sprintf(" in %s, %d", time.Until(at.Time), *p.DeletionGracePeriodSeconds)
		}
		got = append(got, line)
	}
	return got
}

func TestOnlyPodsHaveTimeToGo(t *testing.T) {
	api(t, func(ctx context.Context, _ *testutil.Cluster, k kubernetes.Interface) {
		es := k.CoreV1().Events("default")
		for name, finalizers := range map[string][]string{"free": nil, "held": {"example.com/hold"}} {
			e := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Finalizers: finalizers}, InvolvedObject: corev1.ObjectReference{Namespace: "default"}}
			e, err := es.Create(ctx, e, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			w, err := es.Watch(ctx, metav1.ListOptions{ResourceVersion: e.ResourceVersion})
			if err != nil {
				t.Fatal(err)
			}
			if err := es.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			got, held := <-w.ResultChan(), finalizers != nil
			if marked := got.Object.(*corev1.Event).DeletionTimestamp != nil; marked != held || (got.Type == watch.Deleted) == held {
				t.Errorf("%s: %s, marked %v", name, got.Type, marked)
			}
			w.Stop()
		}
	})
}

// deletions deletes a pod in every way.
type deletions struct {
	*testing.T
	ctx  context.Context
	name string
	k    kubernetes.Interface
}

// delete with this grace period; below zero: the pod's own.
func (d *deletions) delete(grace int64) {
	d.Helper()
	o := metav1.DeleteOptions{}
	if grace >= 0 {
		o.GracePeriodSeconds = &grace
	}
	if err := d.k.CoreV1().Pods("default").Delete(d.ctx, d.name, o); err != nil {
		d.Error(err)
	}
	synctest.Wait()
}

func (d *deletions) pass() { time.Sleep(10 * time.Second) }

func (d *deletions) end() {
	if _, err := d.k.CoreV1().Pods("default").Patch(d.ctx, d.name, types.MergePatchType, []byte(`{"status":{"phase":"Failed"}}`), metav1.PatchOptions{}, "status"); err != nil {
		d.Error(err)
	}
	synctest.Wait()
}

// free removes the finalizers.
func (d *deletions) free() {
	p, err := d.k.CoreV1().Pods("default").Patch(d.ctx, d.name, types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
	if err != nil || len(p.Finalizers) > 0 {
		d.Error(p, err)
	}
	synctest.Wait()
}

func TestADeletedPodHasItsGracePeriod(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(on(steps("", ""), "pause:1", "deaf:1"), 5*time.Second)
		(&deletions{s.T, s.ctx, "p", s}).delete(5)
		s.wait(30 * time.Second)
		s.trace("delete")
	})
}

// The kubelet hears of a grace of zero before the pod is gone, and gives its containers
// the two seconds that are its least (v1.36.3, calculateEffectiveGracePeriod in
// pkg/kubelet/pod_workers.go and pkg/kubelet/kuberuntime/kuberuntime_container.go:84).
func TestAForcedDeletionEndsTheContainersSoonAfterThePod(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(on(steps("", ""), "pause:1", "deaf:1"), 5*time.Second)
		logs, err := s.CoreV1().Pods("default").GetLogs("p", &corev1.PodLogOptions{Container: "b", Follow: true}).Stream(s.ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer logs.Close()
		(&deletions{s.T, s.ctx, "p", s}).delete(0)
		if _, err := io.Copy(io.Discard, logs); err != nil {
			t.Error(err)
		}
		if took := time.Since(s.start); took < 7*time.Second || took > 9*time.Second {
			t.Errorf("the container that is deaf to SIGTERM was followed until %s", took)
		}
		s.trace("delete-forced")
	})
}
