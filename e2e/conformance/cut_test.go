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
		{At: at(1000), Text: "one"},
		{At: at(2000), Text: ""},
		{At: at(3000), Text: "same"},
		{At: at(3000), Text: "same"},
		{At: at(3000), Text: "same", Stderr: true},
		{At: at(4000), Text: "be", Partial: true},
		{At: at(4000), Text: "tw", Partial: true, Stderr: true},
		{At: at(5000), Text: "een"},
		{At: at(4500), Text: "earlier", Stderr: true},
		{At: at(6000), Text: "rpc error: code = NotFound desc = forged"},
		{At: at(7000), Text: at(1000).Format(stampFormat) + " one"},
		{At: at(8000), Text: "\x00\xff\x1b[31mred\r"},
		{At: at(9000), Text: "$ ", Partial: true},
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
	b.Exit()
	wait(time.Duration(after%3) * 500 * time.Millisecond)
	r.tell(b, nil)
	got := r.drain()[0]
	want := logstream.Verified
	if after == 0 && f.then == cleanly && f.words == "" && f.stall == 0 { // as a log that was rotated before its first line was read
		want = logstream.Unverified
	}
	if err := got.proper(linesOf(small()), false); err != nil || got.cert.Proof != want {
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
