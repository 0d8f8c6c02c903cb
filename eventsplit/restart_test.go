package eventsplit

import (
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

func TestWouldRestartFollowsTheKubelet(t *testing.T) {
	policy := func(p corev1.ContainerRestartPolicy) *corev1.ContainerRestartPolicy { return &p }
	rule := func(op corev1.ContainerRestartRuleOnExitCodesOperator, codes ...int32) []corev1.ContainerRestartRule {
		return []corev1.ContainerRestartRule{{Action: "Restart", ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{Operator: op, Values: codes}}}
	}
	in, notIn := corev1.ContainerRestartRuleOnExitCodesOpIn, corev1.ContainerRestartRuleOnExitCodesOpNotIn
	for _, c := range []struct {
		name      string
		pod       corev1.RestartPolicy
		container corev1.Container
		kind      Kind
		code      int32
		want      bool
	}{
		{"Never", "Never", corev1.Container{}, KindRegular, 1, false},
		{"Always, exit 0", "Always", corev1.Container{}, KindRegular, 0, true},
		{"no policy is Always", "", corev1.Container{}, KindRegular, 0, true},
		{"OnFailure, exit 0", "OnFailure", corev1.Container{}, KindRegular, 0, false},
		{"OnFailure, exit 1", "OnFailure", corev1.Container{}, KindRegular, 1, true},
		{"init, Always, exit 0: it is done", "Always", corev1.Container{}, KindInit, 0, false},
		{"init, Always, exit 1", "Always", corev1.Container{}, KindInit, 1, true},
		{"init, Never, exit 1", "Never", corev1.Container{}, KindInit, 1, false},
		{"sidecar, whatever the pod's policy", "Never", corev1.Container{}, KindSidecar, 0, true},
		{"ephemeral, whatever the pod's policy", "Always", corev1.Container{}, KindEphemeral, 1, false},
		{"the container's policy comes before the pod's", "Always", corev1.Container{RestartPolicy: policy("Never")}, KindRegular, 1, false},
		{"a rule matches", "Never", corev1.Container{RestartPolicy: policy("Never"), RestartPolicyRules: rule(in, 42)}, KindRegular, 42, true},
		{"a rule does not match", "Never", corev1.Container{RestartPolicy: policy("Never"), RestartPolicyRules: rule(in, 42)}, KindRegular, 0, false},
		{"a rule excludes", "Never", corev1.Container{RestartPolicy: policy("Never"), RestartPolicyRules: rule(notIn, 0)}, KindRegular, 1, true},
		{"no rule matches: the policy decides", "Never", corev1.Container{RestartPolicy: policy("OnFailure"), RestartPolicyRules: rule(in, 42)}, KindRegular, 1, true},
	} {
		p := &corev1.Pod{Spec: corev1.PodSpec{RestartPolicy: c.pod}}
		if got := wouldRestart(p, &c.container, c.kind, c.code); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// The kubelet holds back each try to start what has ended, and shows that in turn with what
// became of the last try: seen of a swap whose image cannot be pulled, restartPolicy Always.
func TestTheBackOffBetweenTriesIsNoTroubleOfItsOwn(t *testing.T) {
	for reason, want := range map[string]Class{
		reasonErrImagePull: ClassImagePull, "ImagePullBackOff": ClassImagePull, "CreateContainerConfigError": ClassConfig,
		"CreateContainerError": ClassCreate, "RunContainerError": ClassStart,
	} {
		t.Run(reason, func(t *testing.T) {
			var b strings.Builder
			b.WriteString("new restart=Always\nspec a=img\nwait a ready\npod phase=Running a=running:A\npod a=terminated:A:1:Error\n")
			for range 4 {
				fmt.Fprintf(&b, "pod a=waiting:%s:`i/o timeout`@0<A:1:Error\nsleep 50s\n", reason)
				b.WriteString("pod a=waiting:CrashLoopBackOff:`back-off 40s restarting failed container`@0<A:1:Error\nsleep 50s\nstate a\n")
			}
			got := play(t, b.String())
			if strings.Contains(got, "waiting=[CrashLoop]") || !strings.Contains(got, "failure=["+string(want)) {
				t.Errorf("no Failure %s that is final:\n%s", want, got)
			}
		})
	}
}

// A run between is another matter.
func TestTheBackOffBehindANewRunIsACrashLoop(t *testing.T) {
	got := play(t, "new restart=Always\nspec a=img\npod phase=Running a=running:A\npod a=terminated:A:1:Error\n"+
		"pod a=waiting:ErrImagePull:`i/o timeout`@0<A:1:Error\npod a=waiting:CrashLoopBackOff@1<B:1:Error\nstate a\n")
	if !strings.HasSuffix(strings.TrimSpace(got), "waiting=[CrashLoop] container \"a\": it ends again and again, and each restart waits longer: CrashLoopBackOff") {
		t.Errorf("no crash loop:\n%s", got)
	}
}
