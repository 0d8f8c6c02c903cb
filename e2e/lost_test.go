package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

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
	runStories(t, append(stories, story{
		name: "image volume, it comes late", golden: true, real: true, rare: true, plain: true,
		pod: withImageVolume(newPod("volume-late", busyPlaceholder("a", "sleep 1; exit 0"), busyPlaceholder("b", "sleep 300")), "a", r.image("late-volume"), ""),
		do: func(ctx context.Context, t *testing.T, p *play) {
			p.waits(ctx, t, "a", "ErrImagePull")
			p.waits(ctx, t, "a", "ImagePullBackOff")
			r.publish("late-volume")
		},
		want: map[string]string{"a": "exit 0", "b": "runs"},
	}))
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
	reboot := func(ctx context.Context, t *testing.T) {
		t.Helper()
		if err := s.cluster.Reboot(ctx); err != nil {
			t.Fatal(err)
		}
	}
	never := sh("step", loop)
	never.ImagePullPolicy = corev1.PullNever
	retagged := never
	retagged.Image = cluster.PauseImageRetagged
	for _, c := range []story{
		{
			name: "hard reboot while a step runs", golden: true,
			pod: newPod("reboot", sh("step", loop), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				runs(ctx, t, p, *busyboxImage)
				reboot(ctx, t)
			},
			want: map[string]string{"step": "Lost", "other": "Lost", "": "Lost"},
		}, {
			name: "hard reboot before the swap", golden: true,
			pod: newPod("reboot-early", sh("step", loop), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				reboot(ctx, t)
			},
			want: map[string]string{"step": "Lost", "other": "Lost"},
		}, {
			name: "hard reboot, Always", golden: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("reboot-always", sh("step", loop), slot("other"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				runs(ctx, t, p, *busyboxImage)
				reboot(ctx, t)
				p.runsAgain(ctx, t, "step", 2)
			},
			want: map[string]string{"step": "runs"},
		}, {
			name: "a container removed behind the kubelet's back, Always", golden: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("removed-always", sh("step", loop), slot("other"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				runs(ctx, t, p, *busyboxImage)
				s.remove(ctx, t, p, "step", "")
				p.runsAgain(ctx, t, "step", 2)
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
			name: "hard reboot while an init container runs", golden: true, plain: true, rare: true,
			pod: withInit(newPod("reboot-init", busyPlaceholder("step", "exit 0")), sh("setup", loop)),
			do: func(ctx context.Context, t *testing.T, p *play) {
				if got := p.fate(ctx, "setup", "runs"); got != "runs" {
					t.Fatal(got)
				}
				reboot(ctx, t)
			},
			want: map[string]string{"setup": "Lost", "step": "PodEnded", "": "Lost"},
		}, {
			name: "hard reboot, OnFailure", golden: true, plain: true, rare: true,
			pod: withPolicy(corev1.RestartPolicyOnFailure, newPod("reboot-onfailure", busyPlaceholder("step", "sleep 8"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				reboot(ctx, t)
			},
			want: map[string]string{"step": "exit 0", "": "exit 0"},
		}, {
			name: "hard reboot, Always, and it ends later", golden: true, plain: true, rare: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("reboot-ends", busyPlaceholder("step", "sleep 8; exit 3"), busyPlaceholder("other", loop))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				reboot(ctx, t)
			},
			want: map[string]string{"step": "exit 3", "other": "runs"},
		}, {
			// The kubelet has no words for the end of what it does not find any more.
			name: "a container removed behind the kubelet's back, and the pod is over", golden: true, plain: true, rare: true,
			pod: newPod("removed-late", busyPlaceholder("step", loop), busyPlaceholder("other", loop)),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				s.remove(ctx, t, p, "step", "", func() { deadline(ctx, t, p) })
				eventually(ctx, t, "an end to be made up", func() bool { return p.status("step").State.Terminated != nil })
			},
			want: map[string]string{"step": "Deadline", "other": "exit 137, Deadline", "": "Deadline"},
		}, {
			// The last ones: from here on the node lacks an image.
			name: "an exit code restarts all containers, and an image is gone", golden: true, plain: true, rare: true,
			pod: onceAndForAll(newPod("all-gone", retagged, busyPlaceholder("other", ""))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				if err := s.cluster.Ctr(ctx, "images", "rm", cluster.PauseImageRetagged); err != nil {
					t.Fatal(err)
				}
				p.waits(ctx, t, "step", "ErrImageNeverPull")
			},
			want: map[string]string{"step": "waits: ImagePull/NeverPull", "other": "runs"},
		}, {
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
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			if c := &list[i]; c.Name == slot {
				c.Image = image
			}
		}
	}
	return pod
}

func withImageOf(c corev1.Container, image string) corev1.Container {
	c.Image = image
	return c
}

// remove removes a slot's container, and its image if one is given, while nobody looks.
func (s site) remove(ctx context.Context, t *testing.T, p *play, slot, image string, meanwhile ...func()) {
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
	for _, do := range meanwhile {
		do()
	}
	must(s.cluster.Stop(ctx, cluster.Containerd, true))
	must(s.cluster.Start(ctx, cluster.Containerd))
	must(s.cluster.Start(ctx, cluster.Kubelet))
}

// What happens while a watch has no contact, and of which the API server has no history
// when it is there again, nobody tells: runs are missed, and a pod's successor of the same
// name is the same object changed. The cluster is the test's own.
func TestWhatNoWatchShows(t *testing.T) {
	if !*recordTraces {
		t.Skip("is played to be recorded only: see -record")
	}
	s := ownSite(t, cluster.Config{})
	client, link := clientNamed(t, s.config, "blind")
	const longFromTheFifth = "echo >>/memory/runs; [ $(wc -l </memory/runs) -lt 5 ] && exit 1; sleep 20; exit 1"
	// unseen does something meanwhile.
	unseen := func(ctx context.Context, t *testing.T, do func()) {
		t.Helper()
		link.shut()
		defer link.open()
		do()
		if err := compact(ctx, s.cluster); err != nil {
			t.Fatal(err)
		}
		// The API server has history in its memory.
		if err := s.cluster.Stop(ctx, cluster.APIServer, false); err != nil {
			t.Fatal(err)
		}
		if err := s.cluster.Start(ctx, cluster.APIServer); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []story{
		{
			name: "plain, two runs that nobody saw", golden: true, plain: true, missed: true,
			pod: withPolicy(corev1.RestartPolicyAlways, withMemory(newPod("missed", busyPlaceholder("step", longFromTheFifth), busyPlaceholder("other", "sleep 300")))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.waits(ctx, t, "step", "CrashLoopBackOff")
				unseen(ctx, t, func() {
					eventuallyEvery(ctx, t, 100*time.Millisecond, "the fifth run", func() bool {
						pod, err := s.client.CoreV1().Pods(namespace).Get(ctx, p.pod.Name, metav1.GetOptions{})
						return err == nil && pod.Status.ContainerStatuses[1].RestartCount == 4 && pod.Status.ContainerStatuses[1].State.Running != nil
					})
				})
				p.runsAgain(ctx, t, "step", 4)
				p.waits(ctx, t, "step", "CrashLoopBackOff")
			},
			want: map[string]string{"step": "waits: CrashLoop", "other": "runs"},
		}, {
			name: "another pod of the name", golden: true, plain: true, bare: true,
			pod: newPod("twin", busyPlaceholder("step", "sleep 300")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				unseen(ctx, t, func() {
					pods := s.client.CoreV1().Pods(namespace)
					twin := p.pod.DeepCopy()
					twin.ObjectMeta = metav1.ObjectMeta{Name: p.pod.Name, Labels: p.pod.Labels}
					twin.Status = corev1.PodStatus{}
					if err := pods.Delete(ctx, p.pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
						t.Fatal(err)
					}
					if _, err := pods.Create(ctx, twin, metav1.CreateOptions{}); err != nil {
						t.Fatal(err)
					}
				})
			},
			want: map[string]string{"step": "Deleted", "": "Deleted"},
		},
	} {
		t.Run(c.name, func(t *testing.T) { c.runOn(t, client, true) })
	}
}
