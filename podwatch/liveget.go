package podwatch

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/go-vela/podlife/internal/podstatus"
)

const (
	// reachInterval is how often the cache is compared with what was created and
	// has not been seen.
	reachInterval = time.Second
	// arrivalTime is what notifications get to arrive in when the cache itself is
	// far enough: at that time they may wait in the informer's queue.
	arrivalTime = 2 * time.Second
	// getTimeout bounds one live GET; getsAtOnce how many run.
	getTimeout = 15 * time.Second
	getsAtOnce = 4
	maxBackoff = 30 * time.Second
)

// liveGets asks the API server, by live GETs, what the watch cannot tell.
type liveGets struct {
	core    *core
	client  kubernetes.Interface
	reached func() string // the resourceVersion that the cache has reached
	wake    chan struct{} // there is something to look at

	// The core's mutex guards the rest.
	open    map[*question]struct{}
	refused *types.NamespacedName // the pod whose GET was refused first; nil: GETs are permitted
}

// question is whether a pod that the watch does not show is gone, or out of the
// scope. It is open until it is answered or withdrawn.
type question struct {
	asker  asker
	key    types.NamespacedName
	pod    *corev1.Pod // the last known state
	missed bool        // the watch took the pod away, and if that was a deletion it went by unseen
	unseen bool        // the watch has never shown this version: wait until the cache has reached it

	ready  bool // it may be asked: the cache is far enough
	asking bool
	due    time.Time
	tries  int
}

// asker is who asked. It is told the answer with the core's mutex held.
type asker interface {
	// gone: the pod does not exist any more, or the watch says so.
	gone(last *corev1.Pod)
	// exists: the API server has the pod, in this version.
	exists(p *corev1.Pod)
	// outside: the pod is out of the scope, as far as can be told without a GET.
	outside()
	// unanswered: the GET failed, for the first time. It is tried again.
	unanswered(err error)
	// answered is called after each of the others.
	answered()
}

func newLiveGets(c *core, client kubernetes.Interface) *liveGets {
	return &liveGets{core: c, client: client, wake: make(chan struct{}, 1), open: map[*question]struct{}{}}
}

// ask opens a question; it needs the core's mutex held, as withdraw does.
func (g *liveGets) ask(q *question) {
	q.ready = !q.unseen
	g.open[q] = struct{}{}
	g.look()
}

func (g *liveGets) withdraw(q *question) { delete(g.open, q) }

func (g *liveGets) look() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// run makes the live GETs, off the informer's goroutine, until ctx ends.
func (g *liveGets) run(ctx context.Context) {
	slots := make(chan struct{}, getsAtOnce)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-g.wake:
		case <-timer.C:
		}
		due, next := g.due()
		for _, q := range due {
			select {
			case <-ctx.Done():
				return
			case slots <- struct{}{}:
			}
			g.core.wg.Go(func() {
				defer func() { <-slots }()
				g.answer(ctx, q)
			})
		}
		if next > 0 {
			timer.Reset(next)
		}
	}
}

// due returns the questions to ask now, and when to look again (0: when woken).
func (g *liveGets) due() (due []*question, next time.Duration) {
	// Not under the core's mutex: it takes the informer's lock, and under that one a
	// host's informer may call into the watcher.
	reached := g.reached()
	now := time.Now()
	g.core.mu.Lock()
	defer g.core.mu.Unlock()
	for q := range g.open {
		switch {
		case q.asking:
			continue
		case !q.ready:
			if c, ok := podstatus.CompareVersions(reached, q.pod.ResourceVersion); ok && c >= 0 {
				q.ready, q.due = true, now.Add(arrivalTime)
			}
			next = sooner(next, reachInterval)
		case q.due.After(now):
			next = sooner(next, q.due.Sub(now))
		default:
			q.asking = true
			due = append(due, q)
		}
	}
	return due, next
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// isOpen reports whether nobody has withdrawn the question.
func (g *liveGets) isOpen(q *question) bool {
	_, open := g.open[q]
	return open
}

// answer makes one live GET and says what it means.
func (g *liveGets) answer(ctx context.Context, q *question) {
	g.core.mu.Lock()
	open := g.isOpen(q)
	g.core.mu.Unlock()
	if !open {
		return
	}
	gctx, cancel := context.WithTimeout(ctx, getTimeout)
	p, err := g.get(gctx, q.key)
	cancel()
	if ctx.Err() != nil {
		return
	}
	g.core.mu.Lock()
	defer g.core.mu.Unlock()
	q.asking = false
	if !g.isOpen(q) {
		return // the watch was faster
	}
	switch {
	case apierrors.IsNotFound(err), err == nil && p.UID != q.pod.UID:
		q.asker.gone(q.pod)
	case err == nil:
		q.asker.exists(p)
	case refused(err): // get has said it
		g.guess(q)
	default: // the question stays open
		q.due = time.Now().Add(min(time.Second<<min(q.tries, 10), maxBackoff))
		if q.tries == 0 {
			q.asker.unanswered(err)
		}
		q.tries++
		g.look()
	}
	q.asker.answered()
}

// guess answers without a GET, which the API server refuses: what the watch took
// away with no sign of a deletion has left the scope; what is missing from a full
// list, or from a cache that is far enough, counts as gone.
func (g *liveGets) guess(q *question) {
	if q.missed || q.unseen {
		q.asker.gone(q.pod)
		return
	}
	q.asker.outside()
}

// get makes one live GET. It must not be called with the core's mutex held.
func (g *liveGets) get(ctx context.Context, key types.NamespacedName) (*corev1.Pod, error) {
	g.core.gets.Add(1)
	p, err := g.client.CoreV1().Pods(key.Namespace).Get(ctx, key.Name, metav1.GetOptions{})
	g.core.mu.Lock()
	defer g.core.mu.Unlock()
	switch {
	case refused(err) && g.refused == nil:
		g.refused = &key
		g.core.notePod(NoticeForbidden, key, err)
	case (err == nil || apierrors.IsNotFound(err)) && g.refused != nil:
		g.core.notePod(NoticeGranted, *g.refused, nil)
		g.refused = nil
	}
	return p, err
}
