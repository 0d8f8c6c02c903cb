package e2e

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
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
	// plain: its containers are no placeholders.
	plain bool
	// rare: it takes long, or shows little that others do not: it is played to be
	// recorded, and on the simulated cluster.
	rare bool
	// missed: runs may be.
	missed bool
	// bare: an informer of client-go's shows the pod, with no podwatch between.
	bare bool
}

func (s story) run(t *testing.T) {
	t.Helper()
	s.runOn(t, world.client, true)
}

// runOn runs the story on a cluster, which is a real one or simulated.
func (s story) runOn(t *testing.T, client kubernetes.Interface, real bool) {
	t.Helper()
	limit := 4 * time.Minute
	if s.rare {
		if real && !*recordTraces {
			t.Skip("is played to be recorded only: see -record")
		}
		limit = 7 * time.Minute
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p := stage(t, client, s)
	p.real = real
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what the cluster showed:\n%s", p.tape.text(s.name, "of now"))
		}
	})
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
			name: "placeholder that runs out of memory", golden: true, real: true, rare: true,
			pod: greedy(newPod("oom", busyPlaceholder("step", "sleep 1; x=0123456789; while :; do x=$x$x; done"), slot("other"))),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.fate(ctx, "step", "Placeholder")
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
			name: "init container and sidecar", golden: true,
			pod:  withInit(newPod("init", sh("step", "exit 5"), slot("other")), sh("setup", "exit 0"), always(sh("mesh", "sleep 300"))),
			do:   swapped(step),
			want: map[string]string{"setup": "exit 0", "mesh": "not run", "step": "exit 5", "other": "not run"},
		}, {
			// Only a sidecar is started again with a new image.
			name: "a sidecar is swapped", golden: true, rare: true,
			pod: withImage(withInit(newPod("sidecar", slot("step")), sh("setup", "exit 0"), always(sh("mesh", "sleep 300"))), "mesh", *pauseImage),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				swapFails(eventsplit.ClassInvalid, "setup="+*pauseImage)(ctx, t, p)
				p.mustSwap(ctx, t, "mesh="+*busyboxImage)
				swapFails(eventsplit.ClassUnknownSlot, "nosuch="+*busyboxImage)(ctx, t, p)
			},
			want: map[string]string{"setup": "exit 0", "mesh": "runs", "step": "not run"},
		}, {
			// Who patches is none of Swap's business.
			name: "somebody else patches", golden: true,
			pod: newPod("foreign", sh("a", "exit 5"), slot("b"), slot("other")),
			do: func(ctx context.Context, t *testing.T, p *play) {
				p.placeholdersRun(ctx, t)
				p.patchedByOthers(ctx, t, "a="+*busyboxImage, strings.Replace(bad, "step", "b", 1))
			},
			want: map[string]string{"a": "exit 5", "b": "ImagePull/Network", "other": "not run"},
		}, {
			name: "init container that fails", golden: true,
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

// greedy lets the first container have little memory.
func greedy(pod *corev1.Pod) *corev1.Pod {
	pod.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("20Mi")}
	return pod
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
