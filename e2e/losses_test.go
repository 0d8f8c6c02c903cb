package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/eventsplit"
)

// burning makes every slot fail its readiness probe each second: the kubelet
// records a Warning for it, and a pod has 25 (k8s.io/client-go v0.36.3,
// tools/record/events_cache.go).
func burning(pod *corev1.Pod) *corev1.Pod {
	for i := range pod.Spec.Containers {
		pod.Spec.Containers[i].ReadinessProbe = &corev1.Probe{
			ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Host: "127.0.0.1", Port: intstr.FromInt32(1)}},
			PeriodSeconds: 1,
		}
	}
	return pod
}

// budgetIsSpent waits until the kubelet drops the pod's Warnings.
func budgetIsSpent(ctx context.Context, t *testing.T, p *play) {
	t.Helper()
	p.placeholdersRun(ctx, t)
	eventually(ctx, t, "the pod's Warnings to be spent", func() bool { return p.tape.warnings() >= 25 })
}

// With its Warnings spent, nothing says why a swap failed; that it failed is
// known all the same, and Kubernetes' word for the pod is Succeeded.
func TestAFailedSwapIsKnownWithoutItsEventsOnARealKubelet(t *testing.T) {
	needCluster(t)
	bad := "=" + badImage(t)
	runStories(t, []story{
		{
			name: "no event, others run", golden: true,
			pod: burning(newPod("spent", slot("a"), slot("b"), slot("c"), slot("d"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				budgetIsSpent(ctx, t, p)
				p.mustSwap(ctx, t, "a"+bad)
			},
			want: map[string]string{"a": "NotStarted", "b": "not run", "c": "not run", "d": "not run"},
		}, {
			name: "no event but the back-off, which is no Warning", golden: true,
			pod: burning(newPod("spent-twice", slot("a"), slot("b"), slot("c"), slot("d"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				budgetIsSpent(ctx, t, p)
				p.mustSwap(ctx, t, "a"+bad, "b"+bad)
			},
			want: map[string]string{"a": "NotStarted", "b": "ImagePull", "c": "not run", "d": "not run"},
		}, {
			name: "no event, all slots at once", golden: true,
			pod: burning(newPod("spent-all", slot("a"), slot("b"), slot("c"), slot("d"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				budgetIsSpent(ctx, t, p)
				// Of one image they would share the first one's back-off.
				p.mustSwap(ctx, t, "a"+bad+"-a", "b"+bad+"-b", "c"+bad+"-c", "d"+bad+"-d")
				eventually(ctx, t, "the pod to have ended", func() bool { return p.track.Pod().Status.Phase == corev1.PodSucceeded })
			},
			want: map[string]string{"a": "NotStarted", "b": "NotStarted", "c": "NotStarted", "d": "NotStarted", "": "NotStarted"},
		},
	})
}

// A kubelet that dies between the placeholder's end and the step's start never
// starts the step, unless the policy restarts what ended; one that dies while the
// step runs misses nothing. No other test's pods may be up meanwhile, so this
// one is not parallel.
func TestAKubeletRestartedDuringASwap(t *testing.T) {
	if world.client == nil {
		t.Skip("-short: needs a cluster")
	}
	if world.cluster == nil {
		t.Skip("the cluster is not this test's to restart")
	}
	needLocalNode(t)
	r := startRegistry(t)
	restartKubelet := func(ctx context.Context, t *testing.T) {
		t.Helper()
		if err := world.cluster.Stop(ctx, cluster.Kubelet, true); err != nil {
			t.Fatal(err)
		}
		if err := world.cluster.Start(ctx, cluster.Kubelet); err != nil {
			t.Fatal(err)
		}
	}
	// The pull never ends, so that is where the kubelet is.
	between := func(ctx context.Context, t *testing.T, p *play) {
		p.placeholdersRun(ctx, t)
		pulls := r.requests("stalled")
		p.mustSwap(ctx, t, "step="+r.image("stalled"))
		eventually(ctx, t, "the pull to begin", func() bool { return r.requests("stalled") > pulls })
		restartKubelet(ctx, t)
	}
	for _, s := range []story{
		{
			name: "kubelet restarted between kill and start", golden: true,
			pod: newPod("restart-never", slot("step"), slot("other")), do: between,
			want: map[string]string{"step": "NotStarted", "other": "not run"},
		}, {
			name: "kubelet restarted between kill and start, Always", golden: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("restart-always", sh("step", "sleep 300"), slot("other"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				between(ctx, t, p)
				r.publish("stalled") // For the next pull; the killed kubelet's is over.
			},
			want: map[string]string{"step": "runs", "other": "not run"},
		}, {
			name: "kubelet restarted while a step runs", golden: true,
			pod: newPod("restart-running", sh("step", "sleep 8; exit 3"), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				swapped("step="+*busyboxImage)(ctx, t, p)
				if got := p.fate(ctx, "step", "runs"); got != "runs" {
					t.Fatal(got)
				}
				restartKubelet(ctx, t)
			},
			want: map[string]string{"step": "exit 3", "other": "not run"},
		},
	} {
		t.Run(s.name, s.run)
	}
}

// A ValidatingAdmissionPolicy or a webhook denies a swap: that is said in its words, nothing
// has changed, and another image may be swapped in.
func TestASwapThatIsDeniedChangesNothing(t *testing.T) {
	needCluster(t)
	denied := func(name, kind, words string, deny func(t *testing.T, ns string)) story {
		ns := ownNamespace(t, nil)
		deny(t, ns)
		pod := newPod("denied", sh("step", "exit 5"), slot("other"))
		pod.Namespace = ns
		return story{
			name: name, golden: true, pod: pod, real: true,
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				for range 2 { // It can be tried again.
					err := p.swap(ctx, "step="+forbiddenImage)
					var f *eventsplit.Failure
					if !errors.As(err, &f) || kindOf(f) != kind || f.Slot != "step" || !strings.Contains(f.Error(), words) {
						t.Errorf("got %v, want a Failure %s with the words %q", err, kind, words)
					}
					if st := p.split.State("step"); st.Phase != eventsplit.PhaseNotRun || st.Failure != nil {
						t.Errorf("after the denial: %+v", st)
					}
				}
				after(t, time.Second)
				p.mustSwap(ctx, t, "step="+*busyboxImage)
			},
			want: map[string]string{"step": "exit 5", "other": "not run"},
		}
	}
	words := "only from our registry"
	runStories(t, []story{
		denied("denied by a policy", "Denied/Policy", policyMessage, denyImages),
		denied("denied by a webhook", "Denied/Webhook", words, haveWebhook(webhook{only: forbiddenImage, answer: &metav1.Status{Message: words}})),
	})
}

// A host that starts anew knows of a slot what it finds: that a step runs by now, or that
// its image is patched and its placeholder still runs.
func TestAHostThatStartsAnewOnARealKubelet(t *testing.T) {
	needCluster(t)
	bad := badImage(t)
	runs := func(image string) func(context.Context, *testing.T, *play) {
		return func(ctx context.Context, t *testing.T, p *play) {
			swapped("step="+image)(ctx, t, p)
			if got := p.fate(ctx, "step", "runs"); got != "runs" {
				t.Fatal(got)
			}
			p.reattach(t) //nolint:contextcheck // what it starts lives as long as the test
		}
	}
	runStories(t, []story{
		{
			name: "a host starts anew while a step runs", golden: true,
			pod: newPod("anew", sh("step", "sleep 5; exit 3"), slot("other")), do: runs(*busyboxImage),
			want: map[string]string{"step": "exit 3", "other": "not run"},
		}, {
			name: "a host starts anew while a step runs, Always", golden: true, rare: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("anew-always", sh("step", "sleep 5; exit 3"), slot("other"))), do: runs(*busyboxImage),
			want: map[string]string{"step": "Lost/Unattributed", "other": "not run"},
		}, {
			name: "a host starts anew between a patch and its step", golden: true, rare: true,
			pod: newPod("anew-early", sh("step", "exit 3"), slot("bad"), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				p.patchedByOthers(ctx, t, "step="+*busyboxImage, "bad="+bad)
				p.reattach(t) //nolint:contextcheck // what it starts lives as long as the test
				if st := p.status("step"); st.State.Running == nil || p.tape.placeholder("step") != st.ContainerID {
					t.Errorf("not the placeholder's status: %+v", st)
				}
			},
			want: map[string]string{"step": "exit 3", "bad": "ImagePull/Network", "other": "not run"},
		},
	})
}
