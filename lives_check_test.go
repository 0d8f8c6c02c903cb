package podlife_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/logstream"
)

const (
	stall   = 2 * time.Second // for which a capture may leave bytes on the node
	settled = 5 * time.Second // after its last status, by when a run that ended is final
)

// tally is what many lives came to.
type tally struct {
	lines, missing, rotations int
	proofs                    map[logstream.Proof]int
	longest                   time.Duration
}

func (s *tally) String() string {
	return fmt.Sprintf("%d lines, %d of them missing within gaps, %d rotations, runs %v, a line was late by %s at most",
		s.lines, s.missing, s.rotations, s.proofs, s.longest)
}

func bytesLines(p []byte) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.Lines(string(p)) {
			if !yield(strings.TrimSuffix(line, "\n")) {
				return
			}
		}
	}
}

// run is what is known of one run of a step, in the end.
type run struct {
	*printed
	id   string // "": no status showed it
	slot slotPlan
	n    int // which run of its program
	cert *logstream.Certificate
}

func (r run) String() string { return fmt.Sprintf("run %d of %s (%.21s)", r.n, r.slot.name, r.id) }

// runs are the runs of every step's program.
func (l *life) runs() (all []run) {
	for _, s := range l.slots {
		for n, p := range l.printed[s.name] {
			r := run{printed: p, slot: s, n: n}
			attempt := n
			if s.swapped {
				attempt++
			}
			for id, x := range l.shown {
				if x.slot == s.name && x.run == attempt {
					r.id = id
				}
			}
			for i := range l.certs {
				if r.id != "" && l.certs[i].ContainerID == r.id {
					r.cert = &l.certs[i]
				}
			}
			all = append(all, r)
		}
	}
	return all
}

// check holds what was seen against what was printed.
func (l *life) check(sum *tally) {
	if sum.proofs == nil {
		sum.proofs = map[logstream.Proof]int{}
	}
	firstReads := l.firstReads()
	live := map[string]map[string]readLine{} // by slot and text
	for _, r := range l.reads {
		l.checkReader(r)
		if r.kind == "live" {
			live[r.slot] = map[string]readLine{}
			for _, line := range r.lines {
				live[r.slot][line.text] = line
			}
		}
	}
	for _, rs := range l.rotations {
		sum.rotations += len(rs)
	}
	for _, r := range l.runs() {
		sum.lines += len(r.lines)
		if r.cert != nil {
			sum.proofs[r.cert.Proof]++
		}
		sum.missing += l.checkLines(r, live[r.slot.name], firstReads[r.id])
		if late := l.checkStalls(r, live[r.slot.name]); late > sum.longest {
			sum.longest = late
		}
	}
	l.checkOutcomes()
}

// firstReads is when each run's log was first read.
func (l *life) firstReads() map[string]time.Time {
	first := map[string]time.Time{}
	for _, r := range l.cluster.Requests() {
		if at, ok := first[r.ContainerID]; !r.FirstByte.IsZero() && (!ok || r.FirstByte.Before(at)) {
			first[r.ContainerID] = r.FirstByte
		}
	}
	return first
}

// checkReader: no line twice, none of a placeholder, and those of a run in the order
// they were printed in; and every reader sees what the others do.
func (l *life) checkReader(r *reading) {
	seen, last := map[string]bool{}, map[string]string{}
	for _, line := range r.lines {
		slot, rest, _ := strings.Cut(line.text, "/")
		run, number, _ := strings.Cut(rest, "/")
		switch {
		case line.text == placeholderSays:
			l.blame("placeholder", "the %s reader of %s was shown its line", r.kind, r.slot)
		case slot != r.slot:
			l.blame("invented", "the %s reader of %s was shown %.20q", r.kind, r.slot, line.text)
		case seen[line.text]:
			l.blame("twice", "the %s reader of %s was shown %.20q twice", r.kind, r.slot, line.text)
		case number < last[run]:
			l.blame("order", "the %s reader of %s was shown %.20q after %.20q", r.kind, r.slot, number, last[run])
		}
		seen[line.text], last[run] = true, number
	}
	for _, other := range l.reads {
		if other.slot != r.slot || other.kind != "live" || other == r {
			continue
		}
		for _, line := range other.lines {
			if r.kind != "cancelled" && !errors.Is(r.err, logstream.ErrClosed) && !seen[line.text] {
				l.blame("readers", "the %s reader of %s ended (%v) without %.20q, which the live one has", r.kind, r.slot, r.err, line.text)
				break
			}
			delete(seen, line.text)
		}
		for text := range seen {
			l.blame("readers", "the live reader of %s ended (%v) without %.20q, which the %s one has", r.slot, other.err, text, r.kind)
			break
		}
	}
}

// checkLines: what is missing is within a bounded gap, and Verified is equal. It
// returns how many lines are missing.
func (l *life) checkLines(r run, got map[string]readLine, firstRead time.Time) (missing int) {
	// What was rotated away before the log was first read is lost untold.
	head := time.Time{}
	for _, x := range l.rotations[r.id] {
		if !x.fails && !x.at.After(firstRead) {
			head = x.at.Add(x.until)
		}
	}
	last := -1 // the last line that was captured
	for i, text := range r.lines {
		if _, ok := got[text]; ok {
			last = i
		}
	}
	for i, text := range r.lines {
		line, ok := got[text]
		if ok {
			if line.id != r.id && l.proofOf(line.id) == logstream.Verified {
				l.blame("verified", "%.21s is, but %.20q is of %s", line.id, text, r)
			}
			continue
		}
		missing++
		switch {
		case !r.times[i].After(head):
		case l.isAfterAll(r): // readers have ended by then
		case r.id == "" || r.cert == nil:
			if !l.missedBefore(r) {
				l.blame("missing", "%s was not captured, and no gap says so: %+v", r, l.certs)
				return missing
			}
		case r.cert.Proof == logstream.Verified:
			l.blame("verified", "%s, but %.20q (%d of %d) is missing", r, text, i, len(r.lines))
			return missing
		case within(r.times[i], r.cert.Gaps):
		case i > last && l.live[r.id]: // what it printed after it was drained may be lost with its pod
		default:
			l.blame("missing", "%s: %.20q (%d of %d) of %s is outside all gaps: %+v", r, text, i, len(r.lines), r.times[i].Format("05.000000000"), *r.cert)
			return missing
		}
	}
	l.checkGaps(r, got)
	return missing
}

// isAfterAll says whether a status showed the run for the first time when the pod was
// being deleted: nobody waits for runs of such a pod.
func (l *life) isAfterAll(r run) bool {
	x := l.shown[r.id]
	return x != nil && !l.removed.IsZero() && x.at.After(l.removed)
}

func (l *life) proofOf(id string) logstream.Proof {
	for _, c := range l.certs {
		if c.ContainerID == id {
			return c.Proof
		}
	}
	return ""
}

// missedBefore says whether a gap counts the run among those that nobody saw.
func (l *life) missedBefore(r run) bool {
	attempt := r.n
	if r.slot.swapped {
		attempt++
	}
	later := false
	for _, c := range l.certs {
		if c.Slot != r.slot.name {
			continue
		}
		later = later || c.Run > attempt
		for _, g := range c.Gaps {
			if g.ContainerID == "" && g.Run > attempt {
				return true
			}
		}
	}
	return !later // it ended with its pod, and no status came of it
}

func within(t time.Time, gaps []logstream.Gap) bool {
	for _, g := range gaps {
		if g.ContainerID != "" && !t.Before(g.From) && (g.To.IsZero() || !t.After(g.To)) {
			return true
		}
	}
	return false
}

// checkGaps: a gap has two ends, but at the log's own, and a certain one does not
// cover more that was captured than is missing.
func (l *life) checkGaps(r run, got map[string]readLine) {
	if r.cert == nil {
		return
	}
	for _, g := range r.cert.Gaps {
		if g.ContainerID == "" {
			continue
		}
		if g.From.IsZero() && g.AfterLine > 0 || g.To.IsZero() && g.AfterLine+1 < r.cert.Lines { // the last line may be torn
			l.blame("gap", "%s has a gap without an end: %+v", r, *r.cert)
		}
		captured, missing := 0, 0
		for i, text := range r.lines {
			if !r.times[i].After(g.From) || !g.To.IsZero() && !r.times[i].Before(g.To) {
				continue
			}
			if _, ok := got[text]; ok {
				captured++
			} else {
				missing++
			}
		}
		if g.Certain && captured > missing {
			l.blame("gap", "%s has a gap over %d lines that were captured and %d that were not: %+v", r, captured, missing, g)
		}
	}
}

// checkStalls: what is in the node's file for two seconds has been read by then,
// unless its file was rotated or its pod deleted meanwhile. The reader of a slot comes to a run when the
// one before is final, five seconds after its status at the latest. It returns by how
// much the latest line was late.
func (l *life) checkStalls(r run, got map[string]readLine) (longest time.Duration) {
	x := l.shown[r.id]
	if x == nil || l.slowLink > 0 || l.refusals > 0 || len(r.lines) == 0 {
		return 0
	}
	limit, since := stall, x.at
	if l.deaf > 0 {
		limit = settled // it is polled
	}
	if first, ok := got[r.lines[0]]; ok && r.n > 0 && first.at.Before(since.Add(settled)) {
		since = latest(since, first.at)
	}
	for i, text := range r.lines {
		from := latest(r.times[i], since)
		line, ok := got[text]
		if gone := l.gone(r, r.times[i]); !gone.IsZero() && gone.Before(from.Add(limit)) || !ok && (l.live[r.id] || l.removed.Before(from.Add(limit))) {
			continue
		}
		late := line.at.Sub(from)
		if longest = max(longest, late); ok && late <= limit {
			continue
		}
		l.blame("stall", "%s: %.20q (%d of %d) was on the node from %s and came at %s, captured: %t", r, text, i, len(r.lines),
			from.Format("04:05.000"), line.at.Format("04:05.000"), ok)
		return longest
	}
	return longest
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// gone is when what a run printed at a time was no longer there to be read: its file
// was rotated, or the run after it had ended too. Zero: it is there.
func (l *life) gone(r run, printed time.Time) time.Time {
	for _, x := range l.rotations[r.id] {
		if !x.fails && printed.Before(x.at.Add(x.until)) {
			return x.at
		}
	}
	if runs := l.printed[r.slot.name]; r.n+1 < len(runs) {
		return runs[r.n+1].ended
	}
	return time.Time{}
}

// checkOutcomes: what Wait and the timelines say of a run is how it ended.
func (l *life) checkOutcomes() {
	for _, st := range l.states {
		x := l.shown[st.ContainerID]
		if x == nil || st.Outcome == nil {
			continue
		}
		n := x.run
		if l.slot(st.Slot).swapped {
			n--
		}
		if n < 0 || n >= len(l.printed[st.Slot]) {
			l.blame("outcome", "%s has one of a run that is none of its program: %+v", st.Slot, st)
			continue
		}
		if p := l.printed[st.Slot][n]; p.ended.IsZero() || int(st.Outcome.ExitCode) != p.code {
			l.blame("outcome", "run %d of %s ended at %s with %d: %+v", n, st.Slot, p.ended, p.code, *st.Outcome)
		}
	}
	for slot, w := range l.waited {
		runs := l.printed[slot]
		var f *eventsplit.Failure
		switch s := l.slot(slot); {
		case s.missing:
			if !errors.As(w.err, &f) {
				l.blame("outcome", "%s has no image, but Wait says %v, %+v", slot, w.err, w.state)
			}
		case w.err != nil || w.state.Outcome == nil || len(runs) == 0:
			l.blame("outcome", "%s ran %d times, but Wait says %v, %+v", slot, len(runs), w.err, w.state)
		case int(w.state.Outcome.ExitCode) != runs[len(runs)-1].code:
			l.blame("outcome", "%s ended with %d, but Wait says %+v", slot, runs[len(runs)-1].code, *w.state.Outcome)
		case l.policy == corev1.RestartPolicyNever && len(runs) != 1:
			l.blame("outcome", "%s ran %d times", slot, len(runs))
		}
	}
}
