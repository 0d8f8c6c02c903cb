package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/internal/testutil"
)

// simulate is a cluster in this process. Its one image runs small scripts; any
// other fails to be pulled, as on a real kubelet.
func simulate(namespace string) cli.Simulated {
	cluster := cli.Cluster(namespace, map[string]testutil.Program{"demo/sh": testutil.Shell})
	return cli.Simulated{Cluster: cluster, Show: func(ctx context.Context) error { return show(ctx, cluster, namespace) }}
}

// show is what there is to see without a cluster: a pod with everything, one that
// crashes, one whose image does not exist, a kubelet that goes away for a while, and
// a pod that lives for a moment.
func show(ctx context.Context, cluster *testutil.Cluster, namespace string) error {
	always := corev1.ContainerRestartPolicyAlways
	web := cli.Pod("web", cli.Script("app", "echo listening", "sleep 4", "echo GET /", "sleep 4", "echo GET /favicon.ico", "sleep 60"))
	web.Spec.InitContainers = []corev1.Container{
		cli.Script("migrate", "echo migrating the database", "sleep 1", "echo done"),
		cli.Script("proxy", "echo proxy up", "sleep 7", "echo proxy sees traffic", "sleep 60"),
	}
	web.Spec.InitContainers[1].RestartPolicy = &always
	create := func(p *corev1.Pod) func() error {
		return func() error { return cli.Create(ctx, cluster, namespace, p) }
	}
	for _, act := range []func() error{
		create(web),
		create(cli.Pod("flaky", cli.Script("worker", "echo starting", "sleep 1", "echo cannot reach the database", "exit 1"))),
		create(cli.Pod("typo", corev1.Container{Name: "app", Image: "demo/shh"})),
		func() error { return cluster.RestartKubelet(ctx, time.Second) },
		create(cli.Once(cli.Pod("moment", cli.Script("only", "echo alive for some milliseconds, and this line was not lost")))),
	} {
		if err := act(); err != nil {
			return err
		}
		if err := cli.Sleep(ctx, time.Second); err != nil {
			return err
		}
	}
	return cli.Sleep(ctx, 9*time.Second)
}
