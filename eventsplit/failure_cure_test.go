package eventsplit

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// noon is when the pods and Events of these tests are looked at; they tell of some seconds
// before or after.
var noon = time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)

func eventAt(seconds int, container, kind, reason, message string) *corev1.Event {
	e := &corev1.Event{Type: kind, Reason: reason, Message: message, FirstTimestamp: at(seconds), LastTimestamp: at(seconds)}
	if container != "" {
		e.InvolvedObject.FieldPath = "spec.containers{" + container + "}"
	}
	return e
}

func at(seconds int) metav1.Time {
	return metav1.NewTime(noon.Add(time.Duration(seconds) * time.Second))
}

// podOf returns a pending pod of the containers a and b, with changes.
func podOf(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := onePod("1", "a", "b")
	p.Status.Phase = corev1.PodPending
	for _, change := range changes {
		change(p)
	}
	return p
}

func hasCondition(kind corev1.PodConditionType, status corev1.ConditionStatus, seconds int) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: kind, Status: status, LastTransitionTime: at(seconds)})
	}
}

func isOnNode(p *corev1.Pod) { p.Spec.NodeName = "node" }

func hasPhase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

func wasDeleted(seconds int, grace int64) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		d := at(seconds + int(grace))
		p.DeletionTimestamp, p.DeletionGracePeriodSeconds = &d, &grace
	}
}

func shows(container string, state corev1.ContainerState) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: container, ContainerID: container + "-1", State: state})
	}
}

func isRunning(container string) func(*corev1.Pod) {
	return shows(container, corev1.ContainerState{Running: &corev1.ContainerStateRunning{}})
}

func isWaiting(container, reason, message string) func(*corev1.Pod) {
	return shows(container, corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}})
}

func hasEnded(container string, code int32, reason string) func(*corev1.Pod) {
	return shows(container, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: container + "-1", ExitCode: code, Reason: reason, StartedAt: at(0)}})
}

// hasStarted lets the container start at that second, and be killed.
func hasStarted(container string, seconds int) func(*corev1.Pod) {
	return shows(container, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: container + "-1", ExitCode: 1, Reason: "Error", StartedAt: at(seconds)}})
}

// hasFinished lets the container end 40 seconds after noon.
func hasFinished(container string, code int32) func(*corev1.Pod) {
	return shows(container, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
		ContainerID: container + "-1", ExitCode: code, Reason: "Error", StartedAt: at(0), FinishedAt: at(40),
	}})
}

func mounts(container, image string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		name := "v" + image
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: image}}})
		for i := range p.Spec.Containers {
			if p.Spec.Containers[i].Name == container {
				p.Spec.Containers[i].VolumeMounts = append(p.Spec.Containers[i].VolumeMounts, corev1.VolumeMount{Name: name})
			}
		}
	}
}

// said returns what Classify says, in short.
func said(p *corev1.Pod, events ...*corev1.Event) []string {
	var all []string
	for _, f := range Classify(p, events) {
		text := f.Slot + " " + classText(f)
		if f.Class == ClassImagePull {
			text += " " + f.Image
		}
		if !f.MayRecover {
			text += " final"
		}
		all = append(all, text)
	}
	return all
}

func TestClassifyLeavesOutWhatIsOver(t *testing.T) {
	const normal, warning = corev1.EventTypeNormal, corev1.EventTypeWarning
	unscheduled := eventAt(10, "", warning, "FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu.")
	mount := eventAt(10, "", warning, "FailedMount", "MountVolume.SetUp failed for volume")
	attach := eventAt(10, "", warning, "FailedAttachVolume", "Multi-Attach error for volume")
	sandbox := eventAt(10, "", warning, "FailedCreatePodSandBox", "plugin type=calico failed")
	notReady := eventAt(10, "", warning, "NodeNotReady", "Node is not ready")
	marked := eventAt(10, "", normal, "TaintManagerEviction", "Marking for deletion Pod ci/build")
	cancelled := eventAt(20, "", normal, "TaintManagerEviction", "Cancelling deletion of Pod ci/build")
	preempted := eventAt(10, "", normal, "Preempted", "Preempted by pod x on node y")
	denied := eventAt(10, "a", warning, "Failed", `Failed to pull image "img": pull access denied`)
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		events []*corev1.Event
		want   []string
	}{
		"no node takes it":                         {podOf(), []*corev1.Event{unscheduled}, []string{" Unschedulable"}},
		"a node has taken it":                      {podOf(isOnNode), []*corev1.Event{unscheduled}, nil},
		"its condition says that it is scheduled":  {podOf(hasCondition(corev1.PodScheduled, corev1.ConditionTrue, 5)), []*corev1.Event{unscheduled}, nil},
		"the scheduler says so":                    {podOf(), []*corev1.Event{eventAt(20, "", normal, "Scheduled", ""), unscheduled}, nil},
		"the autoscaler does not help":             {podOf(), []*corev1.Event{eventAt(10, "", normal, "NotTriggerScaleUp", "pod didn't trigger scale-up")}, []string{" Unschedulable"}},
		"the autoscaler did not, a node came":      {podOf(isOnNode), []*corev1.Event{eventAt(10, "", normal, "NotTriggerScaleUp", "")}, nil},
		"a volume is not mounted":                  {podOf(isOnNode, isWaiting("a", "ContainerCreating", "")), []*corev1.Event{mount}, []string{" Volume"}},
		"the sandbox is there, so are volumes":     {podOf(hasCondition(corev1.PodReadyToStartContainers, corev1.ConditionTrue, 5)), []*corev1.Event{mount}, nil},
		"a container runs, so volumes are there":   {podOf(isRunning("a")), []*corev1.Event{mount}, nil},
		"an image was pulled since":                {podOf(), []*corev1.Event{mount, eventAt(11, "b", normal, "Pulled", "")}, nil},
		"a volume was attached since":              {podOf(), []*corev1.Event{eventAt(20, "", normal, "SuccessfulAttachVolume", ""), attach}, nil},
		"a volume was attached before":             {podOf(), []*corev1.Event{eventAt(5, "", normal, "SuccessfulAttachVolume", ""), attach}, []string{" Volume"}},
		"no sandbox":                               {podOf(), []*corev1.Event{sandbox}, []string{" Sandbox"}},
		"no sandbox at first":                      {podOf(isWaiting("a", "ErrImagePull", "i/o timeout"), hasCondition(corev1.PodReadyToStartContainers, corev1.ConditionTrue, 5)), []*corev1.Event{sandbox}, []string{"a ImagePull/Network img"}},
		"its sandbox is gone, and no other comes":  {podOf(hasStarted("a", 0), hasCondition(corev1.PodReadyToStartContainers, corev1.ConditionFalse, 5)), []*corev1.Event{sandbox}, []string{" Sandbox"}},
		"its sandbox is gone, and was hard to get": {podOf(hasStarted("a", 15), hasCondition(corev1.PodReadyToStartContainers, corev1.ConditionFalse, 20)), []*corev1.Event{sandbox}, nil},
		"its first sandbox does not come":          {podOf(isWaiting("a", "ContainerCreating", ""), hasCondition(corev1.PodReadyToStartContainers, corev1.ConditionFalse, 5)), []*corev1.Event{sandbox}, []string{" Sandbox"}},
		"it ended, and was drained":                {podOf(hasPhase(corev1.PodSucceeded), hasFinished("a", 0), hasCondition(corev1.DisruptionTarget, corev1.ConditionTrue, 50), wasDeleted(50, 30)), nil, nil},
		"it failed, and was drained":               {podOf(hasPhase(corev1.PodFailed), hasFinished("a", 1), hasCondition(corev1.DisruptionTarget, corev1.ConditionTrue, 50), wasDeleted(50, 30)), nil, nil},
		"it was drained, and ended by that":        {podOf(hasPhase(corev1.PodFailed), hasFinished("a", 1), hasCondition(corev1.DisruptionTarget, corev1.ConditionTrue, 30), wasDeleted(30, 30)), nil, []string{" Evicted final"}},
		"it ended, and was cleaned up":             {podOf(hasPhase(corev1.PodSucceeded), hasFinished("a", 0), wasDeleted(50, 30)), nil, nil},
		"the pod ended well":                       {podOf(hasPhase(corev1.PodSucceeded), hasEnded("a", 0, "Completed")), []*corev1.Event{mount, denied}, nil},
		"a pull was refused":                       {podOf(), []*corev1.Event{denied}, []string{"a ImagePull/Unauthorized img final"}},
		"a pull was refused, and went well since":  {podOf(), []*corev1.Event{eventAt(30, "a", normal, "Pulled", ""), denied}, nil},
		"a pull was refused, and a container runs": {podOf(isRunning("a")), []*corev1.Event{denied}, nil},
		"the node does not answer":                 {podOf(isRunning("a")), []*corev1.Event{notReady}, []string{" NodeLost"}},
		"the node answers again":                   {podOf(isRunning("a"), hasCondition(corev1.PodReady, corev1.ConditionTrue, 60)), []*corev1.Event{notReady}, nil},
		"the node answered before":                 {podOf(isRunning("a"), hasCondition(corev1.PodReady, corev1.ConditionTrue, 5)), []*corev1.Event{notReady}, []string{" NodeLost"}},
		"an eviction is announced":                 {podOf(isRunning("a")), []*corev1.Event{marked}, []string{" NodeLost"}},
		"an eviction is called off":                {podOf(isRunning("a")), []*corev1.Event{cancelled, marked}, nil},
		"called off before anyone heard of it":     {podOf(isRunning("a")), []*corev1.Event{cancelled}, nil},
		"an eviction is announced once more":       {podOf(isRunning("a")), []*corev1.Event{marked, cancelled, eventAt(30, "", normal, "TaintManagerEviction", "Marking for deletion Pod ci/build")}, []string{" NodeLost"}},
		"evicted":                                  {podOf(isRunning("a"), wasDeleted(40, 30)), []*corev1.Event{marked}, []string{" NodeLost final"}},
		"deleted after an eviction was called off": {podOf(isRunning("a"), wasDeleted(320, 30)), []*corev1.Event{marked, cancelled}, []string{" Deleted final"}},
		"deleted long after an announcement":       {podOf(isRunning("a"), wasDeleted(3600, 30)), []*corev1.Event{marked}, []string{" Deleted final"}},
		"deleted on a node that is well again":     {podOf(isRunning("a"), hasCondition(corev1.PodReady, corev1.ConditionTrue, 60), wasDeleted(100, 0)), []*corev1.Event{notReady}, []string{" Deleted final"}},
		"a broken device evicts it":                {podOf(isRunning("a"), wasDeleted(40, 30)), []*corev1.Event{eventAt(10, "", normal, "DeviceTaintManagerEviction", "Marking for deletion")}, []string{" Evicted final"}},
		"the device is well again":                 {podOf(isRunning("a"), wasDeleted(320, 30)), []*corev1.Event{eventAt(10, "", normal, "DeviceTaintManagerEviction", "Marking for deletion"), eventAt(20, "", normal, "DeviceTaintManagerEviction", "Cancelling deletion")}, []string{" Deleted final"}},
		"the device is well, the node is not":      {podOf(isRunning("a"), wasDeleted(40, 30)), []*corev1.Event{marked, eventAt(20, "", normal, "DeviceTaintManagerEviction", "Cancelling deletion")}, []string{" NodeLost final"}},
		"preempted":                                {podOf(isRunning("a"), wasDeleted(10, 30)), []*corev1.Event{preempted}, []string{" Preempted final"}},
		"another Normal Event":                     {podOf(), []*corev1.Event{eventAt(10, "", normal, "FailedMount", "")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, said(c.pod, c.events...)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			slices.Reverse(c.events)
			if d := cmp.Diff(c.want, said(c.pod, c.events...)); d != "" {
				t.Errorf("the other way round (-want +got)\n%s", d)
			}
		})
	}
}

// The kubelet records the Events of an image volume on the pod, and only the containers that
// mount the volume do not start.
func TestAnImageVolumeConcernsTheContainersThatMountIt(t *testing.T) {
	const image = "Data/Model:9"
	const invalid = `Failed to apply default image tag "Data/Model:9": couldn't parse image name "Data/Model:9": invalid reference format: repository name (Model) must be lowercase`
	ofPod := eventAt(10, "", corev1.EventTypeWarning, "InspectFailed", invalid)
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		events []*corev1.Event
		want   []string
	}{
		"it waits, the other runs": {
			podOf(mounts("a", image), isWaiting("a", "InvalidImageName", invalid), isRunning("b")),
			[]*corev1.Event{ofPod},
			[]string{"a ImagePull/InvalidName Data/Model:9 final"},
		},
		"no status yet": {podOf(mounts("a", image)), []*corev1.Event{ofPod}, []string{"a ImagePull/InvalidName Data/Model:9 final"}},
		"nobody mounts it": {
			podOf(mounts("none", image), isWaiting("a", "ContainerCreating", "")), []*corev1.Event{ofPod}, nil,
		},
		"it could be pulled since": {
			podOf(mounts("a", "data:1")),
			[]*corev1.Event{
				eventAt(10, "", corev1.EventTypeWarning, "Failed", `Failed to pull image "data:1": EOF`),
				eventAt(20, "", corev1.EventTypeNormal, "Pulled", `Successfully pulled image "data:1" in 2s`),
			},
			nil,
		},
		"another could be pulled since": {
			podOf(mounts("a", "data:1")),
			[]*corev1.Event{
				eventAt(10, "", corev1.EventTypeWarning, "Failed", `Failed to pull image "data:1": EOF`),
				eventAt(20, "", corev1.EventTypeNormal, "Pulled", `Successfully pulled image "data:2" in 2s`),
			},
			[]string{"a ImagePull/Network data:1"},
		},
		"the kubelet backs off, which is a Normal Event": {
			podOf(mounts("b", "data:1")),
			[]*corev1.Event{eventAt(10, "", corev1.EventTypeNormal, "BackOff", `Back-off pulling image "data:1"`)},
			[]string{"b ImagePull data:1"},
		},
		"the runtime names it in full": {
			podOf(mounts("a", "data"), isWaiting("a", "ErrImagePull", `failed to pull and unpack image "docker.io/library/data:latest": failed to resolve reference "docker.io/library/data:latest": docker.io/library/data:latest: not found`)),
			nil,
			[]string{"a ImagePull/NotFound data final"},
		},
		"its own image": {
			podOf(mounts("a", "data"), isWaiting("a", "ErrImagePull", `failed to pull and unpack image "docker.io/library/img:latest": failed to resolve reference "docker.io/library/img:latest": docker.io/library/img:latest: not found`)),
			nil,
			[]string{"a ImagePull/NotFound img final"},
		},
		"its own image has a name that ends alike": {
			podOf(mounts("a", "mg"), isWaiting("a", "ImagePullBackOff", `Back-off pulling image "img": ErrImagePull: EOF`)),
			nil,
			[]string{"a ImagePull/Network img"},
		},
		"the kubelet names it with the tag that it adds": {
			podOf(mounts("a", "data")),
			[]*corev1.Event{eventAt(10, "", corev1.EventTypeWarning, "Failed", `Failed to pull image "data:latest": EOF`)},
			[]string{"a ImagePull/Network data"},
		},
		"a digest beside the tag, which the runtime drops": {
			podOf(mounts("a", "data:1@sha256:aa"), isWaiting("a", "ErrImagePull", `failed to pull and unpack image "docker.io/library/data@sha256:aa": failed to resolve reference "docker.io/library/data@sha256:aa": docker.io/library/data@sha256:aa: not found`)),
			nil,
			[]string{"a ImagePull/NotFound data:1@sha256:aa final"},
		},
		"the volumes are not known, and the runtime names another image": {
			podOf(isWaiting("a", "ErrImagePull", `rpc error: code = NotFound desc = failed to pull and unpack image "127.0.0.1:5000/data:1": failed to resolve image: 127.0.0.1:5000/data:1: not found`)),
			nil,
			[]string{"a ImagePull/NotFound 127.0.0.1:5000/data:1 final"},
		},
		"the volumes are not known, and the other's name ends like its own": {
			podOf(isWaiting("a", "ErrImagePull", `failed to pull and unpack image "docker.io/team/img:latest": failed to resolve reference "docker.io/team/img:latest": unexpected status from HEAD request to https://registry-1.docker.io/v2/team/img/manifests/latest: 503 Service Unavailable`)),
			nil,
			[]string{"a ImagePull/Network docker.io/team/img:latest"},
		},
		"CRI-O names it": {
			podOf(mounts("a", "r.example/data:1"), isWaiting("a", "ErrImagePull", `initializing source docker://r.example/data:1: reading manifest 1 in r.example/data: manifest unknown`)),
			nil,
			[]string{"a ImagePull/NotFound r.example/data:1 final"},
		},
		"CRI-O names its own in the registry where it looked": {
			podOf(mounts("a", "r.example/data:1"), isWaiting("a", "ErrImagePull", `initializing source docker://quay.io/img:latest: reading manifest latest in quay.io/img: unauthorized: access to the requested resource is not authorized`)),
			nil,
			[]string{"a ImagePull/Unauthorized img final"},
		},
		"the registry is unavailable": {
			podOf(mounts("a", "data:1"), isWaiting("a", "RegistryUnavailable", `image pull failed for data:1 because the registry is unavailable: dial tcp 10.0.0.1:443: i/o timeout`)),
			nil,
			[]string{"a ImagePull/Network data:1"},
		},
		"one of two, with several secrets": {
			podOf(mounts("a", "data:1"), mounts("a", "model:1"), isWaiting("a", "ErrImagePull", `[failed to pull and unpack image "docker.io/library/model:1": failed to resolve reference "docker.io/library/model:1": pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed, failed to pull and unpack image "docker.io/library/model:1": failed to resolve reference "docker.io/library/model:1": failed to do request: Head "https://registry-1.docker.io/v2/library/model/manifests/1": dial tcp 10.0.0.1:443: i/o timeout]`)),
			nil,
			[]string{"a ImagePull/Network model:1"},
		},
		"words that name none, and none can be told": {
			podOf(mounts("a", "data:1"), isWaiting("a", "ErrImagePull", "pull QPS exceeded")), nil,
			[]string{"a ImagePull/Throttled "},
		},
		"words that name none, and the Event does": {
			podOf(mounts("a", "data:1"), isWaiting("a", "ErrImagePull", "pull QPS exceeded")),
			[]*corev1.Event{eventAt(10, "", corev1.EventTypeWarning, "Failed", `Failed to pull image "data:1": pull QPS exceeded`)},
			[]string{"a ImagePull/Throttled data:1"},
		},
		"its own image's Event, with the tag that the kubelet adds": {
			podOf(mounts("a", "data:1"), isWaiting("a", "ErrImagePull", "pull QPS exceeded")),
			[]*corev1.Event{eventAt(10, "a", corev1.EventTypeWarning, "Failed", `Failed to pull image "img:latest": pull QPS exceeded`)},
			[]string{"a ImagePull/Throttled img"},
		},
		"the back-off of old kubelets, and the Event has the words": {
			podOf(mounts("a", "data:1"), isWaiting("a", "ImagePullBackOff", `Back-off pulling image "data:1"`)),
			[]*corev1.Event{eventAt(10, "", corev1.EventTypeWarning, "Failed", `Failed to pull image "data:1": EOF`)},
			[]string{"a ImagePull/Network data:1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if d := cmp.Diff(c.want, said(c.pod, c.events...)); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
