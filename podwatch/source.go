package podwatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"reflect"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const (
	podResource   = "pods"
	eventResource = "events"

	// listTimeout bounds a list. The API server itself gives up after a minute
	// (--request-timeout); what takes longer is not coming.
	listTimeout = 90 * time.Second
	// watchGrace is how long after its own deadline a watch is given up. The
	// reflector asks the server to end it after 5 to 10 minutes; a stream that
	// a proxy keeps open and silent would stay for ever.
	watchGrace = 30 * time.Second
	// forbiddenPause is how long a refused Event list is not asked for again.
	forbiddenPause = 5 * time.Minute
	// patience is how long a request may go unanswered before what is known
	// counts as stale. client-go repeats broken requests by itself, in silence.
	patience = 5 * time.Second
	// minDelay and maxDelay bound the pause between two tries to reach the API
	// server.
	minDelay = 500 * time.Millisecond
	maxDelay = 8 * time.Second
)

// errNoAnswer is a request that the API server has not answered for a while.
var errNoAnswer = errors.New("the API server does not answer")

// errNoConnection is a watch that client-go opened "empty": the connection broke
// or timed out before an answer (rest/request.go:Watch, v0.35.3).
var errNoConnection = errors.New("the connection broke before the watch began")

type (
	listFunc  = func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watchFunc = func(context.Context, metav1.ListOptions) (watch.Interface, error)
)

// feed is the list and watch of one resource, made observable: client-go's
// reflector tells its error handler of a failed list, but not of a refused
// connection while it resumes, nor of an expired watch.
type feed struct {
	w           *Watcher
	resource    string
	list        listFunc
	watch       watchFunc
	labels      string
	fields      string
	pauseDenied bool // wait for minutes after a refusal

	mu      sync.Mutex
	listed  bool                            // a list has succeeded
	denied  bool                            // the last request was refused
	lost    bool                            // a request failed or a watch broke, and there is no watch since
	relist  bool                            // while lost: a list has succeeded
	retryAt time.Time                       // not before, after a refusal
	why     error                           // why the next list is needed
	pods    map[types.NamespacedName]string // versions that a list has brought while lost
}

// ownInformers makes the informers of New.
func (w *Watcher) ownInformers() error {
	ns := w.opts.Namespace
	pods := &feed{w: w, resource: podResource, labels: w.opts.LabelSelector}
	pods.list = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return w.client.CoreV1().Pods(ns).List(ctx, o)
	}
	pods.watch = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		return w.client.CoreV1().Pods(ns).Watch(ctx, o)
	}
	about := fields.Set{"involvedObject.kind": "Pod"}
	if w.opts.Name != "" {
		pods.fields = fields.OneTermEqualSelector("metadata.name", w.opts.Name).String()
		about["involvedObject.name"] = w.opts.Name
	}
	var err error
	if w.pods, err = w.informer(pods, &corev1.Pod{}); err != nil || w.opts.Events == EventsOff {
		return err
	}
	events := &feed{w: w, resource: eventResource, fields: about.String(), pauseDenied: true}
	events.list = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		return w.client.CoreV1().Events(ns).List(ctx, o)
	}
	events.watch = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		return w.client.CoreV1().Events(ns).Watch(ctx, o)
	}
	w.events, err = w.informer(events, &corev1.Event{})
	return err
}

func (w *Watcher) informer(f *feed, example runtime.Object) (cache.SharedIndexInformer, error) {
	inf := cache.NewSharedIndexInformerWithOptions(f, example, cache.SharedIndexInformerOptions{ObjectDescription: f.resource})
	if err := inf.SetTransform(w.opts.transform); err != nil {
		return nil, err
	}
	w.feeds = append(w.feeds, f)
	// The default handler logs. Whatever fails in a list or a watch has been
	// seen by the feed.
	return inf, inf.SetWatchErrorHandlerWithContext(func(context.Context, *cache.Reflector, error) {})
}

// IsWatchListSemanticsUnSupported opts out of WatchList: where a proxy eats the
// bookmark that ends the initial events, such an informer never syncs and never
// says so. A list of a label-selected set is small.
func (*feed) IsWatchListSemanticsUnSupported() bool { return true }

// List is for callers without a context; reflectors have one.
func (f *feed) List(o metav1.ListOptions) (runtime.Object, error) {
	return f.ListWithContext(context.TODO(), o)
}

// Watch is for callers without a context; reflectors have one.
func (f *feed) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return f.WatchWithContext(context.TODO(), o)
}

// ListWithContext lists. Run waits for it: the reflector, when stopped, does not
// (v0.35.3 reflector.go:list runs it in a goroutine that nobody joins).
func (f *feed) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	if !f.w.enter() {
		return nil, ErrStopped
	}
	defer f.w.wg.Done()
	if err := f.pause(ctx); err != nil {
		return nil, err
	}
	o.LabelSelector, o.FieldSelector = f.labels, f.fields
	return persist(ctx, func() (runtime.Object, error) {
		f.w.count(func(s *Stats) { s.Lists++ })
		defer f.await(ctx)()
		lctx, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		l, err := f.list(lctx, o)
		if err != nil {
			f.failed(ctx, err)
			return nil, err
		}
		f.relisted(l, o.Continue == "")
		return l, nil
	})
}

// WatchWithContext opens a watch that the feed observes.
func (f *feed) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.LabelSelector, o.FieldSelector = f.labels, f.fields
	return persist(ctx, func() (watch.Interface, error) {
		start := time.Now()
		f.w.count(func(s *Stats) { s.Watches++ })
		answered := f.await(ctx)
		in, err := f.watch(ctx, o)
		answered()
		if err == nil && reflect.TypeOf(in) == reflect.TypeOf(watch.NewEmptyWatch()) {
			err = errNoConnection
		}
		if err != nil {
			f.failed(ctx, err)
			return nil, err
		}
		if !f.w.enter() { // the tap's goroutine is counted
			in.Stop()
			return nil, ErrStopped
		}
		t := &tap{ctx: ctx, feed: f, in: in, out: make(chan watch.Event), stop: make(chan struct{}), start: start}
		if o.TimeoutSeconds != nil {
			t.limit = time.Duration(*o.TimeoutSeconds)*time.Second + watchGrace
		}
		t.unproven = !f.opened()
		go t.run()
		return t, nil
	})
}

// persist repeats a request while the API server cannot be reached or is
// overloaded. The reflector would do so too, but after some minutes only once
// in 30 to 60 s (v0.35.3 reflector.go:NewReflectorWithOptions), and an informer
// offers no way to change that: a pipeline would stand still for a minute after
// the server is back. Any other error is the reflector's to handle.
func persist[T any](ctx context.Context, do func() (T, error)) (T, error) {
	for delay := minDelay; ; delay = min(2*delay, maxDelay) {
		v, err := do()
		if err == nil || !passing(err) || ctx.Err() != nil {
			return v, err
		}
		timer := time.NewTimer(delay/2 + rand.N(delay)) // jitter: not all workers at once
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// passing reports whether err says nothing about the request itself.
func passing(err error) bool {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return !errors.Is(err, ErrStopped) // no answer at all
	}
	if apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge) {
		return false // the reflector must ask for another version
	}
	return apierrors.IsTooManyRequests(err) || answer.Status().Code >= http.StatusInternalServerError
}

// pause waits until a refused list may be asked for again.
func (f *feed) pause(ctx context.Context) error {
	f.mu.Lock()
	d := time.Until(f.retryAt)
	f.mu.Unlock()
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

func expired(err error) bool { return apierrors.IsResourceExpired(err) || apierrors.IsGone(err) }

func refused(err error) bool { return apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err) }

// await takes note of a request that is not answered soon. The function it
// returns ends the wait.
func (f *feed) await(ctx context.Context) (answered func()) {
	timer := time.AfterFunc(patience, func() {
		if f.w.enter() {
			defer f.w.wg.Done()
			f.failed(ctx, errNoAnswer)
		}
	})
	return func() { timer.Stop() }
}

// failed takes note of a request that did not succeed, or of a watch that broke:
// until there is another watch, nothing is heard.
func (f *feed) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // Run ends
	}
	gone, denied := expired(err), refused(err)
	f.mu.Lock()
	wasLost, wasDenied, first := f.lost, f.denied, !f.listed
	f.why, f.lost, f.relist, f.denied = err, true, false, denied
	if denied && f.pauseDenied {
		f.retryAt = time.Now().Add(forbiddenPause)
	}
	f.mu.Unlock()

	w := f.w
	w.mu.Lock()
	defer w.unlock()
	if gone {
		w.stats.Expired++
		w.note(Notice{Kind: NoticeExpired, Resource: f.resource, Err: err})
	}
	if denied && !wasDenied {
		w.note(Notice{Kind: NoticeForbidden, Resource: f.resource, Err: err})
	}
	if denied && first {
		w.denied[f.resource] = err
		w.broadcast()
	}
	if !wasLost {
		w.note(Notice{Kind: NoticeStale, Resource: f.resource, Err: err})
		if f.resource == podResource {
			w.setStale(err)
		}
	}
}

// relisted takes note of a list that succeeded, or of a further page of it.
func (f *feed) relisted(l runtime.Object, first bool) {
	f.mu.Lock()
	if pods, ok := l.(*corev1.PodList); ok && f.lost {
		if first || f.pods == nil {
			f.pods = make(map[types.NamespacedName]string, len(pods.Items))
		}
		for i := range pods.Items {
			f.pods[keyOf(&pods.Items[i])] = pods.Items[i].ResourceVersion
		}
	}
	again, why := f.listed, f.why
	f.listed, f.relist, f.why, f.denied = true, true, nil, false
	f.mu.Unlock()
	if !first {
		return
	}

	w := f.w
	w.mu.Lock()
	defer w.unlock()
	delete(w.denied, f.resource)
	if again {
		w.stats.Relists++
		w.note(Notice{Kind: NoticeRelist, Resource: f.resource, Err: why})
	}
}

// opened takes note of a watch that began. It reports whether that is contact:
// a watch that resumes may be told that its version has expired.
func (f *feed) opened() bool {
	f.mu.Lock()
	contact := !f.lost || f.relist
	f.mu.Unlock()
	if contact {
		f.connected()
	}
	return contact
}

// connected takes note of contact with the API server.
func (f *feed) connected() {
	f.mu.Lock()
	wasLost, pods := f.lost, f.pods
	f.lost, f.denied, f.pods = false, false, nil
	f.mu.Unlock()
	if !wasLost {
		return
	}
	w := f.w
	w.mu.Lock()
	defer w.unlock()
	w.note(Notice{Kind: NoticeFresh, Resource: f.resource})
	if f.resource == podResource {
		w.setFresh(pods)
	}
}

func (w *Watcher) count(f func(*Stats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.stats)
}
