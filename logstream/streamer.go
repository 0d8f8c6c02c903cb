package logstream

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Opener opens container logs. [FromConfig] makes the real one; tests write their
// own. OpenLog is called from many goroutines. The body it returns is read by one
// goroutine, and closed, perhaps during a Read, when ctx ends.
type Opener interface {
	OpenLog(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error)
}

// Options tune a Streamer. The zero value is what most hosts want.
type Options struct {
	// Memory is the budget of all runs together, in bytes; 0: 64 MiB. What comes on
	// top of it is in the package's documentation, under Backpressure.
	Memory int64
	// Disk is the budget of the spill file in bytes; 0: 8 GiB; below 0: none. The
	// file is made in Dir at first need, mode 0600, and unlinked at once. Past the
	// budget, or when the disk refuses, the oldest output of the run that holds most
	// is dropped: a Gap says so, and why, and so does NoticeDropped. A disk that
	// refused, or took nothing for two seconds, is tried again after 10 s.
	Disk int64
	// Dir is the directory of the spill file, which has to exist; empty: os.TempDir(). An
	// image FROM scratch has no temporary directory, and a container's root filesystem may
	// be read-only: give one on a volume then, or a negative Disk. Whether it works is
	// found out when Run begins: if not, NoticeDiskFailed says so, and only memory is used
	// until it does.
	Dir string
	// Opens is how many requests may wait for their answer at a time; 0: 16. Those
	// that are not a run's first take at most a quarter of the places.
	Opens int
	// IdleProbe is the silence after which a live run's stream is checked against
	// the node's last line; it doubles up to six times itself. 0: 10 s; below 0: never.
	IdleProbe time.Duration
	// HeadProbe is the interval of looking whether the node rotated a log that grows and
	// that RotateSize bytes came from, or three quarters of what it was rotated at before. A
	// log that grows fast, by a sixteenth of that between two looks, or whose stream is behind
	// a rotation, is looked at five times as often: by default 60 small requests a minute.
	// 0: 5 s; below 0: never.
	HeadProbe time.Duration
	// RotateSize is the size in bytes from which rotation is plausible; 0: 8 MiB,
	// for the kubelet's default containerLogMaxSize of 10Mi.
	RotateSize int64
	// Notify is told of requests that fail, of streams that break off, of output that is
	// dropped and of a disk that fails. It is called one at a time, in the order in which
	// things happened, with no lock held, between the beginning of Run and its return. A
	// Notify that blocks delays further notices, and Run's return, but no capture. What it
	// is told may have changed by then: of many notices that wait, those of a trouble
	// that is over are left out.
	Notify func(Notice)
}

// Streamer captures the logs of a process's pods. Make one with [New].
// Its methods may be called from any goroutine.
type Streamer struct {
	opener  Opener
	opt     Options
	store   *store
	notices *notices
	opens   chan struct{} // places for requests that wait for their answer
	later   chan struct{} // those of them that a run's first request leaves to others

	filterFrom int64         // see splicer; tests lower it
	fileLife   time.Duration // likewise

	mu     sync.Mutex
	ctx    context.Context // Run's; nil before
	ended  bool
	queue  []*run            // found before Run
	live   map[*run]struct{} // with a goroutine
	wake   chan struct{}     // the prober's
	wg     sync.WaitGroup
	counts counts
}

type counts struct {
	captures, runs, follows, reads, probes, failed, resumed atomic.Int64
	verified, unverified, incomplete, closed, bytes         atomic.Int64
}

// Stats are a Streamer's counters since it was made, except where they say "now".
type Stats struct {
	Captures, Live int64 // now: open captures; runs whose capture has not ended
	Runs           int64 // captured
	Follows, Reads int64 // requests: streams; reads that end by themselves
	Probes         int64 // requests: looks at the head or the end of a log
	Failed         int64 // requests that were refused or could not be made
	Resumed        int64 // streams that broke off and were opened again
	Verified       int64 // runs that are final, by their Proof
	Unverified     int64
	Incomplete     int64
	Closed         int64 // runs that went on when their Capture was closed or Run ended: in none of the three before
	Gaps           int64 // noticed in all runs so far: as the Gaps of certificates, but all that was dropped of a run is one
	Bytes          int64 // received
	Memory, Disk   int64 // now: bytes held
	Dropped        int64 // bytes
	DiskErrors     int64 // times that the disk refused to take or give back output
}

// New makes a Streamer. It does nothing until Run.
func New(o Opener, opt Options) *Streamer {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&opt.Memory, 64<<20)
	def(&opt.Disk, 8<<30)
	def(&opt.RotateSize, 8<<20)
	def((*int64)(&opt.IdleProbe), int64(10*time.Second))
	def((*int64)(&opt.HeadProbe), int64(5*time.Second))
	if opt.Opens <= 0 {
		opt.Opens = 16
	}
	s := &Streamer{
		opener: o, opt: opt, store: newStore(opt.Memory, opt.Disk, opt.Dir), opens: make(chan struct{}, opt.Opens),
		notices: newNotices(opt.Notify), later: make(chan struct{}, max(1, opt.Opens/4)),
		filterFrom: longLine, fileLife: fileLife, live: map[*run]struct{}{}, wake: make(chan struct{}, 1),
	}
	s.store.tell = func(err error) {
		n := Notice{Kind: NoticeDiskFailed, Err: err}
		if err == nil {
			n.Kind = NoticeDiskResumed
		}
		s.notices.say(n)
	}
	return s
}

// Run captures until ctx ends; it returns context.Cause(ctx) after every
// goroutine of the Streamer has ended, but for calls of a disk that hangs, and Notify was
// told of all. Runs whose capture has
// not ended by then are Incomplete. It is called once.
func (s *Streamer) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.ctx != nil {
		s.mu.Unlock()
		return errors.New("logstream: Run was called before")
	}
	s.ctx = ctx
	for _, r := range s.queue {
		s.launch(r) //nolint:contextcheck // it takes ctx from s
	}
	s.queue = nil
	s.mu.Unlock()

	s.wg.Go(func() { s.store.watch(ctx) })
	end, told := make(chan struct{}), make(chan struct{})
	go func() {
		s.notices.deliver(end)
		close(told)
	}()

	s.probeLoop(ctx)

	s.mu.Lock()
	s.ended = true
	s.mu.Unlock()
	s.wg.Wait()
	s.store.flush()
	close(end)
	<-told
	return context.Cause(ctx)
}

// Pod returns the capture of one pod. r tells its runs apart; nil: every run is
// work. The caller feeds it with Handle, and closes it.
func (s *Streamer) Pod(namespace, name string, r Runs) *Capture {
	s.counts.captures.Add(1)
	return &Capture{
		s: s, namespace: namespace, name: name, runs: r,
		slots: map[string]*slot{}, readers: map[*Reader]struct{}{}, wake: make(chan struct{}),
		gone: make(chan struct{}),
	}
}

// Stats returns the counters.
func (s *Streamer) Stats() Stats {
	c := &s.counts
	mem, disk, dropped := s.store.usage()
	s.mu.Lock()
	live := len(s.live) + len(s.queue)
	s.mu.Unlock()
	return Stats{
		Captures: c.captures.Load(), Live: int64(live), Runs: c.runs.Load(), Follows: c.follows.Load(),
		Reads: c.reads.Load(), Probes: c.probes.Load(), Failed: c.failed.Load(), Resumed: c.resumed.Load(),
		Verified: c.verified.Load(), Unverified: c.unverified.Load(), Incomplete: c.incomplete.Load(),
		Closed: c.closed.Load(), Gaps: s.store.gaps.Load(), Bytes: c.bytes.Load(), Memory: mem, Disk: disk,
		Dropped: dropped, DiskErrors: s.store.diskErrors(),
	}
}

// start captures r, now or when Run is called.
func (s *Streamer) start(r *run) {
	s.counts.runs.Add(1)
	if r.missed > 0 {
		s.store.gaps.Add(1)
	}
	if r.id == "" {
		r.incomplete(whyNameless)
		close(r.done)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended || r.isClosed():
		r.cutOff()
		close(r.done)
	case s.ctx == nil: // should it be closed from now on, abandon finds it in the queue
		s.queue = append(s.queue, r)
	default:
		s.launch(r)
	}
}

// launch needs s.mu.
func (s *Streamer) launch(r *run) {
	s.live[r] = struct{}{}
	s.wg.Go(func() {
		ctx, cancel := context.WithCancelCause(s.ctx)
		defer cancel(nil)
		r.launched(cancel)
		r.loop(ctx)
		s.mu.Lock()
		delete(s.live, r)
		s.mu.Unlock()
		close(r.done)
	})
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// abandon takes runs out of the queue of those not launched.
func (s *Streamer) abandon(r *run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, q := range s.queue {
		if q == r {
			s.queue = append(s.queue[:i], s.queue[i+1:]...)
			r.cutOff()
			close(r.done)
			return
		}
	}
}

// open makes one request. Only the wait for the answer is limited, and not for
// long: a kubelet may keep the headers of a silent container's log to itself. A
// run's first request comes before proofs and probes of others, which may take
// a quarter of the places: somebody waits to read. Of 200 containers that ended within
// 4 s on two busy cores (v1.36) the median of first reads came 192 to 622 ms after the
// status with 4 places and 111 to 340 ms with 16; more than that made no difference,
// and 20 that ended at once took longer.
func (s *Streamer) open(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions, first bool) (io.ReadCloser, error) {
	places := []chan struct{}{s.later, s.opens}
	if first {
		places = places[1:]
	}
	for i, p := range places {
		select {
		case p <- struct{}{}:
		case <-ctx.Done():
			for _, taken := range places[:i] {
				<-taken
			}
			return nil, context.Cause(ctx)
		}
	}
	release := sync.OnceFunc(func() {
		for _, p := range places {
			<-p
		}
	})
	t := time.AfterFunc(2*time.Second, release)
	defer release()
	defer t.Stop()
	b, err := s.opener.OpenLog(ctx, namespace, pod, o)
	if err != nil && ctx.Err() == nil {
		s.counts.failed.Add(1)
	}
	return b, err
}
