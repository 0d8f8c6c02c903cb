package logstream

import (
	"fmt"
	"slices"
	"sync"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
)

// NoticeKind tells notices apart. A kind that opens a trouble names the kinds that close it.
type NoticeKind string

const (
	// NoticeFailed opens: a request for the log was refused or could not be made; Err says
	// why. It is tried again. NoticeResumed or NoticeFinal closes it.
	NoticeFailed NoticeKind = "failed"
	// NoticeResumed: the log is read again, after a NoticeFailed, or after its stream broke
	// off while the container ran, which nothing else tells of.
	NoticeResumed NoticeKind = "resumed"
	// NoticePolling opens: the node has no inotify instance left for a stream, or something
	// on the way holds streams back, so the log is read in intervals. NoticeStreaming or
	// NoticeFinal closes it.
	NoticePolling NoticeKind = "polling"
	// NoticeStreaming: a stream of the log is open again.
	NoticeStreaming NoticeKind = "streaming"
	// NoticeFinal: the capture of the run has ended, and with it the NoticeFailed and the
	// NoticePolling that were open; of a run of which none was, it is not said. The
	// [Certificate] says what came of it.
	NoticeFinal NoticeKind = "final"
	// NoticeDropped: captured output of the run was dropped, which ends in a certain Gap.
	// Err is the disk's error, or says that the budget is used up. It is said once a run;
	// once more if the disk fails only later. Nothing closes it: what is gone is gone.
	NoticeDropped NoticeKind = "dropped"
	// NoticeDiskFailed opens: the spill file cannot be made or written to; Err is the disk's
	// error, or, of a disk that hangs, one that wraps os.ErrDeadlineExceeded. It is said when Run begins if the disk does not work then, needed or not.
	// Memory is used on, and what does not fit in it is dropped. The disk is tried again
	// every 10 s; NoticeDiskResumed closes it. These two are about no run.
	NoticeDiskFailed NoticeKind = "disk failed"
	// NoticeDiskResumed: the disk takes output again.
	NoticeDiskResumed NoticeKind = "disk resumed"
)

// opens has the kind that each closing kind closes.
var opens = map[NoticeKind]NoticeKind{
	NoticeResumed: NoticeFailed, NoticeStreaming: NoticePolling, NoticeDiskResumed: NoticeDiskFailed,
}

var noticeText = map[NoticeKind]string{
	NoticeFailed:      "the log cannot be read, trying again",
	NoticeResumed:     "the log is read again",
	NoticePolling:     "streams of the log do not work, it is read in intervals",
	NoticeStreaming:   "the log is streamed again",
	NoticeFinal:       "the capture has ended",
	NoticeDropped:     "captured output was dropped",
	NoticeDiskFailed:  "the disk for captured output does not work, trying again",
	NoticeDiskResumed: "the disk for captured output works again",
}

// Notice is something about the capture of a run, or of all, that a person may want to
// know. What is missing of a run's log is said by its [Certificate].
type Notice struct {
	Kind NoticeKind
	// Namespace and Name are the pod's.
	Namespace, Name string
	// Slot, ContainerID and Run are the run's, see [Certificate].
	Slot, ContainerID string
	Run               int
	// Err is the error behind it, where there is one. API errors, and those of the
	// operating system, are reachable with errors.As.
	Err error
}

// String says it in one line, as for a log.
func (n Notice) String() string {
	text := noticeText[n.Kind]
	if n.Slot != "" {
		text = fmt.Sprintf("pod %s/%s, container %q, run %d: %s", n.Namespace, n.Name, n.Slot, n.Run, text)
	}
	if n.Err != nil {
		text += ": " + n.Err.Error()
	}
	return text
}

func (n Notice) isOf(o Notice) bool {
	return n.Namespace == o.Namespace && n.Name == o.Name && n.Slot == o.Slot && n.ContainerID == o.ContainerID
}

// manyNotices is how many wait for a slow Notify before a trouble that is over by then is
// left out, its end with it.
const manyNotices = 1000

// notices hands notices to Options.Notify: in the order in which they were said, one at a
// time, by a goroutine that holds no lock and that nothing waits for but Run's return.
type notices struct {
	notify func(Notice)
	wake   chan struct{}

	mu    sync.Mutex
	queue []Notice
	over  bool // Run has ended
}

func newNotices(notify func(Notice)) *notices {
	return &notices{notify: notify, wake: make(chan struct{}, 1)}
}

// say never blocks.
func (q *notices) say(n Notice) {
	if q.notify == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.over || len(q.queue) >= manyNotices && q.settles(n) {
		return
	}
	q.queue = append(q.queue, n)
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// settles reports whether n adds nothing to what waits: it takes the place of one of its
// kind, or it closes what has not been told yet, which goes with it.
func (q *notices) settles(n Notice) bool {
	for i, o := range slices.Backward(q.queue) {
		switch {
		case !n.isOf(o):
		case o.Kind == n.Kind:
			q.queue[i] = n // what is told last holds
			return true
		case o.Kind == opens[n.Kind]:
			q.queue = slices.Delete(q.queue, i, i+1)
			return true
		case opens[o.Kind] == n.Kind:
			return false // it opens again
		}
	}
	return false
}

// deliver tells until end is closed, and then what is left.
func (q *notices) deliver(end <-chan struct{}) {
	for ended := false; ; {
		q.mu.Lock()
		batch := q.queue
		q.queue, q.over = nil, ended
		q.mu.Unlock()
		for _, n := range batch {
			q.notify(n)
		}
		if ended {
			return
		}
		select {
		case <-q.wake:
		case <-end:
			ended = true
		}
	}
}

// health is what was said of a run's requests; its loop's own.
type health struct {
	failing bool // NoticeFailed is open
	polling bool // NoticePolling is
	broken  bool // a stream broke off, and none was opened since
}

// noteOpened notes that a request was answered with a log.
func (r *run) noteOpened(follow bool) {
	h := &r.health
	if follow && h.broken {
		r.s.counts.resumed.Add(1)
	}
	if h.failing || (follow && h.broken) {
		r.notify(NoticeResumed, nil)
	}
	h.failing = false
	if follow {
		h.broken = false
	}
	if follow && h.polling {
		h.polling = false
		r.notify(NoticeStreaming, nil)
	}
}

// noteRefused notes an answer that was no log. That the container has none, not yet or no
// more, is nothing to worry about.
func (r *run) noteRefused(a kubelog.Answer, err error) {
	switch a {
	case kubelog.NotYet, kubelog.Gone, kubelog.PodGone:
		return
	}
	if !r.health.failing {
		r.health.failing = true
		r.notify(NoticeFailed, err)
	}
}

// noteEnded notes how a stream ended. The node has no inotify instance when it says
// so in the body: until then it looks like any stream.
func (r *run) noteEnded(a kubelog.Answer) {
	h := &r.health
	if a == kubelog.Watchers {
		r.notePolling()
	}
	h.broken = a == kubelog.EOF || a == kubelog.Broken || a == kubelog.Interrupted || a == kubelog.Failed
}

// notePolling notes that the log is polled.
func (r *run) notePolling() {
	if !r.health.polling {
		r.notify(NoticePolling, nil)
	}
	r.health.polling = true
}

// noteFinal notes that the run is final: what was open of it is closed.
func (r *run) noteFinal() {
	if r.health.failing || r.health.polling {
		r.notify(NoticeFinal, nil)
	}
	r.health = health{}
}

func (r *run) notify(kind NoticeKind, err error) {
	r.s.notices.say(Notice{
		Kind: kind, Namespace: r.c.namespace, Name: r.c.name,
		Slot: r.slot, ContainerID: r.id, Run: r.log.number, Err: err,
	})
}
