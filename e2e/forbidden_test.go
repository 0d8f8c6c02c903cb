package e2e

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/podwatch"
)

func TestForbiddenEventsAreDoneWithout(t *testing.T) {
	needCluster(t)
	if world.cluster == nil {
		t.Skip("needs the API server's audit log")
	}
	spec := idlePod("forbidden")
	user := "podlife-" + spec.Name
	allowPodsOnly(t, user)
	client, _ := clientNamed(t, world.config, spec.Name, func(c *rest.Config) { c.Impersonate.UserName = user })
	notices := make(chan podwatch.Notice, 100)
	w := watchPods(t, client, spec.Name, podwatch.Options{Notify: func(n podwatch.Notice) { notices <- n }})
	track, r := follow(t, w, spec.Name)
	pod := create(t, spec)
	track.Created(pod)
	r.await(t, "the pod", lastHeard(watch.Added, ""))
	after(t, 15*time.Second) // A bare informer would have asked five times.
	remove(t, pod)
	r.await(t, "the end", lastHeard(watch.Deleted, ""))

	r.want(t, map[types.UID]string{pod.UID: "pod"}, "ADDED pod", "DELETED pod")
	close(notices)
	said := map[podwatch.NoticeKind]int{}
	for n := range notices {
		if n.Resource == "events" {
			said[n.Kind]++
		}
	}
	if said[podwatch.NoticeForbidden] != 1 {
		t.Errorf("notices about Events: %v, want that they are forbidden, once", said)
	}
	asked := audited(t, world.cluster, spec.Name)
	if d := cmp.Diff([]string{"list"}, verbsAsked(asked, "events", time.Time{}, time.Now())); d != "" {
		t.Errorf("requests for Events in 15 s (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"list", "watch"}, verbsAsked(asked, "pods", time.Time{}, time.Now())); d != "" {
		t.Errorf("requests for pods (-want +got):\n%s", d)
	}
}

func TestRequiredEventsThatAreForbiddenAreAnError(t *testing.T) {
	needCluster(t)
	user := "podlife-" + idlePod("required").Name
	allowPodsOnly(t, user)
	client, _ := clientNamed(t, world.config, user, func(c *rest.Config) { c.Impersonate.UserName = user })
	w, err := podwatch.New(client, podwatch.Options{Namespace: namespace, Events: podwatch.EventsRequired})
	if err != nil {
		t.Fatal(err)
	}
	runUntilCleanup(t, w.Run)
	if err := w.WaitForSync(t.Context()); !apierrors.IsForbidden(err) {
		t.Errorf("WaitForSync returned %v, want the API server's refusal", err)
	}
}

// allowPodsOnly lets a user read pods, and nothing else.
func allowPodsOnly(t *testing.T, user string) {
	t.Helper()
	roles := world.client.RbacV1()
	_, err := roles.Roles(namespace).Create(t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list", "watch"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = roles.RoleBindings(namespace).Create(t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: user},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		for _, err := range []error{
			roles.RoleBindings(namespace).Delete(ctx, user, metav1.DeleteOptions{}),
			roles.Roles(namespace).Delete(ctx, user, metav1.DeleteOptions{}),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	})
	// The authorizer learns of it by a watch of its own.
	err = wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		review, err := world.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User:               user,
				ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: namespace, Verb: "watch", Resource: "pods"},
			},
		}, metav1.CreateOptions{})
		return err == nil && review.Status.Allowed, err
	})
	if err != nil {
		t.Fatalf("waiting for %s to be allowed to read pods: %v", user, err)
	}
}
