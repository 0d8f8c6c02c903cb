package podwatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"reflect"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

const (
	// listTimeout bounds a list. The API server itself gives up after a minute
	// (--request-timeout); what takes longer is not coming.
	listTimeout = 90 * time.Second
	// watchGrace is how long after its own deadline a watch is given up. The
	// reflector asks the server to end a watch after 5 to 10 minutes; where a proxy
	// keeps the stream open and silent the watch would never end.
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

// errNoAnswer says that a request has not been answered for patience.
var errNoAnswer = errors.New("the API server does not answer")

// errNoConnection says that client-go opened a watch without contents: the connection
// broke or timed out before an answer (rest/request.go:Watch, v0.35.3).
var errNoConnection = errors.New("the connection broke before the watch began")

type (
	listFunc  = func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watchFunc = func(context.Context, metav1.ListOptions) (watch.Interface, error)
)

// feed lists and watches one resource for an informer, and takes note of how each
// request ends: client-go's reflector tells its error handler of a failed list, but not
// of a refused connection while it resumes a watch, nor of an expired watch.
type feed struct {
	core        *core
	first       *firstLists
	trackings   *trackings // are told of contact; nil for Events
	resource    string
	list        listFunc
	watch       watchFunc
	labels      string
	fields      string
	pauseDenied bool // wait for minutes after a refusal

	// The core's mutex guards the rest, so that what follows from a request's end
	// follows in the order of the ends.
	listed    bool                            // a list has succeeded
	lost      bool                            // a request failed or a watch broke, and there is no watch since
	relist    bool                            // while lost: a list has succeeded
	retryAt   time.Time                       // not before, after a refusal
	why       error                           // why the next list is needed
	pods      map[types.NamespacedName]string // versions that a list has brought while lost
	forbidden string                          // the verb that was refused, and has not succeeded since; "": none
	refusedAt time.Time                       // since when every answer was a refusal; zero: the last one was not
}

// informer returns an informer over the feed.
func (f *feed) informer(example runtime.Object) (cache.SharedIndexInformer, error) {
	inf := cache.NewSharedIndexInformerWithOptions(f, example, cache.SharedIndexInformerOptions{ObjectDescription: f.resource})
	if err := inf.SetTransform(f.core.opts.transform); err != nil {
		return nil, err
	}
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
	if !f.core.enter() {
		return nil, ErrStopped
	}
	defer f.core.wg.Done()
	if err := f.pause(ctx); err != nil {
		return nil, err
	}
	o.LabelSelector, o.FieldSelector = f.labels, f.fields
	return persist(ctx, f, "list", func() (runtime.Object, error) {
		f.core.count(func(s *Stats) { s.Lists++ })
		answered := f.await(ctx)
		lctx, cancel := context.WithTimeout(ctx, listTimeout)
		defer cancel()
		l, err := f.list(lctx, o)
		answered()
		if err != nil {
			f.failed(ctx, "list", err)
			return nil, err
		}
		f.relisted(l, o.Continue == "")
		return l, nil
	})
}

// WatchWithContext opens a watch that the feed observes.
func (f *feed) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	o.LabelSelector, o.FieldSelector = f.labels, f.fields
	return persist(ctx, f, "watch", func() (watch.Interface, error) {
		start := time.Now()
		f.core.count(func(s *Stats) { s.Watches++ })
		answered := f.await(ctx)
		in, err := f.watch(ctx, o)
		answered()
		if err == nil && reflect.TypeOf(in) == reflect.TypeOf(watch.NewEmptyWatch()) {
			err = errNoConnection
		}
		if err != nil {
			f.failed(ctx, "watch", err)
			return nil, err
		}
		if !f.core.enter() { // the tap's goroutine is counted
			in.Stop()
			return nil, ErrStopped
		}
		t := newTap(in, start, func(err error) { f.failed(ctx, "watch", err) })
		if o.TimeoutSeconds != nil {
			t.limit = time.Duration(*o.TimeoutSeconds)*time.Second + watchGrace
		}
		if !f.opened() {
			t.proven = f.connected
		}
		go func() {
			defer f.core.wg.Done()
			t.run()
		}()
		return t, nil
	})
}

// persist repeats a request while the API server cannot be reached, is overloaded
// or refuses it. The reflector would do so too, but after some minutes only once
// in 30 to 60 s (v0.35.3 reflector.go:NewReflectorWithOptions), and an informer
// offers no way to change that: a pipeline would stand still for a minute after
// the server is back. Any other error is left to the reflector.
func persist[T any](ctx context.Context, f *feed, verb string, do func() (T, error)) (T, error) {
	for delay := minDelay; ; delay = min(2*delay, maxDelay) {
		v, err := do()
		if err == nil || ctx.Err() != nil {
			return v, err
		}
		pause := delay/2 + rand.N(delay) // jitter: not all workers at once
		switch {
		case refused(err):
			left, again := f.insist(verb)
			if !again {
				return v, err
			}
			if left > 0 {
				pause = min(pause, left)
			}
		case !passing(err):
			return v, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// insist reports whether a refused request is made again, and in how much time at the
// latest, so that the trackings hear of the refusal when Options.Refusal is over. A
// list of pods is made again for ever, a watch until then: after that the reflector
// lists now and then, and a watch that is refused costs no more requests.
func (f *feed) insist(verb string) (left time.Duration, again bool) {
	f.core.mu.Lock()
	defer f.core.mu.Unlock()
	left = f.core.opts.refusal() - time.Since(f.refusedAt)
	return left, f.resource == podResource && (verb == "list" || left > 0)
}

// passing reports whether err may be gone when the same request is made again: it
// says nothing about the request itself.
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
	f.core.mu.Lock()
	d := time.Until(f.retryAt)
	f.core.mu.Unlock()
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

// await takes note of a request that is not answered soon. The function it
// returns ends the wait: nothing is noted after it.
func (f *feed) await(ctx context.Context) (answered func()) {
	c, waits := f.core, true
	timer := time.AfterFunc(patience, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if waits && ctx.Err() == nil {
			f.lose(errNoAnswer)
		}
	})
	return func() {
		timer.Stop()
		c.mu.Lock()
		defer c.mu.Unlock()
		waits = false
	}
}

// failed takes note of a request that did not succeed, or of a watch that broke:
// until there is another watch, nothing is heard. A request whose context has ended
// did not fail: Run ends.
func (f *feed) failed(ctx context.Context, verb string, err error) {
	f.core.mu.Lock()
	defer f.core.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	if expired(err) {
		f.core.stats.Expired++
		f.note(NoticeExpired, err)
	}
	switch answer := apierrors.APIStatus(nil); {
	case refused(err):
		f.refuse(verb, err)
	case errors.As(err, &answer):
		f.refusedAt = time.Time{}
	}
	f.lose(err)
}

// note raises a notice; it needs the core's mutex held, as those below do.
func (f *feed) note(k NoticeKind, err error) {
	f.core.note(Notice{Kind: k, Resource: f.resource, Err: err})
}

// lose takes note that there is no contact.
func (f *feed) lose(err error) {
	wasLost := f.lost
	f.why, f.lost, f.relist = err, true, false
	if wasLost || f.core.phase != running {
		return
	}
	f.note(NoticeStale, err)
	if f.trackings != nil {
		f.trackings.setContact(contactStale, staleStatus(err))
	}
}

// refuse takes note of a 401 or 403.
func (f *feed) refuse(verb string, err error) {
	if f.pauseDenied {
		f.retryAt = time.Now().Add(forbiddenPause)
	}
	if f.forbidden == "" {
		f.note(NoticeForbidden, err)
	}
	f.forbidden = verb
	if !f.listed {
		f.first.deny(f.resource, err)
	}
	if f.refusedAt.IsZero() {
		f.refusedAt = time.Now()
	}
	// What was granted a moment ago takes the API server some seconds to learn of.
	lasted := time.Since(f.refusedAt) >= f.core.opts.refusal()
	if lasted && f.trackings != nil && f.trackings.contact != contactRefused {
		f.trackings.setContact(contactRefused, refusedStatus(verb, f.core.opts.Namespace, err))
	}
}

// grant takes note of a request that succeeded. Where only the watch is refused
// every list succeeds.
func (f *feed) grant(verb string) {
	if f.forbidden == "watch" && verb == "list" {
		return
	}
	f.refusedAt = time.Time{}
	if f.forbidden != "" {
		f.forbidden = ""
		f.note(NoticeGranted, nil)
	}
}

// relisted takes note of a list that succeeded, or of a further page of it.
func (f *feed) relisted(l runtime.Object, first bool) {
	f.core.mu.Lock()
	defer f.core.mu.Unlock()
	if pods, ok := l.(*corev1.PodList); ok && f.lost {
		if first || f.pods == nil {
			f.pods = make(map[types.NamespacedName]string, len(pods.Items))
		}
		for i := range pods.Items {
			f.pods[keyOf(&pods.Items[i])] = pods.Items[i].ResourceVersion
		}
	}
	again, why := f.listed, f.why
	f.listed, f.relist, f.why = true, true, nil
	f.grant("list")
	if !first {
		return
	}
	f.first.grant(f.resource)
	if again {
		f.core.stats.Relists++
		f.note(NoticeRelist, why)
	}
}

// opened takes note of a watch that began. It reports whether that is contact:
// a watch that resumes may be told that its version has expired.
func (f *feed) opened() bool {
	f.core.mu.Lock()
	defer f.core.mu.Unlock()
	f.grant("watch")
	contact := !f.lost || f.relist
	if contact {
		f.connect()
	}
	return contact
}

// connected takes note of contact with the API server.
func (f *feed) connected() {
	f.core.mu.Lock()
	defer f.core.mu.Unlock()
	f.connect()
}

func (f *feed) connect() {
	wasLost, pods := f.lost, f.pods
	f.lost, f.pods = false, nil
	if !wasLost {
		return
	}
	f.note(NoticeFresh, nil)
	if f.trackings != nil {
		f.trackings.setFresh(pods)
	}
}
