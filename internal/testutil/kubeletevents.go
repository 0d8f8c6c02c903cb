package testutil

import (
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	// eventBurst is how many Events of one type the kubelet sends about a pod,
	// all its containers together, before it sends only one every eventRefill
	// (client-go v0.37.2 tools/record/events_cache.go:47). A repetition costs
	// one, too.
	eventBurst  = 25
	eventRefill = 5 * time.Minute
	// aggregateAt is how many different messages of one reason there are before
	// the next ones become a single Event (there, :40).
	aggregateAt = 10
)

// recorder sends the kubelet's Events, as lossy as client-go's.
type recorder struct {
	store *store
	id    func() string

	mu      sync.Mutex
	budgets map[budgetKey]*budget
	sent    map[eventKey]string // name of the Event
}

type budgetKey struct {
	pod types.UID
	typ string
}

type budget struct {
	tokens float64
	last   time.Time
	kinds  map[string]int // different messages by reason
}

type eventKey struct {
	pod                           types.UID
	typ, reason, message, subject string
}

func newRecorder(s *store, id func() string) *recorder {
	return &recorder{store: s, id: id, budgets: map[budgetKey]*budget{}, sent: map[eventKey]string{}}
}

// about says something of a container, or of the whole pod when fieldPath is "".
func (r *recorder) about(p *corev1.Pod, fieldPath, typ, reason, message string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := eventKey{p.UID, typ, reason, message, fieldPath}
	b := r.budget(budgetKey{p.UID, typ})
	name, repeated := r.sent[k]
	if !repeated {
		if b.kinds[reason]++; b.kinds[reason] > aggregateAt {
			k.message, k.subject = "(combined)", ""
			message = "(combined from similar events): " + message
			name, repeated = r.sent[k]
		}
	}
	if b.tokens < 1 {
		return // lost for good
	}
	b.tokens--
	if repeated {
		r.repeat(p.Namespace, name, message)
		return
	}
	r.sent[k] = r.create(p, fieldPath, typ, reason, message)
}

func (r *recorder) budget(k budgetKey) *budget {
	now := time.Now()
	b := r.budgets[k]
	if b == nil {
		b = &budget{tokens: eventBurst, last: now, kinds: map[string]int{}}
		r.budgets[k] = b
	}
	b.tokens = min(eventBurst, b.tokens+float64(now.Sub(b.last))/float64(eventRefill))
	b.last = now
	return b
}

func (r *recorder) create(p *corev1.Pod, fieldPath, typ, reason, message string) string {
	now := metav1.Time{Time: seconds(time.Now())}
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: fmt.Sprintf("%s.%x", p.Name, time.Now().UnixNano())},
		InvolvedObject: corev1.ObjectReference{
			Kind: "Pod", APIVersion: "v1", Namespace: p.Namespace, Name: p.Name, UID: p.UID,
			ResourceVersion: p.ResourceVersion, FieldPath: fieldPath,
		},
		Type: typ, Reason: reason, Message: message, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: "kubelet", Host: nodeName}, ReportingController: "kubelet", ReportingInstance: nodeName,
	}
	for ; ; e.Name += "0" { // two Events of one nanosecond, in virtual time
		if _, err := r.store.create(events, e, r.id()); err == nil {
			return e.Name
		}
		if r.store.get(events.key(e.Namespace, e.Name)) == nil {
			return e.Name // the namespace is gone
		}
	}
}

// repeat is how a repetition arrives: as MODIFIED, with a higher count. Of an
// aggregated Event the message changes, and its fieldPath stays that of the first.
func (r *recorder) repeat(namespace, name, message string) {
	_, _ = r.store.write(events.key(namespace, name), func(old object) (object, error) {
		e, ok := old.(*corev1.Event)
		if !ok {
			return nil, nil // forgotten meanwhile
		}
		e.Count++
		e.Message, e.LastTimestamp = message, metav1.Time{Time: seconds(time.Now())}
		return e, nil
	})
}
