package logstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
	"github.com/go-vela/podlife/logstream/internal/stamp"
)

const (
	probeTick   = 500 * time.Millisecond
	probeLimit  = 10 * time.Second // for one probe
	probesAFile = 16               // head probes of as many bytes as the node rotates a log at, at most
	floodProbes = 5                // of a log that grows faster than that come so much closer: by default every second, less than fileLife
	probesAtAll = 64               // at a time; open lets few of them ask
	endWait     = 10 * time.Second // silence of a stream whose container is dead
	goneWait    = 30 * time.Second // and of one whose pod is deleted
	readWait    = time.Minute      // and of a read that should end by itself
	liveAfter   = time.Second      // what a stream brings so long after its beginning was not held back
	headLimit   = 512              // bytes that a head probe asks for: most lines are shorter
	fallenQuiet = time.Second      // silence in which a stream brings nothing more of a rotated file
)

var errKick = errors.New("logstream: the stream is looked at again")

// probeState belongs to the open stream of a run; guarded by run.mu.
type probeState struct {
	opened  time.Time
	running bool
	idle    time.Duration // between idle probes; 0: none was made in this silence
	idleAt  time.Time     // last idle probe
	headAt  time.Time     // last head probe
	headEnd int64         // bytes captured by then
	floodAt time.Time     // when the log was last seen to grow fast
	newer   int64         // a line of this time is on the node and was not captured
	known   int64         // such a line that a new stream did not bring either
}

// probeLoop looks after the open streams, one tick at a time, while there are any.
// A stream may go quiet for no reason that shows: the kubelet's follower misses a
// rotation before its first end of file, and a half-open connection says nothing.
func (s *Streamer) probeLoop(ctx context.Context) {
	tokens := make(chan struct{}, probesAtAll)
	for {
		s.mu.Lock()
		runs := make([]*run, 0, len(s.live))
		for r := range s.live {
			runs = append(runs, r)
		}
		s.mu.Unlock()
		if len(runs) == 0 {
			select {
			case <-s.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		t := time.NewTimer(probeTick)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		now := time.Now()
		for _, r := range runs {
			// This loop alone takes tokens: one that is free stays so until it does.
			probe := r.due(now, len(tokens) < cap(tokens))
			if probe == nil {
				continue
			}
			tokens <- struct{}{}
			s.wg.Go(func() {
				pctx, cancel := context.WithTimeout(ctx, probeLimit)
				defer cancel()
				probe(pctx)
				<-tokens
			})
		}
	}
}

// due says which probe of r is due, and may be made now, and ends a stream that hangs.
func (r *run) due(now time.Time, mayProbe bool) func(context.Context) {
	l, since := r.lifeSince()
	_, end := r.log.bounds()
	silence := now.Sub(time.Unix(0, r.active.Load()))
	dead := now.Sub(since) // if it is
	newest, fileStart := r.log.progress()
	p, o := &r.probe, &r.s.opt
	rotateSize := min(o.RotateSize, r.log.rotatedAt()*3/4)
	f, waits := r.sp.heads.next(0)
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.newer <= newest {
		p.newer = 0 // the stream brought it; the clock may go back yet
	}
	grown := end - p.headEnd
	if grown > rotateSize/probesAFile {
		p.floodAt = now
	}
	flood := waits || now.Sub(p.floodAt) < o.HeadProbe
	probeHead := func() func(context.Context) {
		if o.HeadProbe < 0 || !mayProbe {
			return nil
		}
		p.headAt, p.headEnd, p.running = now, end, true
		return r.probeHead
	}
	switch {
	case r.kick == nil || p.running:
		return nil
	case r.final:
		if silence >= readWait || now.Sub(p.opened) >= finalTime {
			r.kick(errKick)
		}
		return nil
	case l == lifeGone || l == lifeUnreadable:
		if min(silence, dead) >= goneWait || dead >= finalTime {
			r.kick(errKick)
		}
		return nil
	case l != lifeAlive && l != lifeBlind:
		if min(silence, dead) >= endWait || dead >= finalTime {
			r.kick(errKick)
		} else if l == lifeEnded && flood && p.headAt.Before(since) {
			return probeHead() // once more: now the node rotates the log no more
		}
		return nil
	case p.newer > newest && p.newer != p.known:
		p.known = p.newer
		r.recheck = true
		r.behind++
		r.kick(errKick)
		return nil
	}
	// What is still to come of the file before is nowhere else to be had: while the stream
	// delivers, it is left alone. Cut by the clock, a follower on a busy node (v1.36, load
	// 15 on 2 cores) lost 171,000 lines of 515,000 to one rotation; left alone, it brought
	// them all, late. The node had an answer for the probe: a stream that is silent since
	// then has fallen behind for good.
	if waits && f.found.After(p.opened) && min(silence, now.Sub(f.found)) >= fallenQuiet {
		r.recheck = true
		r.kick(errKick)
		return nil
	}
	if silence < o.IdleProbe {
		p.idle = 0
	}
	if !mayProbe {
		return nil
	}
	if silence >= o.IdleProbe && o.IdleProbe > 0 && now.Sub(p.idleAt) >= p.idle {
		p.idle = min(max(p.idle*2, 2*o.IdleProbe), 6*o.IdleProbe)
		p.idleAt, p.running = now, true
		return r.probeTail
	}
	every := o.HeadProbe
	if flood {
		every /= floodProbes
	}
	if (flood || end-fileStart > rotateSize && grown > 0) && now.Sub(p.headAt) >= every {
		return probeHead()
	}
	return nil
}

// probeTail compares the node's last line with the last one captured.
func (r *run) probeTail(ctx context.Context) {
	b, _ := r.look(ctx, kubelog.Request{Container: r.slot, Tail: 1})
	ns, _ := stamp.Parse(b)
	committed, end := r.log.bounds()
	tail, _ := stamp.Parse(r.log.peek(make([]byte, stamp.Max), committed, end))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probe.running = false
	newest, _ := r.log.progress()
	switch {
	case ns > newest && ns != tail:
		r.probe.newer = ns // unless the stream brings it until the next tick
	case ns > 0 && time.Unix(0, r.active.Load()).Sub(r.probe.opened) > liveAfter:
		r.behind = 0
	}
}

// probeHead looks whether the node's file is another one now.
func (r *run) probeHead(ctx context.Context) {
	committed, _ := r.log.bounds()
	k := look{asked: time.Now(), end: committed, aside: true}
	b, err := r.look(ctx, kubelog.Request{Container: r.slot, Limit: headLimit})
	ns, n := stamp.Parse(b)
	switch k.answered = time.Now(); {
	case n > 0:
		r.sp.heads.look(certain(b, headLimit), ns, k)
	case err == nil && len(b) < headLimit && !bytes.Contains(b, newline): // not a line
		r.sp.heads.lookedEmpty(k.answered)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probe.running = false
}

// look makes one small read.
func (r *run) look(ctx context.Context, q kubelog.Request) ([]byte, error) {
	r.s.counts.probes.Add(1)
	body, err := r.s.open(ctx, r.c.namespace, r.c.name, q.Options(), false)
	if err != nil {
		if kubelog.Refuse(err).Answer == kubelog.PodGone {
			r.nowIs(lifeGone)
		}
		return nil, err
	}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { _ = body.Close(); close(closed) })
	b, err := io.ReadAll(io.LimitReader(body, lineLen))
	if stop() {
		_ = body.Close()
	} else {
		<-closed
	}
	return b, err // one that broke off says little
}

// askRecheck asks for a whole read.
func (r *run) askRecheck() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recheck = true
}

// takeRecheck says whether a whole read was asked for.
func (r *run) takeRecheck() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.recheck
	r.recheck = false
	return v
}
