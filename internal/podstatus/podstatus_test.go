package podstatus

import (
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	in    = corev1.ContainerRestartRuleOnExitCodesOpIn
	notIn = corev1.ContainerRestartRuleOnExitCodesOpNotIn
	again = corev1.ContainerRestartRuleActionRestart
	all   = corev1.ContainerRestartRuleActionRestartAllContainers
)

func policy(p corev1.ContainerRestartPolicy) *corev1.ContainerRestartPolicy { return &p }

func rule(action corev1.ContainerRestartRuleAction, op corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) corev1.ContainerRestartRule {
	return corev1.ContainerRestartRule{Action: action, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}
}

// podWith makes a pod that has the container c in the list of its role.
func podWith(c corev1.Container, role Role, pod corev1.RestartPolicy) *corev1.Pod {
	c.Name = "c"
	p := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: pod, Containers: []corev1.Container{{Name: "other"}}}}
	switch role {
	case Init:
		p.Spec.InitContainers = []corev1.Container{c}
	case Sidecar:
		c.RestartPolicy = policy("Always")
		p.Spec.InitContainers = []corev1.Container{c}
	case Ephemeral:
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon(c)}}
	default:
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}

func TestRestartsFollowsTheKubelet(t *testing.T) {
	with := func(p corev1.ContainerRestartPolicy, rules ...corev1.ContainerRestartRule) corev1.Container {
		return corev1.Container{RestartPolicy: policy(p), RestartPolicyRules: rules}
	}
	plain := corev1.Container{}
	for _, c := range []struct {
		name      string
		pod       corev1.RestartPolicy
		container corev1.Container
		role      Role
		code      int32
		want, may bool
	}{
		{"Never", "Never", plain, Regular, 1, false, false},
		{"Always, exit code 0", "Always", plain, Regular, 0, true, true},
		{"no policy is Always", "", plain, Regular, 0, true, true},
		{"OnFailure, exit code 0", "OnFailure", plain, Regular, 0, false, true},
		{"OnFailure, exit code 1", "OnFailure", plain, Regular, 1, true, true},
		{"an init container is done after exit code 0", "Always", plain, Init, 0, false, true},
		{"an init container, Always, exit code 1", "Always", plain, Init, 1, true, true},
		{"an init container, Never, exit code 1", "Never", plain, Init, 1, false, false},
		{"an init container with a rule for exit code 0", "Never", with("Never", rule(again, in, 0)), Init, 0, false, true},
		{"an init container whose exit code 0 restarts all", "Never", with("Never", rule(all, in, 0)), Init, 0, true, true},
		{"an init container with a rule for its exit code", "Never", with("Never", rule(again, in, 3)), Init, 3, true, true},
		{"a sidecar, whatever the pod's policy", "Never", plain, Sidecar, 0, true, true},
		{"an ephemeral container, whatever the pod's policy", "Always", plain, Ephemeral, 1, false, false},
		{"the container's policy comes before the pod's", "Always", with("Never"), Regular, 1, false, false},
		{"the container's Always comes before the pod's Never", "Never", with("Always"), Regular, 0, true, true},
		{"a rule matches", "Never", with("Never", rule(again, in, 42)), Regular, 42, true, true},
		{"a rule does not match", "Never", with("Never", rule(again, in, 42)), Regular, 0, false, true},
		{"a rule excludes", "Never", with("Never", rule(again, notIn, 0)), Regular, 1, true, true},
		{"a rule restarts all containers", "Never", with("Never", rule(all, in, 88)), Regular, 88, true, true},
		{"no rule matches: the policy decides", "Never", with("OnFailure", rule(again, in, 42)), Regular, 1, true, true},
		{"a rule with an operator that is not known", "Never", with("Never", rule(again, "Above", 1)), Regular, 2, false, true},
		{"rules without a policy do not count", "Never", corev1.Container{RestartPolicyRules: []corev1.ContainerRestartRule{rule(again, in, 42)}}, Regular, 42, false, true},
		{"a policy that is not known: the pod's decides", "OnFailure", with("Sometimes"), Regular, 1, true, true},
	} {
		p := podWith(c.container, c.role, c.pod)
		if got := Restarts(p, "c", c.code); got != c.want {
			t.Errorf("%s: Restarts is %v", c.name, got)
		}
		if got := MayRestart(p, "c"); got != c.may {
			t.Errorf("%s: MayRestart is %v", c.name, got)
		}
	}
	if !Restarts(nil, "c", 0) || !MayRestart(nil, "c") || !Restarts(&corev1.Pod{}, "c", 0) || !MayRestart(&corev1.Pod{}, "c") {
		t.Error("what is not known is not known to be the end")
	}
}

func TestOneContainersRuleMayRestartAllContainers(t *testing.T) {
	one := corev1.Container{RestartPolicy: policy("Never"), RestartPolicyRules: []corev1.ContainerRestartRule{rule(again, in, 1), rule(all, in, 88)}}
	for _, role := range []Role{Regular, Init} {
		if !RestartsAll(podWith(one, role, "Never")) {
			t.Errorf("%s: not found", role)
		}
	}
	one.RestartPolicyRules = one.RestartPolicyRules[:1]
	if RestartsAll(podWith(one, Regular, "Never")) || RestartsAll(nil) {
		t.Error("found where there is none")
	}
}

func TestContainersOfAPodWithoutASpecAreThoseThatTheStatusesName(t *testing.T) {
	names := func(p *corev1.Pod) (all []string) {
		for c := range Containers(p) {
			all = append(all, string(c.Role)+" "+c.Name)
			if (c.Spec != nil) != HasSpec(p) {
				t.Errorf("%s: it has a spec: %v", c.Name, c.Spec != nil)
			}
		}
		return all
	}
	p := podWith(corev1.Container{}, Sidecar, "Never")
	p.Spec.InitContainers = append(p.Spec.InitContainers, corev1.Container{Name: "setup"})
	p.Spec.EphemeralContainers = podWith(corev1.Container{}, Ephemeral, "").Spec.EphemeralContainers
	if got, want := names(p), []string{"Sidecar c", "Init setup", "Regular other", "Ephemeral c"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	p = &corev1.Pod{Status: corev1.PodStatus{
		ContainerStatuses:          []corev1.ContainerStatus{{Name: "a"}},
		InitContainerStatuses:      []corev1.ContainerStatus{{Name: "i"}},
		EphemeralContainerStatuses: []corev1.ContainerStatus{{Name: "e"}},
	}}
	if got, want := names(p), []string{"Init i", "Regular a", "Ephemeral e"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if c, ok := Find(p, "e"); !ok || c.Role != Ephemeral {
		t.Errorf("found %v, %v", c, ok)
	}
	stripped := podWith(corev1.Container{}, Regular, "Never")
	stripped.Status.EphemeralContainerStatuses = p.Status.EphemeralContainerStatuses
	if c, ok := Find(stripped, "e"); !ok || c.Role != Ephemeral || Restarts(stripped, "e", 1) {
		t.Errorf("stripped from the spec: found %v, %v", c, ok)
	}
	if _, ok := Find(p, "x"); ok {
		t.Error("found a container that there is not")
	}
}

func TestAStatusShowsOneRun(t *testing.T) {
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	waiting := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{}}
	ended := func(id string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ContainerID: id}}
	}
	for _, c := range []struct {
		name  string
		st    corev1.ContainerStatus
		id    string
		phase Phase
	}{
		{"no state", corev1.ContainerStatus{ContainerID: "A"}, "", None},
		{"running", corev1.ContainerStatus{ContainerID: "A", State: running}, "A", Running},
		{"ended", corev1.ContainerStatus{ContainerID: "B", State: ended("A")}, "A", Terminated},
		{"ended, and only the status has its ID", corev1.ContainerStatus{ContainerID: "A", State: ended("")}, "A", Terminated},
		{"ended, and nothing has an ID", corev1.ContainerStatus{State: ended("")}, "", Terminated},
		{"waiting, and the status has the last one's ID", corev1.ContainerStatus{ContainerID: "A", State: waiting, LastTerminationState: ended("A")}, "", Waiting},
	} {
		if id, phase := Current(&c.st); id != c.id || phase != c.phase {
			t.Errorf("%s: %q in phase %d", c.name, id, phase)
		}
	}
}

func TestEndsThatNobodyKnowsAndRunsThatNeverStarted(t *testing.T) {
	started, epoch := metav1.NewTime(time.Unix(1e9, 0)), metav1.NewTime(time.Unix(0, 0))
	for _, c := range []struct {
		end            corev1.ContainerStateTerminated
		unknown, never bool
	}{
		{corev1.ContainerStateTerminated{Reason: "Completed", StartedAt: started}, false, false},
		{corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 255, StartedAt: started}, false, false},
		{corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 137, StartedAt: started}, false, false},
		{corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 128, StartedAt: started}, false, false},
		{corev1.ContainerStateTerminated{Reason: "ContainerStatusUnknown", ExitCode: 137}, true, false},
		{corev1.ContainerStateTerminated{Reason: "RestartingAllContainers", ExitCode: 137}, true, false},
		{corev1.ContainerStateTerminated{Reason: "Unknown", ExitCode: 255}, true, false},
		{corev1.ContainerStateTerminated{Reason: "Unknown", ExitCode: 1}, false, false},
		{corev1.ContainerStateTerminated{Reason: "NotFound", ExitCode: -137}, true, false},
		{corev1.ContainerStateTerminated{Reason: "StartError", ExitCode: 128}, false, true},
		{corev1.ContainerStateTerminated{Reason: "ContainerCannotRun", ExitCode: 127}, false, true},
		{corev1.ContainerStateTerminated{Reason: "Error", ExitCode: 128, StartedAt: epoch}, false, true},
	} {
		if got := EndUnknown(&c.end); got != c.unknown {
			t.Errorf("%s %d: its end is unknown: %v", c.end.Reason, c.end.ExitCode, got)
		}
		if got := NeverStarted(&c.end); got != c.never {
			t.Errorf("%s %d: it never started: %v", c.end.Reason, c.end.ExitCode, got)
		}
	}
}

func TestVersionsThatAreNoNumbersHaveNoOrder(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
		ok   bool
	}{
		{"2", "10", -1, true},
		{"10", "2", 1, true},
		{"7", "7", 0, true},
		{"abc", "abc", 0, true},
		{"", "", 0, false},
		{"", "7", 0, false},
		{"abc", "7", 0, false},
		{"0", "7", 0, false},
	} {
		if got, ok := CompareVersions(c.a, c.b); got != c.want || ok != c.ok {
			t.Errorf("%q and %q: %d, %v; want %d, %v", c.a, c.b, got, ok, c.want, c.ok)
		}
	}
}
