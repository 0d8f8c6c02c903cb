// Package kubelog asks the API server for a container's log: a request in Kubernetes' terms,
// its connections, and what its answers mean.
package kubelog

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Answer is what the end of a request means for the run.
type Answer int

const (
	EOF         Answer = iota // a clean end: proves nothing (the apiserver drops the kubelet's errors)
	Broken                    // the connection broke: reopen
	Interrupted               // ended by ourselves, to look again: reopen
	NotYet                    // the kubelet does not know the container (yet)
	Down                      // kubelet, node or apiserver out of reach
	Node                      // the Node object is gone
	Denied                    // not allowed: roles that were just bound, and tokens that were just renewed, take seconds
	Unserved                  // whoever answers serves no logs
	PodGone                   // the Pod object is gone
	Gone                      // the container's log is gone from the node
	Absent                    // the runtime does not know the container, or is down
	Watchers                  // the node is out of inotify instances
	Failed                    // the kubelet could not read the log

	// These two are not of the answer itself: who reads the log finds them in it.

	Foreign // the log of another run
	Astray  // a filtered read that does not join what was captured
)

var text = map[Answer]string{
	EOF: "the stream ended early", Broken: "the connection broke", Interrupted: "the stream stalled",
	NotYet: "the kubelet does not know the container", Down: "the kubelet cannot be reached",
	Node: "the node is gone", Denied: "reading logs is not allowed", PodGone: "the pod was deleted",
	Unserved: "the node does not serve logs",
	Gone:     "the container was removed from its node", Absent: "the container was removed from its node",
	Watchers: "the node is out of inotify instances",
	Failed:   "the kubelet could not read the log", Foreign: "the node answered with the log of another run",
	Astray: "the log does not continue what was captured",
}

// String says for people what became of the log.
func (a Answer) String() string { return text[a] }

// Refusal is a request that brought no log.
type Refusal struct {
	Answer
	RetryAfter time.Duration // not to ask again before; 0: whoever answered does not say
	Err        error         // what was answered
}

// Refuse sorts the error of a request.
func Refuse(err error) Refusal { return Refusal{classify(err), retryAfter(err), err} }

// classify sorts the error of a request or of a read. The texts are those of
// kubernetes v1.36.3: pkg/kubelet/kubelet_pods.go:1538-1604,
// pkg/kubelet/server/server.go:833, pkg/kubelet/client/kubelet_client.go:189.
func classify(err error) Answer {
	var st apierrors.APIStatus
	if !errors.As(err, &st) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return Interrupted
		}
		return Broken
	}
	s := st.Status()
	switch {
	case s.Code == http.StatusUnauthorized || s.Code == http.StatusForbidden:
		return Denied
	case isUnserved(s):
		return Unserved
	case isPage(s.Details):
		return Down
	case s.Code == http.StatusNotFound:
		return classifyNotFound(s.Details, s.Message)
	case s.Code == http.StatusUnprocessableEntity:
		return NotYet
	case s.Code != http.StatusBadRequest:
		return Down
	case strings.HasPrefix(s.Message, "previous terminated container "):
		return Gone
	}
	// Kubelets to come refuse in the words that these write into the body
	// (kubernetes#142259).
	if a, ok := Words([]byte(s.Message)); ok {
		return a
	}
	return NotYet
}

// isUnserved reports whether an answer will be the same however often the log is asked for.
//
//   - 405 and 501 say that the server cannot do this at all, whoever it is: a virtual kubelet
//     without logs (virtual-kubelet v1.11.0 node/api/server.go:204), kwok without a place for
//     them (v0.6.1 pkg/kwok/server/server.go:423); 505 likewise.
//   - Of the other 4xx, those that blame the request itself. What we ask for does not change.
//     From a proxy's page they say less: its configuration may be in the making.
//   - A virtual kubelet's other refusals are 500 with its own words (node/api/helpers.go:74),
//     which the API server passes on behind its own (k8s.io/apiserver v0.37.2
//     pkg/registry/generic/rest/response_checker.go:53); what kept the API server from
//     reaching a kubelet has no such beginning.
//
// 401, 403, 404, 400 and 422 have rules of their own; 408, 409, 421, 423, 425 and 429 pass.
func isUnserved(s metav1.Status) bool {
	switch s.Code {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusHTTPVersionNotSupported:
		return true
	case http.StatusPaymentRequired, http.StatusNotAcceptable, http.StatusGone, http.StatusLengthRequired,
		http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusRequestURITooLong,
		http.StatusUnsupportedMediaType, http.StatusRequestedRangeNotSatisfiable, http.StatusExpectationFailed,
		http.StatusRequestHeaderFieldsTooLarge, http.StatusUnavailableForLegalReasons:
		return !isPage(s.Details)
	case http.StatusInternalServerError:
		words, ofNode := strings.CutPrefix(s.Message, "Internal error occurred: ")
		return ofNode && noLogs.MatchString(words)
	}
	return false
}

// noLogs are the words, and gRPC's code, of those who serve no logs.
var noLogs = regexp.MustCompile(`(?i)\b(not (yet )?(implemented|supported)|unimplemented|unsupported|does not support)\b`)

// isPage says whether an answer was no Status of an API server's: a proxy before it
// speaks in pages.
func isPage(d *metav1.StatusDetails) bool {
	return d != nil && slices.ContainsFunc(d.Causes, func(c metav1.StatusCause) bool {
		return c.Type == metav1.CauseTypeUnexpectedServerResponse
	})
}

func classifyNotFound(d *metav1.StatusDetails, message string) Answer {
	kind := ""
	if d != nil {
		kind = d.Kind
	}
	switch {
	case kind == "nodes" || strings.HasPrefix(message, "nodes "):
		return Node
	case kind == "pods" || strings.HasPrefix(message, "pods "):
		return PodGone
	}
	return NotYet // kind pods/log: a kubelet that restarted has not synced its pods
}

// retryAfter is for how long whoever answered wants to be left alone. It may not say so
// for ever.
func retryAfter(err error) time.Duration {
	seconds, _ := apierrors.SuggestsClientDelay(err)
	return min(time.Duration(seconds)*time.Second, time.Minute)
}

// Backoff is how long to wait before the n-th retry in a row, from 1.
func (a Answer) Backoff(n int) time.Duration {
	first, most := 50*time.Millisecond, 5*time.Second
	switch a {
	case Broken, Interrupted, Astray, Watchers:
		if n == 1 {
			return 0
		}
		n--
	case NotYet:
		first, most = 250*time.Millisecond, 2*time.Second
	case Foreign: // until the run before it is settled
		first, most = 250*time.Millisecond, 500*time.Millisecond
	case Denied, Node:
		first, most = time.Second, time.Minute
	case Unserved:
		most = time.Minute
	}
	return min(first<<min(n-1, 20), most)
}

// Patience is how long the final read of a dead container is tried in the face
// of one kind of answer.
func (a Answer) Patience() time.Duration {
	switch a {
	case PodGone, Gone:
		return 0
	case Denied, Absent:
		// A runtime that restarts has the kubelet say of every container that its
		// logs cannot be retrieved (kubernetes v1.36.3
		// pkg/kubelet/kuberuntime/kuberuntime_container.go:1318).
		return 10 * time.Second
	case Unserved:
		return 5 * time.Second
	case NotYet, Foreign, Failed, Watchers, Astray:
		return time.Minute
	}
	return 10 * time.Minute
}

// Texts are the beginnings of what the kubelet writes into a body whose
// headers (HTTP 200) are out already: pkg/kubelet/kuberuntime/kuberuntime_container.go:1322
// and k8s.io/cri-client v0.36.3 pkg/logs/logs.go:294-471 (the same in v0.37.2). None ends in a newline
// and none carries a timestamp; output carries one, whatever its words.
var Texts = []struct {
	Text string
	Is   Answer
}{
	{"unable to retrieve container logs for ", Absent},
	{"failed to create fsnotify watcher: ", Watchers},
	{"failed to watch directory ", Watchers},
	{"failed to try resolving symlinks in path ", Failed},
	{"failed to open log file ", Failed},
	{"failed to get parse function: ", Failed},
	{"failed to read log file ", Failed},
	{"failed to seek ", Failed},
	{"failed to reset seek ", Failed},
	{"failed to tail ", Failed},
	{"failed to get container status ", Failed},
	{"failed with err ", Failed},
	{"failed parsing log ", Failed},
	{"rpc error: code = NotFound ", Gone},
	{"rpc error: code = Unimplemented ", Unserved},
	{"rpc error: code = ", Failed},
	{"container status is nil", Failed},
	{"fsnotify: ", Failed},
	{"context canceled", Failed},
	{"context cancelled", Failed},
	{"an error occurred when try to find container ", Gone},
}

// Words reports whether an unterminated last line is the kubelet's own, and what it means.
func Words(line []byte) (Answer, bool) {
	for _, k := range Texts {
		if bytes.HasPrefix(line, []byte(k.Text)) {
			return k.Is, true
		}
	}
	return EOF, false
}

// WordsAtEnd looks for the kubelet's words glued to the half of a line.
func WordsAtEnd(line []byte) (Answer, bool) {
	for _, k := range Texts {
		if i := bytes.LastIndex(line, []byte(k.Text)); i >= 0 {
			return Words(line[i:])
		}
	}
	return EOF, false
}

// TornWords reports whether line ends in the beginning of the kubelet's words: what ends
// the kubelet may end its words, too. Two letters are no sign, unless they are all there is.
func TornWords(line []byte) bool {
	for _, k := range Texts {
		for n := min(len(line), len(k.Text)-1); n >= min(3, len(line)) && n > 0; n-- {
			if string(line[len(line)-n:]) == k.Text[:n] {
				return true
			}
		}
	}
	return false
}
