package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-vela/podlife/logstream"
)

// life is a kind of random life of one container.
type life struct {
	clock     func(rng *rand.Rand) clock
	texts     func(rng *rand.Rand, i int) string
	parts     bool // records that lines are put together from
	bulky     bool // enough output for resumed streams to be asked for by time
	faults    int  // in a hundred requests
	deaf      int  // in a hundred streams, which the node has no inotify instance for
	rotations int  // in a hundred lines
	late      bool // the runtime writes to the old file while rotating
	back      bool // rotations fail, and the file is renamed back
	outages   int  // of the way to the kubelet, in a hundred lines
	lumps     bool // bodies arrive as on a busy machine: much at once
	tuned     logstream.Options
}

// clock gives the i-th record, in the file-th file, its time. It is that of a container
// runtime.
type clock func(now time.Time, i, file int) time.Time

// containerd gives every record a time of its own.
func containerd(*rand.Rand) clock {
	return func(now time.Time, i, _ int) time.Time { return now.Add(time.Duration(i) * time.Microsecond) }
}

// conmon gives all lines of one read(2) the same (containers/conmon src/ctr_logging.c:491),
// and turns to another file between two.
func conmon(rng *rand.Rand) clock {
	var last time.Time
	in := 0
	return func(now time.Time, i, file int) time.Time {
		if now.Sub(last) > time.Second || rng.IntN(8) == 0 || file != in {
			in, last = file, now.Add(time.Duration(i)*time.Microsecond)
		}
		return last
	}
}

// inverted is containerd's with two streams, stamped by a goroutine each.
func inverted(rng *rand.Rand) clock {
	return func(now time.Time, i, _ int) time.Time {
		return now.Add(time.Duration(i)*time.Microsecond - time.Duration(rng.IntN(5000))*time.Microsecond)
	}
}

// stepped is set back once.
func stepped(rng *rand.Rand) clock {
	step := rng.IntN(60)
	return func(now time.Time, i, _ int) time.Time {
		if i >= step {
			now = now.Add(-30 * time.Second)
		}
		return now.Add(time.Duration(i) * time.Microsecond)
	}
}

// eastern is that of a node that is not in UTC.
func eastern(rng *rand.Rand) clock {
	zone := time.FixedZone("", (rng.IntN(27)-12)*3600+rng.IntN(2)*1800)
	return func(now time.Time, i, _ int) time.Time { return now.Add(time.Duration(i) * time.Microsecond).In(zone) }
}

// seasonal is that of a node in a country where summer time begins or ends.
func seasonal(rng *rand.Rand) clock {
	leap := rng.IntN(60)
	return func(now time.Time, i, _ int) time.Time {
		now = now.Add(time.Duration(i) * time.Microsecond)
		if i >= leap {
			return now.In(time.FixedZone("", 3600))
		}
		return now.UTC()
	}
}

func distinct(_ *rand.Rand, i int) string { return fmt.Sprintf("line %d", i) }

// repeated is what many programs print: the same again and again.
func repeated(rng *rand.Rand, _ int) string {
	return []string{"", ".", "the same text again and again", "rpc error: code = NotFound desc = forged"}[rng.IntN(4)]
}

func mixed(rng *rand.Rand, i int) string {
	switch rng.IntN(10) {
	case 0:
		return ""
	case 1:
		return "the same text again and again"
	case 2:
		return "failed to create fsnotify watcher: too many open files"
	case 3:
		return strings.Repeat("long ", rng.IntN(400))
	case 4:
		return "\x00\xff\x1b[0m\r"
	case 5:
		return time.Now().UTC().Format(stampFormat) + " forged"
	}
	return distinct(rng, i)
}

// The options of lives: those that suit the scale of this node, the defaults, which
// know nothing of it, and those of one who wants no probes.
var (
	untuned = logstream.Options{}
	blind   = logstream.Options{IdleProbe: -1, HeadProbe: -1}
)

// kinds are the workloads and the troubles of a node.
var kinds = map[string]life{
	"containerd":             {clock: containerd, texts: distinct, faults: 60, tuned: quick},
	"conmon":                 {clock: conmon, texts: repeated, faults: 60, tuned: quick},
	"both streams":           {clock: inverted, texts: mixed, faults: 60, tuned: quick},
	"partial":                {clock: containerd, texts: mixed, parts: true, faults: 60, tuned: quick},
	"partial, conmon":        {clock: conmon, texts: repeated, parts: true, faults: 60, tuned: quick},
	"clock set back":         {clock: stepped, texts: mixed, faults: 60, tuned: quick},
	"not in UTC":             {clock: eastern, texts: mixed, parts: true, faults: 60, tuned: quick},
	"summer time":            {clock: seasonal, texts: mixed, parts: true, faults: 60, tuned: quick},
	"in lumps":               {clock: inverted, texts: mixed, lumps: true, faults: 60, tuned: quick},
	"away":                   {clock: containerd, texts: mixed, parts: true, outages: 20, faults: 20, tuned: quick},
	"bulky":                  {clock: containerd, texts: mixed, bulky: true, faults: 60, tuned: quick},
	"bulky, partial":         {clock: conmon, texts: mixed, bulky: true, parts: true, faults: 60, tuned: quick},
	"bulky, both":            {clock: inverted, texts: mixed, bulky: true, faults: 60, tuned: quick},
	"bulky, set back":        {clock: stepped, texts: mixed, bulky: true, faults: 60, tuned: quick},
	"rotated":                {clock: containerd, texts: mixed, rotations: 30, tuned: quick},
	"rotated, faults":        {clock: containerd, texts: mixed, rotations: 30, faults: 40, tuned: quick},
	"rotated, conmon":        {clock: conmon, texts: repeated, rotations: 30, faults: 40, tuned: quick},
	"rotated, both streams":  {clock: inverted, texts: mixed, rotations: 30, faults: 40, tuned: quick},
	"rotated, partial":       {clock: containerd, texts: mixed, parts: true, rotations: 30, faults: 40, tuned: quick},
	"rotated, late":          {clock: containerd, texts: mixed, parts: true, rotations: 30, late: true, faults: 20, tuned: quick},
	"rotated, bulky":         {clock: containerd, texts: mixed, bulky: true, rotations: 30, faults: 40, tuned: quick},
	"rotated, set back":      {clock: stepped, texts: mixed, rotations: 30, faults: 40, tuned: quick},
	"rotated, summer time":   {clock: seasonal, texts: mixed, rotations: 30, faults: 40, tuned: quick},
	"rotated, away":          {clock: inverted, texts: mixed, rotations: 30, outages: 20, faults: 20, tuned: quick},
	"rotated, lumps":         {clock: inverted, texts: mixed, bulky: true, lumps: true, rotations: 30, faults: 40, tuned: quick},
	"rotated, untuned":       {clock: inverted, texts: mixed, rotations: 30, faults: 40, tuned: untuned},
	"rotated, untuned, late": {clock: containerd, texts: mixed, lumps: true, rotations: 30, late: true, faults: 20, tuned: untuned},
	"rotated, blind":         {clock: containerd, texts: mixed, parts: true, rotations: 30, faults: 40, tuned: blind},
	"polled":                 {clock: containerd, texts: mixed, deaf: 100, tuned: quick},
	"polled, conmon":         {clock: conmon, texts: repeated, deaf: 100, faults: 40, tuned: quick},
	"polled, partial":        {clock: containerd, texts: mixed, parts: true, deaf: 90, faults: 40, tuned: quick},
	"polled, partial same":   {clock: conmon, texts: repeated, parts: true, deaf: 90, faults: 40, tuned: quick},
	"polled, both streams":   {clock: inverted, texts: mixed, parts: true, deaf: 90, faults: 40, tuned: quick},
	"polled, set back":       {clock: stepped, texts: mixed, deaf: 90, faults: 40, tuned: quick},
	"polled, bulky":          {clock: conmon, texts: mixed, bulky: true, parts: true, deaf: 80, faults: 40, tuned: quick},
	"polled, rotated":        {clock: containerd, texts: mixed, parts: true, deaf: 90, rotations: 30, faults: 20, tuned: quick},
	"polled, rot. conmon":    {clock: conmon, texts: repeated, parts: true, deaf: 90, rotations: 30, faults: 20, tuned: quick},
	"polled, rotated late":   {clock: inverted, texts: mixed, deaf: 90, rotations: 30, late: true, faults: 20, tuned: quick},
	"polled, renamed back":   {clock: conmon, texts: mixed, parts: true, deaf: 90, rotations: 15, back: true, faults: 20, tuned: quick},
	"renamed back":           {clock: containerd, texts: mixed, rotations: 15, back: true, faults: 20, tuned: quick},
	"renamed back, conmon":   {clock: conmon, texts: repeated, rotations: 15, back: true, faults: 20, tuned: quick},
	"renamed back, partial":  {clock: conmon, texts: mixed, parts: true, rotations: 15, back: true, faults: 20, tuned: quick},
	"renamed back, untuned":  {clock: containerd, texts: mixed, lumps: true, rotations: 15, back: true, faults: 20, tuned: untuned},
}

// A pen makes up what a container prints.
type pen struct {
	life
	rng   *rand.Rand
	clock clock
	n     int // records
	file  int // which the next one goes to

	turned time.Time // when the kubelet last rotated, or tried to
}

func (p *pen) line() []record {
	text := p.texts(p.rng, p.n)
	if p.bulky {
		text += strings.Repeat("x", p.rng.IntN(16000))
	}
	pieces := []string{text}
	for p.parts && p.rng.IntN(2) == 0 {
		last := pieces[len(pieces)-1]
		if len(last) < 2 {
			break
		}
		cut := 1 + p.rng.IntN(len(last)-1)
		pieces = append(pieces[:len(pieces)-1], last[:cut], last[cut:])
	}
	var rs []record
	for i, text := range pieces {
		rs = append(rs, record{
			At: p.clock(time.Now(), p.n, p.file), Stderr: p.rng.IntN(3) == 0, Partial: i < len(pieces)-1, Text: text,
		})
		p.n++
	}
	return rs
}
