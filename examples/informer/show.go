package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
)

// simulate is a cluster in this process, whose one image runs small scripts.
func simulate() *testutil.Cluster {
	return testutil.New(testutil.Options{Images: map[string]testutil.Program{"demo/sh": testutil.Shell}})
}

// show makes a pod with two containers, and one whose image does not exist.
func show(ctx context.Context, cluster *testutil.Cluster) error {
	for _, p := range []*corev1.Pod{
		newPod("build",
			corev1.Container{Name: "test", Image: "demo/sh", Args: []string{"sleep 1", "exit 3"}},
			corev1.Container{Name: "lint", Image: "demo/sh", Args: []string{"exit 0"}}),
		newPod("typo", corev1.Container{Name: "test", Image: "demo/shh"}),
	} {
		if _, err := cluster.Client().CoreV1().Pods("default").Create(ctx, p, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	t := time.NewTimer(4 * time.Second)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return context.Cause(ctx)
}

func newPod(name string, containers ...corev1.Container) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicyNever, Containers: containers},
	}
}
