package nodelog

import (
	"bytes"
	"time"
)

// AppendStamp appends the time of a line as the kubelet writes it: always with nine
// digits, unlike what it reads (logs.go:52-57).
func AppendStamp(b []byte, t time.Time) []byte {
	const seconds, digits = len("2006-01-02T15:04:05"), len(".000000000")
	at := len(b)
	b = t.AppendFormat(b, time.RFC3339Nano) // much faster than another format
	var zone [len("+07:00")]byte
	frac := b[at+seconds:]
	end := bytes.IndexAny(frac, "Z+-")
	n := copy(zone[:], frac[end:])
	if b = b[:at+seconds+end]; end == 0 {
		b, end = append(b, '.'), 1
	}
	for range digits - end {
		b = append(b, '0')
	}
	return append(b, zone[:n]...)
}

// Record is one record of a log file: a line of the program's output or, when it is
// Partial, a piece of one that goes on in the next record.
type Record struct {
	At      time.Time
	Stderr  bool
	Partial bool // tag P
	Text    string
}

// raw appends the record to b as runtimes write it to a log file.
func (r Record) raw(b []byte) []byte {
	b = r.At.AppendFormat(b, time.RFC3339Nano)
	stream, tag := " stdout", " F "
	if r.Stderr {
		stream = " stderr"
	}
	if r.Partial {
		tag = " P "
	}
	b = append(append(append(b, stream...), tag...), r.Text...)
	return append(b, '\n')
}

// Raw is the record as runtimes write it to a log file.
func (r Record) Raw() string { return string(r.raw(nil)) }

// parse takes a record of a log file apart: its time, and its text with a newline at
// the end, unless the record is partial or its own end is missing (logs.go:122-166).
func parse(raw []byte) (at time.Time, text []byte, ok bool) {
	stamp, rest, _ := bytes.Cut(raw, []byte(" "))
	err := at.UnmarshalText(stamp)
	stream, rest, _ := bytes.Cut(rest, []byte(" "))
	if s := string(stream); err != nil || s != "stdout" && s != "stderr" {
		return time.Time{}, nil, false
	}
	tags, text, ok := bytes.Cut(rest, []byte(" "))
	if tag, _, _ := bytes.Cut(tags, []byte(":")); string(tag) == "P" {
		text = bytes.TrimSuffix(text, []byte("\n"))
	}
	return at, text, ok
}

// lines joins the records of a file as the program wrote them.
func lines(data []byte) string {
	var b []byte
	for raw := range bytes.Lines(data) {
		if _, text, ok := parse(raw); ok {
			b = append(b, text...)
		}
	}
	return string(b)
}
