package eventsplit

import (
	"errors"
	"fmt"
	"strings"
)

func errText(err error) string {
	if err == nil {
		return "ok"
	}
	var f *Failure
	if errors.As(err, &f) {
		return fmt.Sprintf("[%s] %s", classText(f), f.Error())
	}
	return err.Error()
}

func classText(f *Failure) string {
	if f.Cause != "" {
		return string(f.Class) + "/" + string(f.Cause)
	}
	return string(f.Class)
}

func entryText(name string, e Entry) string {
	if name == "" {
		name = "-"
	}
	switch {
	case e.State != nil && e.Synthesised:
		return "~ " + stateText(*e.State)
	case e.State != nil:
		return stateText(*e.State)
	case e.Event != nil:
		return fmt.Sprintf("%s event %s", name, e.Event.Reason)
	case e.Missed > 0:
		return fmt.Sprintf("%s missed %d", name, e.Missed)
	}
	return fmt.Sprintf("%s dropped %d", name, e.Dropped)
}

func stateText(s State) string {
	var b strings.Builder
	if s.Slot == "" {
		b.WriteString("-")
	}
	fmt.Fprintf(&b, "%s %s", s.Slot, s.Phase)
	if s.ContainerID != "" {
		b.WriteString(" " + s.ContainerID)
	}
	if s.Restarts > 0 {
		fmt.Fprintf(&b, " restarts=%d", s.Restarts)
	}
	for _, flag := range []struct {
		name string
		set  bool
	}{{"ready", s.Ready}, {"final", s.Final}, {"stale", s.Stale}} {
		if flag.set {
			b.WriteString(" " + flag.name)
		}
	}
	if s.Outcome != nil {
		fmt.Fprintf(&b, " exit=%d", s.Outcome.ExitCode)
	}
	if s.Last != nil {
		fmt.Fprintf(&b, " last=%d", s.Last.ExitCode)
	}
	if w := s.Waiting; w != nil {
		if w.Class == ClassProgress {
			fmt.Fprintf(&b, " waiting=%s", w.Reason)
		} else {
			fmt.Fprintf(&b, " waiting=[%s] %s", classText(w), w)
		}
	}
	if s.Failure != nil {
		fmt.Fprintf(&b, " failure=[%s] %s", classText(s.Failure), s.Failure)
	}
	return b.String()
}
