package eventsplit

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/internal/podstatus"
)

// maxRuns bounds the runs that are remembered of one slot. A container in
// CrashLoopBackOff has twelve runs an hour.
const maxRuns = 1024

// codeOfLost is the exit code that the kubelet goes by when it does not know how a run
// ended (kubernetes v1.36.3 pkg/kubelet/kubelet_pods.go:2371-2392).
const codeOfLost = 137

// run is one run of a container: its life from a start to an end. Its containerID alone
// identifies it (see package podstatus).
type run struct {
	id             string // its containerID, or what stands for one
	anonymous      bool   // no status gives it a containerID
	image, imageID string
	specImage      string // the spec's image in the version that first showed the run; "" when only lastState did
	restarts       int32  // the status' restartCount
	started        time.Time
	owner          runOwner
	afterLost      bool // the container of the run before is gone from the node

	end        runEnd
	outcome    *Outcome // of endExited and endNeverStarted
	code       int32    // the exit code that the kubelet goes by; of a lost run the kubelet invented it
	lostReason string   // the status' word for a lost end
	endedBy    endedBy
	told       runTold
}

// runEnd is what is known of how a run ended.
type runEnd int

const (
	endNone         runEnd = iota // the run goes on, as far as any status has shown
	endFollowed                   // another run followed; no status has shown how this one ended
	endExited                     // a status has shown its exit code
	endNeverStarted               // the same, of a container whose process could not be started
	endLost                       // a status says that nobody knows how it ended
	endUnattributed               // a status shows an end that may be this run's or another's
)

// runTold is what the timeline has been told of a run.
type runTold int

const (
	toldNothing runTold = iota
	toldStart
	toldEnd
)

// runOwner says to whom a run of a slot with a placeholder belongs.
type runOwner int

const (
	ownerStep runOwner = iota
	ownerPlaceholder
	ownerUnknown // it is told as a step's run, and never has an Outcome
)

// endedBy says what ended a run; it is decided once, when the end is first judged.
type endedBy int

const (
	endedByUnknown    endedBy = iota // not judged yet
	endedByItself                    // or by whatever does not concern the whole pod
	endedByDisruption                // by what befell the pod
)

func (r *run) ended() bool { return r.end != endNone }

// lost reports whether the run ended and nobody knows how.
func (r *run) lost() bool { return r.end == endLost || r.end == endUnattributed }

// unattributed reports whether the run, or its end, may be the step's or the
// placeholder's.
func (r *run) unattributed() bool { return r.owner == ownerUnknown || r.end == endUnattributed }

// containerID returns the run's containerID, "" when no status gives it one.
func (r *run) containerID() string {
	if r.anonymous {
		return ""
	}
	return r.id
}

// finished returns when the run ended; the zero time when that is not known.
func (r *run) finished() time.Time {
	if r.outcome == nil {
		return time.Time{}
	}
	return r.outcome.Finished
}

// anonymousID stands for the containerID of a run that has none. No containerID contains
// a blank.
func anonymousID(restarts int32) string {
	if restarts == 0 {
		return "run 0"
	}
	return "run " + strconv.Itoa(int(restarts))
}

// outcomeOf reads how a run ended.
func outcomeOf(t *corev1.ContainerStateTerminated) *Outcome {
	return &Outcome{
		ExitCode: t.ExitCode, Signal: t.Signal, Reason: t.Reason, Message: t.Message,
		OOM: t.Reason == "OOMKilled", Started: podstatus.KnownTime(t.StartedAt.Time), Finished: podstatus.KnownTime(t.FinishedAt.Time),
	}
}
