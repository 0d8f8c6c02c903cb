package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/podwatch"
)

const (
	stressPods   = 200
	stressReal   = 10 // one in so many runs on the kubelet
	stressSpread = 50 * time.Second
	stressLabel  = "stress"
)

// stress is a cluster under load, watched by a watcher with informers of its own
// and by one over a host's.
type stress struct {
	t       *testing.T
	cluster *cluster.Cluster
	load    kubernetes.Interface // who creates and deletes
	own     *podwatch.Watcher
	hosted  *podwatch.Watcher
	link    *network // of the watcher with its own informers
}

// life is what one pod went through, and who heard of it.
type life struct {
	pod    *corev1.Pod
	last   *corev1.Pod // what the API server said when it deleted the pod; nil: the answer was lost
	real   bool
	heard  []*witness // two of the own watcher's, then two of the hosted one's
	tracks []*podwatch.Tracking

	confirms int // calls of Confirm; more than one if the server could not be reached
}

func newStress(t *testing.T, c *cluster.Cluster, config *rest.Config) *stress {
	t.Helper()
	s := &stress{t: t, cluster: c}
	var err error
	if s.load, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	client, link := clientNamed(t, config, "own-informers")
	s.link = link
	s.own, err = podwatch.New(client, podwatch.Options{
		Namespace: namespace, LabelSelector: buildLabel + "=" + stressLabel, Events: podwatch.EventsRequired,
	})
	if err != nil {
		t.Fatal(err)
	}
	hostClient, _ := clientNamed(t, config, "host-informers")
	factory := informers.NewSharedInformerFactoryWithOptions(hostClient, 0, informers.WithNamespace(namespace),
		informers.WithTransform(func(o any) (any, error) {
			if p, ok := o.(*corev1.Pod); ok {
				return podwatch.Trim(p), nil
			}
			return o, nil
		}))
	pods, events := factory.Core().V1().Pods().Informer(), factory.Core().V1().Events().Informer()
	for _, inf := range []cache.SharedIndexInformer{pods, events} {
		if err := inf.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {}); err != nil {
			t.Fatal(err)
		}
	}
	if s.hosted, err = podwatch.FromInformers(hostClient, pods, events, podwatch.Options{Events: podwatch.EventsRequired}); err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	t.Cleanup(factory.Shutdown)
	runUntilCleanup(t, s.own.Run, s.hosted.Run)
	for _, w := range []*podwatch.Watcher{s.own, s.hosted} {
		if err := w.WaitForSync(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// live is the life of one pod, as an executor would have it. It returns when
// every handler has heard of the pod's end.
func (s *stress) live(ctx context.Context, i int, slow, stay time.Duration) (*life, error) {
	l := &life{real: i%stressReal == 0}
	spec := idlePod(fmt.Sprintf("stress%d", i))
	if l.real {
		spec.Spec.NodeName = *nodeName
		spec.Spec.Containers[0].Image = *busyboxImage
		spec.Spec.Containers[0].Args = []string{"sh", "-c", fmt.Sprintf("exit %d", exitCode(i))}
	}
	withLabel(spec, stressLabel)
	for _, w := range []*podwatch.Watcher{s.own, s.hosted} {
		first, second := newWitness(), newWitness()
		second.delay = slow
		track, err := w.Track(namespace, spec.Name, first, second)
		if err != nil {
			return l, err
		}
		l.heard, l.tracks = append(l.heard, first, second), append(l.tracks, track)
	}
	var err error
	if l.pod, err = s.create(ctx, spec); err != nil {
		return l, err
	}
	for _, track := range l.tracks {
		track.Created(l.pod)
	}
	if err := s.act(ctx, l, stay); err != nil {
		return l, err
	}
	if l.last, err = s.delete(ctx, l.pod); err != nil {
		return l, err
	}
	for _, r := range l.heard {
		if err := r.wait(ctx, "the end of "+l.pod.Name, anyPod(isEnd)); err != nil {
			return l, err
		}
	}
	if l.real {
		if err := s.confirm(ctx, l); err != nil {
			return l, err
		}
	}
	for _, track := range l.tracks {
		track.Close()
		<-track.Done()
	}
	return l, nil
}

func (s *stress) confirm(ctx context.Context, l *life) error {
	return s.retry(ctx, func() error {
		l.confirms++
		life, err := l.tracks[0].Confirm(ctx)
		if err == nil && life != podwatch.Gone {
			s.t.Errorf("Confirm of pod %s: %v, want Gone", l.pod.Name, life)
		}
		return err
	})
}

func exitCode(i int) int { return 1 + i%200 }

func isEnd(typ watch.EventType, _ *corev1.Pod) bool { return typ == watch.Deleted }

// act has the pod go through a few versions. The last one counts.
func (s *stress) act(ctx context.Context, l *life, stay time.Duration) error {
	if l.real {
		for _, r := range l.heard {
			if err := r.wait(ctx, "the run's end", anyPod(func(_ watch.EventType, p *corev1.Pod) bool {
				return p.Status.Phase == corev1.PodFailed
			})); err != nil {
				return err
			}
		}
		return nil
	}
	for n := range 3 {
		if err := s.retry(ctx, func() error {
			_, err := say(ctx, s.load, l.pod, fmt.Sprintf("word %d of %s", n, l.pod.Name))
			return err
		}); err != nil {
			return err
		}
		select {
		case <-time.After(stay / 3):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// retry repeats what the API server could not answer.
func (s *stress) retry(ctx context.Context, f func() error) error {
	for {
		err := f()
		var answer apierrors.APIStatus
		if err == nil || errors.As(err, &answer) && answer.Status().Code < 500 && answer.Status().Code != http.StatusTooManyRequests {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

func (s *stress) create(ctx context.Context, spec *corev1.Pod) (pod *corev1.Pod, err error) {
	pods := s.load.CoreV1().Pods(spec.Namespace)
	err = s.retry(ctx, func() (err error) {
		pod, err = pods.Create(ctx, spec, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) { // The answer to the try before was lost.
			pod, err = pods.Get(ctx, spec.Name, metav1.GetOptions{})
		}
		return err
	})
	return pod, err
}

// delete deletes a pod and returns its last state, nil if the answer was lost.
func (s *stress) delete(ctx context.Context, pod *corev1.Pod) (last *corev1.Pod, err error) {
	err = s.retry(ctx, func() error {
		last = &corev1.Pod{}
		err := s.load.CoreV1().RESTClient().Delete().Namespace(pod.Namespace).Resource("pods").Name(pod.Name).
			Body(&metav1.DeleteOptions{GracePeriodSeconds: new(int64)}).Do(ctx).Into(last)
		if apierrors.IsNotFound(err) {
			last = nil
			return nil
		}
		return err
	})
	return last, err
}
