package testutil

import (
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// resource is what the server knows of a kind of object.
type resource struct {
	name, kind string
	namespaced bool
	new        func() object
	fields     func(object) fields.Set // what field selectors may ask
	prepare    func(object)            // defaults of a new object
	invalid    invalidFunc             // what is wrong with a new object, or with an update of old
}

func (r *resource) gr() schema.GroupResource { return schema.GroupResource{Resource: r.name} }
func (r *resource) gk() schema.GroupKind     { return schema.GroupKind{Kind: r.kind} }

func (r *resource) key(namespace, name string) key { return key{r.name, namespace, name} }

// single is the JSON of one object by itself: with kind and apiVersion.
func (r *resource) single(object []byte) []byte {
	return append([]byte(`{"kind":"`+r.kind+`","apiVersion":"v1",`), object[1:]...)
}

var resources = []*resource{
	{
		name: "pods", kind: "Pod", namespaced: true,
		new:     func() object { return &corev1.Pod{} },
		fields:  podFields,
		prepare: func(o object) { defaultPod(o.(*corev1.Pod)) },
		invalid: invalidPod,
	},
	{
		name: "events", kind: "Event", namespaced: true,
		new:    func() object { return &corev1.Event{} },
		fields: eventFields,
	},
	{
		name: "namespaces", kind: "Namespace",
		new:     func() object { return &corev1.Namespace{} },
		fields:  func(o object) fields.Set { return metaFields(o) },
		prepare: func(o object) { o.(*corev1.Namespace).Status.Phase = corev1.NamespaceActive },
	},
}

func resourceNamed(name string) *resource {
	for _, r := range resources {
		if r.name == name {
			return r
		}
	}
	return nil
}

// pods, events, namespaces: the three resources by name.
var pods, events, namespaces = resources[0], resources[1], resources[2]

func metaFields(o object) fields.Set {
	return fields.Set{"metadata.name": o.GetName(), "metadata.namespace": o.GetNamespace()}
}

// podFields: kubernetes v1.36.3 pkg/apis/core/v1/conversion.go:36-57.
// metadata.uid and status.reason are not among them.
func podFields(o object) fields.Set {
	p, s := o.(*corev1.Pod), metaFields(o)
	s["spec.nodeName"] = p.Spec.NodeName
	s["spec.restartPolicy"] = string(p.Spec.RestartPolicy)
	s["spec.schedulerName"] = p.Spec.SchedulerName
	s["spec.serviceAccountName"] = p.Spec.ServiceAccountName
	s["spec.hostNetwork"] = strconv.FormatBool(p.Spec.HostNetwork)
	s["status.phase"] = string(p.Status.Phase)
	s["status.podIP"] = p.Status.PodIP
	s["status.nominatedNodeName"] = p.Status.NominatedNodeName
	return s
}

// eventFields: kubernetes v1.36.3 pkg/apis/core/v1/conversion.go:445-467.
func eventFields(o object) fields.Set {
	e, s := o.(*corev1.Event), metaFields(o)
	s["involvedObject.kind"] = e.InvolvedObject.Kind
	s["involvedObject.namespace"] = e.InvolvedObject.Namespace
	s["involvedObject.name"] = e.InvolvedObject.Name
	s["involvedObject.uid"] = string(e.InvolvedObject.UID)
	s["involvedObject.apiVersion"] = e.InvolvedObject.APIVersion
	s["involvedObject.resourceVersion"] = e.InvolvedObject.ResourceVersion
	s["involvedObject.fieldPath"] = e.InvolvedObject.FieldPath
	s["reason"] = e.Reason
	s["reportingComponent"] = e.ReportingController
	s["source"] = e.Source.Component
	if s["source"] == "" {
		s["source"] = e.ReportingController
	}
	s["type"] = e.Type
	return s
}

// defaultPod sets the defaults that a lifecycle depends on, and what a new pod
// never brings along: a status.
func defaultPod(p *corev1.Pod) {
	p.Status = corev1.PodStatus{Phase: corev1.PodPending, QOSClass: corev1.PodQOSBestEffort}
	p.Generation = 1
	s := &p.Spec
	setDefault(&s.RestartPolicy, corev1.RestartPolicyAlways)
	setDefault(&s.DNSPolicy, corev1.DNSClusterFirst)
	setDefault(&s.SchedulerName, corev1.DefaultSchedulerName)
	setDefault(&s.ServiceAccountName, "default")
	if s.TerminationGracePeriodSeconds == nil {
		s.TerminationGracePeriodSeconds = ptr(int64(30))
	}
	if s.EnableServiceLinks == nil {
		s.EnableServiceLinks = ptr(true)
	}
	if s.SecurityContext == nil {
		s.SecurityContext = &corev1.PodSecurityContext{}
	}
	for _, cs := range [][]corev1.Container{s.InitContainers, s.Containers} {
		for i := range cs {
			c := &cs[i]
			setDefault(&c.TerminationMessagePath, corev1.TerminationMessagePathDefault)
			setDefault(&c.TerminationMessagePolicy, corev1.TerminationMessageReadFile)
			setDefault(&c.ImagePullPolicy, pullPolicy(c.Image))
		}
	}
}

// pullPolicy is the default for an image: Always when its tag is latest.
func pullPolicy(image string) corev1.PullPolicy {
	name := image[strings.LastIndex(image, "/")+1:]
	if !strings.ContainsAny(name, ":@") || strings.HasSuffix(name, ":latest") {
		return corev1.PullAlways
	}
	return corev1.PullIfNotPresent
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func ptr[T any](v T) *T { return &v }

// seconds cuts to the whole seconds that metav1.Time has on the wire.
func seconds(t time.Time) time.Time { return t.Truncate(time.Second) }
