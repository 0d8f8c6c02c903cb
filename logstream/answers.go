package logstream

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

// answer is what the end of a request means for the run.
type answer int

const (
	answerEOF      answer = iota // a clean end: proves nothing (the apiserver drops the kubelet's errors)
	answerBroken                 // the connection broke: reopen
	answerKicked                 // ended by ourselves, to look again: reopen
	answerNotYet                 // the kubelet does not know the container (yet)
	answerDown                   // kubelet, node or apiserver out of reach
	answerNode                   // the Node object is gone
	answerDenied                 // not allowed: roles that were just bound, and tokens that were just renewed, take seconds
	answerUnserved               // whoever answers serves no logs
	answerPodGone                // the Pod object is gone
	answerGone                   // the container's log is gone from the node
	answerAbsent                 // the runtime does not know the container, or is down
	answerWatchers               // the node is out of inotify instances
	answerFailed                 // the kubelet could not read the log
	answerForeign                // the log of another run
	answerAstray                 // a filtered read that does not join what was captured
)

var answerText = map[answer]string{
	answerEOF: "the stream ended early", answerBroken: "the connection broke", answerKicked: "the stream stalled",
	answerNotYet: "the kubelet does not know the container", answerDown: "the kubelet cannot be reached",
	answerNode: "the node is gone", answerDenied: "reading logs is not allowed", answerPodGone: "the pod was deleted",
	answerUnserved: "the node does not serve logs",
	answerGone:     "the container was removed from its node", answerAbsent: "the container was removed from its node",
	answerWatchers: "the node is out of inotify instances",
	answerFailed:   "the kubelet could not read the log", answerForeign: "the node answered with the log of another run",
	answerAstray: "the log does not continue what was captured",
}

// classify sorts the error of an open or a read. The texts are those of
// kubernetes v1.36.3: pkg/kubelet/kubelet_pods.go:1538-1604,
// pkg/kubelet/server/server.go:833, pkg/kubelet/client/kubelet_client.go:189.
func classify(err error) answer {
	var st apierrors.APIStatus
	if !errors.As(err, &st) {
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return answerKicked
		}
		return answerBroken
	}
	s := st.Status()
	switch {
	case s.Code == http.StatusUnauthorized || s.Code == http.StatusForbidden:
		return answerDenied
	case isUnserved(s):
		return answerUnserved
	case isPage(s.Details):
		return answerDown
	case s.Code == http.StatusNotFound:
		return classifyNotFound(s.Details, s.Message)
	case s.Code == http.StatusUnprocessableEntity:
		return answerNotYet
	case s.Code != http.StatusBadRequest:
		return answerDown
	case strings.HasPrefix(s.Message, "previous terminated container "):
		return answerGone
	}
	// Kubelets to come refuse in the words that these write into the body
	// (kubernetes#142259).
	if a, ok := kubeletText([]byte(s.Message)); ok {
		return a
	}
	return answerNotYet
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

// why says for people why the final read could not be made, in the words of whoever refused
// it where these tell what is to be done.
func (res result) why() string {
	text, words := answerText[res.answer], ""
	if res.err != nil {
		words = ": " + strings.TrimSuffix(res.err.Error(), ".")
	}
	switch res.answer {
	case answerUnserved:
		return text + words
	case answerDenied:
		return text + ", before the log was verified" + words
	}
	return text + ", before the log was verified"
}

// isPage says whether an answer was no Status of an API server's: a proxy before it
// speaks in pages.
func isPage(d *metav1.StatusDetails) bool {
	return d != nil && slices.ContainsFunc(d.Causes, func(c metav1.StatusCause) bool {
		return c.Type == metav1.CauseTypeUnexpectedServerResponse
	})
}

func classifyNotFound(d *metav1.StatusDetails, message string) answer {
	kind := ""
	if d != nil {
		kind = d.Kind
	}
	switch {
	case kind == "nodes" || strings.HasPrefix(message, "nodes "):
		return answerNode
	case kind == "pods" || strings.HasPrefix(message, "pods "):
		return answerPodGone
	}
	return answerNotYet // kind pods/log: a kubelet that restarted has not synced its pods
}

// retryAfter is for how long whoever answered wants to be left alone. It may not say so
// for ever.
func retryAfter(err error) time.Duration {
	seconds, _ := apierrors.SuggestsClientDelay(err)
	return min(time.Duration(seconds)*time.Second, time.Minute)
}

// backoff is how long to wait before the n-th retry in a row, from 1.
func (a answer) backoff(n int) time.Duration {
	first, most := 50*time.Millisecond, 5*time.Second
	switch a {
	case answerBroken, answerKicked, answerAstray, answerWatchers:
		if n == 1 {
			return 0
		}
		n--
	case answerNotYet:
		first, most = 250*time.Millisecond, 2*time.Second
	case answerForeign: // until the run before it is settled
		first, most = 250*time.Millisecond, 500*time.Millisecond
	case answerDenied, answerNode:
		first, most = time.Second, time.Minute
	case answerUnserved:
		most = time.Minute
	}
	return min(first<<min(n-1, 20), most)
}

// patience is how long the final read of a dead container is tried in the face
// of one kind of answer.
func (a answer) patience() time.Duration {
	switch a {
	case answerPodGone, answerGone:
		return 0
	case answerDenied, answerAbsent:
		// A runtime that restarts has the kubelet say of every container that its
		// logs cannot be retrieved (kubernetes v1.36.3
		// pkg/kubelet/kuberuntime/kuberuntime_container.go:1318).
		return 10 * time.Second
	case answerUnserved:
		return 5 * time.Second
	case answerNotYet, answerForeign, answerFailed, answerWatchers, answerAstray:
		return time.Minute
	}
	return 10 * time.Minute
}

// kubeletTexts are the beginnings of what the kubelet writes into a body whose
// headers (HTTP 200) are out already: pkg/kubelet/kuberuntime/kuberuntime_container.go:1322
// and k8s.io/cri-client v0.36.3 pkg/logs/logs.go:294-471 (the same in v0.37.2). None ends in a newline
// and none carries a timestamp; output carries one, whatever its words.
var kubeletTexts = []struct {
	text string
	is   answer
}{
	{"unable to retrieve container logs for ", answerAbsent},
	{"failed to create fsnotify watcher: ", answerWatchers},
	{"failed to watch directory ", answerWatchers},
	{"failed to try resolving symlinks in path ", answerFailed},
	{"failed to open log file ", answerFailed},
	{"failed to get parse function: ", answerFailed},
	{"failed to read log file ", answerFailed},
	{"failed to seek ", answerFailed},
	{"failed to reset seek ", answerFailed},
	{"failed to tail ", answerFailed},
	{"failed to get container status ", answerFailed},
	{"failed with err ", answerFailed},
	{"failed parsing log ", answerFailed},
	{"rpc error: code = NotFound ", answerGone},
	{"rpc error: code = Unimplemented ", answerUnserved},
	{"rpc error: code = ", answerFailed},
	{"container status is nil", answerFailed},
	{"fsnotify: ", answerFailed},
	{"context canceled", answerFailed},
	{"context cancelled", answerFailed},
	{"an error occurred when try to find container ", answerGone},
}

// kubeletText says whether an unterminated last line is the kubelet's own.
func kubeletText(line []byte) (answer, bool) {
	for _, k := range kubeletTexts {
		if bytes.HasPrefix(line, []byte(k.text)) {
			return k.is, true
		}
	}
	return answerEOF, false
}

// kubeletTail looks for the kubelet's words glued to the half of a line.
func kubeletTail(line []byte) (answer, bool) {
	for _, k := range kubeletTexts {
		if i := bytes.LastIndex(line, []byte(k.text)); i >= 0 {
			return kubeletText(line[i:])
		}
	}
	return answerEOF, false
}

// kubeletTorn says whether line ends in the beginning of the kubelet's words: what ends
// the kubelet may end its words, too. Two letters are no sign, unless they are all there is.
func kubeletTorn(line []byte) bool {
	for _, k := range kubeletTexts {
		for n := min(len(line), len(k.text)-1); n >= min(3, len(line)) && n > 0; n-- {
			if string(line[len(line)-n:]) == k.text[:n] {
				return true
			}
		}
	}
	return false
}
