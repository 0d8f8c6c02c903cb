package eventsplit

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestEveryWaitingReasonHasItsClass(t *testing.T) {
	for _, c := range []struct {
		reason, message string
		class           Class
		cause           Cause
		mayRecover      bool
		grace           string // what DefaultPolicy gives; "" is any time
	}{
		{"ErrImagePull", "", ClassImagePull, "", true, "6m0s"},
		{"ErrImagePull", "rpc error: code = NotFound desc = not found", ClassImagePull, CauseNotFound, false, "0s"},
		{"ImagePullBackOff", `Back-off pulling image "x"`, ClassImagePull, "", true, "6m0s"},
		{"ImagePullBackOff", `Back-off pulling image "x": ErrImagePull: pull access denied`, ClassImagePull, CauseUnauthorized, false, "0s"},
		{"InvalidImageName", "couldn't parse image name", ClassImagePull, CauseInvalidName, false, "0s"},
		{"ErrImageNeverPull", "", ClassImagePull, CauseNeverPull, true, "6m0s"},
		{"ImageInspectError", "", ClassImagePull, "", true, "6m0s"},
		{"RegistryUnavailable", "", ClassImagePull, CauseNetwork, true, "6m0s"},
		{"SignatureValidationFailed", "", ClassImagePull, CauseSignature, false, "0s"},
		{"ImageVolumeMountFailed", "", ClassVolume, "", true, "5m0s"},
		{"RROUnsupported", "", ClassConfig, "", false, "0s"},
		{"CreateContainerConfigError", "", ClassConfig, "", true, "2m0s"},
		{"CreateContainerError", "container create failed: executable file `mak` not found in $PATH: No such file or directory", ClassStart, "", false, "0s"},
		{"CreateContainerError", `container create failed: time="x" level=error msg="runc create failed: unable to start container process: exec: \"mak\": executable file not found in $PATH"`, ClassStart, "", false, "0s"},
		{"CreateContainerError", "container create failed: open executable: Permission denied", ClassStart, "", false, "0s"},
		{"CreateContainerError", "container create failed: exec container process `/app`: No such file or directory", ClassStart, "", false, "0s"},
		{"RunContainerError", `failed to start containerd task "a": starting container: starting root container: error finding executable "mak" in PATH [/bin]: no such file or directory`, ClassStart, "", false, "0s"},
		{"RunContainerError", `failed to create containerd task: hcs::System::CreateProcess a: The system cannot find the file specified.`, ClassStart, "", false, "0s"},
		{"RunContainerError", `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error mounting "/volume-subpaths/x" to rootfs at "/x": not a directory`, ClassStart, "", true, "5m0s"},
		{"CreateContainerError", `failed to generate container "c1" spec: failed to generate spec: failed to stat "/host": no such file or directory`, ClassCreate, "", true, "5m0s"},
		{"CreateContainerError", "container create failed: exec container process (missing dynamic library?) `/app`: No such file or directory", ClassStart, "", false, "0s"},
		{"CreateContainerError", "container create failed: open `/var/lib/x`: Permission denied", ClassCreate, "", true, "5m0s"},
		{"CreateContainerError", `failed to generate container "c1" spec: failed to generate spec: no command specified`, ClassStart, "", false, "0s"},
		{"CreateContainerError", "Error response from daemon: No command specified", ClassStart, "", false, "0s"},
		{"CreateContainerConfigError", "services have not yet been read at least once, cannot construct envvars", ClassConfig, "", true, "2m0s"},
		{"ImageInspectError", `Failed to inspect image "": rpc error: code = NotFound desc = blob: not found`, ClassImagePull, "", true, "6m0s"},
		{"CreateContainerError", "", ClassCreate, "", true, "5m0s"},
		{"PreCreateHookError", "", ClassCreate, "", true, "5m0s"},
		{"PreStartHookError", "", ClassCreate, "", true, "5m0s"},
		{"PostStartHookError", "", ClassStart, "", true, "5m0s"},
		{"RunContainerError", `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/mak": stat /mak: no such file or directory`, ClassStart, "", false, "0s"},
		{"RunContainerError", "failed to start containerd task: context deadline exceeded", ClassStart, "", true, "5m0s"},
		{"RunContainerError", "", ClassStart, "", true, "5m0s"},
		{"CrashLoopBackOff", "", ClassCrashLoop, "", true, ""},
		{"CreatePodSandboxError", "", ClassSandbox, "", true, "9m0s"},
		{"ConfigPodSandboxError", "", ClassSandbox, "", true, "9m0s"},
		{"KillContainerError", "", ClassRuntime, "", true, ""},
		{"KillPodSandboxError", "", ClassRuntime, "", true, ""},
		{"RemoveContainerError", "", ClassRuntime, "", true, ""},
		{"ResizePodInPlaceError", "", ClassRuntime, "", true, ""},
		{"SomethingNew", "", ClassOther, "", true, ""},
	} {
		t.Run(c.reason, func(t *testing.T) {
			p := onePod("1", "a")
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: c.reason, Message: c.message}}}}
			fs := Classify(p, nil)
			if len(fs) != 1 {
				t.Fatalf("%d failures: %v", len(fs), fs)
			}
			f := fs[0]
			if f.Class != c.class || f.Cause != c.cause || f.MayRecover != c.mayRecover || f.Slot != "a" || f.Reason != c.reason {
				t.Errorf("got %s %s of %q, recover %v", f.Reason, classText(f), f.Slot, f.MayRecover)
			}
			grace, fatal := DefaultPolicy(f)
			if got := grace.String(); fatal != (c.grace != "") || fatal && got != c.grace {
				t.Errorf("DefaultPolicy: %s, %v; want %q", got, fatal, c.grace)
			}
		})
	}
}

func TestProgressIsNoFailure(t *testing.T) {
	for _, reason := range []string{"", "ContainerCreating", "PodInitializing", "RestartingAllContainers"} {
		p := onePod("1", "a")
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "a", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}}
		if fs := Classify(p, nil); len(fs) != 0 {
			t.Errorf("%q: %v", reason, fs)
		}
	}
}

func TestEveryPodSignalHasItsClass(t *testing.T) {
	failed := func(reason string) *corev1.Pod {
		p := onePod("1", "a")
		p.Status.Phase, p.Status.Reason = corev1.PodFailed, reason
		return p
	}
	pending := func(reason string) *corev1.Pod {
		p := failed(reason)
		p.Status.Phase = corev1.PodPending
		return p
	}
	disrupted := func(reason string, deleted bool) *corev1.Pod {
		p := onePod("1", "a")
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason}}
		if deleted {
			p.DeletionTimestamp = &metav1.Time{}
		}
		return p
	}
	unscheduled := func(reason string) *corev1.Pod {
		p := onePod("1", "a")
		p.Status.Phase = corev1.PodPending
		p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: reason}}
		return p
	}
	deleted := onePod("1", "a")
	deleted.DeletionTimestamp = &metav1.Time{}
	unknown := onePod("1", "a")
	unknown.Status.Phase = corev1.PodUnknown
	type row struct {
		name       string
		pod        *corev1.Pod
		class      Class
		mayRecover bool
	}
	rows := []row{
		{"deleted by someone", deleted, ClassDeleted, false},
		{"phase Unknown", unknown, ClassNodeLost, true},
		{"Unschedulable", unscheduled("Unschedulable"), ClassUnschedulable, true},
		{"SchedulingGated", unscheduled("SchedulingGated"), ClassUnschedulable, true},
		{"SchedulerError", unscheduled("SchedulerError"), ClassUnschedulable, true},
		{"a rejection nobody knows yet", failed("BrandNew"), ClassRejected, false},
		{"a virtual kubelet cannot create it yet", pending("ProviderFailed"), ClassRejected, true},
	}
	for reason, class := range podReasons {
		rows = append(rows, row{reason, failed(reason), class, false})
	}
	for reason, class := range disruptionClasses {
		rows = append(rows, row{reason + " announced", disrupted(reason, false), class, true}, row{reason + " deleted", disrupted(reason, true), class, false})
	}
	for _, c := range rows {
		t.Run(c.name, func(t *testing.T) {
			fs := Classify(c.pod, nil)
			if len(fs) != 1 || fs[0].Class != c.class || fs[0].MayRecover != c.mayRecover || fs[0].Slot != "" {
				t.Errorf("got %v, want one of class %s", fs, c.class)
			}
		})
	}
}

func TestTerminatedReasonsThatAreNoExitOfTheProgram(t *testing.T) {
	for _, c := range []struct {
		reason string
		code   int32
		class  Class // "": the program exited
	}{
		{"Completed", 0, ""},
		{"Error", 1, ""},
		{"OOMKilled", 137, ""},
		{"StartError", 128, ClassStart},
		{"ContainerCannotRun", 127, ClassStart},
		{"ContainerStatusUnknown", 137, ClassLost},
		{"Error", 255, ""},
	} {
		p := withTerminated(onePod("1", "a"), "a", "A", c.code)
		p.Status.ContainerStatuses[0].State.Terminated.Reason = c.reason
		var got Class
		if fs := Classify(p, nil); len(fs) > 0 {
			got = fs[0].Class
		}
		if got != c.class {
			t.Errorf("%s: got %q, want %q", c.reason, got, c.class)
		}
		s := New(testNS, testPod, Options{})
		s.Handle(modified(p))
		st := s.State("a")
		if unknown := c.class == ClassLost; (st.Outcome == nil) != unknown {
			t.Errorf("%s: outcome %v", c.reason, st.Outcome)
		}
		if st.Outcome != nil && st.Outcome.OOM != (c.reason == "OOMKilled") {
			t.Errorf("%s: OOM %v", c.reason, st.Outcome.OOM)
		}
		s.Close()
	}
}

// An exit code beside a reason for an unknown end is not the program's.
func TestAnExitCodeThatNobodyKnowsIsALostRun(t *testing.T) {
	for _, c := range []struct {
		code   int32
		reason string
		want   []string
	}{
		{137, "ContainerStatusUnknown", []string{"a Lost final"}}, // the kubelet
		{255, "Unknown", []string{"a Lost final"}},                // containerd, after a reboot
		{-137, "NotFound", []string{"a Lost final"}},              // a virtual kubelet
		{255, "Error", nil},
		{137, "Error", nil},
		{0, "Completed", nil},
	} {
		for _, kind := range []string{"regular", "init"} {
			p := podOf(hasEnded("a", c.code, c.reason))
			if kind == "init" {
				p.Spec.InitContainers, p.Spec.Containers = p.Spec.Containers[:1], p.Spec.Containers[1:]
				p.Status.InitContainerStatuses, p.Status.ContainerStatuses = p.Status.ContainerStatuses, nil
			}
			if d := cmp.Diff(c.want, said(p)); d != "" {
				t.Errorf("%s %d %s (-want +got)\n%s", kind, c.code, c.reason, d)
			}
		}
	}
	lost := podOf(hasPhase(corev1.PodFailed), hasEnded("a", -137, "NotFound"))
	lost.Status.Reason, lost.Status.Message = "NotFound", "The pod status was not found and may have been deleted from the provider"
	if d := cmp.Diff([]string{" Lost final", "a Lost final"}, said(lost)); d != "" {
		t.Errorf("a virtual kubelet's pod (-want +got)\n%s", d)
	}
}

func TestEveryEventReasonHasItsClass(t *testing.T) {
	for _, c := range []struct {
		reason, message, path string
		class                 Class // "": it tells of no trouble
	}{
		{"Failed", `Failed to pull image "x": not found`, "spec.containers{a}", ClassImagePull},
		{"Failed", "Error: ErrImagePull", "spec.containers{a}", ClassImagePull},
		{"Failed", "Error: ImagePullBackOff", "spec.containers{a}", ClassImagePull},
		{"Failed", `Error: secret "x" not found`, "spec.containers{a}", ClassConfig},
		{"Failed", `Error: couldn't find key k in ConfigMap ns/x`, "spec.containers{a}", ClassConfig},
		{"Failed", `Error: container has runAsNonRoot and image will run as root`, "spec.containers{a}", ClassConfig},
		{"Failed", `Error: failed to create containerd task: exec: "x": not found`, "spec.containers{a}", ClassStart},
		{"Failed", "Error: services have not yet been read at least once, cannot construct envvars", "spec.containers{a}", ClassConfig},
		{"Failed", `Error: object "ci"/"token" not registered`, "spec.containers{a}", ClassConfig},
		{"Failed", `Error: failed to sync configmap cache: timed out waiting for the condition`, "spec.containers{a}", ClassConfig},
		{"Failed", `Error: environment variable key "K" not found in file "/env"`, "spec.containers{a}", ClassConfig},
		{"Failed", "Error: container create failed: executable file `mak` not found in $PATH: No such file or directory", "spec.containers{a}", ClassStart},
		{"Failed", `Error: container create failed: runc create failed: unable to start container process: exec: "mak": executable file not found in $PATH`, "spec.containers{a}", ClassStart},
		{"Failed", `Error: container create failed: writing syncT: broken pipe`, "spec.containers{a}", ClassCreate},
		{"Failed", `Error: failed to reserve container name "x": name "x" is reserved`, "spec.containers{a}", ClassCreate},
		{"Failed", "Error: context deadline exceeded", "spec.containers{a}", ClassCreate},
		{"Failed", "Internal PreStartContainer hook failed: x", "spec.containers{a}", ClassCreate},
		{"Failed", "error making pod data directories: x", "", ClassSandbox},
		{"BackOff", `Back-off pulling image "x"`, "spec.containers{a}", ClassImagePull},
		{"BackOff", "Back-off restarting failed container", "spec.containers{a}", ClassCrashLoop},
		{"InspectFailed", `Failed to inspect image "x": broken`, "spec.containers{a}", ClassImagePull},
		{"ErrImageNeverPull", "", "spec.containers{a}", ClassImagePull},
		{"FailedPostStartHook", "", "spec.containers{a}", ClassStart},
		{"FailedPreStopHook", "", "spec.containers{a}", ""},
		{"Unhealthy", "", "spec.containers{a}", ""},
		{"FailedCreatePodContainer", "", "", ClassCreate},
		{"FailedCreatePodSandBox", "", "", ClassSandbox},
		{"FailedPodSandBoxStatus", "", "", ClassSandbox},
		{"NetworkNotReady", "", "", ClassSandbox},
		{"FailedSync", "", "", ClassSandbox},
		{"FailedValidation", "", "", ClassSandbox},
		{"FailedPrepareDynamicResources", "", "", ClassSandbox},
		{"FailedResourceClaimCreation", `PodResourceClaim gpu: resource claim template "gpu" not found`, "", ClassUnschedulable},
		{"FailedScaleUp", "Pod is at risk of not being scheduled.", "", ClassUnschedulable},
		{"FailedBinding", "ephemeral volume scratch: no storage class", "", ClassVolume},
		{"FileSystemResizeFailed", "", "", ClassVolume},
		{"Failed", "Slow%!(EXTRA string=PodCertificateRequest ci/req failed)", "", ClassVolume},
		{"Denied", "", "", ClassVolume},
		{"ProviderCreateFailed", "", "", ClassCreate},
		{"DeviceTaintManagerEviction", "Marking for deletion", "", ClassEvicted},
		{"NodeControllerEviction", "Marking for deletion Pod build from Node n", "", ClassNodeLost},
		{"DeadlineExceeded", "Pod was active on the node longer than the specified deadline", "", ClassDeadline},
		{"FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (regcred)", "", ""},
		{"DNSConfigForming", "Nameserver limits were exceeded", "", ""},
		{"VolumeConditionAbnormal", "", "", ""},
		{"ResizeInfeasible", "", "", ""},
		{"Killing", "Stopping container a", "spec.containers{a}", ""},
		{"FailedMount", "", "", ClassVolume},
		{"FailedAttachVolume", "", "", ClassVolume},
		{"FailedMapVolume", "", "", ClassVolume},
		{"VolumeResizeFailed", "", "", ClassVolume},
		{"FailedScheduling", "", "", ClassUnschedulable},
		{"NotTriggerScaleUp", "", "", ClassUnschedulable},
		{"TriggeredScaleUp", "", "", ""},
		{"Preempted", "", "", ClassPreempted},
		{"Evicted", "", "", ClassEvicted},
		{"TaintManagerEviction", "", "", ClassNodeLost},
		{"NodeNotReady", "", "", ClassNodeLost},
		{"NodeShutdown", "", "", ClassNodeLost},
		{"ExceededGracePeriod", "", "", ClassRuntime},
		{"FailedKillPod", "", "", ClassRuntime},
		{"SandboxChanged", "", "", ""},
		{"Scheduled", "", "", ""},
	} {
		t.Run(c.reason+" "+c.message, func(t *testing.T) {
			e := &corev1.Event{Type: corev1.EventTypeWarning, Reason: c.reason, Message: c.message}
			switch c.reason { // as Kubernetes and the autoscaler record them
			case "TaintManagerEviction", "DeviceTaintManagerEviction", "NodeControllerEviction", "Preempted", "DeadlineExceeded",
				"NotTriggerScaleUp", "TriggeredScaleUp", "Scheduled", "SandboxChanged", "Killing":
				e.Type = corev1.EventTypeNormal
			}
			e.InvolvedObject.FieldPath = c.path
			p := onePod("1", "a")
			p.Status.Phase = corev1.PodPending
			var got Class
			if fs := Classify(p, []*corev1.Event{e}); len(fs) > 0 {
				got = fs[0].Class
				if wantSlot := slotOf(c.path); fs[0].Slot != wantSlot {
					t.Errorf("it is of slot %q, want %q", fs[0].Slot, wantSlot)
				}
			}
			if got != c.class {
				t.Errorf("got class %q, want %q", got, c.class)
			}
		})
	}
}

func TestEventsOfEventsK8sIOGetTheShapeOfCoreV1(t *testing.T) {
	when := metav1.NewMicroTime(metav1.Now().Rfc3339Copy().Time)
	e := &corev1.Event{
		EventTime: when, ReportingController: "default-scheduler", Reason: "FailedScheduling",
		Series: &corev1.EventSeries{Count: 4, LastObservedTime: when},
	}
	got := normalise(e)
	if got.Count != 4 || !got.LastTimestamp.Time.Equal(when.Time) || !got.FirstTimestamp.Time.Equal(when.Time) || got.Source.Component != "default-scheduler" {
		t.Errorf("got %+v", got)
	}
	if e.Count != 0 || !e.LastTimestamp.IsZero() {
		t.Error("the Event given was changed")
	}
}

func TestClassifyChangesNothing(t *testing.T) {
	p := withTerminated(onePod("1", "a", "b"), "a", "A", 1)
	e := &corev1.Event{Type: corev1.EventTypeWarning, Reason: "Failed", Message: "Error: ErrImagePull"}
	e.InvolvedObject.FieldPath = "spec.containers{b}"
	before, eventBefore := p.DeepCopy(), e.DeepCopy()
	first := Classify(p, []*corev1.Event{e, nil})
	second := Classify(p, []*corev1.Event{e, nil})
	if d := cmp.Diff(first, second); d != "" {
		t.Errorf("it remembers (-first +second)\n%s", d)
	}
	if d := cmp.Diff(before, p); d != "" {
		t.Errorf("the pod was changed (-want +got)\n%s", d)
	}
	if d := cmp.Diff(eventBefore, e); d != "" {
		t.Errorf("the Event was changed (-want +got)\n%s", d)
	}
	if fs := Classify(nil, nil); fs != nil {
		t.Errorf("of nothing: %v", fs)
	}
}

func TestAnErrorTextIsOneLine(t *testing.T) {
	f := &Failure{Class: ClassCreate, Slot: "a", Message: "first\n  second\tthird"}
	if got := f.Error(); strings.ContainsAny(got, "\n\t") || !strings.Contains(got, "first second third") {
		t.Errorf("%q", got)
	}
}
