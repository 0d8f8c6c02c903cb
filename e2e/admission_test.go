package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ownNamespace creates a namespace and deletes it with the test.
func ownNamespace(t *testing.T, labels map[string]string) string {
	t.Helper()
	name := "answers-" + strings.ToLower(rand.Text()[:8])
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := world.client.CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	atEnd(t, "deleting namespace "+name, func(ctx context.Context) error { return removeNamespace(ctx, name) })
	return name
}

// removeNamespace deletes a namespace and, where no controller does, finalises it.
func removeNamespace(ctx context.Context, name string) error {
	namespaces := world.client.CoreV1().Namespaces()
	if err := namespaces.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	ns, err := namespaces.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	ns.Spec.Finalizers = nil
	_, err = namespaces.Finalize(ctx, ns, metav1.UpdateOptions{})
	return err
}

// atEnd does something when the test has ended; that what it is about is gone
// already is fine.
func atEnd(t *testing.T, what string, do func(context.Context) error) {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		if err := do(ctx); err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
			t.Errorf("%s: %v", what, err)
		}
	})
}

const (
	forbiddenImage = "forbidden.test/image:1"
	policyMessage  = "images of forbidden.test are not for builds"
)

// denyImages makes a policy deny forbiddenImage in a namespace, and waits until
// it does.
func denyImages(t *testing.T, ns string) {
	t.Helper()
	api := world.client.AdmissionregistrationV1()
	fail := admissionregistrationv1.Fail
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "images-" + ns},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail,
			MatchConstraints: &admissionregistrationv1.MatchResources{
				ResourceRules: []admissionregistrationv1.NamedRuleWithOperations{{RuleWithOperations: podsIn()}},
			},
			Validations: []admissionregistrationv1.Validation{{
				Expression: "object.spec.containers.all(c, !c.image.startsWith('forbidden.test/'))", Message: policyMessage,
			}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: policy.Name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName:        policy.Name,
			ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
			MatchResources:    &admissionregistrationv1.MatchResources{NamespaceSelector: only(ns)},
		},
	}
	if _, err := api.ValidatingAdmissionPolicies().Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	atEnd(t, "deleting the policy", func(ctx context.Context) error {
		return api.ValidatingAdmissionPolicies().Delete(ctx, policy.Name, metav1.DeleteOptions{})
	})
	if _, err := api.ValidatingAdmissionPolicyBindings().Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	atEnd(t, "deleting its binding", func(ctx context.Context) error {
		return api.ValidatingAdmissionPolicyBindings().Delete(ctx, binding.Name, metav1.DeleteOptions{})
	})
	eventually(t.Context(), t, "the policy to be in force", func() bool {
		err := tryPod(t.Context(), ns, func(pod *corev1.Pod) { pod.Spec.Containers[0].Image = forbiddenImage })
		return err != nil && strings.Contains(err.Error(), policyMessage)
	})
}

func podsIn() admissionregistrationv1.RuleWithOperations {
	return admissionregistrationv1.RuleWithOperations{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
	}
}

func only(ns string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: ns}}
}

// webhook is what an admission webhook of a namespace is and does.
type webhook struct {
	answer    *metav1.Status // what it denies with
	only      string         // the image that it denies; "": everything
	silent    bool           // it never answers
	down      bool           // nothing listens where it should
	untrusted bool           // its certificate is not the one that the API server is to trust
}

// startWebhook serves an admission webhook on loopback for a namespace's pods.
func startWebhook(t *testing.T, ns string, h webhook) {
	t.Helper()
	over := make(chan struct{})
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if h.silent {
			select {
			case <-over:
			case <-q.Context().Done():
			}
			return
		}
		h.review(w, q)
	}))
	t.Cleanup(func() {
		close(over)
		server.Close()
	})
	fail, none, seconds := admissionregistrationv1.Fail, admissionregistrationv1.SideEffectClassNone, int32(1)
	client := admissionregistrationv1.WebhookClientConfig{
		URL:      &server.URL,
		CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}),
	}
	if h.untrusted {
		client.CABundle = nil
	}
	if h.down {
		server.Close()
	}
	config := &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: ns},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "images.ci.example", ClientConfig: client, Rules: []admissionregistrationv1.RuleWithOperations{podsIn()},
			NamespaceSelector: only(ns), FailurePolicy: &fail, SideEffects: &none, TimeoutSeconds: &seconds,
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
	api := world.client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	if _, err := api.Create(t.Context(), config, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	atEnd(t, "deleting the webhook", func(ctx context.Context) error { return api.Delete(ctx, config.Name, metav1.DeleteOptions{}) })
}

func (h webhook) review(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	var review admissionv1.AdmissionReview
	if err != nil || json.Unmarshal(body, &review) != nil || review.Request == nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	fine := h.only != "" && !bytes.Contains(review.Request.Object.Raw, []byte(h.only))
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: fine, Result: h.answer}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review)
}
