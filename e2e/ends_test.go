package e2e

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/go-vela/podlife/eventsplit"
)

func TestAPodsEndReleasesEveryoneOnARealKubelet(t *testing.T) {
	needCluster(t)
	runStories(t, endStories())
}

func endStories() []story {
	greedy := slot("step")
	greedy.Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10k")}
	// running swaps in a step that goes on and on.
	running := func(ctx context.Context, t *testing.T, p *play) {
		swapped("step="+*busyboxImage)(ctx, t, p)
		if got := p.fate(ctx, "step", "runs"); got != "runs" {
			t.Fatal(got)
		}
	}
	// The shell of busybox, as PID 1, has no handler for SIGTERM.
	killed := func(class string) map[string]string {
		return map[string]string{"step": "exit 137, " + class, "never": class, "": class}
	}
	return []story{
		{
			name: "refused by the kubelet", golden: true, real: true,
			pod: newPod("rejected", greedy, slot("never")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				swapFails(eventsplit.ClassRejected, "step="+*busyboxImage)(ctx, t, p)
			},
			want: map[string]string{"step": "Rejected", "never": "Rejected", "": "Rejected"},
		}, {
			name: "deadline", golden: true,
			pod: newPod("deadline", slot("step", "sleep", "300"), slot("never")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				running(ctx, t, p)
				deadline(ctx, t, p)
			},
			want: killed("Deadline"),
		}, {
			name: "deleted by someone", golden: true,
			pod: newPod("deleted", slot("step", "sleep", "300"), slot("never")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				running(ctx, t, p)
				p.delete(ctx, t)
			},
			want: killed("Deleted"),
		}, {
			// The simulated cluster shows no MODIFIED before the DELETED.
			name: "deleted by force", golden: true, real: true,
			pod: newPod("forced", slot("step", "sleep", "300"), slot("never")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				running(ctx, t, p)
				err := p.client.CoreV1().Pods(namespace).Delete(ctx, p.pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
				if err != nil {
					t.Fatal(err)
				}
			},
			// The object is gone before its containers are: nobody will know.
			want: map[string]string{"step": "Deleted", "never": "Deleted", "": "Deleted"},
		}, {
			name: "evicted", golden: true, real: true,
			pod: newPod("evicted", slot("step", "sleep", "300"), slot("never")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				running(ctx, t, p)
				err := p.client.CoreV1().Pods(namespace).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.pod.Name, Namespace: namespace}})
				if err != nil {
					t.Fatal(err)
				}
			},
			want: killed("Evicted"),
		}, {
			name: "an unscheduled pod deleted",
			pod:  unscheduled(newPod("deleted-early", slot("step"), slot("never"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				swap := make(chan error, 1)
				go func() { swap <- p.swap(ctx, "step="+*busyboxImage) }()
				after(t, 300*time.Millisecond)
				if err := p.client.CoreV1().Pods(namespace).Delete(ctx, p.pod.Name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				var f *eventsplit.Failure
				if err := <-swap; !errors.As(err, &f) || f.Class != eventsplit.ClassDeleted {
					t.Errorf("swap: %v", err)
				}
			},
			want: map[string]string{"step": "Deleted", "never": "Deleted", "": "Deleted"}, golden: true, real: true,
		},
	}
}

// deadline gives the pod one that is over.
func deadline(ctx context.Context, t *testing.T, p *play) {
	t.Helper()
	patch := []byte(`{"spec":{"activeDeadlineSeconds":1}}`)
	if _, err := p.client.CoreV1().Pods(namespace).Patch(ctx, p.pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (p *play) delete(ctx context.Context, t *testing.T) {
	t.Helper()
	if err := p.client.CoreV1().Pods(namespace).Delete(ctx, p.pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, "the pod to be gone", func() bool {
		_, err := p.client.CoreV1().Pods(namespace).Get(ctx, p.pod.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}
