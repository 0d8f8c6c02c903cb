package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
)

const namespace = metav1.NamespaceDefault

// needCluster skips a test that was asked to be short, and fails one that has no
// cluster to run on. Tests on a cluster run side by side.
func needCluster(t *testing.T) {
	t.Helper()
	if world.client == nil {
		t.Skip("-short: needs a cluster")
	}
	t.Parallel()
}

// newPod returns a pod of a name of its own.
func newPod(name string, slots ...corev1.Container) *corev1.Pod {
	// A SIGTERM that comes before a program's main is lost on PID 1: then this is waited for.
	grace := int64(2)
	name += "-" + strings.ToLower(rand.Text()[:6])
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name:      name,
			Namespace: namespace,
			Labels:    map[string]string{buildLabel: name},
		},
		Spec: corev1.PodSpec{
			NodeName:                      *nodeName,
			HostNetwork:                   true,
			RestartPolicy:                 corev1.RestartPolicyNever,
			AutomountServiceAccountToken:  new(bool),
			TerminationGracePeriodSeconds: &grace,
			Containers:                    slots,
		},
	}
}

// buildLabel tells a test's pods from others.
const buildLabel = "podlife.test/build"

// slot returns a container that runs the placeholder image; args are what it
// runs in an image that minds its arguments.
func slot(name string, args ...string) corev1.Container {
	return corev1.Container{Name: name, Image: *pauseImage, ImagePullPolicy: corev1.PullIfNotPresent, Args: args}
}

// create creates the pod, and deletes it when the test has ended.
func create(t *testing.T, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	return createOn(t, world.client, pod)
}

func createOn(t *testing.T, client kubernetes.Interface, pod *corev1.Pod) *corev1.Pod {
	t.Helper()
	created, err := client.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("creating pod %s: %v", pod.Name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
		defer cancel()
		err := client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
		if err != nil && !apierrors.IsNotFound(err) {
			t.Errorf("deleting pod %s: %v", pod.Name, err)
		}
	})
	return created
}

// setImage swaps a slot's image.
func setImage(ctx context.Context, pod *corev1.Pod, slot, image string) (*corev1.Pod, error) {
	return patchImages(ctx, world.client, pod, slot+"="+image)
}

// patchImages swaps the images of slots, "slot=image" each, all in one.
func patchImages(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, images ...string) (*corev1.Pod, error) {
	lists := map[string][]map[string]string{}
	for _, text := range images {
		slot, image, _ := strings.Cut(text, "=")
		list := "containers"
		if slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == slot }) {
			list = "initContainers"
		}
		lists[list] = append(lists[list], map[string]string{"name": slot, "image": image})
	}
	patch, err := json.Marshal(map[string]any{"spec": lists})
	if err != nil {
		return nil, err
	}
	return client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{})
}

// bind is what a scheduler does.
func bind(ctx context.Context, pod *corev1.Pod) error {
	return world.client.CoreV1().Pods(pod.Namespace).Bind(ctx, &corev1.Binding{
		ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: pod.Namespace, UID: pod.UID},
		Target:     corev1.ObjectReference{Kind: "Node", Name: *nodeName},
	}, metav1.CreateOptions{})
}

// awaitKubelet waits until the kubelet has said that it has taken the pod.
func awaitKubelet(t *testing.T, pod *corev1.Pod) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		now, err := world.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		return err == nil && now.Status.StartTime != nil, err
	})
	if err != nil {
		t.Fatalf("waiting for the kubelet to take pod %s: %v", pod.Name, err)
	}
}

// badImage returns an image that cannot be pulled: nothing listens where its
// registry would be.
func badImage(t *testing.T) string {
	t.Helper()
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String() + "/no/such:image"
}

// warning waits for a Warning about the pod with this reason, and returns it.
func warning(t *testing.T, pod *corev1.Pod, reason string) *corev1.Event {
	t.Helper()
	var found *corev1.Event
	selector := metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID) + ",type=Warning,reason=" + reason}
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		events, err := world.client.CoreV1().Events(pod.Namespace).List(ctx, selector)
		if err == nil && len(events.Items) > 0 {
			found = &events.Items[0]
		}
		return found != nil, err
	})
	if err != nil {
		t.Fatalf("waiting for a Warning %s about pod %s: %v", reason, pod.Name, err)
	}
	return found
}

// after waits for d on the real clock.
func after(t *testing.T, d time.Duration) {
	t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.Context().Done():
	}
}
