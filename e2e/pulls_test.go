package e2e

import (
	"context"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/eventsplit"
)

func TestPullsFailInTheRegistrysWordsOnARealKubelet(t *testing.T) {
	needCluster(t)
	needLocalNode(t)
	r := startRegistry(t)
	r.publish("good")
	r.publish("good-plain")
	pod := func(name string) *corev1.Pod { return newPod("pull-"+name, slot("step"), slot("other")) }
	var stories []story
	for name, c := range map[string]struct{ image, want string }{
		"no such image":         {r.image("missing"), "ImagePull/NotFound"},
		"no credentials":        {r.image("private"), "ImagePull/Unauthorized"},
		"rate limit":            {r.image("limited"), "ImagePull/RateLimited"},
		"broken registry":       {r.image("broken"), "ImagePull/Network"},
		"no such host":          {"registry.invalid/no/such:image", "ImagePull/NoSuchHost"},
		"no image's name":       {"UPPER//case", "ImagePull/InvalidName"},
		"a digest that is none": {r.host + "/missing@sha256:0", "ImagePull/InvalidName"},
	} {
		stories = append(stories, story{
			name: "pull, " + name, golden: true, pod: pod("x"), do: swapped("step=" + c.image),
			want: map[string]string{"step": c.want, "other": "not run"},
		})
	}
	never := slot("step")
	never.ImagePullPolicy = corev1.PullNever
	runStories(t, append(stories, story{
		name: "pull, never", golden: true,
		pod: newPod("pull-never", never, slot("other")), do: swapped("step=" + r.image("missing")),
		want: map[string]string{"step": "ImagePull/NeverPull", "other": "not run"},
	}, story{
		name: "pull, it is there", golden: true, rare: true, real: true,
		pod: newPod("pull-good", sh("step", "sleep 3"), slot("other")), do: swapped("step=" + r.image("good")),
		want: map[string]string{"step": "exit 0", "other": "not run"},
	}, story{
		name: "plain, its image is pulled", golden: true, plain: true, rare: true, real: true,
		pod:  newPod("plain-good", withImageOf(sh("step", "exit 0"), r.image("good-plain")), busyPlaceholder("other", "sleep 300")),
		do:   func(context.Context, *testing.T, *play) {},
		want: map[string]string{"step": "exit 0", "other": "runs"},
	}, story{
		name: "plain, its image comes late", golden: true, plain: true, rare: true, real: true,
		pod: newPod("plain-late", withImageOf(sh("step", "sleep 3"), r.image("late-plain")), busyPlaceholder("other", "sleep 300")),
		do: func(ctx context.Context, t *testing.T, p *play) {
			p.waits(ctx, t, "step", "ErrImagePull")
			r.publish("late-plain")
		},
		want: map[string]string{"step": "exit 0", "other": "runs"},
	}, story{
		name: "placeholder that cannot be pulled",
		pod: func() *corev1.Pod {
			pod := newPod("placeholder", slot("step"), slot("other"))
			pod.Spec.Containers[0].Image = r.image("missing")
			return pod
		}(),
		do:   swapFails(eventsplit.ClassImagePull, "step="+*busyboxImage),
		want: map[string]string{"step": "ImagePull/NotFound", "other": "not run"}, golden: true,
	}))
}

// needLocalNode skips a test whose cluster does not run on this machine.
func needLocalNode(t *testing.T) {
	t.Helper()
	if *nodeName != cluster.NodeName {
		t.Skip("needs a node that reaches this machine's loopback")
	}
}

// With a restart policy, or a rule, that restarts what the swap killed, the pull
// is tried again: that is no failure, it waits, and runs when the image is there.
func TestFailedPullsAreTriedAgainWhereThePolicySaysSo(t *testing.T) {
	needCluster(t)
	needLocalNode(t)
	r := startRegistry(t)
	// It waits with the registry's words, then the image comes.
	waitsThenRuns := func(name string) func(ctx context.Context, t *testing.T, p *play) {
		return func(ctx context.Context, t *testing.T, p *play) {
			swapped("step="+r.image(name))(ctx, t, p)
			if got, want := p.fate(ctx, "step", "waits: ImagePull/Network"), "waits: ImagePull/Network"; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			r.publish(name)
		}
	}
	// It waits, and the status says so, too.
	isSaidOf := func(image string) func(ctx context.Context, t *testing.T, p *play) {
		return func(ctx context.Context, t *testing.T, p *play) {
			swapped("step="+image)(ctx, t, p)
			p.waits(ctx, t, "step", "ErrImagePull")
		}
	}
	killed := busyPlaceholder("step", "trap '' TERM; while :; do sleep 1; done")
	exits42 := busyPlaceholder("step", "trap 'exit 42' TERM; while :; do sleep 0.1; done")
	runStories(t, []story{
		{
			name: "Always, the image comes late",
			pod:  withPolicy(corev1.RestartPolicyAlways, newPod("always-late", sh("step", "sleep 300"), slot("other"))),
			do:   waitsThenRuns("late-always"),
			want: map[string]string{"step": "runs", "other": "not run"}, golden: true,
		}, {
			// A registry that never answers is given six minutes.
			name: "Always, the image never comes", golden: true, rare: true,
			pod:  withPolicy(corev1.RestartPolicyAlways, newPod("always-never", slot("step"), slot("other"))),
			do:   swapped("step=" + r.image("never")),
			want: map[string]string{"step": "ImagePull/Network", "other": "not run"},
		}, {
			name: "Always, a placeholder that is restarted before the swap", golden: true, rare: true,
			pod: withPolicy(corev1.RestartPolicyAlways, newPod("restarted", busyPlaceholder("step", "sleep 3; exit 9"), slot("other"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.waits(ctx, t, "step", "CrashLoopBackOff")
				p.mustSwap(ctx, t, "step="+*pauseImage) // Which waits for the next placeholder.
			},
			want: map[string]string{"step": "runs", "other": "not run"},
		}, {
			// Its command comes later still.
			name: "Always, the image comes late, and cannot be started", golden: true, rare: true, real: true,
			pod: withPolicy(corev1.RestartPolicyAlways, withMemory(newPod("always-start", slot("step", "/memory/sh", "-c", "sleep 300"),
				busyPlaceholder("other", "while [ ! -e /memory/now ]; do sleep 1; done; cp /bin/busybox /memory/sh; sleep 300"), sh("now", "touch /memory/now; sleep 300")))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				waitsThenRuns("late-start")(ctx, t, p)
				p.troubled(ctx, t, "step", "Start")
				p.mustSwap(ctx, t, "now="+*busyboxImage)
				p.runsAgain(ctx, t, "step", 2)
			},
			// A command that is not there is given no time.
			want: map[string]string{"step": "exit 128, Start", "other": "not run", "now": "runs"},
		}, {
			name: "restarted by a rule, the image comes late",
			pod:  newPod("rule-late", restartedOn(sh("step", "exit 7"), 0, 2, 137), slot("other")),
			do:   waitsThenRuns("late-rule"),
			want: map[string]string{"step": "exit 7", "other": "not run"},
		}, {
			name: "a rule for the placeholder's own exit code", golden: true,
			pod:  newPod("rule-42", restartedOn(exits42, 42), slot("other")),
			do:   isSaidOf(badImage(t)),
			want: map[string]string{"step": "waits: ImagePull/Network", "other": "not run"},
		}, {
			name: "a rule for another exit code", golden: true,
			pod:  newPod("rule-0", restartedOn(slot("step"), 42), slot("other")),
			do:   swapped("step=" + badImage(t)),
			want: map[string]string{"step": "ImagePull/Network", "other": "not run"},
		}, {
			name: "OnFailure, the placeholder exits 0", golden: true,
			pod:  withPolicy(corev1.RestartPolicyOnFailure, newPod("onfailure", slot("step"), slot("other"))),
			do:   swapped("step=" + badImage(t)),
			want: map[string]string{"step": "ImagePull/Network", "other": "not run"},
		}, {
			name: "OnFailure, the placeholder is killed", golden: true,
			pod:  withPolicy(corev1.RestartPolicyOnFailure, newPod("onfailure-killed", killed, slot("other"))),
			do:   isSaidOf(badImage(t)),
			want: map[string]string{"step": "waits: ImagePull/Network", "other": "not run"},
		}, {
			name: "Always, a step that ends is run again",
			pod:  withPolicy(corev1.RestartPolicyAlways, newPod("always", sh("step", "sleep 1; exit 3"), slot("other"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				swapped("step="+*busyboxImage)(ctx, t, p)
				if got, want := p.fate(ctx, "step", "exit 3"), "exit 3"; got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				st, err := p.split.Wait(ctx, "step", func(st eventsplit.State) bool { return st.Restarts == 1 && eventsplit.Started(st) })
				if err != nil || st.Last == nil || st.Last.ExitCode != 3 {
					t.Errorf("after its restart: %+v, %v", st, err)
				}
			},
			want: map[string]string{"other": "not run"},
		},
	})
}

func TestSecretsThatAreMissingOnARealKubelet(t *testing.T) {
	needCluster(t)
	pod := func(name string) *corev1.Pod {
		c := slot("step", "true")
		pod := newPod(name, c, slot("other"))
		pod.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "TOKEN", ValueFrom: &corev1.EnvVarSource{
			SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: corev1.LocalObjectReference{Name: pod.Name}, Key: "token"},
		}}}
		return pod
	}
	secrets := world.client.CoreV1().Secrets(namespace)
	secret := func(pod *corev1.Pod, keys ...string) *corev1.Secret {
		s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Labels: pod.Labels}, Data: map[string][]byte{}}
		for _, key := range keys {
			s.Data[key] = []byte("x")
		}
		return s
	}
	there, never := pod("secret-deleted"), pod("secret-missing")
	late := withSecretVolume(newPod("volume-late", busyPlaceholder("step", "exit 0")))
	create := func(t *testing.T, of *corev1.Pod) {
		t.Helper()
		if _, err := secrets.Create(t.Context(), secret(of, "token"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		atEnd(t, "deleting the secret", func(ctx context.Context) error { return secrets.Delete(ctx, of.Name, metav1.DeleteOptions{}) })
	}
	create(t, there)
	lateEnv := pod("secret-late")
	runStories(t, []story{
		{
			name: "secret deleted before the swap", golden: true,
			pod: there,
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				if err := secrets.Delete(ctx, there.Name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
				after(t, time.Second) // The kubelet hears of it by a watch.
				p.mustSwap(ctx, t, "step="+*busyboxImage)
			},
			want: map[string]string{"step": "Config", "other": "not run"},
		}, {
			name: "plain, an environment's secret comes late", golden: true, plain: true, rare: true,
			pod: lateEnv,
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.troubled(ctx, t, "step", "Config")
				create(t, lateEnv)
			},
			want: map[string]string{"step": "runs", "other": "runs"},
		}, {
			name: "plain, a volume's secret comes late", golden: true, plain: true, rare: true,
			pod: late,
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.troubled(ctx, t, "step", "Volume")
				create(t, late)
			},
			want: map[string]string{"step": "exit 0", "": "exit 0"},
		}, {
			name: "plain, a volume's secret is never there", golden: true, plain: true, rare: true,
			pod:  withSecretVolume(newPod("volume-never", busyPlaceholder("step", "exit 0"))),
			do:   func(context.Context, *testing.T, *play) {},
			want: map[string]string{"step": "Volume"},
		}, {
			name: "secret that is never there", golden: true,
			pod: never,
			do: func(ctx context.Context, t *testing.T, p *play) {
				begin := time.Now()
				swapFails(eventsplit.ClassConfig, "step="+*busyboxImage)(ctx, t, p)
				// It might have come: DefaultPolicy gives it 2 min.
				if late := time.Since(begin); late < 115*time.Second || late > 135*time.Second {
					t.Errorf("that was said after %s, want about 2 min", late)
				}
			},
			want: map[string]string{"step": "Config", "other": "not run"},
		},
	})
}

// withSecretVolume gives the pod a volume of the secret that has its name.
func withSecretVolume(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: "secret", VolumeSource: corev1.VolumeSource{
		Secret: &corev1.SecretVolumeSource{SecretName: pod.Name},
	}})
	c := &pod.Spec.Containers[0]
	c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "secret", MountPath: "/secret"})
	return pod
}
