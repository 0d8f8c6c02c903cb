package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-vela/podlife/internal/testutil/nodelog"
	"github.com/go-vela/podlife/logstream"
)

// life is a kind of random life of one container.
type life struct {
	clock     func(rng *rand.Rand) nodelog.Clock
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
	"containerd":             {clock: nodelog.Containerd, texts: distinct, faults: 60, tuned: quick},
	"conmon":                 {clock: nodelog.Conmon, texts: repeated, faults: 60, tuned: quick},
	"both streams":           {clock: nodelog.BothStreams, texts: mixed, faults: 60, tuned: quick},
	"partial":                {clock: nodelog.Containerd, texts: mixed, parts: true, faults: 60, tuned: quick},
	"partial, conmon":        {clock: nodelog.Conmon, texts: repeated, parts: true, faults: 60, tuned: quick},
	"clock set back":         {clock: nodelog.SetBack, texts: mixed, faults: 60, tuned: quick},
	"not in UTC":             {clock: nodelog.Zoned, texts: mixed, parts: true, faults: 60, tuned: quick},
	"summer time":            {clock: nodelog.SummerTime, texts: mixed, parts: true, faults: 60, tuned: quick},
	"in lumps":               {clock: nodelog.BothStreams, texts: mixed, lumps: true, faults: 60, tuned: quick},
	"away":                   {clock: nodelog.Containerd, texts: mixed, parts: true, outages: 20, faults: 20, tuned: quick},
	"bulky":                  {clock: nodelog.Containerd, texts: mixed, bulky: true, faults: 60, tuned: quick},
	"bulky, partial":         {clock: nodelog.Conmon, texts: mixed, bulky: true, parts: true, faults: 60, tuned: quick},
	"bulky, both":            {clock: nodelog.BothStreams, texts: mixed, bulky: true, faults: 60, tuned: quick},
	"bulky, set back":        {clock: nodelog.SetBack, texts: mixed, bulky: true, faults: 60, tuned: quick},
	"rotated":                {clock: nodelog.Containerd, texts: mixed, rotations: 30, tuned: quick},
	"rotated, faults":        {clock: nodelog.Containerd, texts: mixed, rotations: 30, faults: 40, tuned: quick},
	"rotated, conmon":        {clock: nodelog.Conmon, texts: repeated, rotations: 30, faults: 40, tuned: quick},
	"rotated, both streams":  {clock: nodelog.BothStreams, texts: mixed, rotations: 30, faults: 40, tuned: quick},
	"rotated, partial":       {clock: nodelog.Containerd, texts: mixed, parts: true, rotations: 30, faults: 40, tuned: quick},
	"rotated, late":          {clock: nodelog.Containerd, texts: mixed, parts: true, rotations: 30, late: true, faults: 20, tuned: quick},
	"rotated, bulky":         {clock: nodelog.Containerd, texts: mixed, bulky: true, rotations: 30, faults: 40, tuned: quick},
	"rotated, set back":      {clock: nodelog.SetBack, texts: mixed, rotations: 30, faults: 40, tuned: quick},
	"rotated, summer time":   {clock: nodelog.SummerTime, texts: mixed, rotations: 30, faults: 40, tuned: quick},
	"rotated, away":          {clock: nodelog.BothStreams, texts: mixed, rotations: 30, outages: 20, faults: 20, tuned: quick},
	"rotated, lumps":         {clock: nodelog.BothStreams, texts: mixed, bulky: true, lumps: true, rotations: 30, faults: 40, tuned: quick},
	"rotated, untuned":       {clock: nodelog.BothStreams, texts: mixed, rotations: 30, faults: 40, tuned: untuned},
	"rotated, untuned, late": {clock: nodelog.Containerd, texts: mixed, lumps: true, rotations: 30, late: true, faults: 20, tuned: untuned},
	"rotated, blind":         {clock: nodelog.Containerd, texts: mixed, parts: true, rotations: 30, faults: 40, tuned: blind},
	"polled":                 {clock: nodelog.Containerd, texts: mixed, deaf: 100, tuned: quick},
	"polled, conmon":         {clock: nodelog.Conmon, texts: repeated, deaf: 100, faults: 40, tuned: quick},
	"polled, partial":        {clock: nodelog.Containerd, texts: mixed, parts: true, deaf: 90, faults: 40, tuned: quick},
	"polled, partial same":   {clock: nodelog.Conmon, texts: repeated, parts: true, deaf: 90, faults: 40, tuned: quick},
	"polled, both streams":   {clock: nodelog.BothStreams, texts: mixed, parts: true, deaf: 90, faults: 40, tuned: quick},
	"polled, set back":       {clock: nodelog.SetBack, texts: mixed, deaf: 90, faults: 40, tuned: quick},
	"polled, bulky":          {clock: nodelog.Conmon, texts: mixed, bulky: true, parts: true, deaf: 80, faults: 40, tuned: quick},
	"polled, rotated":        {clock: nodelog.Containerd, texts: mixed, parts: true, deaf: 90, rotations: 30, faults: 20, tuned: quick},
	"polled, rot. conmon":    {clock: nodelog.Conmon, texts: repeated, parts: true, deaf: 90, rotations: 30, faults: 20, tuned: quick},
	"polled, rotated late":   {clock: nodelog.BothStreams, texts: mixed, deaf: 90, rotations: 30, late: true, faults: 20, tuned: quick},
	"polled, renamed back":   {clock: nodelog.Conmon, texts: mixed, parts: true, deaf: 90, rotations: 15, back: true, faults: 20, tuned: quick},
	"renamed back":           {clock: nodelog.Containerd, texts: mixed, rotations: 15, back: true, faults: 20, tuned: quick},
	"renamed back, conmon":   {clock: nodelog.Conmon, texts: repeated, rotations: 15, back: true, faults: 20, tuned: quick},
	"renamed back, partial":  {clock: nodelog.Conmon, texts: mixed, parts: true, rotations: 15, back: true, faults: 20, tuned: quick},
	"renamed back, untuned":  {clock: nodelog.Containerd, texts: mixed, lumps: true, rotations: 15, back: true, faults: 20, tuned: untuned},
}

// A pen makes up what a container prints.
type pen struct {
	life
	rng   *rand.Rand
	clock nodelog.Clock
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
