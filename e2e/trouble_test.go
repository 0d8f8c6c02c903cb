package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/podwatch"
)

// ownCluster brings up a cluster whose parts the test may kill.
func ownCluster(t *testing.T, cfg cluster.Config) (*cluster.Cluster, *rest.Config) {
	t.Helper()
	needCluster(t)
	return bringUp(t, cfg)
}

func bringUp(t *testing.T, cfg cluster.Config) (*cluster.Cluster, *rest.Config) {
	t.Helper()
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
	cfg.State, cfg.Kubernetes = state, *kubernetesVersion
	c, err := cluster.Up(t.Context(), cfg)
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

// The API server is killed and started again; then the watcher loses contact
// while pods come and go, etcd forgets its history and the API server restarts;
// then the kubelet is killed, then etcd.
func TestEveryPodEndsOnceWhateverBefallsTheControlPlane(t *testing.T) {
	c, config := ownCluster(t, cluster.Config{})
	s := newStress(t, c, config)
	t.Run("the API server", s.loseTheServer)
	t.Run("the kubelet", s.loseTheKubelet)
	t.Run("etcd", s.loseTheStore)
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
	// The watch of Events may still wait for its next try.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// To read the whole log is some work.
	eventuallyEvery(ctx, t, time.Second, "both watches to have begun anew", func() bool {
		all := audited(t, s.cluster, "own-informers")
		return slices.Contains(verbsAsked(all, "events", parted, time.Now()), "list") &&
			slices.Contains(verbsAsked(all, "pods", parted, time.Now()), "list") && !s.own.Stats().Stale
	})
	after(t, time.Second) // a list is followed by its watch
	s.checkWatches(killed, parted)
	s.checkGets("own-informers", lives[:], 0)
	s.checkGets("host-informers", lives[:], 2)
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
	if err := compact(s.t.Context(), s.cluster); err != nil {
		s.t.Error(err)
	}
	s.restart(false)
	after(s.t, 3*time.Second)
}

// compact lets a cluster forget its history. It asks etcd itself, by its gateway.
func compact(ctx context.Context, of *cluster.Cluster) error {
	all, err := of.Status(ctx)
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

// loseTheStore kills etcd under an API server that lives on.
func (s *stress) loseTheStore(t *testing.T) {
	s.t = t
	begin := func(name string) (*life, error) {
		spec := withLabel(idlePod(name), stressLabel)
		l := &life{heard: []*witness{newWitness()}}
		track, err := s.own.Track(namespace, spec.Name, l.heard[0])
		if err != nil {
			return nil, err
		}
		t.Cleanup(track.Close)
		if l.pod, err = s.create(t.Context(), spec); err == nil {
			track.Created(l.pod)
		}
		return l, err
	}
	before, err := begin("before")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cluster.Stop(t.Context(), cluster.Etcd, true); err != nil {
		t.Fatal(err)
	}
	after(t, 3*time.Second)
	if err := s.cluster.Start(t.Context(), cluster.Etcd); err != nil {
		t.Fatal(err)
	}
	later, err := begin("later")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []*life{before, later} {
		if _, err := s.delete(t.Context(), l.pod); err != nil {
			t.Fatal(err)
		}
		l.heard[0].await(t, "the end", anyPod(isEnd))
		if d := cmp.Diff([]string{"pod"}, ended(l.heard[0], map[types.UID]string{l.pod.UID: "pod"})); d != "" {
			t.Errorf("ends (-want +got):\n%s", d)
		}
	}
}
