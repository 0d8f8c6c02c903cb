package testutil_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/go-vela/podlife/internal/testutil"
)

// pod is a pod with containers on the pause image.
func pod(name string, containers ...string) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "default", Labels: map[string]string{"app": "ci"}}}
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	for _, c := range containers {
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: c, Image: "pause"})
	}
	return p
}

// api runs a test against a cluster of which only the API server is used.
func api(t *testing.T, test func(ctx context.Context, c *testutil.Cluster, k kubernetes.Interface)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c := testutil.New(testutil.Options{})
		test(ctx, c, c.Client())
	})
}

func create(ctx context.Context, t *testing.T, k kubernetes.Interface, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	p, err := k.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func patchImage(ctx context.Context, k kubernetes.Interface, pod, container, image string) (*corev1.Pod, error) {
	patch := fmt.Appendf(nil, `{"spec":{"containers":[{"name":%q,"image":%q}]}}`, container, image)
	return k.CoreV1().Pods("default").Patch(ctx, pod, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
}

func TestCreateGivesWhatAServerGives(t *testing.T) {
	api(t, func(ctx context.Context, c *testutil.Cluster, k kubernetes.Interface) {
		p := pod("", "a")
		p.GenerateName = "build-"
		p.Spec.RestartPolicy = ""
		p = create(ctx, t, k, p)
		if p.UID == "" || p.ResourceVersion == "" || p.Generation != 1 || p.CreationTimestamp.IsZero() || !strings.HasPrefix(p.Name, "build-") || p.Name == "build-" {
			t.Errorf("identity: %+v", p.ObjectMeta)
		}
		if p.Status.Phase != corev1.PodPending || p.Spec.RestartPolicy != corev1.RestartPolicyAlways ||
			*p.Spec.TerminationGracePeriodSeconds != 30 || p.Spec.Containers[0].ImagePullPolicy != corev1.PullAlways {
			t.Errorf("defaults: %+v %+v", p.Spec, p.Status)
		}
	})
}

func TestErrorsAreTheOnesAServerGives(t *testing.T) {
	api(t, func(ctx context.Context, c *testutil.Cluster, k kubernetes.Interface) {
		create(ctx, t, k, pod("x", "a"))
		ps := k.CoreV1().Pods("default")
		for name, test := range map[string]struct {
			do   func() error
			is   func(error) bool
			text string
		}{
			"get":   {func() error { _, err := ps.Get(ctx, "nope", metav1.GetOptions{}); return err }, apierrors.IsNotFound, `pods "nope" not found`},
			"again": {func() error { _, err := ps.Create(ctx, pod("x", "a"), metav1.CreateOptions{}); return err }, apierrors.IsAlreadyExists, `pods "x" already exists`},
			"namespace": {func() error {
				_, err := k.CoreV1().Pods("y").Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "x"}}, metav1.CreateOptions{})
				return err
			}, apierrors.IsNotFound, `namespaces "y" not found`},
			"empty": {func() error { _, err := ps.Create(ctx, pod("e"), metav1.CreateOptions{}); return err }, apierrors.IsInvalid, `Pod "e" is invalid: spec.containers: Required value`},
			"twice": {func() error { _, err := ps.Create(ctx, pod("e", "a", "a"), metav1.CreateOptions{}); return err }, apierrors.IsInvalid, `Duplicate value: "a"`},
			"uid": {func() error {
				return ps.Delete(ctx, "x", *metav1.NewPreconditionDeleteOptions("other"))
			}, apierrors.IsConflict, `the UID in the precondition (other) does not match`},
			"command": {func() error {
				_, err := ps.Patch(ctx, "x", types.StrategicMergePatchType, []byte(`{"spec":{"containers":[{"name":"a","command":["b"]}]}}`), metav1.PatchOptions{})
				return err
			}, apierrors.IsInvalid, "pod updates may not change fields other than"},
			"stale": {func() error {
				_, err := ps.Patch(ctx, "x", types.MergePatchType, []byte(`{"metadata":{"resourceVersion":"1"}}`), metav1.PatchOptions{})
				return err
			}, apierrors.IsConflict, "the object has been modified"},
			"selector": {func() error {
				_, err := ps.List(ctx, metav1.ListOptions{FieldSelector: "metadata.uid=1"})
				return err
			}, apierrors.IsBadRequest, "field label not supported: metadata.uid"},
		} {
			err := test.do()
			if err == nil || !test.is(err) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s: got %v, want one with %q", name, err, test.text)
			}
		}
	})
}

func TestPatchOfEveryKindChangesTheImageAndTheGeneration(t *testing.T) {
	api(t, func(ctx context.Context, c *testutil.Cluster, k kubernetes.Interface) {
		create(ctx, t, k, pod("x", "a", "b"))
		for i, patch := range []struct {
			kind types.PatchType
			text string
		}{
			{types.StrategicMergePatchType, `{"spec":{"containers":[{"name":"b","image":"i0"}]}}`},
			{types.JSONPatchType, `[{"op":"test","path":"/spec/containers/1/name","value":"b"},{"op":"replace","path":"/spec/containers/1/image","value":"i1"}]`},
			{types.MergePatchType, `{"metadata":{"labels":{"app":null,"n":"1"}},"spec":{"activeDeadlineSeconds":9}}`},
		} {
			p, err := k.CoreV1().Pods("default").Patch(ctx, "x", patch.kind, []byte(patch.text), metav1.PatchOptions{})
			if err != nil {
				t.Fatal(patch.kind, err)
			}
			if p.Generation != int64(i+2) || p.Spec.Containers[0].Image != "pause" || p.Spec.Containers[1].Image != fmt.Sprint("i", min(i, 1)) {
				t.Errorf("%s: generation %d, %+v", patch.kind, p.Generation, p.Spec.Containers)
			}
		}
		before, _ := k.CoreV1().Pods("default").Get(ctx, "x", metav1.GetOptions{})
		after, err := patchImage(ctx, k, "x", "b", "i1")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" || before.Labels["app"] != "" {
			t.Errorf("a patch that changes nothing is no write (-before +after):\n%s", diff)
		}
	})
}

// collect writes what a watch says, one line an event, until it ends.
func collect(w watch.Interface) <-chan string {
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for e := range w.ResultChan() {
			switch o := e.Object.(type) {
			case *metav1.Status:
				lines <- fmt.Sprintf("%s %d %s", e.Type, o.Code, o.Reason)
			case *corev1.Pod:
				lines <- strings.TrimSpace(fmt.Sprintf("%s %s %s deleted=%v", e.Type, o.Name, o.Labels["app"], o.DeletionTimestamp != nil))
			}
		}
	}()
	return lines
}

func drain(lines <-chan string) (got []string) {
	synctest.Wait()
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				return append(got, "end")
			}
			got = append(got, line)
		default:
			return got
		}
	}
}

func TestAWatchSeesEveryChangeOfItsSelector(t *testing.T) {
	api(t, func(ctx context.Context, c *testutil.Cluster, k kubernetes.Interface) {
		ps := k.CoreV1().Pods("default")
		create(ctx, t, k, pod("x", "a"))
		w, err := ps.Watch(ctx, metav1.ListOptions{LabelSelector: "app=ci"})
		if err != nil {
			t.Fatal(err)
		}
		lines := collect(w)
		label := func(v string) {
			if _, err := ps.Patch(ctx, "x", types.MergePatchType, fmt.Appendf(nil, `{"metadata":{"labels":{"app":%q}}}`, v), metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := patchImage(ctx, k, "x", "a", "i"); err != nil {
			t.Fatal(err)
		}
		label("other")
		label("ci")
		if err := ps.Delete(ctx, "x", metav1.DeleteOptions{}); err != nil { // not scheduled: at once
			t.Fatal(err)
		}
		want := []string{
			"ADDED x ci deleted=false",
			"MODIFIED x ci deleted=false",
			"DELETED x ci deleted=false", // left the selector: with the state it had
			"ADDED x ci deleted=false",
			"MODIFIED x ci deleted=true",
			"DELETED x ci deleted=true",
		}
		if diff := cmp.Diff(want, drain(lines)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		w.Stop()
	})
}

func TestAForgottenVersionIsExpiredInTheStream(t *testing.T) {
	api(t, func(ctx context.Context, c *testutil.Cluster, k kubernetes.Interface) {
		p := create(ctx, t, k, pod("x", "a"))
		create(ctx, t, k, pod("y", "a"))
		list, err := k.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: 1})
		if err != nil || len(list.Items) != 1 || list.Continue == "" {
			t.Fatal(list, err)
		}
		c.Compact()
		_, err = k.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: 1, Continue: list.Continue})
		if !apierrors.IsResourceExpired(err) {
			t.Errorf("continue: %v", err)
		}
		w, err := k.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{ResourceVersion: p.ResourceVersion})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"ERROR 410 Expired", "end"}, drain(collect(w))); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestFaultsAreSeenByTheClient(t *testing.T) {
	api(t, func(ctx context.Context, c *testutil.Cluster, k kubernetes.Interface) {
		create(ctx, t, k, pod("x", "a"))
		get := func() error {
			_, err := k.CoreV1().Pods("default").Get(ctx, "x", metav1.GetOptions{})
			return err
		}
		one := func(f testutil.Fault) { c.Fault(func(*http.Request) testutil.Fault { return f }) }
		one(testutil.Fault{Status: 403, Reason: metav1.StatusReasonForbidden, Message: "no"})
		if err := get(); !apierrors.IsForbidden(err) || err.Error() != "no" {
			t.Error(err)
		}
		one(testutil.Fault{Err: io.ErrUnexpectedEOF, Applied: true})
		if _, err := patchImage(ctx, k, "x", "a", "new"); err == nil {
			t.Error("no error")
		}
		c.Fault(nil)
		if p, _ := k.CoreV1().Pods("default").Get(ctx, "x", metav1.GetOptions{}); p.Spec.Containers[0].Image != "new" {
			t.Error("not applied")
		}
		one(testutil.Fault{Stall: true})
		start := time.Now()
		short, cancel := context.WithTimeout(ctx, 7*time.Second)
		defer cancel()
		_, err := k.CoreV1().Pods("default").Get(short, "x", metav1.GetOptions{})
		if err == nil || time.Since(start) != 7*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		for _, f := range []struct {
			fault testutil.Fault
			want  string
		}{{testutil.Fault{CutAfter: 9, CutErr: io.ErrUnexpectedEOF}, `{"kind":"` + " unexpected EOF"}, {testutil.Fault{CutAfter: 2, CutText: "rpc"}, `{"rpc <nil>`}} {
			one(f.fault)
			body, err := k.CoreV1().RESTClient().Get().Resource("pods").Stream(ctx)
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(body)
			body.Close()
			if got := fmt.Sprint(string(b), " ", err); got != f.want {
				t.Errorf("got %q, want %q", got, f.want)
			}
		}
	})
}

func TestARestartedServerGoesOnWithWhatItHad(t *testing.T) {
	api(t, func(ctx context.Context, c *testutil.Cluster, k kubernetes.Interface) {
		factory := informers.NewSharedInformerFactory(k, 0)
		informer := factory.Core().V1().Pods().Informer()
		seen := make(chan string, 100)
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(o any) { seen <- o.(*corev1.Pod).Name }})
		if err != nil {
			t.Fatal(err)
		}
		create(ctx, t, k, pod("before", "a"))
		factory.Start(ctx.Done())
		if got := <-seen; got != "before" {
			t.Error(got)
		}
		if err := c.RestartServer(ctx, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		create(ctx, t, k, pod("after", "a"))
		if got := <-seen; got != "after" {
			t.Error(got)
		}
		time.Sleep(24 * time.Hour) // watches time out and go on
		create(ctx, t, k, pod("late", "a"))
		if got := <-seen; got != "late" {
			t.Error(got)
		}
		lists := 0
		for _, r := range c.Requests() {
			if r.Verb == "list" {
				lists++
			}
		}
		if lists > 1 { // at most the one that started it
			t.Errorf("%d lists: a dropped watch goes on where it was", lists)
		}
	})
}
