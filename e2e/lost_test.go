package e2e

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/e2e/cluster"
)

// withImageVolume mounts an image as a volume in the slot of that name.
func withImageVolume(pod *corev1.Pod, slot, image string, policy corev1.PullPolicy) *corev1.Pod {
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "model", VolumeSource: corev1.VolumeSource{
		Image: &corev1.ImageVolumeSource{Reference: image, PullPolicy: policy},
	}})
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == slot {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "model", MountPath: "/model", ReadOnly: true})
		}
	}
	return pod
}

// An image that is a volume's fails the containers that mount it, and no other. The
// kubelet's Event about it is about the pod.
func TestAnImageVolumeFailsOnlyTheContainersThatMountIt(t *testing.T) {
	needCluster(t)
	needLocalNode(t)
	r := startRegistry(t)
	var stories []story
	for name, c := range map[string]struct {
		image  string
		policy corev1.PullPolicy
		want   string
	}{
		"no image's name": {"Data/Model:9", "", "ImagePull/InvalidName"},
		"never":           {"podlife.test/model:9", corev1.PullNever, "ImagePull/NeverPull"},
		"no such image":   {r.image("missing"), corev1.PullAlways, "ImagePull/NotFound"},
	} {
		stories = append(stories, story{
			name: "image volume, " + name, golden: true, real: true,
			pod: withImageVolume(newPod("volume", slot("a"), sh("b", "sleep 1; exit 0")), "a", c.image, c.policy),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.mustSwap(ctx, t, "b="+*busyboxImage)
				p.troubled(ctx, t, "a", c.want)
			},
			// The pod goes on: the kubelet tries again for ever.
			want: map[string]string{"b": "exit 0"},
		})
	}
	runStories(t, stories)
}

// A node loses its containers: to a reboot without warning, after which containerd says
// of each that it ended with 255, Unknown; or because somebody removed one behind the
// kubelet's back. Nobody knows how they ended. The cluster is the test's own.
func TestContainersThatTheNodeLostHaveNoExitCode(t *testing.T) {
	s := ownSite(t, cluster.Config{})
	loop := "while :; do sleep 1; done"
	runs := func(ctx context.Context, t *testing.T, p *play, image string) {
		t.Helper()
		p.mustSwap(ctx, t, "step="+image)
		if got := p.fate(ctx, "step", "runs"); got != "runs" {
			t.Fatal(got)
		}
	}
	reboot := func(ctx context.Context, t *testing.T, p *play) {
		t.Helper()
		if err := s.cluster.Reboot(ctx); err != nil {
			t.Fatal(err)
		}
	}
	never := sh("step", loop)
	never.ImagePullPolicy = corev1.PullNever
	for _, c := range []story{
		{
			name: "hard reboot while a step runs", golden: true,
			pod: newPod("reboot", sh("step", loop), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				runs(ctx, t, p, *busyboxImage)
				reboot(ctx, t, p)
			},
			want: map[string]string{"step": "Lost", "other": "Lost", "": "Lost"},
		}, {
			name: "hard reboot before the swap", golden: true,
			pod: newPod("reboot-early", sh("step", loop), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				reboot(ctx, t, p)
			},
			want: map[string]string{"step": "Lost", "other": "Lost"},
		}, {
			name: "hard reboot, Always", golden: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("reboot-always", sh("step", loop), slot("other"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				runs(ctx, t, p, *busyboxImage)
				reboot(ctx, t, p)
				p.restarted(ctx, t, "step")
			},
			want: map[string]string{"step": "runs"},
		}, {
			name: "a container removed behind the kubelet's back, Always", golden: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("removed-always", sh("step", loop), slot("other"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				runs(ctx, t, p, *busyboxImage)
				s.remove(ctx, t, p, "step", "")
				p.restarted(ctx, t, "step")
			},
			want: map[string]string{"step": "runs"},
		}, {
			// The kubelet goes by the newest container that the node has: the placeholder.
			name: "a step removed behind the kubelet's back", golden: true,
			pod: newPod("removed-step", sh("step", loop), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				runs(ctx, t, p, *busyboxImage)
				s.remove(ctx, t, p, "step", "")
			},
			want: map[string]string{"step": "Lost", "other": "not run"},
		}, {
			// The last one: from here on the node lacks the image.
			name: "a container removed behind the kubelet's back", golden: true, plain: true,
			pod: withImage(newPod("removed", never, busyPlaceholder("other", loop)), "step", *busyboxImage),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				s.remove(ctx, t, p, "step", *busyboxImage)
			},
			want: map[string]string{"step": "waits: ImagePull/NeverPull", "other": "runs"},
		},
	} {
		t.Run(c.name, func(t *testing.T) { c.runOn(t, s.client, true) })
	}
}

func withImage(pod *corev1.Pod, slot, image string) *corev1.Pod {
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == slot {
			c.Image = image
		}
	}
	return pod
}

// remove removes a slot's container, and its image if one is given, while nobody looks.
func (s site) remove(ctx context.Context, t *testing.T, p *play, slot, image string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, id, _ := strings.Cut(p.split.State(slot).ContainerID, "://")
	must(s.cluster.Stop(ctx, cluster.Kubelet, true))
	must(s.cluster.Ctr(ctx, "tasks", "kill", "--signal", "KILL", id))
	eventually(ctx, t, "the container to be removed", func() bool {
		_ = s.cluster.Ctr(ctx, "tasks", "rm", id) // It may be gone by itself.
		return s.cluster.Ctr(ctx, "containers", "rm", id) == nil
	})
	if image != "" {
		must(s.cluster.Ctr(ctx, "images", "rm", image))
	}
	must(s.cluster.Stop(ctx, cluster.Containerd, true))
	must(s.cluster.Start(ctx, cluster.Containerd))
	must(s.cluster.Start(ctx, cluster.Kubelet))
}

// restarted waits until the kubelet runs the slot once more.
func (p *play) restarted(ctx context.Context, t *testing.T, slot string) {
	t.Helper()
	eventually(ctx, t, slot+" to run again", func() bool {
		for _, st := range p.track.Pod().Status.ContainerStatuses {
			if st.Name == slot && st.RestartCount > 1 && st.State.Running != nil {
				return true
			}
		}
		return false
	})
}
