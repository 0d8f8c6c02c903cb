package logstream

import "time"

// The kubelet puts a timestamp and one space before every line when asked to:
// 2006-01-02T15:04:05.000000000Z07:00, always nine digits, in the node's own zone
// (k8s.io/cri-client v0.36.3 pkg/logs/logs.go:52,245).
const (
	stampDate = len("2006-01-02T15:04:05")
	stampUTC  = len("2006-01-02T15:04:05.000000000Z ")
	stampMax  = len("2006-01-02T15:04:05.000000000+07:00 ")
)

const stampLayout = "0000-00-00T00:00:00.000000000"

// stampPrefix is how much of the start of a cut line can be a timestamp.
func stampPrefix(line []byte) int {
	for i := range min(len(line), len(stampLayout)) {
		if c := line[i]; c != stampLayout[i] && (stampLayout[i] != '0' || c-'0' > 9) {
			return i
		}
	}
	return min(len(line), len(stampLayout))
}

// stampLen is the length of the timestamp at the start of line, its space
// included, or 0 when there is none.
func stampLen(line []byte) int {
	if len(line) < stampUTC {
		return 0
	}
	const layout = stampLayout
	for i := range len(layout) {
		c := line[i]
		if layout[i] == '0' {
			if c-'0' > 9 {
				return 0
			}
		} else if c != layout[i] {
			return 0
		}
	}
	if line[29] == 'Z' && line[30] == ' ' {
		return stampUTC
	}
	if len(line) < stampMax || (line[29] != '+' && line[29] != '-') || line[32] != ':' || line[35] != ' ' ||
		line[30]-'0' > 9 || line[31]-'0' > 9 || line[33]-'0' > 9 || line[34]-'0' > 9 {
		return 0
	}
	return stampMax
}

// clock turns timestamps into nanoseconds since the epoch. Neighbouring lines
// mostly share their second, so the last one is remembered.
type clock struct {
	date [stampDate]byte
	zone [6]byte // "Z" or "+hh:mm"
	sec  int64
}

// parse reads the timestamp at the start of line; n is 0 when there is none.
func (c *clock) parse(line []byte) (ns int64, n int) {
	n = stampLen(line)
	if n == 0 {
		return 0, 0
	}
	zone := line[29 : n-1]
	if string(line[:stampDate]) != string(c.date[:]) || string(zone) != string(c.zone[:len(zone)]) {
		sec, ok := epoch(line, zone)
		if !ok {
			return 0, 0
		}
		copy(c.date[:], line)
		c.zone = [6]byte{}
		copy(c.zone[:], zone)
		c.sec = sec
	}
	frac := int64(0)
	for _, d := range line[stampDate+1 : 29] {
		frac = frac*10 + int64(d-'0')
	}
	return c.sec*int64(time.Second) + frac, n
}

// epoch refuses what is no date, and years that nanoseconds in 64 bits cannot hold.
func epoch(line, zone []byte) (int64, bool) {
	num := func(from, to int) int {
		v := 0
		for _, d := range line[from:to] {
			v = v*10 + int(d-'0')
		}
		return v
	}
	year, month, day := num(0, 4), num(5, 7), num(8, 10)
	hour, minute, sec := num(11, 13), num(14, 16), num(17, 19)
	if year < 1970 || year > 2260 || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 || sec > 60 {
		return 0, false
	}
	s := time.Date(year, time.Month(month), day, hour, minute, sec, 0, time.UTC).Unix()
	if len(zone) == 6 {
		off := (int64(zone[1]-'0')*10+int64(zone[2]-'0'))*3600 + (int64(zone[4]-'0')*10+int64(zone[5]-'0'))*60
		if zone[0] == '-' {
			off = -off
		}
		s -= off
	}
	return s, true
}

func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
