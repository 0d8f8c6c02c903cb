package logstream

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"time"
)

// fileLife is for how long a file of the node's is current, at least. The kubelet looks at
// the sizes of logs every 10 s, or what it is configured to, which is 3 s at least; one
// look may be late, as it compresses the file before (kubernetes v1.36.3
// pkg/kubelet/apis/config/validation/validation.go:381, logs/container_log_manager.go:150, 289).
const fileLife = 2 * time.Second

const (
	mostHeads = 64              // files that are kept; the oldest that a stream has to come to is forgotten
	clockLife = 5 * time.Minute // for which the node's clock and this one are taken to go alike
)

// heads are the files of one log that the node is known to have made, in the order in which it
// made them. The first one is the file that the capture has come to; it has still to come to
// the others, or has passed them over.
//
// Every answer that shows how the node's current file begins is a look. A file that is current
// for a while cannot come and go between two looks that are closer than that. What was printed
// before a look is not in a file that is made later. That is all that is used here: the lines
// at which files begin, and those between which nobody looked, are found by their times.
//
// Its methods may be called from any goroutine.
type heads struct {
	life time.Duration // of a file, at least

	mu    sync.Mutex
	files []nodeFile
	empty time.Time        // when an answer came that had nothing in it, if none has shown a file since
	ahead [2]time.Duration // by how much the node's clock is, at least: of late, and before
	since time.Time        // of late
}

// nodeFile is one of the node's files. Times in ns are of the node's clock.
type nodeFile struct {
	head   []byte // the beginning of its first line
	ns     int64  // and that line's time; 0: it is empty, for all that is known
	by     int64  // when it was there; 0: not known, or ns tells
	found  time.Time
	asked  time.Time // when the last look was made that showed it
	end    int64     // what was captured by then is not in a later file
	seen   bool      // no file came and went between the one before and it
	gone   int64     // a later one, whose first line is of this time, was there, and is no more; 0: none
	sought int64     // the capture up to there does not have it
	asks   bool      // a whole read was asked for to find it
}

// look is a request whose answer shows how the node's current file begins.
type look struct {
	asked    time.Time
	end      int64 // of the capture, when it was made
	answered time.Time
	aside    bool // nothing is captured of the answer
}

// look notes that a look showed a file that begins with head, whose time is ns.
func (h *heads) look(head []byte, ns int64, k look) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := len(h.files)
	if n == 0 && k.aside { // what is captured first begins with the first file
		return
	}
	h.empty = time.Time{}
	h.noteLocked(ns, k.answered)
	for i := n - 1; i >= 0; i-- {
		f := &h.files[i]
		if !isSameLine(f.head, head) {
			continue
		}
		if len(head) > len(f.head) {
			f.head = bytes.Clone(head)
		}
		if k.asked.After(f.asked) {
			if h.dropLocked(i+1, k.asked); f.gone == 0 {
				f.end = max(f.end, k.end)
			}
			f.asked = k.asked
		}
		return
	}
	f := nodeFile{head: bytes.Clone(head), ns: ns, found: k.answered, asked: k.asked, end: k.end}
	if n > 0 {
		last := &h.files[n-1]
		if k.asked.Before(last.asked) { // the answer comes late
			return
		}
		f.seen = h.isNext(last, k.answered)
	}
	if n == mostHeads {
		h.files = slices.Delete(h.files, 1, 2)
		h.files[1].seen = false
	}
	h.files = append(h.files, f)
}

// isNext reports whether no file came and went between f, the newest one that is known, and
// one that was found by now.
func (h *heads) isNext(f *nodeFile, found time.Time) bool {
	return f.gone == 0 && found.Sub(f.asked) < h.life
}

// lookedEmpty notes that a look showed nothing: perhaps the node's file is empty.
func (h *heads) lookedEmpty(answered time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.empty.IsZero() {
		h.empty = answered
	}
}

// dropLocked forgets files that had been seen before the one before them was looked at again:
// the runtime could not go on with the new one, or it is another container's.
func (h *heads) dropLocked(from int, asked time.Time) {
	if from == len(h.files) || h.files[from].found.After(asked) {
		return
	}
	f := &h.files[from-1]
	f.gone = h.files[from].ns
	h.files = h.files[:from]
}

// note notes when a line that the node gave the time ns came.
func (h *heads) note(ns int64, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.noteLocked(ns, now)
}

func (h *heads) noteLocked(ns int64, now time.Time) {
	ahead := time.Duration(ns - now.UnixNano())
	switch {
	case h.since.IsZero():
		h.since, h.ahead = now, [2]time.Duration{ahead, ahead}
	case now.Sub(h.since) > clockLife:
		h.since, h.ahead = now, [2]time.Duration{ahead, h.ahead[0]}
	case ahead > h.ahead[0]:
		h.ahead[0] = ahead
	}
}

// still notes that the answer to a request has the captured line at off in it, whose time is ns.
func (h *heads) still(off, ns int64, k look) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.files) != 1 {
		return
	}
	f := &h.files[0]
	if k.asked.After(f.asked) && (off < f.end || ns <= h.untilLocked(f)) {
		f.asked, f.end = k.asked, max(f.end, k.end)
	}
}

// covers notes that the capture up to end is of the file that it has come to. asked: if that
// is known by the request that was made then.
func (h *heads) covers(end int64, asked time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.files) > 0 && (asked.IsZero() || h.files[0].asked.Equal(asked)) {
		h.files[0].end = max(h.files[0].end, end)
	}
}

// untilLocked is the time until which nothing that was printed is in a later file than f.
func (h *heads) untilLocked(f *nodeFile) int64 {
	until := f.ns
	if !f.asked.IsZero() && !h.since.IsZero() {
		until = max(until, f.asked.Add(max(h.ahead[0], h.ahead[1])).UnixNano())
	}
	if f.gone != 0 {
		until = min(until, f.gone-1)
	}
	return until
}

// next is the i-th of the files that the capture is not known to have come to.
func (h *heads) next(i int) (f nodeFile, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i++; i >= len(h.files) {
		return f, false
	}
	return h.files[i], true
}

// known is what is known to be in the file that the capture has come to, or before: what was
// captured up to end, and what was printed until then.
func (h *heads) known() (end, until int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.files) == 0 {
		return 0, 0
	}
	return h.files[0].end, h.untilLocked(&h.files[0])
}

// change changes what is kept of the file that begins with head.
func (h *heads) change(head []byte, to func(f *nodeFile)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range h.files {
		if isSameLine(h.files[i].head, head) {
			to(&h.files[i])
		}
	}
}

// restart forgets all files but one, of which nothing is known but how it begins; that one,
// too, where ns is 0.
func (h *heads) restart(head []byte, ns int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.files = nil; ns != 0 {
		h.files = []nodeFile{{head: bytes.Clone(head), ns: ns}}
	}
}

// step is one from a file of the node's to a later one that is known.
type step struct {
	ns         int64 // of the first line of the later one; 0: it is empty
	unseen     bool  // others may have come and gone between them,
	end        int64 // none of which began in what was captured up to here,
	from, upTo int64 // nor before from, nor after upTo; 0: not known
}

// reach notes that the capture has come to f, which was found by now. It returns the steps from
// the one that it was in, over those that it has passed over.
func (h *heads) reach(f nodeFile) (steps []step) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := slices.IndexFunc(h.files, func(k nodeFile) bool { return isSameLine(k.head, f.head) })
	if at < 0 { // no look showed it
		at = len(h.files)
		for at > 1 && f.ns != 0 && h.files[at-1].ns > f.ns {
			at--
		}
		f.head = bytes.Clone(f.head)
		if f.ns == 0 && !h.empty.IsZero() {
			f.found = h.empty
		}
		f.seen = at > 0 && at == len(h.files) && h.isNext(&h.files[at-1], f.found)
		h.files = slices.Insert(h.files, at, f)
	}
	for i := 1; i <= at; i++ {
		steps = append(steps, h.stepLocked(&h.files[i-1], &h.files[i]))
	}
	h.files = slices.Delete(h.files, 0, at)
	return steps
}

func (h *heads) stepLocked(f, next *nodeFile) step {
	k := step{ns: next.ns, unseen: !next.seen, end: f.end, from: h.untilLocked(f)}
	switch by := cmp.Or(next.ns, next.by); {
	case by == 0 || f.gone != 0:
	case by < k.from-int64(time.Second): // the clock was set back
		k.from = 0
	default:
		k.upTo = by - int64(h.life)
		k.unseen = k.unseen && k.from < k.upTo
	}
	return k
}
