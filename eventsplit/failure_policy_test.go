package eventsplit

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
)

// These are Kubernetes' own timers (v1.36.3; cri-client v0.36.3). docs/failures.md says where
// they stand.
const (
	podBackOff     = 15 * time.Second              // kubelet backOffPeriod, with its jitter
	podSync        = time.Minute                   // kubelet syncFrequency
	imageBackOff   = 300 * time.Second             // kubelet MaxImageBackOff
	runtimeRequest = 2 * time.Minute               // kubelet runtimeRequestTimeout
	mountWait      = 2*time.Minute + 3*time.Second // kubelet podAttachAndMountTimeout
	mountBackOff   = 2*time.Minute + 2*time.Second // maxDurationBeforeRetry
	forceDetach    = 6 * time.Minute               // ReconcilerMaxWaitForUnmountDuration
	quotaResync    = 5 * time.Minute               // resourceQuotaSyncPeriod
	jobBackOff     = time.Minute                   // MaxJobApiBackOff
)

func TestDefaultPolicyOutlastsTheTimersOfKubernetes(t *testing.T) {
	for name, c := range map[string]struct {
		f     Failure
		timer time.Duration
	}{
		"a Secret is missing":               {Failure{Class: ClassConfig}, podSync + podBackOff},
		"the registry does not answer":      {Failure{Class: ClassImagePull, Cause: CauseNetwork}, imageBackOff + podBackOff},
		"the node's disk is full":           {Failure{Class: ClassImagePull, Cause: CauseDiskFull}, imageBackOff + podBackOff},
		"the runtime does not create":       {Failure{Class: ClassCreate}, 2*runtimeRequest + podBackOff},
		"the runtime does not start":        {Failure{Class: ClassStart}, 2*runtimeRequest + podBackOff},
		"no sandbox":                        {Failure{Class: ClassSandbox}, 2*2*runtimeRequest + podBackOff},
		"a volume is attached elsewhere":    {Failure{Class: ClassVolume, Reason: "FailedAttachVolume", Message: "Multi-Attach error"}, forceDetach + 20*time.Second + mountWait + mountBackOff},
		"the kubelet says so":               {Failure{Class: ClassVolume, Reason: "FailedMount", Message: "Unable to attach or mount volumes"}, forceDetach + 20*time.Second + mountWait + mountBackOff},
		"an attached volume is not mounted": {Failure{Class: ClassVolume, Reason: "FailedMount", Message: "MountVolume.SetUp failed for volume"}, mountWait + mountBackOff},
		"the quota is full":                 {Failure{Class: ClassQuota}, quotaResync + jobBackOff},
		"a service account is to come":      {Failure{Class: ClassForbidden}, jobBackOff},
	} {
		c.f.MayRecover = true
		if grace, fatal := DefaultPolicy(&c.f); fatal && grace <= c.timer {
			t.Errorf("%s: %v, and Kubernetes takes %v", name, grace, c.timer)
		}
	}
}

// What may recover at any time is never given up, and what cannot recover is given up at once.
func TestDefaultPolicyKnowsEveryClass(t *testing.T) {
	docs, err := os.ReadFile("../docs/failures.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(docs), "## How long the default policy waits")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, class := range constants(t, "Class") {
		if class == string(ClassProgress) {
			continue
		}
		if grace, fatal := DefaultPolicy(&Failure{Class: Class(class)}); grace != 0 || !fatal {
			t.Errorf("%s that is final gets %v, %v", class, grace, fatal)
		}
		grace, fatal := DefaultPolicy(&Failure{Class: Class(class), MayRecover: true})
		want := "any time"
		if fatal {
			want = fmt.Sprintf("%d min", grace/time.Minute)
		}
		if !strings.Contains(table, class) {
			t.Errorf("docs/failures.md does not say how long %s may take", class)
		}
		for line := range strings.Lines(table) {
			cell := strings.Split(line, "|")
			if len(cell) > 2 && strings.Contains(","+strings.ReplaceAll(cell[1], " ", "")+",", ","+class+",") && !strings.Contains(cell[2], want) {
				t.Errorf("docs/failures.md gives %s%s, DefaultPolicy %s", class, cell[2], want)
			}
		}
	}
}

// Options.Policy is told the class, the cause, since when, and which node has the pod.
func TestPolicyIsToldClassCauseTimeAndNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		s := New(testNS, testPod, Options{Policy: func(f *Failure) (time.Duration, bool) {
			asked = append(asked, fmt.Sprintf("%s %q on %q for %v", classText(f), f.Slot, f.Node, time.Since(f.Since)))
			return 0, false
		}})
		defer s.Close()
		version := 0
		handle := func(changes ...func(*corev1.Pod)) {
			version++
			p := podOf(changes...)
			p.ResourceVersion = fmt.Sprint(version)
			s.Handle(watch.Event{Type: watch.Modified, Object: p})
			time.Sleep(time.Minute)
		}
		began := time.Now()
		unscheduled := func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable"}}
			p.Status.Conditions[0].LastTransitionTime.Time = began
		}
		time.Sleep(time.Second)
		handle(unscheduled)
		handle(isOnNode, isWaiting("a", "ErrImagePull", "EOF"))
		handle(isOnNode, isWaiting("a", "ImagePullBackOff", `Back-off pulling image "img": ErrImagePull: EOF`))
		want := []string{
			`Unschedulable "" on "" for 1s`,
			`ImagePull/Network "a" on "node" for 0s`,
			`ImagePull/Network "a" on "node" for 1m0s`,
		}
		if d := cmp.Diff(want, asked); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	})
}
