// Package stamp reads the timestamps that the kubelet puts before the lines of a log.
package stamp

import (
	"encoding/binary"
	"time"
)

// The kubelet puts a timestamp and one space before every line when asked to:
// 2006-01-02T15:04:05.000000000Z07:00, always nine digits, in the node's own zone
// (k8s.io/cri-client v0.36.3 pkg/logs/logs.go:52,245). UTC is the length of one of a node
// whose zone is UTC, Max that of any other; both with the space.
const (
	dateLen = len("2006-01-02T15:04:05")
	UTC     = len("2006-01-02T15:04:05.000000000Z ")
	Max     = len("2006-01-02T15:04:05.000000000+07:00 ")
)

const layout = "0000-00-00T00:00:00.000000000"

// Prefix is how much of the start of a cut line can be a timestamp.
func Prefix(line []byte) int {
	for i := range min(len(line), len(layout)) {
		if c := line[i]; c != layout[i] && (layout[i] != '0' || c-'0' > 9) {
			return i
		}
	}
	return min(len(line), len(layout))
}

// IsTorn reports whether all of line is the beginning of a timestamp that is cut.
func IsTorn(line []byte) bool {
	return len(line) < Max && Len(line) == 0 && Prefix(line) == min(len(line), len(layout))
}

// Len is the length of the timestamp at the start of line, its space
// included, or 0 when there is none.
//
// It runs twice a line, so it looks at eight bytes at a time.
func Len(line []byte) int {
	if len(line) < UTC {
		return 0
	}
	le := binary.LittleEndian
	if !fits(le.Uint64(line), wordYear) || !fits(le.Uint64(line[8:]), wordDay) ||
		!fits(le.Uint64(line[16:]), wordSecond) || !fits(le.Uint64(line[21:]), wordFraction) {
		return 0
	}
	if line[29] == 'Z' && line[30] == ' ' {
		return UTC
	}
	if len(line) < Max || (line[29] != '+' && line[29] != '-') || line[32] != ':' || line[35] != ' ' ||
		line[30]-'0' > 9 || line[31]-'0' > 9 || line[33]-'0' > 9 || line[34]-'0' > 9 {
		return 0
	}
	return Max
}

// word is eight bytes of layout, little endian, and which of them are no digits.
type word struct{ bytes, fixed uint64 }

var (
	wordYear     = word{0x2d30302d30303030, 0xff0000ff00000000} // 0000-00-
	wordDay      = word{0x30303a3030543030, 0x0000ff0000ff0000} // 00T00:00
	wordSecond   = word{0x303030302e30303a, 0x00000000ff0000ff} // :00.0000
	wordFraction = word{0x3030303030303030, 0}                  // 00000000
)

func fits(b uint64, w word) bool {
	const six, high = 0x0606060606060606, 0xf0f0f0f0f0f0f0f0
	b ^= w.bytes // digits become 0 to 9, the others 0
	return (b|(b+six))&high == 0 && b&w.fixed == 0
}

// Clock turns timestamps into nanoseconds since the epoch. Neighbouring lines
// mostly share their second, so the last one in UTC is remembered. The zero Clock is ready
// for use, by one goroutine at a time.
type Clock struct {
	second [3]uint64 // the date and time of day, see seconds
	ns     int64     // of that second
}

// seconds are the bytes of a timestamp before its fraction, as words.
func seconds(line []byte) [3]uint64 {
	_ = line[dateLen-1]
	le := binary.LittleEndian
	return [3]uint64{le.Uint64(line), le.Uint64(line[8:]), le.Uint64(line[dateLen-8:])}
}

// Parse reads the timestamp at the start of line; n is 0 when there is none.
func (c *Clock) Parse(line []byte) (ns int64, n int) {
	if len(line) < UTC {
		return 0, 0
	}
	// The remembered second had the layout: only what follows is looked at.
	second := seconds(line)
	if second == c.second && line[dateLen] == '.' && fits(binary.LittleEndian.Uint64(line[dateLen+1:]), wordFraction) &&
		line[28]-'0' <= 9 && line[29] == 'Z' && line[30] == ' ' {
		return c.ns + fraction(line), UTC
	}
	if n = Len(line); n == 0 {
		return 0, 0
	}
	sec, ok := epoch(line, line[29:n-1])
	if !ok {
		return 0, 0
	}
	if n == UTC {
		c.second, c.ns = second, sec*int64(time.Second)
	}
	return sec*int64(time.Second) + fraction(line), n
}

// Parse reads the timestamp at the start of one line; n is 0 when there is none. For many
// lines a Clock is faster.
func Parse(line []byte) (ns int64, n int) {
	var c Clock
	return c.Parse(line)
}

// fraction is the nanoseconds of a timestamp.
func fraction(line []byte) int64 {
	return digits8(binary.LittleEndian.Uint64(line[dateLen+1:]))*10 + int64(line[28]-'0')
}

// digits8 is the number that eight decimal digits make: first by twos, then by fours.
func digits8(b uint64) int64 {
	b -= 0x3030303030303030
	b = b*10 + b>>8
	const pair = 0x000000ff000000ff
	return int64(((b&pair)*(100+1000000<<32) + (b>>16&pair)*(1+10000<<32)) >> 32)
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

// Time is the time that Parse gave as ns, in UTC; the zero Time for 0, which is no time.
func Time(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}
