package logstream

// NoticeKind tells notices apart.
type NoticeKind string

const (
	// NoticeFailed: a request for the log was refused or could not be made; Err says
	// why. It is tried again. Said once until one succeeds.
	NoticeFailed NoticeKind = "failed"
	// NoticeResumed: the log is read again, after a NoticeFailed or after its stream
	// broke off while the container ran.
	NoticeResumed NoticeKind = "resumed"
	// NoticePolling: the node has no inotify instance left for a stream, or something on
	// the way holds streams back, so the log is read in intervals. Said once until a stream
	// is open again.
	NoticePolling NoticeKind = "polling"
)

// Notice is something about the capture of a run that a person may want to know. What
// is missing of its log is said by the run's [Certificate].
type Notice struct {
	Kind NoticeKind
	// Namespace and Name are the pod's.
	Namespace, Name string
	// Slot, ContainerID and Run are the run's, see [Certificate].
	Slot, ContainerID string
	Run               int
	// Err is the error behind it, where there is one. API errors are reachable with
	// errors.As.
	Err error
}

// health is what was said of a run's requests; its loop's own.
type health struct {
	failing bool // NoticeFailed was said
	polling bool // NoticePolling was said
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
}

// noteRefused notes an answer that was no log. That the container has none, not yet or no
// more, is nothing to worry about.
func (r *run) noteRefused(a answer, err error) {
	switch a {
	case answerNotYet, answerGone, answerPodGone:
		return
	}
	if !r.health.failing {
		r.health.failing = true
		r.notify(NoticeFailed, err)
	}
}

// noteEnded notes how a stream ended. The node has no inotify instance when it says
// so in the body: until then it looks like any stream.
func (r *run) noteEnded(a answer) {
	h := &r.health
	if a == answerWatchers {
		r.notePolling()
	}
	h.polling = a == answerWatchers
	h.broken = a == answerEOF || a == answerBroken || a == answerKicked || a == answerFailed
}

// notePolling notes that the log is polled.
func (r *run) notePolling() {
	if !r.health.polling {
		r.notify(NoticePolling, nil)
	}
	r.health.polling = true
}

func (r *run) notify(kind NoticeKind, err error) {
	if r.s.opt.Notify != nil {
		r.s.opt.Notify(Notice{
			Kind: kind, Namespace: r.c.namespace, Name: r.c.name,
			Slot: r.slot, ContainerID: r.id, Run: r.log.number, Err: err,
		})
	}
}
