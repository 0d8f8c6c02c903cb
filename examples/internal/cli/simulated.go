package cli

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
)

// Simulated is a cluster inside the process, and what happens on it.
type Simulated struct {
	Cluster *testutil.Cluster
	Show    func(ctx context.Context) error // the program ends when it returns; nil: the program ends by itself
}

// Cluster returns a simulated cluster that has the namespace and the images.
func Cluster(namespace string, images map[string]testutil.Program) *testutil.Cluster {
	o := testutil.Options{Images: images}
	if namespace != "default" { // which every cluster has
		o.Namespaces = []string{namespace}
	}
	return testutil.New(o)
}

// Script returns a container that runs a small script, see testutil.Shell, on a
// simulated cluster whose image demo/sh is that.
func Script(name string, lines ...string) corev1.Container {
	return corev1.Container{Name: name, Image: "demo/sh", Args: lines}
}

// Pod returns a pod of these containers, with a label app of its name.
func Pod(name string, containers ...corev1.Container) *corev1.Pod {
	grace := int64(1)
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{Containers: containers, TerminationGracePeriodSeconds: &grace},
	}
}

// Once makes a pod's containers run once.
func Once(p *corev1.Pod) *corev1.Pod {
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	return p
}

// Create creates a pod on the simulated cluster.
func Create(ctx context.Context, c *testutil.Cluster, namespace string, p *corev1.Pod) error {
	_, err := c.Client().CoreV1().Pods(namespace).Create(ctx, p, metav1.CreateOptions{})
	return err
}

// Sleep waits for d, or until ctx ends: then it returns the cause.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
