package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
)

// simulate is a cluster in this process. Its one image runs small scripts; any
// other fails to be pulled, as on a real kubelet.
func simulate(namespace string) *testutil.Cluster {
	o := testutil.Options{Images: map[string]testutil.Program{"demo/sh": testutil.Shell}}
	if namespace != "default" {
		o.Namespaces = []string{namespace}
	}
	return testutil.New(o)
}

// show is what there is to see without a cluster: a pod with everything, one that
// crashes, one whose image does not exist, one that lives for a moment, and a
// kubelet that goes away for a while.
func show(ctx context.Context, cluster *testutil.Cluster, namespace string) error {
	always := corev1.ContainerRestartPolicyAlways
	web := newPod("web", script("app", "echo listening", "sleep 4", "echo GET /", "sleep 4", "echo GET /favicon.ico", "sleep 60"))
	web.Spec.InitContainers = []corev1.Container{
		script("migrate", "echo migrating the database", "sleep 1", "echo done"),
		script("proxy", "echo proxy up", "sleep 7", "echo proxy sees traffic", "sleep 60"),
	}
	web.Spec.InitContainers[1].RestartPolicy = &always
	flaky := newPod("flaky", script("worker", "echo starting", "sleep 1", "echo cannot reach the database", "exit 1"))
	moment := newPod("moment", script("only", "echo alive for some milliseconds, and this line was not lost"))
	moment.Spec.RestartPolicy = corev1.RestartPolicyNever
	typo := newPod("typo", corev1.Container{Name: "app", Image: "demo/shh"})

	for _, act := range []func() error{
		func() error { return create(ctx, cluster, namespace, web) },
		func() error { return create(ctx, cluster, namespace, flaky) },
		func() error { return create(ctx, cluster, namespace, typo) },
		func() error { return cluster.RestartKubelet(ctx, time.Second) },
		func() error { return create(ctx, cluster, namespace, moment) },
		func() error { return wait(ctx, 8*time.Second) },
	} {
		if err := act(); err != nil {
			return err
		}
		if err := wait(ctx, time.Second); err != nil {
			return err
		}
	}
	return nil
}

func newPod(name string, c corev1.Container) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{c}, TerminationGracePeriodSeconds: &grace},
	}
}

func script(name string, lines ...string) corev1.Container {
	return corev1.Container{Name: name, Image: "demo/sh", Args: lines}
}

func create(ctx context.Context, cluster *testutil.Cluster, namespace string, p *corev1.Pod) error {
	_, err := cluster.Client().CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{})
	return err
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
