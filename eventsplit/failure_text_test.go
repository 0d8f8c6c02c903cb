package eventsplit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// testdata/sentences.golden has every sentence that this package can say, below what caused it.
// The test makes them by enumeration: each waiting reason, reason of a pod, condition, reason of
// an Event, cause of a failed pull, answer of an API server and decision of the Splitter, in
// words of Kubernetes, runtimes and registries.
func TestEverySentenceIsAsRecorded(t *testing.T) {
	const file = "testdata/sentences.golden"
	var b strings.Builder
	said := map[string]bool{}
	for _, part := range []struct {
		title     string
		sentences []sentence
	}{
		{"Why a container waits: the reason and message in its status", waitingSentences(t)},
		{"Why an image cannot be pulled: the runtime's words in the status of container build, image registry.example/team/app:1.2", pullSentences()},
		{"How a container ended", endSentences()},
		{"What befell a pod: the reason and message in its status", podSentences(t)},
		{"What a pod's conditions say", conditionSentences()},
		{"What Events say", eventSentences(t)},
		{"What an API server answers, and why it may not", answerSentences(t)},
		{"What a Splitter finds", verdictSentences()},
	} {
		fmt.Fprintf(&b, "# %s\n", part.title)
		for _, s := range part.sentences {
			fmt.Fprintf(&b, "%s\n", s.input)
			if len(s.failures) == 0 {
				b.WriteString("\t(nothing)\n")
			}
			for _, f := range s.failures {
				said[string(f.Class)], said["cause "+string(f.Cause)] = true, true
				fmt.Fprintf(&b, "\t%s\n", f)
				checkSentence(t, f)
			}
		}
		b.WriteString("\n")
	}
	for _, class := range constants(t, "Class") {
		if !said[class] {
			t.Errorf("nothing here has class %s", class)
		}
	}
	for _, cause := range constants(t, "Cause") {
		if !said["cause "+cause] {
			t.Errorf("nothing here has cause %s", cause)
		}
	}
	got := strings.TrimSuffix(b.String(), "\n")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// checkSentence checks what holds for every sentence.
func checkSentence(t *testing.T, f *Failure) {
	t.Helper()
	text := f.Error()
	clause, rest := f.what(), text
	if f.Slot != "" {
		rest = strings.TrimPrefix(text, fmt.Sprintf("container %q: ", f.Slot))
	}
	switch {
	case strings.ContainsAny(text, "\n\t"), strings.HasSuffix(text, ":"), strings.Contains(text, ": :"), strings.Contains(text, "  "):
		t.Errorf("it is not one sentence: %q", text)
	case clause == "", !strings.HasPrefix(rest, clause):
		t.Errorf("it does not say what is wrong: %q", text)
	case f.Class != ClassOther && clause == classTexts[ClassOther]:
		t.Errorf("class %s has no words: %q", f.Class, text)
	case f.Slot == "" && strings.HasPrefix(clause, "it "):
		t.Errorf("it does not name the thing: %q", text)
	case len(f.Message) > 0 && !strings.Contains(text, lastWord(f.Message)):
		t.Errorf("it lacks the words of who said it, %q: %q", f.Message, text)
	}
}

func lastWord(s string) string {
	words := strings.Fields(strings.TrimRight(s, "]"))
	return words[len(words)-1]
}

type sentence struct {
	input    string
	failures []*Failure
}

func one(input string, f *Failure) sentence { return sentence{input, []*Failure{f}} }

// theBuild returns a pod with one container, with changes.
func theBuild(changes ...func(*corev1.Pod)) *corev1.Pod {
	p := onePod("1", "build")
	p.Status.Phase, p.Spec.Containers[0].Image = corev1.PodPending, "registry.example/team/app:1.2"
	for _, change := range changes {
		change(p)
	}
	return p
}

func waitingSentences(t *testing.T) (all []sentence) {
	t.Helper()
	const image = "registry.example/team/app:1.2"
	words := map[string][]string{
		"ErrImagePull":              {"", unpack + "failed to extract layer sha256:aa: content digest sha256:bb: not found"},
		"ImagePullBackOff":          {`Back-off pulling image "` + image + `"`, `Back-off pulling image "` + image + `": ErrImagePull: ` + resolve + image + ": not found"},
		"InvalidImageName":          {`Failed to apply default image tag "Team/App": couldn't parse image name "Team/App": invalid reference format: repository name (Team/App) must be lowercase`},
		"ErrImageNeverPull":         {`Container image "` + image + `" is not present with pull policy of Never`},
		"ImageInspectError":         {`Failed to inspect image "": rpc error: code = Unknown desc = layer not known`},
		"RegistryUnavailable":       {`image pull failed for ` + image + ` because the registry is unavailable: ` + ping + `Get "https://registry.example/v2/": dial tcp 10.0.0.1:443: connect: connection refused`},
		"SignatureValidationFailed": {`image pull failed for ` + image + ` because the signature validation failed: Source image rejected: A signature was required, but no signature exists`},
		"CreateContainerConfigError": {
			`secret "token" not found`, "couldn't find key password in Secret ci/token",
			`container has runAsNonRoot and image will run as root (pod: "build_ci(u)", container: build)`,
			"services have not yet been read at least once, cannot construct envvars",
		},
		"RROUnsupported":         {"recursive read-only mounts are not supported by the runtime handler"},
		"ImageVolumeMountFailed": {`failed to mount image volume "data": mount callback failed`},
		"CreateContainerError": {
			"context deadline exceeded", `failed to reserve container name "build_build-1": name "build_build-1" is reserved for "c1"`,
			"container create failed: executable file `mak` not found in $PATH: No such file or directory",
			`failed to generate container "c1" spec: failed to generate spec: no command specified`,
		},
		"PreCreateHookError": {"device plugin does not answer"},
		"PreStartHookError":  {"cannot allocate cpus"},
		"PostStartHookError": {"PostStartHook failed"},
		"RunContainerError": {
			"failed to start containerd task \"build\": context deadline exceeded",
			`failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "mak": executable file not found in $PATH`,
		},
		"CrashLoopBackOff":      {"back-off 5m0s restarting failed container=build pod=build_ci(u)"},
		"CreatePodSandboxError": {"failed to set up the sandbox's network: plugin type=\"calico\" failed: no addresses left"},
		"ConfigPodSandboxError": {"cannot make a hostname"},
		"KillContainerError":    {"rpc error: code = DeadlineExceeded desc = context deadline exceeded"},
		"KillPodSandboxError":   {"network plugin does not answer"},
		"RemoveContainerError":  {"container is still running"},
		"ResizePodInPlaceError": {"not enough memory"},
		"SomethingNew":          {"", "words that nobody knows"},
	}
	for _, reason := range sortedKeys(waitingReasons) {
		if words[reason] == nil {
			t.Errorf("no words for the waiting reason %s", reason)
		}
	}
	for _, reason := range sortedKeys(words) {
		for _, w := range words[reason] {
			input := strings.TrimSuffix(reason+": "+w, ": ")
			p := theBuild(isWaiting("build", reason, w))
			if reason == "InvalidImageName" {
				p.Spec.Containers[0].Image = "Team/App"
			}
			all = append(all, sentence{input, Classify(p, nil)})
		}
	}
	const volume = `Failed to apply default image tag "Data/Model:9": couldn't parse image name "Data/Model:9": invalid reference format`
	return append(all, sentence{
		"InvalidImageName, of a volume that the container mounts: " + volume,
		Classify(theBuild(mounts("build", "Data/Model:9"), isWaiting("build", "InvalidImageName", volume)), nil),
	})
}

// pullSentences has a text for each cause, and for none.
func pullSentences() (all []sentence) {
	for _, words := range []string{
		resolve + "registry.example/team/app:1.2: not found",
		unpack + "no match for platform in manifest: not found",
		resolve + "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed",
		manifest + "unauthorized: access to the requested resource is not authorized",
		"toomanyrequests: You have reached your unauthenticated pull rate limit.",
		"pull QPS exceeded",
		resolve + "failed to do request: Head " + address + ": dial tcp 10.0.0.1:443: i/o timeout",
		resolve + "unexpected status from HEAD request to https://registry.example/v2/team/app/manifests/1.2: 503 Service Unavailable",
		resolve + "failed to do request: Head " + address + ": dial tcp: lookup registry.example on 10.0.0.10:53: no such host",
		resolve + "failed to do request: Head " + address + ": tls: failed to verify certificate: x509: certificate signed by unknown authority",
		resolve + "failed to do request: Head " + address + ": dial tcp: lookup registry.example on 10.0.0.10:53: server misbehaving",
		resolve + "failed to do request: Head " + address + ": tls: failed to verify certificate: x509: certificate has expired or is not yet valid: current time 2026-11-30T12:00:00Z is after 2026-11-30T00:00:00Z",
		resolve + "failed to do request: Head " + address + ": tls: failed to verify certificate: x509: certificate is valid for mirror.example, not registry.example",
		resolve + "unexpected status from HEAD request to https://mirror.example/v2/team/app/manifests/1.2?ns=registry.example: 403 Forbidden",
		"registry registry.example is blocked in /etc/containers/registries.conf or /etc/containers/registries.conf.d",
		resolve + "failed to do request: Head " + address + ": http: server gave HTTP response to HTTPS client",
		`short-name "app" did not resolve to an alias and no unqualified-search registries are defined in "/etc/containers/registries.conf"`,
		"Source image rejected: Running image docker://registry.example/team/app:1.2 is rejected by policy.",
		unpack + "failed to extract layer sha256:aa: write /var/lib/containerd/x: no space left on device",
		unpack + "unexpected media type text/html for sha256:aa: not found",
		`Error response from daemon: image operating system "windows" cannot be used on this platform`,
		"[rpc error: code = Unknown desc = " + resolve + "pull access denied, repository does not exist or may require authorization: authorization failed, " +
			"rpc error: code = Unknown desc = " + resolve + "failed to do request: Head " + address + ": dial tcp 10.0.0.1:443: i/o timeout]",
	} {
		all = append(all, sentence{words, Classify(theBuild(isWaiting("build", "ErrImagePull", words)), nil)})
	}
	return all
}

func endSentences() (all []sentence) {
	for _, c := range []struct {
		code            int32
		reason, message string
	}{
		{0, "Completed", ""},
		{137, "ContainerStatusUnknown", "The container could not be located when the pod was terminated"},
		{255, "Unknown", ""},
		{-137, "NotFound", "Container was not found and was likely deleted"},
		{128, "StartError", `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "mak": executable file not found in $PATH`},
		{127, "ContainerCannotRun", "OCI runtime create failed: container_linux.go:380: starting container process caused: process_linux.go:545: container init caused: read-only file system"},
	} {
		p := theBuild(hasEnded("build", c.code, c.reason))
		p.Status.ContainerStatuses[0].State.Terminated.Message = c.message
		all = append(all, sentence{fmt.Sprintf("exit code %d, %s %s", c.code, c.reason, c.message), Classify(p, nil)})
	}
	return all
}

func podSentences(t *testing.T) (all []sentence) {
	t.Helper()
	words := map[string]string{
		"Evicted":          "The node was low on resource: memory. Threshold quantity: 100Mi, available: 80Mi.",
		"DeadlineExceeded": "Pod was active on the node longer than the specified deadline",
		"Preempting":       "Preempted in order to admit critical pod",
		"NodeLost":         "Node worker-1 which was running pod build is unresponsive",
		"Terminated":       "Pod was terminated in response to imminent node shutdown.",
		"NodeShutdown":     "Pod was rejected as the node is shutting down.",
		"Shutdown":         "Node is shutting down, evicting pods",
		"ProviderFailed":   "ACI does not support providing args without specifying the command",
		"NotFound":         "The pod status was not found and may have been deleted from the provider",
		"OutOfcpu":         "Pod was rejected: Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000",

		"OutOfmemory":                          "Pod was rejected: Node didn't have enough resource: memory, requested: 2000, used: 3000, capacity: 4000",
		"OutOfephemeral-storage":               "Pod was rejected: Node didn't have enough resource: ephemeral-storage, requested: 2000, used: 3000, capacity: 4000",
		"OutOfpods":                            "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: 110, capacity: 110",
		"UnexpectedAdmissionError":             "Pod was rejected: Allocate failed due to no healthy devices present; cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected",
		"NodeAffinity":                         "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
		"NodePorts":                            "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
		"TaintToleration":                      "Pod was rejected: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate",
		"PodFeatureUnsupported":                "Pod was rejected: swap is not supported by the runtime",
		"OutOfnvidia.com/gpu":                  "Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, requested: 1, used: 4, capacity: 4",
		"NodeName":                             "Pod was rejected: Predicate NodeName failed: node(s) didn't match the requested node name",
		"PodOSNotSupported":                    "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS",
		"PodOSSelectorNodeLabelDoesNotMatch":   "Pod was rejected: Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
		"InvalidNodeInfo":                      "Kubelet cannot get node info.",
		"SupplementalGroupsPolicyNotSupported": "Pod was rejected: SupplementalGroupsPolicy=Strict is not supported in this node",
		"InitContainerRestartPolicyForbidden":  "Pod was rejected: Init container \"proxy\" may not have a non-default restartPolicy",
		"TopologyAffinityError":                "Pod was rejected: Resources cannot be allocated with Topology locality",
		"AppArmor":                             "Pod was rejected: Cannot enforce AppArmor: AppArmor is not enabled on the host",
		"SysctlForbidden":                      "Pod was rejected: forbidden sysctl: \"kernel.msgmax\" not allowlisted",
		"PodLevelResourcesNotSupported":        "Pod was rejected: pod-level resources are not supported on this node",
		"BrandNew":                             "words that nobody knows",
	}
	for _, reason := range sortedKeys(podReasons) {
		if words[reason] == "" {
			t.Errorf("no words for the pod's reason %s", reason)
		}
	}
	for _, reason := range sortedKeys(words) {
		p := theBuild(hasPhase(corev1.PodFailed))
		p.Status.Reason, p.Status.Message = reason, words[reason]
		all = append(all, sentence{reason + ": " + words[reason], Classify(p, nil)})
	}
	odd := theBuild(hasPhase(corev1.PodFailed), hasEnded("build", 1, "Error"))
	odd.Status.Reason, odd.Status.Message = "BrandNew", "words that nobody knows"
	return append(all, sentence{"BrandNew, of a pod that ran: words that nobody knows", Classify(odd, nil)},
		sentence{"phase Unknown", Classify(theBuild(hasPhase(corev1.PodUnknown)), nil)},
		sentence{"deletionTimestamp", Classify(theBuild(wasDeleted(0, 30)), nil)})
}

func conditionSentences() (all []sentence) {
	words := map[string]string{
		"PreemptionByScheduler":        "default-scheduler: preempting to accommodate a higher priority pod",
		"DeletionByTaintManager":       "Taint manager: deleting due to NoExecute taint",
		"EvictionByEvictionAPI":        "Eviction API: evicting",
		"DeletionByDeviceTaintManager": "Device Taint manager: deleting due to NoExecute taint",
		"DeletionByPodGC":              "PodGC: node no longer exists",
		"TerminationByKubelet":         "The node was low on resource: ephemeral-storage.",
	}
	for _, reason := range sortedKeys(disruptionClasses) {
		disrupted := func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.DisruptionTarget, Status: corev1.ConditionTrue, Reason: reason, Message: words[reason]}}
		}
		input := "DisruptionTarget " + reason + ": " + words[reason]
		all = append(all, sentence{input, Classify(theBuild(disrupted), nil)},
			sentence{input + ", and deleted", Classify(theBuild(disrupted, wasDeleted(0, 30)), nil)})
	}
	for _, c := range [][2]string{
		{"Unschedulable", "0/3 nodes are available: 3 Insufficient cpu. preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."},
		{"SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates"},
		{"SchedulerError", "running PreBind plugin \"VolumeBinding\": binding volumes: context deadline exceeded"},
	} {
		all = append(all, sentence{"PodScheduled False " + c[0] + ": " + c[1], Classify(theBuild(func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: c[0], Message: c[1]}}
		}), nil)})
	}
	return all
}

func eventSentences(t *testing.T) (all []sentence) {
	t.Helper()
	const image = "registry.example/team/app:1.2"
	words := map[string][]string{
		"InspectFailed":     {`Failed to inspect image "": rpc error: code = Unknown desc = layer not known`},
		"ErrImageNeverPull": {`Container image "` + image + `" is not present with pull policy of Never`},
		"Failed": {
			`Failed to pull image "` + image + `": ` + resolve + image + ": not found", "Error: ErrImagePull", `Error: secret "token" not found`,
			"Error: context deadline exceeded", "Internal PreStartContainer hook failed: no devices", "error making pod data directories: disk is read-only",
			`Error: failed to start container "c1": exec: "mak": executable file not found in $PATH`,
			"NoPolicyConfigured%!(EXTRA string=PodCertificateRequest ci/req was denied)",
		},
		"BackOff":                         {`Back-off pulling image "` + image + `"`, "Back-off restarting failed container build in pod build_ci(u)"},
		"FailedPostStartHook":             {"PostStartHook failed"},
		"FailedCreatePodContainer":        {"failed to ensure that the pod: u cgroups exist and are correctly applied"},
		"FailedCreatePodSandBox":          {`Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox "s": plugin type="calico" failed (add): no addresses left`},
		"FailedPodSandBoxStatus":          {"Unable to get pod sandbox status: rpc error: code = DeadlineExceeded desc = context deadline exceeded"},
		"NetworkNotReady":                 {"network is not ready: container runtime network not ready: cni plugin not initialized"},
		"FailedSync":                      {"error determining status: rpc error: code = Unknown desc = Error: No such container: c1"},
		"FailedValidation":                {"Error validating pod build from api, ignoring"},
		"FailedPrepareDynamicResources":   {"Failed to prepare dynamic resources: claim gpu: driver does not answer"},
		"FailedNodeDeclaredFeaturesCheck": {"the node lacks a feature that the pod wants"},
		"FailedMount":                     {`MountVolume.SetUp failed for volume "v": secret "token" not found`, "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[data]: timed out waiting for the condition"},
		"FailedAttachVolume":              {`Multi-Attach error for volume "pvc-1" Volume is already exclusively attached to one node and can't be attached to another`},
		"FailedMapVolume":                 {`MapVolume.MapPodDevice failed for volume "pvc-1"`},
		"FailedMountOnFilesystemMismatch": {`MountVolume failed for volume "pvc-1": found xfs, want ext4`},
		"VolumeResizeFailed":              {`NodeExpandVolume failed for volume "pvc-1"`},
		"FileSystemResizeFailed":          {`MountVolume.resizeFileSystem failed for volume "pvc-1": exit status 1`},
		"FailedBinding":                   {`ephemeral volume scratch: PVC "build-scratch" was not created for pod "build"`},
		"Denied":                          {"NoPolicyConfigured"},
		"FailedResourceClaimCreation":     {`PodResourceClaim gpu: resource claim template "gpu" not found`},
		"FailedScaleUp":                   {"Node scale up in zones europe-west1-b associated with this pod failed: GCE quota exceeded. Pod is at risk of not being scheduled."},
		"ProviderCreateFailed":            {"api call to create the container group failed: quota is used up"},
		"DeviceTaintManagerEviction":      {"Marking for deletion", "Cancelling deletion"},
		"NodeControllerEviction":          {"Marking for deletion Pod build from Node worker-1"},
		"FailedScheduling":                {"0/3 nodes are available: 3 Insufficient cpu."},
		"NotTriggerScaleUp":               {"pod didn't trigger scale-up: 1 max node group size reached"},
		"FailedKillPod":                   {`error killing pod: failed to "KillPodSandbox" for "u": network plugin does not answer`},
		"ExceededGracePeriod":             {"Container runtime did not kill the pod within specified grace period."},
		"BackoffLimitExceeded":            {"Job has reached the specified backoff limit"},
		"DeadlineExceeded":                {"Pod was active on the node longer than the specified deadline"},
		"Evicted":                         {"The node was low on resource: memory."},
		"TaintManagerEviction":            {"Marking for deletion Pod ci/build", "Cancelling deletion of Pod ci/build"},
		"Preempted":                       {"Preempted by pod 7d2 on node worker-1"},
		"Preempting":                      {"Preempted in order to admit critical pod"},
		"NodeNotReady":                    {"Node is not ready"},
		"NodeShutdown":                    {"Pod was rejected as the node is shutting down."},
		"Shutdown":                        {"Shutdown manager detected shutdown event"},
		"Rebooted":                        {"Node worker-1 has been rebooted, boot id: b"},
		"FailedCreate": {
			`Error creating: pods "build-x" is forbidden: exceeded quota: compute, requested: cpu=2, used: cpu=3, limited: cpu=4`,
			`Error creating: pods "build-x" is forbidden: failed quota: compute: must specify limits.cpu for: build`,
			`Error creating: pods "build-x" is forbidden: error looking up service account ci/builder: serviceaccount "builder" not found`,
			`Error creating: admission webhook "images.ci.example" denied the request: only images of registry.example are allowed`,
			`Error creating: Pod "build-x" is invalid: spec.containers[0].image: Required value`,
			`Error creating: Internal error occurred: failed calling webhook "images.ci.example": context deadline exceeded`,
			"Error creating: something nobody knows",
		},
	}
	for _, reason := range sortedKeys(eventReasons) {
		if words[reason] == nil {
			t.Errorf("no words for Events of reason %s", reason)
		}
	}
	for _, reason := range sortedKeys(words) {
		for _, w := range words[reason] {
			e := &corev1.Event{Type: corev1.EventTypeWarning, Reason: reason, Message: w}
			if isNormalTrouble(reason) {
				e.Type = corev1.EventTypeNormal
			}
			switch reason {
			case "Failed", "BackOff", "InspectFailed", "ErrImageNeverPull", "FailedPostStartHook":
				if !strings.Contains(w, "pod data directories") {
					e.InvolvedObject.FieldPath = "spec.containers{build}"
				}
			}
			p := theBuild()
			if reason == reasonFailedCreate {
				p = nil // the Event is about an owner
			}
			all = append(all, sentence{fmt.Sprintf("%s %s: %s", e.Type, reason, w), Classify(p, []*corev1.Event{e})})
		}
	}
	return all
}

func answerSentences(t *testing.T) (all []sentence) {
	t.Helper()
	raw, err := os.ReadFile("testdata/apierrors.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		var c struct {
			Name   string
			Status metav1.Status
		}
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(c.Name, " says it") {
			continue // the recorded answers have their sentences in that file
		}
		all = append(all, one(fmt.Sprintf("%d, %s", c.Status.Code, c.Name), ClassifyAPIError(&apierrors.StatusError{ErrStatus: c.Status})))
	}
	for _, text := range []string{
		`Post "https://api.example:443/api/v1/namespaces/ci/pods": dial tcp 10.0.0.1:443: connect: connection refused`,
		`Post "https://api.example:443/api/v1/namespaces/ci/pods": dial tcp: lookup api.example: no such host`,
		`Post "https://api.example:443/api/v1/namespaces/ci/pods": tls: failed to verify certificate: x509: certificate signed by unknown authority`,
		`Post "https://api.example:443/api/v1/namespaces/ci/pods": getting credentials: exec: executable aws failed with exit code 255`,
		"client rate limiter Wait returned an error: context deadline exceeded",
		`Post "https://api.example:443/api/v1/namespaces/ci/pods": http2: client connection lost`,
	} {
		all = append(all, one(text, ClassifyAPIError(errors.New(text))))
	}
	return append(
		all,
		one("context deadline exceeded", ClassifyAPIError(timeoutError{})),
		one("context canceled", ClassifyAPIError(&url.Error{Op: "Post", URL: "https://api.example:443/", Err: context.Canceled})),
	)
}

type timeoutError struct{}

func (timeoutError) Error() string {
	return `Post "https://api.example:443/": context deadline exceeded`
}
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

// verdictSentences are those that neither a status nor an Event causes.
func verdictSentences() []sentence {
	p := theBuild()
	build := &slot{name: "build", kind: KindRegular, spec: &p.Spec.Containers[0]}
	failed := &run{end: endExited, outcome: &Outcome{ExitCode: 2, Reason: "Error"}}
	replaced := &slot{name: "build", kind: KindRegular, spec: &p.Spec.Containers[0], runs: []*run{failed}, from: 1}
	blocked := &Splitter{pod: theBuild(hasPhase(corev1.PodFailed)), order: []*slot{{name: "setup", kind: KindInit, runs: []*run{failed}}}}
	unknown := &Splitter{}
	progress := build.makeWaiting(waitingKey{source: waitsForSwap})
	unsure := placeholderFailure(&slot{name: "build", kind: KindRegular, spec: &p.Spec.Containers[0], declared: true, runs: []*run{failed}, from: 1})
	unattributed := &slot{name: "build", kind: KindRegular, spec: &p.Spec.Containers[0], runs: []*run{{owner: ownerUnknown, end: endLost, lostReason: "Completed"}}}
	return []sentence{
		one("a swap is under way", progress),
		one("a swap that failed, and nobody said why", swapFailure(build)),
		one("a swap whose placeholder has ended", placeholderFailure(replaced)),
		one("the same, of a swap that another process may have made", unsure),
		one("a step or its placeholder has ended", unknown.lostFailure(unattributed)),
		one("a swap to the image that is there", &Failure{Class: ClassUnchanged, Slot: "build", Image: "registry.example/team/app:1.2"}),
		one("a swap of an init container", &Failure{Class: ClassInvalid, Slot: "setup", Message: "a new image does not restart an init container"}),
		one("a container that the pod does not have", unknownSlot("biuld")),
		one("a container without a name", unnamedSlot()),
		one("a wait for the start of a container that has ended", endedFailure(State{Slot: "build", Outcome: &Outcome{ExitCode: 2, Reason: "Error"}})),
		one("a wait for the start of a pod that has ended", endedFailure(State{Outcome: &Outcome{Reason: "Succeeded"}})),
		one("a pod that ended before a container ran", blocked.podFailure(build)),
		one("a container that is gone", unknown.lostFailure(build)),
		one("a pod that was deleted", &Failure{Class: ClassDeleted, Message: msgDeleted}),
		one("a container of it", &Failure{Class: ClassDeleted, Slot: "build", Message: msgDeleted}),
		one("a pod of the same name", &Failure{Class: ClassDeleted, Message: "another pod has taken its name"}),
		one("a pod that left the watch", &Failure{Class: ClassOutOfScope}),
		one("a pod that failed, and nobody said why", &Failure{Class: ClassOther, Reason: "Failed"}),
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
