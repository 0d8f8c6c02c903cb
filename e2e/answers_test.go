package e2e

import (
	"bytes"
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
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/e2e/cluster"
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
	says       string                                                   // of those of that class, the one that says so
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

// saidBy ends the name of an answer that is recorded, not written. A version that says what
// another one does has no record of its own.
func saidBy(version string) string { return ", as " + version + " says it" }

// saidSo returns the record that an answer of this version is held against: its own, or
// another version's, if any that says the same.
func saidSo(all []recordedAnswer, got recordedAnswer, version string) (found recordedAnswer) {
	for _, r := range all {
		name, isRecorded := strings.CutSuffix(r.Name, " says it")
		switch {
		case r.Name == got.Name+saidBy(version):
			return r
		case isRecorded && strings.HasPrefix(name, got.Name+", as v") && (found.Name == "" || gocmp.Equal(withName(got, r.Name), r)):
			found = r
		}
	}
	return found
}

func withName(r recordedAnswer, name string) recordedAnswer {
	r.Name = name
	return r
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
		{name: "quota", want: "Quota", says: "exceeded quota", mayRecover: true, refused: true, ask: askPod(), prepare: haveQuota(corev1.ResourcePods, "0")},
		{name: "quota wants requests", want: "Quota", says: "failed quota", refused: true, ask: askPod(), prepare: haveQuota(corev1.ResourceRequestsCPU, "10")},
		{
			name: "quota not counted yet", want: "Quota", says: "status unknown for quota", mayRecover: true, refused: true, ask: askPod(),
			prepare: haveQuotaUsed(corev1.ResourcePods, "1", nil),
		},
		{
			name: "no such priority class", want: "Forbidden", refused: true,
			ask: askPod(func(p *corev1.Pod) { p.Spec.PriorityClassName = "no-such" }),
		},
		{
			name: "no such runtime class", want: "Forbidden", refused: true,
			ask: askPod(func(p *corev1.Pod) { name := "no-such"; p.Spec.RuntimeClassName = &name }),
		},
		// Too large to be stored, which no dry run finds out; and to be read.
		{name: "too large for etcd", want: "Invalid", refused: true, ask: askLargePod(1700 << 10)},
		{name: "too large for the API server", want: "Invalid", refused: true, ask: askLargePod(3200 << 10)},
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
		{name: "webhook down", want: "Transient/Webhook", mayRecover: true, refused: true, ask: askPod(), prepare: haveWebhook(webhook{down: true})},
		{name: "webhook does not answer", want: "Transient/Webhook", mayRecover: true, refused: true, ask: askPod(), prepare: haveWebhook(webhook{silent: true})},
		{name: "webhook not trusted", want: "Transient/Webhook", mayRecover: true, refused: true, ask: askPod(), prepare: haveWebhook(webhook{untrusted: true})},
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
			name: "timeout", want: "Uncertain/Timeout", mayRecover: true, prepare: haveWebhook(webhook{silent: true}),
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

// accountAnswers are those of an API server that wants every pod to have a service account.
// Of the tests' own one it is not wanted, for nothing would create it: this is one more, to
// record what it says.
func accountAnswers(t *testing.T) []answer {
	t.Helper()
	if !*recordTraces || world.cluster == nil {
		return nil
	}
	s := bringUpSite(t, cluster.Config{ServiceAccounts: true})
	ask := func(change ...func(*corev1.Pod)) func(context.Context, *testing.T, string) error {
		return func(ctx context.Context, t *testing.T, ns string) error {
			_, err := s.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}, metav1.CreateOptions{})
			if err != nil && !apierrors.IsAlreadyExists(err) {
				t.Fatal(err)
			}
			return tryPodAs(ctx, s.client, ns, change...)
		}
	}
	return []answer{
		{
			name: "no service account", want: "Forbidden", says: "service account", mayRecover: true, refused: true,
			ask: ask(func(p *corev1.Pod) { p.Spec.ServiceAccountName = "builder" }),
		},
		{name: "service account still to come", want: "Forbidden", says: "service account", mayRecover: true, refused: true, ask: ask()},
	}
}

// What a real API server answers is what eventsplit's test data says that it does.
func TestAnswersOfARealAPIServerHaveTheirClass(t *testing.T) {
	needCluster(t)
	var mu sync.Mutex
	var recorded []recordedAnswer
	t.Run("answers", func(t *testing.T) {
		for _, a := range append(apiAnswers(), accountAnswers(t)...) {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				got := a.get(t)
				mu.Lock()
				defer mu.Unlock()
				recorded = append(recorded, got)
			})
		}
	})
	file, version := filepath.Join(goldenDir, "apierrors.jsonl"), versionOf(t, world.client)
	if *recordTraces && !t.Failed() {
		writeAnswers(t, file, version, recorded)
		return
	}
	all := readAnswers(t, file)
	for _, got := range recorded {
		want := saidSo(all, got, version)
		if diff := gocmp.Diff(want, withName(got, want.Name)); diff != "" {
			t.Errorf("%s, %s: (-%s +cluster):\n%s", got.Name, version, file, diff)
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
		return err != nil && kindOf(eventsplit.ClassifyAPIError(err)) == a.want && strings.Contains(err.Error(), a.says), nil
	})
	if err == nil {
		t.Fatal("the API server does it")
	}
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) {
		t.Fatalf("no answer of an API server: %v", err)
	}
	text := strings.ReplaceAll(steady(string(marshal(t, status.Status()))), ns, "ci")
	r := recordedAnswer{Name: a.name, MayRecover: a.mayRecover, Refused: a.refused}
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

// writeAnswers replaces this version's answers in the file. Other versions' are kept as
// they are, and so are the lines before all recorded ones, which are sorted by their names.
func writeAnswers(t *testing.T, file, version string, recorded []recordedAnswer) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	all := readAnswers(t, file)
	others := slices.DeleteFunc(slices.Clone(all), func(r recordedAnswer) bool { return strings.HasSuffix(r.Name, saidBy(version)) })
	var written, lines []string // the latter with their names before them
	for i, line := range slices.Collect(strings.Lines(string(text))) {
		switch name := all[i].Name; {
		case strings.HasSuffix(name, saidBy(version)):
		case strings.HasSuffix(name, " says it"):
			lines = append(lines, name+"\n"+line)
		default:
			written = append(written, line)
		}
	}
	for _, r := range recorded {
		if said := saidSo(others, r, version); gocmp.Equal(said, withName(r, said.Name)) {
			continue
		}
		r.Name += saidBy(version)
		var line strings.Builder
		encoder := json.NewEncoder(&line)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(r); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, r.Name+"\n"+line.String())
	}
	slices.Sort(lines)
	for i, line := range lines {
		_, lines[i], _ = strings.Cut(line, "\n")
	}
	if err := os.WriteFile(file, []byte(strings.Join(append(written, lines...), "")), 0o600); err != nil {
		t.Fatal(err)
	}
}
