package conformance

import (
	"strings"
	"testing"
	"time"

	"github.com/go-vela/podlife/logstream"
)

// A stream is resumed by time where that is cheaper; the filter is per record, so it may
// cut a line that is put together from several, whose end comes without a timestamp then.
func TestAFilterThatCutsAJoinedLineLosesNothing(t *testing.T) {
	zero := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	at := func(ms time.Duration) time.Time { return zero.Add(ms * time.Millisecond) }
	east, summer := time.FixedZone("", 5*3600+1800), time.FixedZone("", 3600)
	for name, c := range map[string]struct {
		end   []record // of a line that began with "left" in second 0
		zones [2]*time.Location
		again bool // the filtered stream is of no use
	}{
		"in two":                    {[]record{{At: at(5200), Text: "right"}}, [2]*time.Location{time.UTC, time.UTC}, false},
		"in three":                  {[]record{{At: at(5100), Text: "mid", Partial: true}, {At: at(5200), Text: "right"}}, [2]*time.Location{time.UTC, time.UTC}, false},
		"glued of two streams":      {[]record{{At: at(5200), Text: "stderr's", Stderr: true}}, [2]*time.Location{time.UTC, time.UTC}, false},
		"an empty end":              {[]record{{At: at(5200), Text: ""}}, [2]*time.Location{time.UTC, time.UTC}, false},
		"an end like the kubelet's": {[]record{{At: at(5200), Text: "rpc error: code = NotFound"}}, [2]*time.Location{time.UTC, time.UTC}, false},
		"an end like a timestamp":   {[]record{{At: at(5200), Text: at(5300).Format(stampFormat) + " next"}}, [2]*time.Location{time.UTC, time.UTC}, true},
		"east of Greenwich":         {[]record{{At: at(5200), Text: "right"}}, [2]*time.Location{east, east}, false},
		"when summer time begins":   {[]record{{At: at(5200), Text: "right"}}, [2]*time.Location{time.UTC, summer}, false},
		"when summer time ends":     {[]record{{At: at(5200), Text: "right"}}, [2]*time.Location{summer, time.UTC}, false},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, quick, func(r *rig, b *box) {
				in := func(zone int, rs ...record) {
					for _, rec := range rs {
						rec.At = rec.At.In(c.zones[zone])
						b.write(rec)
					}
				}
				for i := range 100 {
					in(0, record{At: zero.Add(time.Duration(i)), Text: strings.Repeat("x", 1000)})
				}
				in(0, record{At: at(900), Text: "left", Partial: true})
				in(1, c.end...)
				in(1, record{At: at(5300), Text: "next"}, record{At: at(6400), Text: "last"})
				r.n.fault = first(fault{after: b.rendered(), then: brokenly})
				r.tell(b, nil)
				r.last(b)
				wait(time.Second)
				in(1, record{At: at(7000), Text: "more"})
				r.last(b)
				streams := 0
				for _, o := range r.n.asked() {
					if o.Follow {
						streams++
					}
					if o.SinceTime != nil && !o.SinceTime.Time.Equal(at(5000)) {
						t.Errorf("asked for what came since %s", o.SinceTime)
					}
				}
				if want := map[bool]int{false: 2, true: 3}[c.again]; streams != want {
					t.Errorf("%d streams, want %d", streams, want)
				}
				r.wants(r.finish(b), b, logstream.Verified)
			})
		})
	}
}

// The kubelet counts records where it counts lines from the end, so the last line may
// have a later time there than in a stream. A look at it is no reason to look for ever.
func TestALastLineOfManyRecordsDoesNotKeepTheCaptureBusy(t *testing.T) {
	for name, part := range map[string]bool{"whole": false, "a prompt": true} {
		t.Run(name, func(t *testing.T) {
			play(t, quick, func(r *rig, b *box) {
				r.tell(b, nil)
				b.say("first")
				r.last(b)
				b.write(record{At: time.Now(), Text: "left", Partial: true})
				wait(1500 * time.Millisecond)
				b.write(record{At: time.Now(), Text: "right", Partial: part})
				wait(map[bool]time.Duration{true: time.Minute, false: 8 * time.Second}[virtual])
				streams, looks := 0, 0
				for _, o := range r.n.asked() {
					switch {
					case o.Follow:
						streams++
					case o.TailLines != nil:
						looks++
					}
				}
				if streams > 2 || looks < 2 {
					t.Errorf("%d streams, %d looks at the last line", streams, looks)
				}
				r.wants(r.finish(b), b, logstream.Verified)
			})
		})
	}
}
