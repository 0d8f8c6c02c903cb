package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
)

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
	return haveQuotaUsed(name, hard, corev1.ResourceList{name: resource.MustParse("0")})
}

// haveQuotaUsed is a quota of which so much is used; nil: a controller has yet to count that
// (k8s.io/apiserver v0.37.2 pkg/admission/plugin/resourcequota/controller.go:766).
func haveQuotaUsed(name corev1.ResourceName, hard string, used corev1.ResourceList) func(*testing.T, string) {
	return func(t *testing.T, ns string) {
		t.Helper()
		q := newQuota(t, ns, name, hard)
		q.Status = corev1.ResourceQuotaStatus{Hard: q.Spec.Hard, Used: used}
		if _, err := world.client.CoreV1().ResourceQuotas(ns).UpdateStatus(t.Context(), q, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
	}
}

// newQuota creates a ResourceQuota whose use was not counted yet.
func newQuota(t *testing.T, ns string, name corev1.ResourceName, hard string) *corev1.ResourceQuota {
	t.Helper()
	q := &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "compute"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{name: resource.MustParse(hard)}},
	}
	q, err := world.client.CoreV1().ResourceQuotas(ns).Create(t.Context(), q, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// askLargePod asks in earnest for a pod of that many bytes.
func askLargePod(size int) func(context.Context, *testing.T, string) error {
	return func(ctx context.Context, _ *testing.T, ns string) error {
		pod := unboundPod(ns)
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "LARGE", Value: strings.Repeat("x", size)}}
		_, err := world.client.CoreV1().Pods(ns).Create(ctx, pod, metav1.CreateOptions{})
		return err
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
