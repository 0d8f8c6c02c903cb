package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/eventsplit"
)

// story is one pod's life on a real kubelet, and what is to be said of it.
type story struct {
	name string
	pod  *corev1.Pod
	do   func(context.Context, *testing.T, *play)
	// want is what becomes of each slot, slot "" being the pod: see play.fate.
	want map[string]string
	// golden: what the cluster shows is compared with, or recorded as, a golden
	// trace of eventsplit's. Not for what a script has no words for.
	golden bool
	// real: the simulated cluster cannot play it.
	real bool
}

func (s story) run(t *testing.T) {
	t.Helper()
	s.runOn(t, world.client)
}

func (s story) runOn(t *testing.T, client kubernetes.Interface) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p := stage(t, client, s.pod)
	s.do(ctx, t, p)
	p.checkFates(ctx, t, s.want)
	outlines := p.checkTimelines(ctx, t)
	if s.golden && !t.Failed() {
		p.compareWithGolden(t, s.name, outlines)
	}
}

// swapped is a story that waits for the placeholders and swaps these images in.
func swapped(images ...string) func(context.Context, *testing.T, *play) {
	return func(ctx context.Context, t *testing.T, p *play) {
		p.placeholdersRun(ctx, t)
		p.mustSwap(ctx, t, images...)
	}
}

// swappedAtOnce swaps before a placeholder runs: right after create.
func swappedAtOnce(images ...string) func(context.Context, *testing.T, *play) {
	return func(ctx context.Context, t *testing.T, p *play) {
		if p.tape.running() > 0 {
			t.Fatal("a placeholder runs already")
		}
		p.mustSwap(ctx, t, images...)
		for _, image := range images {
			slot, _, _ := strings.Cut(image, "=")
			if p.tape.placeholder(slot) == "" {
				t.Errorf("%s was patched before its placeholder was known", slot)
			}
		}
	}
}

func sh(name, script string) corev1.Container { return slot(name, "sh", "-c", script) }

func withPolicy(policy corev1.RestartPolicy, pod *corev1.Pod) *corev1.Pod {
	pod.Spec.RestartPolicy = policy
	return pod
}

// restartedOn gives a slot a rule of its own: restarted on these exit codes only.
func restartedOn(c corev1.Container, codes ...int32) corev1.Container {
	never := corev1.ContainerRestartPolicyNever
	c.RestartPolicy = &never
	c.RestartPolicyRules = []corev1.ContainerRestartRule{{
		Action: corev1.ContainerRestartRuleActionRestart,
		ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{
			Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: codes,
		},
	}}
	return c
}

// busyPlaceholder is a placeholder with a shell script of its own.
func busyPlaceholder(name, script string) corev1.Container {
	c := sh(name, script)
	c.Image = *busyboxImage
	return c
}

func runStories(t *testing.T, stories []story) {
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t)
		})
	}
}

func TestSwapsOnARealKubelet(t *testing.T) {
	needCluster(t)
	runStories(t, swapStories(t))
}

func swapStories(t *testing.T) []story {
	t.Helper()
	step := "step=" + *busyboxImage
	bad := "step=" + badImage(t)
	return []story{
		{
			name: "good swap", golden: true,
			pod:  newPod("good", sh("step", "sleep 1; exit 3"), slot("other")),
			do:   swapped(step),
			want: map[string]string{"step": "exit 3", "other": "not run"},
		}, {
			name: "gone before Running was seen", golden: true,
			pod:  newPod("quick", slot("step", "true"), slot("other")),
			do:   swapped(step),
			want: map[string]string{"step": "exit 0", "other": "not run"},
		}, {
			name: "called before the placeholder runs, good image", golden: true,
			pod:  newPod("early-good", sh("step", "exit 4"), slot("other")),
			do:   swappedAtOnce(step),
			want: map[string]string{"step": "exit 4", "other": "not run"},
		}, {
			name: "called before the placeholder runs, bad image", golden: true,
			pod:  newPod("early-bad", slot("step"), slot("other")),
			do:   swappedAtOnce(bad),
			want: map[string]string{"step": "ImagePull/Network", "other": "not run"},
		}, {
			name: "pod unscheduled for a while", golden: true, real: true,
			pod:  unscheduled(newPod("unscheduled", sh("step", "exit 5"), slot("other"))),
			do:   swappedUnscheduled(step),
			want: map[string]string{"step": "exit 5", "other": "not run"},
		}, {
			name: "three slots in one patch", golden: true,
			pod:  newPod("three", sh("a", "exit 1"), slot("b"), sh("c", "exit 2"), slot("other")),
			do:   swapped("a="+*busyboxImage, strings.Replace(bad, "step", "b", 1), "c="+*busyboxImage),
			want: map[string]string{"a": "exit 1", "b": "ImagePull/Network", "c": "exit 2", "other": "not run"},
		}, {
			name: "last slot cannot be pulled", golden: true,
			// Kubernetes calls this pod Succeeded.
			pod:  newPod("last", slot("step")),
			do:   swapped(bad),
			want: map[string]string{"step": "ImagePull/Network", "": "ImagePull/Network"},
		}, {
			name: "command not found", golden: true, real: true,
			pod:  newPod("no-command", slot("step", "/no/such/command"), slot("other")),
			do:   swapped(step),
			want: map[string]string{"step": "exit 128, Start", "other": "not run"},
		}, {
			name: "another tag of the placeholder's image",
			pod:  newPod("retag", slot("step"), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				if *pauseImage != cluster.PauseImage {
					t.Skip("the placeholder's image has no other tag")
				}
				swapped("step="+cluster.PauseImageRetagged)(ctx, t, p)
			},
			want: map[string]string{"step": "runs", "other": "not run"}, golden: true,
		}, {
			name: "placeholder that ignores SIGTERM, bad image", golden: true, real: true,
			pod:  newPod("stubborn", busyPlaceholder("step", "trap '' TERM; while :; do sleep 1; done"), slot("other")),
			do:   swapped(bad),
			want: map[string]string{"step": "ImagePull/Network", "other": "not run"},
		}, {
			name: "placeholder died before the patch", golden: true,
			pod: newPod("died", busyPlaceholder("step", "exit 9"), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.fate(ctx, "step", "Placeholder") // Its end is known.
				swapFails(eventsplit.ClassPlaceholder, "step="+*pauseImage)(ctx, t, p)
			},
			want: map[string]string{"step": "Placeholder", "other": "not run"},
		}, {
			name: "the same image",
			pod:  newPod("same", sh("step", "exit 6"), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				swapFails(eventsplit.ClassUnchanged, "step="+*pauseImage)(ctx, t, p)
				p.mustSwap(ctx, t, step) // Another image is as good as ever.
			},
			want: map[string]string{"step": "exit 6", "other": "not run"},
		}, {
			// As a webhook injects them: the caller takes every slot for a placeholder.
			name: "init container and sidecar",
			pod:  withInit(newPod("init", sh("step", "exit 5"), slot("other")), sh("setup", "exit 0"), always(sh("mesh", "sleep 300"))),
			do:   swapped(step),
			want: map[string]string{"setup": "exit 0", "step": "exit 5", "other": "not run"},
		}, {
			name: "init container that fails",
			pod:  withInit(newPod("init-fails", slot("step"), slot("other")), sh("setup", "exit 3")),
			do:   swapFails(eventsplit.ClassPodEnded, step),
			want: map[string]string{"setup": "exit 3", "step": "PodEnded", "other": "PodEnded", "": "exit 3"},
		}, {
			name: "a step replaced by another image", golden: true,
			pod: newPod("twice", sh("step", "exit 5"), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				if *pauseImage != cluster.PauseImage {
					t.Skip("the placeholder's image has no other tag")
				}
				swapped("step="+cluster.PauseImageRetagged)(ctx, t, p)
				p.fate(ctx, "step", "runs")
				p.mustSwap(ctx, t, step)
			},
			want: map[string]string{"step": "exit 5", "other": "not run"},
		},
	}
}

// withInit gives a pod init containers.
func withInit(pod *corev1.Pod, containers ...corev1.Container) *corev1.Pod {
	for _, c := range containers {
		c.Image = *busyboxImage
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, c)
	}
	return pod
}

// always makes an init container a sidecar.
func always(c corev1.Container) corev1.Container {
	policy := corev1.ContainerRestartPolicyAlways
	c.RestartPolicy = &policy
	return c
}

func unscheduled(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.NodeName = ""
	return pod
}

// swappedUnscheduled swaps while the pod has no node, and gives it one later.
func swappedUnscheduled(images ...string) func(context.Context, *testing.T, *play) {
	return func(ctx context.Context, t *testing.T, p *play) {
		swap := make(chan error, 1)
		go func() { swap <- p.swap(ctx, images...) }()
		after(t, time.Second)
		select {
		case <-p.patched:
			t.Error("the pod was patched before it had a node")
		case err := <-swap:
			t.Fatalf("the swap ended before the pod had a node: %v", err)
		default:
		}
		if err := bind(ctx, p.pod); err != nil {
			t.Fatal(err)
		}
		if err := <-swap; err != nil {
			t.Fatal(err)
		}
	}
}

// swapFails swaps and gets a Failure of this class.
func swapFails(class eventsplit.Class, images ...string) func(context.Context, *testing.T, *play) {
	return func(ctx context.Context, t *testing.T, p *play) {
		t.Helper()
		err := p.swap(ctx, images...)
		var f *eventsplit.Failure
		if !errors.As(err, &f) || f.Class != class {
			t.Errorf("swap %s: got %v, want a Failure of class %s", images, err, class)
		}
	}
}

func TestPullsFailInTheRegistrysWordsOnARealKubelet(t *testing.T) {
	needCluster(t)
	needLocalNode(t)
	r := startRegistry(t)
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
	killed := busyPlaceholder("step", "trap '' TERM; while :; do sleep 1; done")
	exits42 := busyPlaceholder("step", "trap 'exit 42' TERM; while :; do sleep 0.1; done")
	runStories(t, []story{
		{
			name: "Always, the image comes late",
			pod:  withPolicy(corev1.RestartPolicyAlways, newPod("always-late", sh("step", "sleep 300"), slot("other"))),
			do:   waitsThenRuns("late-always"),
			want: map[string]string{"step": "runs", "other": "not run"}, golden: true,
		}, {
			name: "restarted by a rule, the image comes late",
			pod:  newPod("rule-late", restartedOn(sh("step", "exit 7"), 0, 2, 137), slot("other")),
			do:   waitsThenRuns("late-rule"),
			want: map[string]string{"step": "exit 7", "other": "not run"},
		}, {
			name: "a rule for the placeholder's own exit code", golden: true,
			pod:  newPod("rule-42", restartedOn(exits42, 42), slot("other")),
			do:   swapped("step=" + badImage(t)),
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
			do:   swapped("step=" + badImage(t)),
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
	if _, err := secrets.Create(t.Context(), secret(there, "token"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
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
			name: "secret that is never there", golden: true,
			pod: never,
			do: func(ctx context.Context, t *testing.T, p *play) {
				begin := time.Now()
				swapFails(eventsplit.ClassConfig, "step="+*busyboxImage)(ctx, t, p)
				// It might have come: DefaultPolicy gives it 30 s.
				if late := time.Since(begin); late < 25*time.Second || late > 45*time.Second {
					t.Errorf("that was said after %s, want about 30 s", late)
				}
			},
			want: map[string]string{"step": "Config", "other": "not run"},
		},
	})
}

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
				deadline := []byte(`{"spec":{"activeDeadlineSeconds":1}}`)
				_, err := p.client.CoreV1().Pods(namespace).Patch(ctx, p.pod.Name, types.StrategicMergePatchType, deadline, metav1.PatchOptions{})
				if err != nil {
					t.Fatal(err)
				}
			},
			want: killed("Deadline"),
		}, {
			name: "deleted by someone", golden: true,
			pod: newPod("deleted", slot("step", "sleep", "300"), slot("never")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				running(ctx, t, p)
				if err := p.client.CoreV1().Pods(namespace).Delete(ctx, p.pod.Name, metav1.DeleteOptions{}); err != nil {
					t.Fatal(err)
				}
			},
			want: killed("Deleted"),
		}, {
			name: "deleted by force", golden: true,
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
