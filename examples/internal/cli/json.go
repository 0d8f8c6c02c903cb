package cli

import (
	"encoding/json"
	"io"
	"time"

	"github.com/go-vela/podlife/logstream"
)

// Gap is a gap in a log, as the examples print it with -o json: lines are missing in
// its place, or may be.
type Gap struct {
	AfterLine uint64     `json:"afterLine"`
	From      *time.Time `json:"from"` // the times of the lines before and behind it; null: not known
	To        *time.Time `json:"to"`
	Certain   bool       `json:"certain"` // lines are known to be missing
	Why       string     `json:"why"`
}

// GapOf returns the Gap of a gap.
func GapOf(g logstream.Gap) Gap {
	known := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		return &t
	}
	return Gap{g.AfterLine, known(g.From), known(g.To), g.Certain, g.Why}
}

// Object writes v as one line of JSON.
func Object(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
