package podwatch

import "strings"

// What Notice.Resource says.
const (
	podResource   = "pods"
	eventResource = "events"
)

// NoticeKind tells notices apart. A notice of trouble is closed by another one, of
// the same Resource, Namespace and Name:
//
//	NoticeStale                                              NoticeFresh
//	NoticeForbidden                                          NoticeGranted
//	NoticeCoalesced, NoticeDropped                           NoticeCaughtUp
//	NoticeUnclaimed, NoticeOutOfScope, NoticeUnconfirmed     NoticeSettled
//
// Where one pod has several trackings each of them opens and closes its own. What is
// open when Run ends stays open. The other kinds tell of one moment.
type NoticeKind string

const (
	// NoticeRelist: a full list was needed again; Err says why, where known.
	// States that pods went through meanwhile may have been missed.
	NoticeRelist NoticeKind = "relist"
	// NoticeExpired: the API server no longer has the history to resume from
	// (410). A relist follows.
	NoticeExpired NoticeKind = "expired"
	// NoticeForbidden: the API server refuses (401, 403) to list or watch Resource, or,
	// where a pod is named, to get pods. It is said once, until such a request succeeds.
	NoticeForbidden NoticeKind = "forbidden"
	// NoticeGranted: a request as NoticeForbidden told of has succeeded.
	NoticeGranted NoticeKind = "granted"
	// NoticeStale: the list or watch of Resource has lost contact; Err says why.
	NoticeStale NoticeKind = "stale"
	// NoticeFresh: the list or watch of Resource has contact again.
	NoticeFresh NoticeKind = "fresh"
	// NoticeCoalesced: a handler of the pod is slow, and versions were replaced by
	// newer ones before it took them. It is said once, until the handler has caught up.
	NoticeCoalesced NoticeKind = "coalesced"
	// NoticeDropped: a handler of the pod is so slow that its oldest Events were
	// dropped. It is said once, until the handler has caught up.
	NoticeDropped NoticeKind = "dropped"
	// NoticeCaughtUp: the slow handlers of the pod have taken all that waited.
	NoticeCaughtUp NoticeKind = "caught-up"
	// NoticeUnclaimed: for 30 s a pod has had the name of a tracking of [Watcher.Track],
	// and [Tracking.Created] has not said whether that pod is the tracking's. The
	// handlers hear of no pod. Err names its UID.
	NoticeUnclaimed NoticeKind = "unclaimed"
	// NoticeOutOfScope: a tracked pod left the selector, or was never in it.
	NoticeOutOfScope NoticeKind = "out-of-scope"
	// NoticeUnconfirmed: a live GET failed; it is tried again. Err says why.
	NoticeUnconfirmed NoticeKind = "unconfirmed"
	// NoticeSettled: what NoticeUnclaimed, NoticeOutOfScope or NoticeUnconfirmed last said
	// of the pod no longer holds: Created was called, the pod is in the scope again, the
	// live GET was answered, the pod is gone, or the tracking was closed.
	NoticeSettled NoticeKind = "settled"
	// NoticeMismatch: Created was given a pod of another name and ignored it.
	NoticeMismatch NoticeKind = "mismatch"
)

// Notice is something about the watch that a person may want to know.
type Notice struct {
	Kind NoticeKind
	// Resource is "pods" or "events".
	Resource string
	// Namespace and Name are those of the pod that it is about; empty when it is
	// about the watch as a whole.
	Namespace, Name string
	// Err is the error behind it, where there is one. API errors are reachable
	// with errors.As.
	Err error
}

var noticeText = map[NoticeKind]string{
	NoticeRelist:      "a full list was needed again",
	NoticeExpired:     "the API server no longer has the history to resume from",
	NoticeForbidden:   "the API server refuses the request",
	NoticeGranted:     "the API server permits the request again",
	NoticeStale:       "lost contact with the API server, trying again",
	NoticeFresh:       "in contact again with the API server",
	NoticeCoalesced:   "a handler is slow: versions were replaced by newer ones",
	NoticeDropped:     "a handler is slow: its oldest Events were dropped",
	NoticeCaughtUp:    "the slow handlers have taken all that waited",
	NoticeUnclaimed:   "Created has not said whether it is the one that is tracked",
	NoticeOutOfScope:  "it is out of the scope of the watch",
	NoticeUnconfirmed: "a live GET failed, trying again",
	NoticeSettled:     "what was said of it holds no longer",
	NoticeMismatch:    "Created was given a pod of another name",
}

// String says it in one line, as for a log.
func (n Notice) String() string {
	subject := "watch of " + n.Resource
	if n.Name != "" {
		subject = "pod " + n.Namespace + "/" + n.Name
	}
	text := subject + ": " + noticeText[n.Kind]
	if n.Err != nil {
		text += ": " + strings.Join(strings.Fields(n.Err.Error()), " ")
	}
	return text
}
