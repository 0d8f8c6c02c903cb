package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
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
	"k8s.io/client-go/tools/clientcmd"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/podwatch"
)

const (
	stressPods   = 200
	stressReal   = 10 // one in so many runs on the kubelet
	stressSpread = 50 * time.Second
	stressLabel  = "stress"
)

// ownCluster brings up a cluster whose parts the test may kill.
func ownCluster(t *testing.T) (*cluster.Cluster, *rest.Config) {
	t.Helper()
	needCluster(t)
	if world.cluster == nil {
		t.Skip("a cluster is given by KUBECONFIG: brings up none of its own")
	}
	state, err := os.MkdirTemp("", "podlife-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	end, err := startGuard(state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
	})
	c, err := cluster.Up(t.Context(), cluster.Config{State: state})
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return c, config
}

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
}

// The API server is killed and started again; then the watcher loses contact
// while pods come and go, etcd forgets its history and the API server restarts;
// then the kubelet is killed.
func TestEveryPodEndsOnceWhateverBefallsTheControlPlane(t *testing.T) {
	c, config := ownCluster(t)
	s := newStress(t, c, config)
	t.Run("the API server", s.loseTheServer)
	t.Run("the kubelet", s.loseTheKubelet)
}

func (s *stress) loseTheServer(t *testing.T) {
	s.t = t
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var lives [stressPods]*life
	var all sync.WaitGroup
	var killed, parted time.Time
	began := time.Now()
	tick := time.NewTicker(stressSpread / stressPods)
	defer tick.Stop()
	for i := range lives {
		<-tick.C
		slow := time.Duration(0)
		if random.IntN(10) == 0 {
			slow = time.Duration(random.IntN(300)) * time.Millisecond
		}
		stay := time.Duration(random.IntN(4000)) * time.Millisecond
		all.Go(func() {
			var err error
			if lives[i], err = s.live(t.Context(), i, slow, stay); err != nil {
				t.Errorf("pod %d: %v", i, err)
			}
		})
		switch i {
		case stressPods / 4:
			killed = time.Now()
			all.Go(func() { s.restart(true) })
		case stressPods * 6 / 10:
			parted = time.Now()
			all.Go(s.expire)
		}
	}
	all.Wait()
	t.Logf("%d pods created and deleted in %s; %+v", stressPods, time.Since(began).Round(time.Second), s.own.Stats())
	if t.Failed() {
		return
	}
	for i, l := range lives {
		s.check(i, l)
	}
	s.checkWatches(killed, parted)
	s.checkGets("own-informers", lives[:], 0)
	s.checkGets("host-informers", lives[:], 2)
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
		if life, err := l.tracks[0].Confirm(ctx); err != nil || life != podwatch.Gone {
			return l, fmt.Errorf("Confirm: %v, %w; want Gone", life, err)
		}
	}
	for _, track := range l.tracks {
		track.Close()
	}
	return l, nil
}

func exitCode(i int) int { return 1 + i%200 }

func isEnd(typ watch.EventType, _ *corev1.Pod) bool { return typ == watch.Deleted }

// act has the pod go through a few versions. The last one counts.
func (s *stress) act(ctx context.Context, l *life, stay time.Duration) error {
	if l.real {
		return l.heard[0].wait(ctx, "the run's end", anyPod(func(_ watch.EventType, p *corev1.Pod) bool {
			return p.Status.Phase == corev1.PodFailed
		}))
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

// restart ends the API server and starts it again.
func (s *stress) restart(kill bool) {
	if err := s.cluster.Stop(s.t.Context(), cluster.APIServer, kill); err != nil {
		s.t.Error(err)
	}
	if err := s.cluster.Start(s.t.Context(), cluster.APIServer); err != nil {
		s.t.Error(err)
	}
}

// expire cuts the watcher off, has etcd forget all history up to now and starts
// the API server anew, so that it has none of it in memory either.
func (s *stress) expire() {
	s.link.shut()
	defer s.link.open()
	after(s.t, 3*time.Second) // pods come and go meanwhile
	if err := s.compact(s.t.Context()); err != nil {
		s.t.Error(err)
	}
	s.restart(false)
	after(s.t, 3*time.Second)
}

// compact asks etcd itself, by its gateway.
func (s *stress) compact(ctx context.Context) error {
	all, err := s.cluster.Status(ctx)
	if err != nil {
		return err
	}
	var etcd string
	for _, c := range all {
		if c.Component == cluster.Etcd {
			etcd = "http://" + c.Address
		}
	}
	var now struct{ Header struct{ Revision string } }
	if err := post(ctx, etcd+"/v3/maintenance/status", "{}", &now); err != nil {
		return err
	}
	return post(ctx, etcd+"/v3/kv/compaction", fmt.Sprintf(`{"revision":%q,"physical":true}`, now.Header.Revision), &now)
}

func post(ctx context.Context, url, body string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s: %w", url, resp.Status, text.String(), err)
	}
	return json.Unmarshal(text.Bytes(), answer)
}

// loseTheKubelet kills the kubelet while a container runs on, another one ends
// and a pod is deleted.
func (s *stress) loseTheKubelet(t *testing.T) {
	s.t = t
	follow := func(name, script string) (*corev1.Pod, *podwatch.Tracking, *witness) {
		spec := withLabel(newPod(name, slot("step", "sh", "-c", script)), stressLabel)
		spec.Spec.Containers[0].Image = *busyboxImage
		r := newWitness()
		track, err := s.own.Track(namespace, spec.Name, r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(track.Close)
		pod, err := s.load.CoreV1().Pods(namespace).Create(t.Context(), spec, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		track.Created(pod)
		r.await(t, "it to run", anyPod(func(_ watch.EventType, p *corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning }))
		return pod, track, r
	}
	_, stays, staysHeard := follow("stays", "sleep 600")
	deleted, _, deletedHeard := follow("deleted", "sleep 600")
	_, _, endsHeard := follow("ends", "sleep 2; exit 7")
	before := stays.Pod().Status.ContainerStatuses[0]

	if err := s.cluster.Stop(t.Context(), cluster.Kubelet, true); err != nil {
		t.Fatal(err)
	}
	if err := s.load.CoreV1().Pods(namespace).Delete(t.Context(), deleted.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	deletedHeard.await(t, "the deletion", anyPod(func(_ watch.EventType, p *corev1.Pod) bool { return p.DeletionTimestamp != nil }))
	after(t, 3*time.Second)
	if n := len(deletedHeard.pods(watch.Deleted)); n != 0 {
		t.Error("a pod was said to be gone whose containers nobody has stopped")
	}
	if err := s.cluster.Start(t.Context(), cluster.Kubelet); err != nil {
		t.Fatal(err)
	}
	endsHeard.await(t, "exit code 7", anyPod(func(_ watch.EventType, p *corev1.Pod) bool {
		return p.Status.Phase == corev1.PodFailed && p.Status.ContainerStatuses[0].State.Terminated.ExitCode == 7
	}))
	deletedHeard.await(t, "the end", anyPod(isEnd))
	if now := stays.Pod().Status.ContainerStatuses[0]; now.ContainerID != before.ContainerID || now.RestartCount != 0 || now.State.Running == nil {
		t.Errorf("the container that runs on: %+v, was %+v", now, before)
	}
	if life, err := stays.Confirm(t.Context()); life != podwatch.Alive || err != nil {
		t.Errorf("Confirm: %v, %v; want Alive", life, err)
	}
	for _, r := range []*witness{staysHeard, endsHeard} {
		r.want(t, nil, "ADDED")
	}
	deletedHeard.want(t, nil, "ADDED", "DELETED")
}
