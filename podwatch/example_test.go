package podwatch_test

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/podwatch"
)

// printer is a handler that prints what it hears, and says when it is over.
type printer chan struct{}

func (p printer) Handle(ev watch.Event) {
	switch o := ev.Object.(type) {
	case *corev1.Pod:
		fmt.Println(ev.Type, o.Name)
	case *metav1.Status:
		fmt.Println(o.Reason)
	}
	if ev.Type == watch.Deleted {
		close(p)
	}
}

// One watch serves all the builds of a worker. A build is tracked before its pod
// is created, so that nothing of its life is missed.
func ExampleWatcher_followABuildFromBeforeItsPodExists() {
	client := testutil.New(testutil.Options{Namespaces: []string{"ci"}}).Client() // yours: kubernetes.NewForConfig
	ctx, stop := context.WithCancel(context.Background())                         // outlives the builds

	w, err := podwatch.New(client, podwatch.Options{Namespace: "ci", LabelSelector: "worker=me"})
	if err != nil {
		panic(err)
	}
	ended := make(chan error)
	go func() { ended <- w.Run(ctx) }()
	if err := w.WaitForSync(ctx); err != nil {
		panic(err)
	}

	over := make(printer)
	build, err := w.Track("ci", "build-1", over)
	if err != nil {
		panic(err)
	}
	pod, err := client.CoreV1().Pods("ci").Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "build-1", Labels: map[string]string{"worker": "me"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "step", Image: "pause"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		panic(err)
	}
	build.Created(pod) // until here nothing was heard: a pod of the name was a leftover
	err = client.CoreV1().Pods("ci").Delete(ctx, "build-1", metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if err != nil {
		panic(err)
	}

	<-over
	build.Close()
	<-build.Done()
	stop()
	fmt.Println(<-ended)
	// Output:
	// ADDED build-1
	// MODIFIED build-1
	// DELETED build-1
	// Closed
	// <nil>
}

// A pod whose deletion nobody saw, because the watch is down, can be asked about.
func ExampleTracking_Confirm_isThePodStillThere() {
	client := testutil.New(testutil.Options{}).Client()
	ctx := context.Background()
	w, err := podwatch.New(client, podwatch.Options{})
	if err != nil {
		panic(err)
	}
	build, err := w.Track("default", "build-1")
	if err != nil {
		panic(err)
	}
	fmt.Println(build.Confirm(ctx))
	// Output:
	// Gone <nil>
}
