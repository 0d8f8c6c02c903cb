package testutil

import (
	"context"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// statuses is the kubelet's status manager: it has the newest status of each pod
// at once (pods/log goes by it, so it can know of a run before the API does) and
// writes them to the API server one after the other. What changes twice before
// its turn is written once (kubernetes v1.36.3
// pkg/kubelet/status/status_manager.go:282, 976, 1142). That a pod is over is not
// said while a container of it may run (:1402-1417).
type statuses struct {
	store *store
	asks  func(types.NamespacedName) time.Duration // Options.Status
	wake  chan struct{}

	mu    sync.Mutex
	known map[types.UID]knownStatus
	queue []types.UID // to be written
}

type knownStatus struct {
	key    key
	status corev1.PodStatus
	stage  stage
}

// stage is how far a pod is on its way out.
type stage int

const (
	mayRun     stage = iota // its containers may run: its phase is not said to be terminal
	stopped                 // none runs any more
	terminated              // nor is anything left of them: it is deleted if that is wanted
)

func newStatuses(s *store, asks func(types.NamespacedName) time.Duration) *statuses {
	return &statuses{store: s, asks: asks, wake: make(chan struct{}, 1), known: map[types.UID]knownStatus{}}
}

func (m *statuses) set(pod *corev1.Pod, status corev1.PodStatus, to stage) {
	m.mu.Lock()
	m.known[pod.UID] = knownStatus{pods.key(pod.Namespace, pod.Name), status, to}
	m.queue = append(m.queue, pod.UID)
	m.mu.Unlock()
	signal(m.wake)
}

// of is the newest status of a pod: the one that was set last or, if none was
// since the kubelet started, the API's.
func (m *statuses) of(pod *corev1.Pod) corev1.PodStatus {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s, ok := m.known[pod.UID]; ok {
		return s.status
	}
	return pod.Status
}

func (m *statuses) forget(uid types.UID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, uid)
}

func (m *statuses) run(ctx context.Context) {
	for {
		select {
		case <-m.wake:
		case <-ctx.Done():
			return
		}
		for uid, ok := m.next(); ok; uid, ok = m.next() {
			if wait(ctx, m.takes(uid)) != nil {
				return
			}
			m.write(uid)
		}
	}
}

// takes is how long until the API server has the status of a pod.
func (m *statuses) takes(uid types.UID) time.Duration {
	if m.asks == nil {
		return statusTakes
	}
	m.mu.Lock()
	k := m.known[uid].key
	m.mu.Unlock()
	return m.asks(types.NamespacedName{Namespace: k.namespace, Name: k.name})
}

// next takes the oldest pod off the queue, with everything else of it.
func (m *statuses) next() (uid types.UID, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.queue) == 0 {
		return "", false
	}
	uid = m.queue[0]
	rest := m.queue[:0]
	for _, other := range m.queue {
		if other != uid {
			rest = append(rest, other)
		}
	}
	m.queue = rest
	return uid, true
}

func (m *statuses) write(uid types.UID) {
	m.mu.Lock()
	s, ok := m.known[uid]
	m.mu.Unlock()
	if !ok {
		return
	}
	v, err := m.store.write(s.key, func(old object) (object, error) {
		if old == nil || old.GetUID() != uid {
			return nil, apierrors.NewNotFound(pods.gr(), s.key.name)
		}
		pod := old.(*corev1.Pod)
		was := pod.Status
		pod.Status = *s.status.DeepCopy()
		if s.stage == mayRun && !isTerminal(was.Phase) && isTerminal(pod.Status.Phase) {
			pod.Status.Phase, pod.Status.Reason, pod.Status.Message = was.Phase, was.Reason, was.Message
		}
		return pod, nil
	})
	if err == nil && s.stage == terminated && v.GetDeletionTimestamp() != nil {
		now := metav1.NewDeleteOptions(0)
		now.Preconditions = &metav1.Preconditions{UID: &uid}
		_, _ = m.store.delete(pods, s.key.namespace, s.key.name, *now)
	}
}

func isTerminal(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

func now() metav1.Time { return metav1.Time{Time: seconds(metav1.Now().Time)} }
