package testutil

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/scheme"
)

// server is the API server: HTTP on one side, the store on the other. It
// understands JSON and protobuf and answers JSON.
type server struct {
	store *store
	id    func() string
	logs  http.HandlerFunc // answers pods/log, as the kubelet does

	mu    sync.Mutex
	pages map[string]page // of lists, by continue token
}

// target is what a request is about.
type target struct {
	verb, resource, namespace, name, sub string
}

// parse reads /api/v1/[namespaces/NS/]RESOURCE[/NAME[/SUB]].
func parse(r *http.Request) (t target) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if len(path) < 3 || path[0] != "api" || path[1] != "v1" {
		return target{verb: strings.ToLower(r.Method)}
	}
	if path = path[2:]; path[0] == "namespaces" && len(path) > 2 {
		t.namespace, path = path[1], path[2:]
	}
	for i, field := range []*string{&t.resource, &t.name, &t.sub} {
		if i < len(path) {
			*field = path[i]
		}
	}
	watches := r.URL.Query().Get("watch")
	switch t.verb = map[string]string{"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}[r.Method]; {
	case t.sub == "log":
		t.verb = "log"
	case t.verb == "get" && (watches == "true" || watches == "1"):
		t.verb = "watch"
	case t.verb == "get" && t.name == "":
		t.verb = "list"
	case t.verb == "delete" && t.name == "":
		t.verb = "deletecollection"
	}
	return t
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := parse(r)
	res := resourceNamed(t.resource)
	if r.URL.Path == "/version" {
		_, _ = io.WriteString(w, `{"major":"1","minor":"36","gitVersion":"v1.36.3"}`)
		return
	}
	if res == nil {
		fail(w, apierrors.NewGenericServerResponse(http.StatusNotFound, t.verb, corev1.Resource(t.resource), t.name, "404 page not found", 0, true))
		return
	}
	if t.sub == "log" && s.logs != nil {
		s.logs(w, r)
		return
	}
	var answer []byte
	var err error
	code := http.StatusOK
	switch t.verb {
	case "watch":
		err = s.watch(w, r, res, t)
	case "list":
		answer, err = s.list(r, res, t)
	case "get":
		answer, err = s.get(res, t)
	case "create":
		code = http.StatusCreated
		answer, err = s.create(r, res, t)
	case "update":
		answer, err = s.update(r, res, t)
	case "patch":
		answer, err = s.patch(r, res, t)
	case "delete":
		answer, err = s.delete(r, res, t)
	case "deletecollection":
		answer, err = s.deleteAll(r, res, t)
	default:
		err = apierrors.NewMethodNotSupported(res.gr(), t.verb)
	}
	switch {
	case err != nil:
		fail(w, err)
	case answer != nil:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(answer)
	}
}

// fail answers with the metav1.Status of err.
func fail(w http.ResponseWriter, err error) {
	status := statusOf(err)
	b, _ := json.Marshal(status)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(status.Code))
	_, _ = w.Write(b)
}

func statusOf(err error) metav1.Status {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.Kind, status.APIVersion = "Status", "v1"
	return status
}

func (s *server) get(res *resource, t target) ([]byte, error) {
	v := s.store.get(res.key(t.namespace, t.name))
	if v == nil {
		return nil, apierrors.NewNotFound(res.gr(), t.name)
	}
	return res.single(v.json), nil
}

func (s *server) create(r *http.Request, res *resource, t target) ([]byte, error) {
	o := res.new()
	if err := decode(r, res, o); err != nil {
		return nil, err
	}
	if t.name != "" { // pods/binding and the like
		return nil, apierrors.NewMethodNotSupported(res.gr(), "create "+t.sub)
	}
	if o.GetNamespace() == "" {
		o.SetNamespace(t.namespace)
	}
	if o.GetNamespace() != t.namespace {
		return nil, apierrors.NewBadRequest("the namespace of the provided object does not match the namespace sent on the request")
	}
	v, err := s.store.create(res, o, s.id())
	if err != nil {
		return nil, err
	}
	return res.single(v.json), nil
}

// create stores a new object; id is where its UID and generated name come from.
func (s *store) create(res *resource, o object, id string) (*version, error) {
	if o.GetName() == "" && o.GetGenerateName() != "" {
		o.SetName(o.GetGenerateName() + id[59:])
	}
	if res.namespaced && s.get(namespaces.key("", o.GetNamespace())) == nil {
		return nil, apierrors.NewNotFound(namespaces.gr(), o.GetNamespace())
	}
	o.SetUID(types.UID(fmt.Sprintf("%s-%s-%s-%s-%s", id[:8], id[8:12], id[12:16], id[16:20], id[20:32])))
	o.SetCreationTimestamp(metav1.Time{Time: seconds(time.Now())})
	o.SetDeletionTimestamp(nil)
	if res.prepare != nil {
		res.prepare(o)
	}
	if errs := res.wrong(o, nil); len(errs) > 0 {
		return nil, apierrors.NewInvalid(res.gk(), o.GetName(), errs)
	}
	return s.write(res.key(o.GetNamespace(), o.GetName()), func(old object) (object, error) {
		if old != nil {
			return nil, apierrors.NewAlreadyExists(res.gr(), o.GetName())
		}
		return o, nil
	})
}

func (s *server) update(r *http.Request, res *resource, t target) ([]byte, error) {
	o := res.new()
	if err := decode(r, res, o); err != nil {
		return nil, err
	}
	return s.modify(res, t, func(object) (object, error) { return o, nil })
}

// modify writes what change makes of an object. What a client cannot change
// stays as it was: who the object is and, depending on the subresource, its
// status or everything else.
func (s *server) modify(res *resource, t target, change func(object) (object, error)) ([]byte, error) {
	var freed object // of its last finalizer, which held its deletion back
	v, err := s.store.write(res.key(t.namespace, t.name), func(old object) (object, error) {
		if old == nil {
			return nil, apierrors.NewNotFound(res.gr(), t.name)
		}
		o, err := change(old.DeepCopyObject().(object))
		if err != nil {
			return nil, err
		}
		if rv := o.GetResourceVersion(); rv != "" && rv != old.GetResourceVersion() {
			return nil, apierrors.NewConflict(res.gr(), t.name,
				errors.New("the object has been modified; please apply your changes to the latest version and try again"))
		}
		if uid := o.GetUID(); uid != "" && uid != old.GetUID() {
			return nil, apierrors.NewConflict(res.gr(), t.name,
				fmt.Errorf("%s: UID in precondition: %v, UID in object meta: %v", "Precondition failed", uid, old.GetUID()))
		}
		keepIdentity(o, old)
		if p, ok := o.(*corev1.Pod); ok {
			o = keepPod(p, old.(*corev1.Pod), t.sub)
		}
		if errs := res.wrong(o, old); len(errs) > 0 {
			return nil, apierrors.NewInvalid(res.gk(), t.name, errs)
		}
		if left := old.GetDeletionGracePeriodSeconds(); len(o.GetFinalizers()) == 0 && old.GetDeletionTimestamp() != nil && (left == nil || *left == 0) {
			freed = o // k8s.io/apiserver v0.36.3 pkg/registry/generic/registry/store.go:573
			return nil, nil
		}
		return o, nil
	})
	if err != nil {
		return nil, err
	}
	if freed != nil {
		v = newVersion(freed)
	}
	return res.single(v.json), nil
}

func keepIdentity(o, old object) {
	o.SetName(old.GetName())
	o.SetNamespace(old.GetNamespace())
	o.SetUID(old.GetUID())
	o.SetCreationTimestamp(old.GetCreationTimestamp())
	o.SetDeletionTimestamp(old.GetDeletionTimestamp())
	o.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	o.SetGeneration(old.GetGeneration())
}

// keepPod separates the pod from its status, and counts the generations of its
// spec: a new image is a new generation.
func keepPod(p, old *corev1.Pod, sub string) *corev1.Pod {
	if sub == "status" {
		only := old.DeepCopy()
		only.Status = p.Status
		return only
	}
	p.Status = old.Status
	if !sameSpec(p, old) {
		p.Generation++
	}
	return p
}

// decode reads the body, JSON or protobuf, into o.
func decode(r *http.Request, res *resource, o object) error {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	kind := corev1.SchemeGroupVersion.WithKind(res.kind)
	if _, _, err = scheme.Codecs.UniversalDeserializer().Decode(b, &kind, o); err != nil {
		return apierrors.NewBadRequest(err.Error())
	}
	return nil
}

// listOptions reads the query, and makes its selectors one predicate.
func listOptions(r *http.Request, res *resource, t target) (o metav1.ListOptions, match func(object) bool, err error) {
	if err := scheme.ParameterCodec.DecodeParameters(r.URL.Query(), corev1.SchemeGroupVersion, &o); err != nil {
		return o, nil, apierrors.NewBadRequest(err.Error())
	}
	byLabel, err := labels.Parse(o.LabelSelector)
	if err != nil {
		return o, nil, apierrors.NewBadRequest(err.Error())
	}
	byField, err := fields.ParseSelector(o.FieldSelector)
	if err != nil {
		return o, nil, apierrors.NewBadRequest(err.Error())
	}
	known := res.fields(res.new())
	for _, q := range byField.Requirements() {
		if !known.Has(q.Field) {
			return o, nil, apierrors.NewBadRequest(fmt.Sprintf(
				`Unable to find %q that match label selector %q, field selector %q: field label not supported: %s`,
				"/v1, Resource="+res.name, o.LabelSelector, o.FieldSelector, q.Field))
		}
	}
	return o, func(x object) bool {
		return (t.namespace == "" || x.GetNamespace() == t.namespace) && (t.name == "" || x.GetName() == t.name) &&
			byLabel.Matches(labels.Set(x.GetLabels())) && (byField.Empty() || byField.Matches(res.fields(x)))
	}, nil
}
