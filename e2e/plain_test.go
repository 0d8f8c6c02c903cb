package e2e

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Pods of whose containers none is a placeholder: as a Job's.
func TestPlainPodsOnARealKubelet(t *testing.T) {
	needCluster(t)
	runStories(t, plainStories(t))
}

// untilTold is a script that hears SIGTERM.
const untilTold = "trap 'exit 0' TERM; while :; do sleep 0.1; done"

func plainStories(t *testing.T) []story {
	t.Helper()
	nothing := func(context.Context, *testing.T, *play) {}
	shell := func(name, script string) corev1.Container { return busyPlaceholder(name, script) }
	bad := shell("bad", "exit 0")
	bad.Image = badImage(t)
	unconfigured := shell("step", "exit 0")
	unconfigured.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{
		ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "no-such"}, Key: "a"},
	}}}
	return []story{
		{
			name: "plain, quick", golden: true, plain: true,
			pod: newPod("plain-quick", shell("step", "exit 3"), shell("other", "sleep 300")), do: nothing,
			want: map[string]string{"step": "exit 3", "other": "runs"},
		}, {
			name: "plain, an image that cannot be pulled", golden: true, plain: true,
			pod: newPod("plain-pull", bad, shell("other", "sleep 300")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.troubled(ctx, t, "bad", "ImagePull/Network")
			},
			want: map[string]string{"other": "runs"},
		}, {
			name: "plain, a ConfigMap that is missing", golden: true, plain: true, real: true,
			pod: newPod("plain-config", unconfigured, shell("other", "sleep 300")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.troubled(ctx, t, "step", "Config")
			},
			want: map[string]string{"other": "runs"},
		}, {
			name: "plain, an init container fails", golden: true, plain: true, rare: true,
			pod: withInit(newPod("plain-init", shell("step", "exit 0")), shell("setup", "exit 3")), do: nothing,
			want: map[string]string{"setup": "exit 3", "step": "PodEnded", "": "exit 3"},
		}, {
			name: "plain, an init container that cannot be pulled", golden: true, plain: true, rare: true,
			pod: withImage(withInit(newPod("plain-init-pull", shell("step", "exit 0")), shell("setup", "exit 0")), "setup", badImage(t)),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.waits(ctx, t, "setup", "ErrImagePull")
				p.waits(ctx, t, "setup", "ImagePullBackOff")
			},
			want: map[string]string{"setup": "waits: ImagePull/Network", "step": "waits: ImagePull/Network"},
		}, {
			name: "plain, a sidecar", golden: true, plain: true,
			pod:  withInit(newPod("plain-sidecar", shell("step", "sleep 1; exit 0")), always(shell("side", untilTold))),
			do:   nothing,
			want: map[string]string{"side": "exit 0", "step": "exit 0", "": "exit 0"},
		}, {
			name: "plain, an ephemeral container", golden: true, plain: true, real: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("plain-ephemeral", shell("step", "sleep 300"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				p.debug(ctx, t, shell("debug", "sleep 1; exit 0"))
			},
			want: map[string]string{"step": "runs", "debug": "exit 0"},
		}, {
			name: "plain, it ends again and again", golden: true, plain: true, rare: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("plain-crashes", shell("step", "exit 1"), shell("other", "sleep 300"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				eventually(ctx, t, "two restarts", func() bool { return p.status("step").RestartCount == 2 })
				p.waits(ctx, t, "step", "CrashLoopBackOff")
			},
			want: map[string]string{"step": "waits: CrashLoop", "other": "runs"},
		}, {
			// Who comes later sees no more of it.
			name: "plain, only the back-off from a pull is seen", golden: true, plain: true, rare: true, real: true,
			pod: newPod("plain-backoff", bad, shell("other", "sleep 300")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.waits(ctx, t, "bad", "ImagePullBackOff")
				p.reattach(t) //nolint:contextcheck // what it starts lives as long as the test
			},
			want: map[string]string{"bad": "waits: ImagePull/Network", "other": "runs"},
		}, {
			name: "plain, an exit code restarts all containers", golden: true, plain: true, rare: true, real: true,
			pod:  onceAndForAll(newPod("plain-all", shell("step", "[ -e /memory/again ] && exit 0; touch /memory/again; sleep 300"), shell("other", ""))),
			do:   nothing,
			want: map[string]string{"step": "exit 0", "other": "runs"},
		}, {
			name: "plain, cleaned up after it succeeded", golden: true, plain: true, rare: true,
			pod:  newPod("plain-over", shell("step", "exit 0")),
			do:   endsThenIsDeleted,
			want: map[string]string{"step": "exit 0", "": "exit 0"},
		}, {
			name: "plain, cleaned up after it failed", golden: true, plain: true, rare: true,
			pod:  newPod("plain-failed", shell("step", "exit 0"), shell("other", "exit 3")),
			do:   endsThenIsDeleted,
			want: map[string]string{"step": "exit 0", "other": "exit 3", "": "exit 3"},
		}, {
			name: "plain, it obeys its deletion", golden: true, plain: true, rare: true,
			pod: newPod("plain-obeys", shell("step", untilTold)),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				p.delete(ctx, t)
			},
			want: map[string]string{"step": "exit 0, Deleted", "": "Deleted"},
		}, {
			name: "plain, it leaves the label selector", golden: true, plain: true, real: true,
			pod: newPod("plain-leaves", shell("step", "sleep 300"), bad),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.waits(ctx, t, "bad", "ErrImagePull")
				if got := p.fate(ctx, "step", "runs"); got != "runs" {
					t.Fatal(got)
				}
				patch := []byte(`{"metadata":{"labels":{"` + buildLabel + `":"of-another"}}}`)
				if _, err := p.client.CoreV1().Pods(namespace).Patch(ctx, p.pod.Name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			want: map[string]string{"step": "OutOfScope", "bad": "OutOfScope", "": "OutOfScope"},
		},
	}
}

// onceAndForAll lets the last container end once with an exit code that restarts all
// containers; the next time it runs on.
func onceAndForAll(pod *corev1.Pod) *corev1.Pod {
	c := &withMemory(pod).Spec.Containers[len(pod.Spec.Containers)-1]
	*c = restartedOn(*c, 88)
	c.RestartPolicyRules[0].Action = corev1.ContainerRestartRuleActionRestartAllContainers
	c.Args = []string{"sh", "-c", "[ -e /memory/once ] && exec sleep 300; touch /memory/once; sleep 3; exit 88"}
	return pod
}

// withMemory gives a pod's containers a directory that outlives their runs.
func withMemory(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "memory", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "memory", MountPath: "/memory"})
	}
	return pod
}

func endsThenIsDeleted(ctx context.Context, t *testing.T, p *play) {
	eventually(ctx, t, "the pod's end", func() bool { return p.split.State("").Final })
	p.delete(ctx, t)
}

// debug adds an ephemeral container.
func (p *play) debug(ctx context.Context, t *testing.T, c corev1.Container) {
	t.Helper()
	c.ImagePullPolicy = corev1.PullIfNotPresent
	patch := marshal(t, corev1.Pod{Spec: corev1.PodSpec{EphemeralContainers: []corev1.EphemeralContainer{
		{EphemeralContainerCommon: corev1.EphemeralContainerCommon(c)},
	}}})
	_, err := p.client.CoreV1().Pods(p.pod.Namespace).Patch(ctx, p.pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "ephemeralcontainers")
	if err != nil {
		t.Fatal(err)
	}
	eventually(ctx, t, c.Name+" to be known", func() bool { return p.split.State(c.Name).Failure == nil })
}

// status returns what the pod's newest status says of a slot.
func (p *play) status(slot string) corev1.ContainerStatus {
	pod := p.track.Pod()
	if pod == nil {
		return corev1.ContainerStatus{} // It was not seen yet.
	}
	s := pod.Status
	for _, st := range slices.Concat(s.InitContainerStatuses, s.ContainerStatuses) {
		if st.Name == slot {
			return st
		}
	}
	return corev1.ContainerStatus{}
}

// waits waits until the kubelet says that a slot waits, with this reason.
func (p *play) waits(ctx context.Context, t *testing.T, slot, reason string) {
	t.Helper()
	eventually(ctx, t, slot+" to wait: "+reason, func() bool {
		w := p.status(slot).State.Waiting
		return w != nil && w.Reason == reason
	})
}

// runsAgain waits until a slot runs that has been restarted so often, at least.
func (p *play) runsAgain(ctx context.Context, t *testing.T, slot string, restarts int32) {
	t.Helper()
	eventually(ctx, t, slot+" to run again", func() bool {
		st := p.status(slot)
		return st.RestartCount >= restarts && st.State.Running != nil
	})
}
