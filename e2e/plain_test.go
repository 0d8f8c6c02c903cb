package e2e

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Pods of whose containers none is a placeholder: as a Job's.
func TestPlainPodsOnARealKubelet(t *testing.T) {
	needCluster(t)
	nothing := func(context.Context, *testing.T, *play) {}
	shell := func(name, script string) corev1.Container { return busyPlaceholder(name, script) }
	bad := shell("bad", "exit 0")
	bad.Image = badImage(t)
	unconfigured := shell("step", "exit 0")
	unconfigured.Env = []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{
		ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: "no-such"}, Key: "a"},
	}}}
	runStories(t, []story{
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
			name: "plain, a ConfigMap that is missing", golden: true, plain: true,
			pod: newPod("plain-config", unconfigured, shell("other", "sleep 300")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.troubled(ctx, t, "step", "Config")
			},
			want: map[string]string{"other": "runs"},
		},
	})
}
