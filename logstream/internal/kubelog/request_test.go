package kubelog

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/google/go-cmp/cmp"
)

func TestARequestInKubernetesTermsAsksForTimestampsAndNothingElse(t *testing.T) {
	at, zero, seven := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC), int64(0), int64(7)
	since := metav1.NewTime(at)
	for name, c := range map[string]struct {
		r    Request
		want corev1.PodLogOptions
	}{
		"all":          {Request{}, corev1.PodLogOptions{}},
		"a stream":     {Request{Follow: true}, corev1.PodLogOptions{Follow: true}},
		"the previous": {Request{Previous: true}, corev1.PodLogOptions{Previous: true}},
		"by time":      {Request{Since: at}, corev1.PodLogOptions{SinceTime: &since}},
		"last lines":   {Request{Tail: 7}, corev1.PodLogOptions{TailLines: &seven}},
		"what comes":   {Request{Follow: true, Tail: NoLines}, corev1.PodLogOptions{Follow: true, TailLines: &zero}},
		"the head":     {Request{Limit: 7}, corev1.PodLogOptions{LimitBytes: &seven}},
	} {
		c.r.Container, c.want.Container, c.want.Timestamps = "c", "c", true
		if d := cmp.Diff(&c.want, c.r.Options()); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
}
