package e2e

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/eventsplit"
)

// answer is what a real API server says to a request that it refuses or fails,
// and what is to be made of it.
type answer struct {
	name       string
	ask        func(ctx context.Context, t *testing.T, ns string) error // asked again until it is answered thus
	prepare    func(t *testing.T, ns string)                            // nil: nothing
	labels     map[string]string                                        // of the namespace
	want       string                                                   // class and cause
	mayRecover bool
	refused    bool // certainly not carried out
}

// recordedAnswer is a line of eventsplit/testdata/apierrors.jsonl.
type recordedAnswer struct {
	Cause      string        `json:"cause"`
	Class      string        `json:"class"`
	Error      string        `json:"error"`
	MayRecover bool          `json:"mayRecover"`
	Name       string        `json:"name"`
	Refused    bool          `json:"refused"`
	Status     metav1.Status `json:"status"`
}

// recordedSuffix ends the names of the answers that are recorded, not written.
const recordedSuffix = ", as v1.36.3 says it"

// tryPod asks, without doing it, for a pod named build-1.
func tryPod(ctx context.Context, ns string, change ...func(*corev1.Pod)) error {
	return tryPodAs(ctx, world.client, ns, change...)
}

func tryPodAs(ctx context.Context, client kubernetes.Interface, ns string, change ...func(*corev1.Pod)) error {
	_, err := client.CoreV1().Pods(ns).Create(ctx, unboundPod(ns, change...), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

func unboundPod(ns string, change ...func(*corev1.Pod)) *corev1.Pod {
	pod := newPod("answers", slot("step", "true"))
	pod.Name, pod.Namespace, pod.Spec.NodeName, pod.Spec.HostNetwork = "build-1", ns, "", false
	for _, c := range change {
		c(pod)
	}
	return pod
}

// havePod creates the pod build-1, which no node runs.
func havePod(t *testing.T, ns string) { create(t, unboundPod(ns)) }

func patchPod(ctx context.Context, ns, name, patch string) error {
	_, err := world.client.CoreV1().Pods(ns).Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

func askPod(change ...func(*corev1.Pod)) func(context.Context, *testing.T, string) error {
	return func(ctx context.Context, _ *testing.T, ns string) error { return tryPod(ctx, ns, change...) }
}

func askPatch(pod, patch string) func(context.Context, *testing.T, string) error {
	return func(ctx context.Context, _ *testing.T, ns string) error { return patchPod(ctx, ns, pod, patch) }
}

func limits(cpu, memory string) func(*corev1.Pod) {
	return func(pod *corev1.Pod) {
		pod.Spec.Containers[0].Resources = corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"), corev1.ResourceMemory: resource.MustParse(memory)},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)},
		}
	}
}

func haveLimits(item corev1.LimitRangeItem) func(*testing.T, string) {
	return func(t *testing.T, ns string) {
		t.Helper()
		item.Type = corev1.LimitTypeContainer
		l := &corev1.LimitRange{ObjectMeta: metav1.ObjectMeta{Name: "limits"}, Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{item}}}
		if _, err := world.client.CoreV1().LimitRanges(ns).Create(t.Context(), l, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// haveQuota creates a ResourceQuota with nothing used; no controller counts.
func haveQuota(name corev1.ResourceName, hard string) func(*testing.T, string) {
	return func(t *testing.T, ns string) {
		t.Helper()
		quotas := world.client.CoreV1().ResourceQuotas(ns)
		all := corev1.ResourceList{name: resource.MustParse(hard)}
		q := &corev1.ResourceQuota{ObjectMeta: metav1.ObjectMeta{Name: "compute"}, Spec: corev1.ResourceQuotaSpec{Hard: all}}
		q, err := quotas.Create(t.Context(), q, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		q.Status = corev1.ResourceQuotaStatus{Hard: all, Used: corev1.ResourceList{name: resource.MustParse("0")}}
		if _, err := quotas.UpdateStatus(t.Context(), q, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
	}
}

func haveWebhook(h webhook) func(*testing.T, string) {
	return func(t *testing.T, ns string) {
		t.Helper()
		needLocalNode(t)
		startWebhook(t, ns, h)
	}
}

// as returns a client that the API server takes for someone else.
func as(t *testing.T, user string) *kubernetes.Clientset {
	t.Helper()
	config := rest.CopyConfig(world.config)
	config.Impersonate.UserName = user
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// crowd is a user whose requests the API server has no seat for.
const crowd = "podlife-e2e-crowd"

// haveCrowd gives the crowd a priority level without seats. One request at a time
// is let in all the same (v1.36.3, apiserver/pkg/util/flowcontrol/fairqueuing),
// so that one has to take its time: in a webhook.
func haveCrowd(t *testing.T, ns string) {
	t.Helper()
	haveWebhook(webhook{silent: true})(t, ns)
	role := &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: crowd},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"pods"}}},
	}
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: crowd},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: crowd},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: crowd}},
	}
	none := int32(0)
	level := &flowcontrolv1.PriorityLevelConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: crowd},
		Spec: flowcontrolv1.PriorityLevelConfigurationSpec{
			Type: flowcontrolv1.PriorityLevelEnablementLimited,
			Limited: &flowcontrolv1.LimitedPriorityLevelConfiguration{
				NominalConcurrencyShares: &none, LendablePercent: &none, BorrowingLimitPercent: &none,
				LimitResponse: flowcontrolv1.LimitResponse{Type: flowcontrolv1.LimitResponseTypeReject},
			},
		},
	}
	schema := &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: crowd},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: crowd},
			MatchingPrecedence:         2,
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
				Subjects: []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: crowd}}},
				ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
					Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"}, Namespaces: []string{"*"}, ClusterScope: true,
				}},
			}},
		},
	}
	flow, rbac := world.client.FlowcontrolV1(), world.client.RbacV1()
	atEnd(t, "deleting the priority level", func(ctx context.Context) error {
		return flow.PriorityLevelConfigurations().Delete(ctx, crowd, metav1.DeleteOptions{})
	})
	atEnd(t, "deleting the flow schema", func(ctx context.Context) error {
		return flow.FlowSchemas().Delete(ctx, crowd, metav1.DeleteOptions{})
	})
	_, err1 := rbac.Roles(ns).Create(t.Context(), role, metav1.CreateOptions{})
	_, err2 := rbac.RoleBindings(ns).Create(t.Context(), binding, metav1.CreateOptions{})
	_, err3 := flow.PriorityLevelConfigurations().Create(t.Context(), level, metav1.CreateOptions{})
	_, err4 := flow.FlowSchemas().Create(t.Context(), schema, metav1.CreateOptions{})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
}

// askInACrowd makes some requests at once and returns what one was answered that
// was turned away, if any was.
func askInACrowd(ctx context.Context, t *testing.T, ns string) error {
	t.Helper()
	client := as(t, crowd).CoreV1().RESTClient()
	errs := make(chan error)
	for range 3 {
		go func() {
			errs <- client.Post().Namespace(ns).Resource("pods").MaxRetries(0).
				VersionedParams(&metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}, scheme.ParameterCodec).
				Body(unboundPod(ns)).Do(ctx).Error()
		}()
	}
	var turnedAway error
	for range 3 {
		if err := <-errs; turnedAway == nil || apierrors.IsTooManyRequests(err) {
			turnedAway = err
		}
	}
	return turnedAway
}

func apiAnswers() []answer {
	const image = `{"spec":{"containers":[{"name":"step","image":"podlife.test/busybox:1"}]}}`
	return []answer{
		{name: "exists", want: "Exists", refused: true, prepare: havePod, ask: askPod()},
		{name: "invalid", want: "Invalid", refused: true, ask: askPod(func(p *corev1.Pod) { p.Name, p.Spec.Containers[0].Image = "build-2", "" })},
		{name: "namespace missing", want: "NotFound", refused: true, ask: func(ctx context.Context, _ *testing.T, _ string) error { return tryPod(ctx, "nosuch") }},
		{
			name: "patch of a command", want: "Invalid", refused: true, prepare: havePod,
			ask: askPatch("build-1", `{"spec":{"containers":[{"name":"step","command":["false"]}]}}`),
		},
		{
			name: "conflict", want: "Conflict", mayRecover: true, refused: true, prepare: havePod,
			ask: askPatch("build-1", `{"metadata":{"resourceVersion":"1"},"spec":{"containers":[{"name":"step","image":"podlife.test/busybox:1"}]}}`),
		},
		{
			name: "another pod of the name", want: "Invalid", refused: true, prepare: havePod,
			ask: askPatch("build-1", `{"metadata":{"uid":"no-such"},"spec":{"containers":[{"name":"step","image":"podlife.test/busybox:1"}]}}`),
		},
		{name: "pod missing", want: "NotFound", refused: true, ask: askPatch("nosuch", image)},
		{name: "patch is no JSON", want: "Invalid", refused: true, prepare: havePod, ask: askPatch("build-1", `{"spec":`)},
		{
			name: "podsecurity", want: "PodSecurity", refused: true, ask: askPod(),
			labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"},
		},
		{
			name: "namespace terminating", want: "Forbidden/NamespaceTerminating", refused: true, ask: askPod(),
			prepare: func(t *testing.T, ns string) {
				t.Helper()
				// Somewhere a controller would end it at once, but for this.
				keeper := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "keeper", Finalizers: []string{"podlife.test/keep"}}}
				if _, err := world.client.CoreV1().ConfigMaps(ns).Create(t.Context(), keeper, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				atEnd(t, "releasing the namespace", func(ctx context.Context) error {
					_, err := world.client.CoreV1().ConfigMaps(ns).Patch(ctx, "keeper", types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`), metav1.PatchOptions{})
					return err
				})
				if err := world.client.CoreV1().Namespaces().Delete(t.Context(), ns, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "limitrange", want: "Forbidden/LimitRange", refused: true, ask: askPod(limits("1", "2Gi")),
			prepare: haveLimits(corev1.LimitRangeItem{Max: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}),
		},
		{
			name: "limitrange, minimum", want: "Forbidden/LimitRange", refused: true, ask: askPod(limits("1", "1Mi")),
			prepare: haveLimits(corev1.LimitRangeItem{Min: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}}),
		},
		{
			name: "limitrange, ratio", want: "Forbidden/LimitRange", refused: true, ask: askPod(limits("1", "1Gi")),
			prepare: haveLimits(corev1.LimitRangeItem{MaxLimitRequestRatio: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("2")}}),
		},
		{
			name: "limitrange, storage", want: "Forbidden/LimitRange", refused: true,
			ask: askPod(func(p *corev1.Pod) {
				p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("2Gi")}
			}),
			prepare: haveLimits(corev1.LimitRangeItem{Max: corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("1Gi")}}),
		},
		{name: "quota", want: "Quota", mayRecover: true, refused: true, ask: askPod(), prepare: haveQuota(corev1.ResourcePods, "0")},
		{name: "quota wants requests", want: "Quota", refused: true, ask: askPod(), prepare: haveQuota(corev1.ResourceRequestsCPU, "10")},
		{
			name: "vap", want: "Denied/Policy", refused: true, prepare: denyImages,
			ask: askPod(func(p *corev1.Pod) { p.Spec.Containers[0].Image = forbiddenImage }),
		},
		{
			name: "webhook denies", want: "Denied/Webhook", refused: true, ask: askPod(),
			prepare: haveWebhook(webhook{answer: &metav1.Status{Message: "only images of registry.example are allowed"}}),
		},
		{
			name: "webhook denies with its own code", want: "Denied/Webhook", refused: true, ask: askPod(),
			prepare: haveWebhook(webhook{answer: &metav1.Status{Message: "slow down", Reason: metav1.StatusReasonTooManyRequests, Code: http.StatusTooManyRequests}}),
		},
		{name: "webhook denies without a word", want: "Denied/Webhook", refused: true, ask: askPod(), prepare: haveWebhook(webhook{})},
		{name: "webhook down", want: "Transient/Webhook", mayRecover: true, ask: askPod(), prepare: haveWebhook(webhook{down: true})},
		{name: "webhook does not answer", want: "Transient/Webhook", mayRecover: true, ask: askPod(), prepare: haveWebhook(webhook{silent: true})},
		{name: "webhook not trusted", want: "Transient/Webhook", mayRecover: true, ask: askPod(), prepare: haveWebhook(webhook{untrusted: true})},
		{
			name: "bad token", want: "Unauthorized", refused: true,
			ask: func(ctx context.Context, t *testing.T, ns string) error {
				config := rest.AnonymousClientConfig(world.config)
				config.BearerToken = "no-such-token"
				client, err := kubernetes.NewForConfig(config)
				if err != nil {
					t.Fatal(err)
				}
				return tryPodAs(ctx, client, ns)
			},
		},
		{
			name: "rbac", want: "Forbidden", refused: true,
			ask: func(ctx context.Context, t *testing.T, ns string) error { return tryPodAs(ctx, as(t, "worker"), ns) },
		},
		{
			name: "rbac, patch", want: "Forbidden", refused: true,
			ask: func(ctx context.Context, t *testing.T, ns string) error {
				_, err := as(t, "worker").CoreV1().Pods(ns).Patch(ctx, "build-1", types.StrategicMergePatchType, []byte(image), metav1.PatchOptions{})
				return err
			},
		},
		{
			name: "timeout", want: "Transient/Timeout", mayRecover: true, prepare: haveWebhook(webhook{silent: true}),
			// Less than the webhook has.
			ask: func(ctx context.Context, _ *testing.T, ns string) error {
				return world.client.CoreV1().RESTClient().Post().Namespace(ns).Resource("pods").Param("timeout", "300ms").
					VersionedParams(&metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}, scheme.ParameterCodec).
					Body(unboundPod(ns)).Do(ctx).Error()
			},
		},
		{
			name: "too many requests", want: "Transient/TooManyRequests", mayRecover: true, refused: true,
			prepare: haveCrowd, ask: askInACrowd,
		},
	}
}

// What a real API server answers is what eventsplit's test data says that it does.
func TestAnswersOfARealAPIServerHaveTheirClass(t *testing.T) {
	needCluster(t)
	var mu sync.Mutex
	var recorded []recordedAnswer
	t.Run("answers", func(t *testing.T) {
		for _, a := range apiAnswers() {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				got := a.get(t)
				mu.Lock()
				defer mu.Unlock()
				recorded = append(recorded, got)
			})
		}
	})
	file := filepath.Join(goldenDir, "apierrors.jsonl")
	if *recordTraces && !t.Failed() {
		writeAnswers(t, file, recorded)
		return
	}
	want := map[string]recordedAnswer{}
	for _, r := range readAnswers(t, file) {
		want[r.Name] = r
	}
	for _, got := range recorded {
		if diff := gocmp.Diff(want[got.Name], got); diff != "" {
			t.Errorf("%s: (-%s +cluster):\n%s", got.Name, file, diff)
		}
	}
}

// get asks until it is answered as wanted.
func (a answer) get(t *testing.T) recordedAnswer {
	t.Helper()
	ns := ownNamespace(t, a.labels)
	if a.prepare != nil {
		a.prepare(t, ns)
	}
	var err error
	// Quotas, webhooks, policies: the API server hears of its own by a watch.
	_ = wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
		err = a.ask(ctx, t, ns)
		return err != nil && kindOf(eventsplit.ClassifyAPIError(err)) == a.want, nil
	})
	if err == nil {
		t.Fatal("the API server does it")
	}
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		t.Fatalf("no answer of an API server: %v", err)
	}
	text := strings.ReplaceAll(steady(string(marshal(t, status.Status()))), ns, "ci")
	r := recordedAnswer{Name: a.name + recordedSuffix, MayRecover: a.mayRecover, Refused: a.refused}
	r.Class, r.Cause, _ = strings.Cut(a.want, "/")
	if err := json.Unmarshal([]byte(text), &r.Status); err != nil {
		t.Fatal(err)
	}
	if r.Status.Details != nil {
		r.Status.Details.UID = "" // Another one each time.
	}
	f := eventsplit.ClassifyAPIError(fmt.Errorf("creating: %w", &apierrors.StatusError{ErrStatus: r.Status}))
	if kindOf(f) != a.want || f.MayRecover != a.mayRecover {
		t.Errorf("got %s, may recover: %t; want %s, %t: %v", kindOf(f), f.MayRecover, a.want, a.mayRecover, err)
	}
	r.Error = f.Error()
	return r
}

func readAnswers(t *testing.T, file string) (all []recordedAnswer) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var r recordedAnswer
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// writeAnswers replaces the recorded answers in the file; the lines before them
// are kept as they are.
func writeAnswers(t *testing.T, file string, recorded []recordedAnswer) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		if !bytes.Contains(line, []byte(recordedSuffix)) {
			out.Write(line)
		}
	}
	slices.SortFunc(recorded, func(a, b recordedAnswer) int { return cmp.Compare(a.Name, b.Name) })
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for _, r := range recorded {
		if err := encoder.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
