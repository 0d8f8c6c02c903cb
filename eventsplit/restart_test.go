package eventsplit

import (
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
