package logstream

import (
	"errors"
	"fmt"
	"time"
)

// Proof is what a [Certificate] says of a captured run.
type Proof string

const (
	// Live: the run has not ended, or its capture has not.
	Live Proof = "Live"
	// Verified: the capture equals, byte by byte, a full read of the node's file
	// made after the container's end, and that file was not rotated since the
	// run was first opened.
	Verified Proof = "Verified"
	// Unverified: nothing is known to be missing, but it could not be proved: the
	// file was rotated, and Gaps say where; or the pod was deleted before the final
	// read, and the stream had ended cleanly after the deletion was asked for; or the
	// capture was ended, as by [Capture.Close], while the container ran, and no Gap
	// stands for what it printed from then on.
	Unverified Proof = "Unverified"
	// Incomplete: lines are missing, or the final read could not be made and the
	// stream had not ended as with the container.
	Incomplete Proof = "Incomplete"
)

// Gap is a place in a captured log where lines are missing (Certain), or where
// it cannot be excluded that some are.
type Gap struct {
	// ContainerID is the run's; empty in the Gap that counts runs nobody saw, and in that of
	// a run that has none.
	ContainerID string
	// Run is the run's number, see [Certificate]; in the Gap that counts runs
	// nobody saw, that of the one after them.
	Run int
	// Why, for people, in one clause without a full stop.
	Why string
	// AfterLine is the number of lines captured before the gap, or, where a file of the
	// node's may have come and gone unseen, before the stretch that it was in.
	AfterLine uint64
	// From and To enclose the timestamps of what may be missing: the lines that
	// are known before and after it. Zero: not known, as when the node's clock was
	// set back meanwhile, where that shows.
	From, To time.Time
	// Certain is whether lines are known to be missing.
	Certain bool
}

// String says it in one line.
func (g Gap) String() string {
	if g.ContainerID == "" {
		return g.Why
	}
	how := "may be"
	if g.Certain {
		how = "are"
	}
	return fmt.Sprintf("lines %s missing after line %d: %s", how, g.AfterLine, g.Why)
}

// Certificate is what logstream can prove of one captured run.
type Certificate struct {
	// ContainerID is empty where the node gave a run none: of that one nothing is captured.
	Slot, ContainerID string
	// Run is the run's number among those of its container, from 0: the restartCount
	// that the pod's status had for it. In a slot that was swapped the placeholder's
	// is 0, and the step's 1. It is -1 where it is not known. ContainerID, not Run, is
	// what identifies a run.
	Run int
	// Why the Proof is no better; empty for Live and Verified.
	Why   string
	Proof Proof
	// Lines captured; an unterminated last one counts.
	Lines uint64
	// Bytes captured, as readers get them: newlines included, timestamps not.
	Bytes int64
	// Gaps, in the order in which they were noticed.
	Gaps []Gap
}

// IncompleteError ends the readers of a run of which lines are missing, after all
// the bytes there are.
type IncompleteError struct{ Certificate }

func (e *IncompleteError) Error() string {
	return fmt.Sprintf("logstream: the log of container %q is incomplete after %d lines: %s", e.Slot, e.Lines, e.Why)
}

// Line is a line of output, without its newline.
type Line struct {
	// ContainerID and Run are those of its run, see [Certificate]. In the text of a
	// Gap there are none.
	ContainerID string
	Run         int
	// Time is the node's timestamp, in UTC. Zero where there is none: in an
	// un-timestamped body, in the text of a Gap, and in the later pieces of a
	// long line.
	Time time.Time
	// Gap is set in a Line that is no output: there is a gap in the log at this place,
	// which Text says in words. Of a text of several lines each has the same Gap.
	Gap *Gap
	// Text belongs to the reader: it is valid until the next line is asked for.
	Text []byte
	// Partial: no newline follows Text in the log. It is a piece of a line longer
	// than 64 KiB, or a last line that does not end in a newline.
	Partial bool
	// More: Text is a piece of a longer line, which goes on in the next Line: in one
	// without a Time, unless the rest was dropped.
	More bool
}

var errNoSlot = errors.New("logstream: a reader needs the name of a container")

// ErrClosed ends what is read from a closed Reader or Capture.
var ErrClosed = errors.New("logstream: closed")
