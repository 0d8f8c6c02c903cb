package stamp

import (
	"regexp"
	"testing"
	"time"
)

var stampPattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) `)

func FuzzStamp(f *testing.F) {
	for _, s := range []string{
		"2026-11-22T10:00:00.123456789Z text", "2026-11-22T10:00:00.123456789+07:00 text", "2026-11-22T10:00:00.000000001Z ",
		"2026-11-22T10:00:00.123456789-11:30 x", "2026-13-22T10:00:00.123456789Z x", "2026-11-22T10:00:00.1234567890Z x",
		"2026-11-22t10:00:00.123456789Z x", "2026-11-22T10:00:00.12345678:Z x", "", "plain",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		n := Len(line)
		if want := len(stampPattern.Find(line)); n != want {
			t.Fatalf("Len(%q) = %d, want %d", line, n, want)
		}
		var c Clock
		for range 2 { // the second time from the remembered second
			ns, k := c.Parse(line)
			if k == 0 {
				continue
			}
			want, err := time.Parse(time.RFC3339Nano, string(line[:k-1]))
			if err != nil {
				continue // 30 February and the like: time.Date goes on counting
			}
			if k != n || !Time(ns).Equal(want) && ns != 0 {
				t.Fatalf("Parse(%q) = %v, %d; want %v", line, Time(ns), k, want)
			}
		}
		if p := Prefix(line); n > 0 && p != len(layout) {
			t.Fatalf("Prefix(%q) = %d", line, p)
		}
		for cut := range n {
			if !IsTorn(line[:cut]) {
				t.Fatalf("%q is not torn", line[:cut])
			}
		}
	})
}
