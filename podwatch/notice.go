package podwatch

import "strings"

// What Notice.Resource says.
const (
	podResource   = "pods"
	eventResource = "events"
)

// NoticeKind tells notices apart. Those that say that something is amiss are
// closed by another one:
//
//	NoticeStale                                              NoticeFresh
//	NoticeForbidden                                          NoticeGranted
//	NoticeCoalesced, NoticeDropped                           NoticeCaughtUp
//	NoticeUnclaimed, NoticeOutOfScope, NoticeUnconfirmed     NoticeSettled
//
// of the same Resource, Namespace and Name (and, where one pod has several
// trackings, in equal numbers); what is open when Run ends ends with it. The other
// kinds tell of one moment.
type NoticeKind string

const (
	// NoticeRelist: a full list was needed again; Err says why, where known.
	// States that pods went through meanwhile may have been missed.
	NoticeRelist NoticeKind = "relist"
	// NoticeExpired: the API server no longer has the history to resume from
	// (410). A relist follows.
	NoticeExpired NoticeKind = "expired"
	// NoticeForbidden: the API server refuses a request (401, 403): the list or
	// watch of Resource, or, where a pod is named, the live GETs of pods. Said once
	// until one succeeds.
	NoticeForbidden NoticeKind = "forbidden"
	// NoticeGranted: what NoticeForbidden said is over: such a request succeeded.
	NoticeGranted NoticeKind = "granted"
	// NoticeStale: the list or watch of Resource has lost contact; Err says why.
	NoticeStale NoticeKind = "stale"
	// NoticeFresh: the list or watch of Resource has contact again.
	NoticeFresh NoticeKind = "fresh"
	// NoticeCoalesced: a handler of the pod is slow, versions were replaced by
	// newer ones before it took them. Said once until it has caught up.
	NoticeCoalesced NoticeKind = "coalesced"
	// NoticeDropped: a handler of the pod is so slow that its oldest Events were
	// dropped. Said once until it has caught up.
	NoticeDropped NoticeKind = "dropped"
	// NoticeCaughtUp: the slow handlers of the pod have taken all that waited.
	NoticeCaughtUp NoticeKind = "caught-up"
	// NoticeUnclaimed: a pod of the name that a tracking of [Watcher.Track] has
	// been there for 30 s, and [Tracking.Created] has not said whether it is the
	// tracking's: the handlers hear of none. Err names its UID.
	NoticeUnclaimed NoticeKind = "unclaimed"
	// NoticeOutOfScope: a tracked pod left the selector, or was never in it.
	NoticeOutOfScope NoticeKind = "out-of-scope"
	// NoticeUnconfirmed: a live GET failed; it is tried again. Err says why.
	NoticeUnconfirmed NoticeKind = "unconfirmed"
	// NoticeSettled: what was last said of the pod by NoticeUnclaimed,
	// NoticeOutOfScope or NoticeUnconfirmed holds no longer: somebody said which pod
	// it is, it is in the scope again, it was asked about, it is gone, or it is
	// tracked no more.
	NoticeSettled NoticeKind = "settled"
	// NoticeMismatch: Created was given a pod of another name; it was ignored.
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
