package eventsplit

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What a CI user reads.
func TestMessagesNameContainerImageAndTheWordsOfWhoRefused(t *testing.T) {
	for _, c := range []struct {
		f    Failure
		want string
	}{
		{
			Failure{Class: ClassImagePull, Cause: CauseNotFound, Slot: "build", Image: "golang:1.99", Message: "docker.io/library/golang:1.99: not found"},
			`container "build": image "golang:1.99" was not found: docker.io/library/golang:1.99: not found (check the image's name and tag)`,
		},
		{
			Failure{Class: ClassImagePull, Cause: CauseUnauthorized, Slot: "build", Image: "r.example/x:1", Message: "pull access denied"},
			`container "build": image "r.example/x:1" may not be pulled: pull access denied (check that it exists and that the pod's imagePullSecrets may pull it)`,
		},
		{
			Failure{Class: ClassImagePull, Slot: "build", Image: "x:1", Reason: "ImagePullBackOff"},
			`container "build": image "x:1" cannot be pulled: ImagePullBackOff`,
		},
		{
			Failure{Class: ClassNotStarted, Slot: "build", Image: "x:1"},
			`container "build": image "x:1" was never started, and Kubernetes gave no reason (its Events may have been dropped)`,
		},
		{
			Failure{Class: ClassConfig, Slot: "build", Image: "x:1", Message: `secret "token" not found`},
			`container "build": cannot be configured (image "x:1"): secret "token" not found`,
		},
		{
			Failure{Class: ClassStart, Slot: "build", Image: "x:1", Message: `exec: "mak": executable file not found in $PATH`},
			`container "build": cannot be started (image "x:1"): exec: "mak": executable file not found in $PATH`,
		},
		{
			Failure{Class: ClassUnschedulable, Message: "0/3 nodes are available: 3 Insufficient cpu."},
			`no node takes the pod: 0/3 nodes are available: 3 Insufficient cpu.`,
		},
		{
			Failure{Class: ClassEvicted, Slot: "build", Message: "The node was low on resource: memory."},
			`container "build": the pod was evicted: The node was low on resource: memory.`,
		},
		{Failure{Class: ClassDeleted, Slot: "build", Message: msgDeleted}, `container "build": the pod was deleted`},
		{Failure{Class: ClassUnknownSlot, Slot: "biuld"}, `container "biuld": the pod has no such container`},
		{Failure{Class: ClassUnchanged, Slot: "build", Image: "x:1"}, `container "build": the swap left image "x:1" as it was, so nothing restarts`},
		{Failure{Class: ClassOther, Slot: "build", Reason: "Odd"}, `container "build": it does not run: Odd`},
	} {
		if d := cmp.Diff(c.want, c.f.Error()); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	}
}

func TestEveryClassHasWords(t *testing.T) {
	for _, c := range []Class{
		ClassProgress, ClassImagePull, ClassConfig, ClassCreate, ClassStart, ClassCrashLoop, ClassSandbox, ClassVolume, ClassRuntime,
		ClassUnschedulable, ClassRejected, ClassEvicted, ClassPreempted, ClassNodeLost, ClassDeadline, ClassDeleted, ClassOutOfScope,
		ClassPodEnded, ClassLost, ClassNotStarted, ClassPlaceholder, ClassEnded, ClassUnknownSlot, ClassUnchanged,
		ClassDenied, ClassPodSecurity, ClassQuota, ClassForbidden, ClassUnauthorized, ClassInvalid, ClassNotFound, ClassExists,
		ClassConflict, ClassTransient, ClassNotSent, ClassUncertain,
	} {
		f := Failure{Class: c}
		if got := f.what(); got == "it does not run" {
			t.Errorf("%s has no words", c)
		}
	}
}
