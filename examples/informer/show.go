package main

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/internal/testutil"
)

// simulate is a cluster in this process, whose one image runs small scripts.
func simulate(namespace string) cli.Simulated {
	cluster := cli.Cluster(namespace, map[string]testutil.Program{"demo/sh": testutil.Shell})
	return cli.Simulated{Cluster: cluster, Show: func(ctx context.Context) error { return show(ctx, cluster, namespace) }}
}

// show makes a pod with two containers, and one whose image does not exist.
func show(ctx context.Context, cluster *testutil.Cluster, namespace string) error {
	for _, p := range []*corev1.Pod{
		cli.Pod("build", cli.Script("test", "sleep 1", "exit 3"), cli.Script("lint", "exit 0")),
		cli.Pod("typo", corev1.Container{Name: "test", Image: "demo/shh"}),
	} {
		if err := cli.Create(ctx, cluster, namespace, cli.Once(p)); err != nil {
			return err
		}
	}
	return cli.Sleep(ctx, 4*time.Second)
}
