package eventsplit

import (
	"fmt"
	"strings"
	"testing"
)

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
