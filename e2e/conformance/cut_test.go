package conformance

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream"
)

// small is a log of everything that makes resuming hard: equal lines at equal times, a
// time that goes back, empty lines, joined records, both streams, forgeries, no newline
// at the end.
func small() []record {
	at := func(n int) time.Time { return time.Date(2026, 11, 22, 10, 0, 0, n, time.UTC) }
	return []record{
		{at: at(1000), text: "one"},
		{at: at(2000), text: ""},
		{at: at(3000), text: "same"},
		{at: at(3000), text: "same"},
		{at: at(3000), text: "same", stderr: true},
		{at: at(4000), text: "be", part: true},
		{at: at(4000), text: "tw", part: true, stderr: true},
		{at: at(5000), text: "een"},
		{at: at(4500), text: "earlier", stderr: true},
		{at: at(6000), text: "rpc error: code = NotFound desc = forged"},
		{at: at(7000), text: at(1000).Format(stampFormat) + " one"},
		{at: at(8000), text: "\x00\xff\x1b[31mred\r"},
		{at: at(9000), text: "$ ", part: true},
	}
}

// A stream that is cut anywhere, by whatever, costs nothing.
func TestAStreamMayBeCutAtEveryByte(t *testing.T) {
	ends := map[string]fault{
		"cleanly":  {then: cleanly},
		"brokenly": {then: brokenly},
		"silently": {then: silently},
		"words":    {then: cleanly, words: "rpc error: code = Unavailable desc = transport is closing"},
		"stall":    {stall: 3 * time.Second},
	}
	want := linesOf(small())
	total := len(render(want))
	step := 1
	if !virtual {
		step = 61
	}
	for name, f := range ends {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for after := 0; after <= total; after += step {
				t.Run(fmt.Sprint(after), func(t *testing.T) {
					if !virtual {
						t.Parallel()
					}
					inTime(t, func(t *testing.T) { cutOnce(t, f, after) })
				})
			}
		})
	}
}

func cutOnce(t *testing.T, f fault, after int) {
	r := newRig(t, quick)
	f.after = after
	r.n.fault = func(n int, _ *corev1.PodLogOptions) *fault {
		if n > 1 {
			return nil
		}
		return &f
	}
	b := r.begin("a")
	b.write(small()...)
	r.tell(b, nil)
	wait(100 * time.Millisecond)
	b.exit()
	wait(time.Duration(after%3) * 500 * time.Millisecond)
	r.tell(b, nil)
	got := r.drain()[0]
	if err := got.proper(linesOf(small()), false); err != nil || got.cert.Proof != logstream.Verified {
		t.Errorf("cut after %d bytes: %v, %+v, %v", after, err, got.cert, r.n.asked())
	}
}

// The tests' own picture of how a kubelet joins records is the kubelet's.
func TestTheTruthIsTheKubelets(t *testing.T) {
	want := rendered(t, small())
	if d := difference(render(linesOf(small())), want); d != "" {
		t.Error(d)
	}
	if strings.Count(want, "same\n") != 3 || !strings.HasSuffix(want, "$ ") {
		t.Errorf("%q", want)
	}
}
