package logstream

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/go-vela/podlife/logstream/internal/kubelog"
)

// A row is an answer to a request for a log that is no log.
type row struct {
	is    func() *http.Response
	why   string        // what a certificate says when nothing better comes
	gone  bool          // it is believed at once
	final bool          // it is when it answers a final read
	most  time.Duration // else this long it is waited for something better
}

func apiStatus(code int32, kind, message string) func() *http.Response {
	return func() *http.Response {
		s := metav1.Status{Code: code, Message: message}
		if code == http.StatusNotFound {
			s.Reason, s.Details = metav1.StatusReasonNotFound, &metav1.StatusDetails{Kind: kind, Name: "p"}
		}
		return status(s)
	}
}

func anyPage(code int, contentType, body string) func() *http.Response {
	return func() *http.Response { return page(code, contentType, body) }
}

const (
	htmlPage   = "<html><body>502 Bad Gateway</body></html>\n"
	notKnown   = "the kubelet does not know the container"
	unreached  = "the kubelet cannot be reached"
	notAllowed = "reading logs is not allowed"
	notRead    = "the kubelet could not read the log"
	removed    = "the container was removed from its node"

	noLogsServed = "the node does not serve logs"
)

// rows are the outcomes of a request, by facts of Kubernetes v1.36.3 (and v1.37.2).
func rows() map[string]row {
	dial := `Get "https://10.0.0.1:10250/containerLogs/n/p/a": `
	container := `container "a" in pod "p" `
	all := map[string]row{
		// pkg/registry/core/pod/strategy.go:607-629, 833-855; pkg/kubelet/client/kubelet_client.go:189
		"the pod is not scheduled":      {is: anyPage(http.StatusNoContent, "", ""), why: notKnown, most: time.Minute},
		"no such pod":                   {is: apiStatus(404, "pods", `pods "p" not found`), why: "the pod was deleted", gone: true, final: true},
		"no such node":                  {is: apiStatus(404, "nodes", `nodes "x" not found`), why: "the node is gone", most: 10 * time.Minute},
		"a kubelet that has not synced": {is: apiStatus(404, "pods/log", "the server could not find the requested resource ( pods/log p)"), why: notKnown, most: time.Minute},
		"no container named":            {is: apiStatus(400, "", "a container name must be specified for pod p, choose one of: [a b]"), why: notKnown, most: time.Minute},
		"a container of another pod":    {is: apiStatus(400, "", "container a is not valid for pod p"), why: notKnown, most: time.Minute},
		"invalid":                       {is: apiStatus(422, "", `PodLogOptions.corev1 "" is invalid`), why: notKnown, most: time.Minute},
		// pkg/kubelet/kubelet_pods.go:1538-1604
		"no status":           {is: apiStatus(400, "", container+"is not available"), why: notKnown, most: time.Minute},
		"creating":            {is: apiStatus(400, "", container+"is waiting to start: ContainerCreating"), why: notKnown, most: time.Minute},
		"initializing":        {is: apiStatus(400, "", container+"is waiting to start: PodInitializing"), why: notKnown, most: time.Minute},
		"pull failed":         {is: apiStatus(400, "", container+"is waiting to start: image can't be pulled"), why: notKnown, most: time.Minute},
		"pull backs off":      {is: apiStatus(400, "", container+"is waiting to start: trying and failing to pull image"), why: notKnown, most: time.Minute},
		"no logs yet":         {is: apiStatus(400, "", container+"is waiting to start - no logs yet"), why: notKnown, most: time.Minute},
		"terminated, no ID":   {is: apiStatus(400, "", container+"is terminated"), why: notKnown, most: time.Minute},
		"no previous":         {is: apiStatus(400, "", "previous terminated "+container+"not found"), why: removed, final: true},
		"a lookup that raced": {is: apiStatus(400, "", `pod "p" cannot be found - no logs available`), why: notKnown, most: time.Minute},
		// k8s.io/apiserver pkg/registry/generic/rest/streamer.go:89
		"connection refused":  {is: apiStatus(500, "", dial+"dial tcp 10.0.0.1:10250: connect: connection refused"), why: unreached, most: 10 * time.Minute},
		"i/o timeout":         {is: apiStatus(500, "", dial+"dial tcp 10.0.0.1:10250: i/o timeout"), why: unreached, most: 10 * time.Minute},
		"no kubelet cert":     {is: apiStatus(500, "", dial+"remote error: tls: internal error"), why: unreached, most: 10 * time.Minute},
		"forbidden":           {is: apiStatus(403, "", `pods "p" is forbidden: no`), why: notAllowed, most: 10 * time.Second},
		"unauthorized":        {is: apiStatus(401, "", "Unauthorized"), why: notAllowed, most: 10 * time.Second},
		"too many requests":   {is: apiStatus(429, "", "too many requests"), why: unreached, most: 10 * time.Minute},
		"service unavailable": {is: apiStatus(503, "", "etcdserver: leader changed"), why: unreached, most: 10 * time.Minute},
		// Others' 500s, and what passes by its nature.
		"a virtual kubelet's trouble": {is: apiStatus(500, "", "Internal error occurred: context deadline exceeded"), why: unreached, most: 10 * time.Minute},
		"a dial in such words":        {is: apiStatus(500, "", dial+"tls: unsupported protocol version"), why: unreached, most: 10 * time.Minute},
		"request timeout":             {is: apiStatus(408, "", "timeout"), why: unreached, most: 10 * time.Minute},
		"conflict":                    {is: apiStatus(409, "", "the server reported a conflict"), why: unreached, most: 10 * time.Minute},
		"misdirected":                 {is: apiStatus(421, "", "misdirected request"), why: unreached, most: 10 * time.Minute},
		"too early":                   {is: apiStatus(425, "", "too early"), why: unreached, most: 10 * time.Minute},
		"bad gateway":                 {is: apiStatus(502, "", "bad gateway"), why: unreached, most: 10 * time.Minute},
		"gateway timeout":             {is: apiStatus(504, "", "the server was unable to return a response in the time allotted"), why: unreached, most: 10 * time.Minute},
		"no room":                     {is: apiStatus(507, "", "insufficient storage"), why: unreached, most: 10 * time.Minute},
		// Whatever stands before an API server.
		"a proxy's 413":         {is: anyPage(413, "text/html", "<html>too large</html>"), why: unreached, most: 10 * time.Minute},
		"a proxy's 404":         {is: anyPage(404, "text/html", "<html>default backend</html>"), why: unreached, most: 10 * time.Minute},
		"a proxy's plain 404":   {is: anyPage(404, "text/plain", "404 page not found\n"), why: unreached, most: 10 * time.Minute},
		"a proxy's 400":         {is: anyPage(400, "text/html", "<html>previous terminated container</html>"), why: unreached, most: 10 * time.Minute},
		"a proxy's 502":         {is: anyPage(502, "text/html", htmlPage), why: unreached, most: 10 * time.Minute},
		"a proxy's 504":         {is: anyPage(504, "", "upstream request timeout"), why: unreached, most: 10 * time.Minute},
		"a proxy's login":       {is: anyPage(200, "text/html; charset=utf-8", "<html>Sign in</html>\n"), why: unreached, most: 10 * time.Minute},
		"a proxy's 429":         {is: func() *http.Response { return comeBack(7, page(429, "text/plain", "slow down")) }, why: unreached, most: 10 * time.Minute},
		"a proxy's 503 for 1 h": {is: func() *http.Response { return comeBack(3600, page(503, "text/html", htmlPage)) }, why: unreached, most: 11 * time.Minute},
	}
	for name, is := range unserved() {
		all[name] = row{is: is, why: noLogsServed, most: 5 * time.Second}
	}
	for _, k := range kubelog.Texts {
		for how, answer := range map[string]func() *http.Response{
			"body":    anyPage(200, "text/plain", k.Text+`"x": too many open files`),
			"refusal": apiStatus(400, "", k.Text+`"x": too many open files`), // kubernetes#142259
		} {
			r := row{is: answer, why: k.Is.String(), most: time.Minute}
			switch k.Is {
			case kubelog.Gone:
				r.final, r.most = true, 0
			case kubelog.Unserved:
				r.most = 5 * time.Second
			case kubelog.Absent: // or a runtime that is being restarted
				r.most = 10 * time.Second
			}
			all[fmt.Sprintf("%q, in a %s", k.Text, how)] = r
		}
	}
	notFound := `rpc error: code = NotFound desc = an error occurred when try to find container "x": not found`
	all["NotFound, in a body"] = row{is: anyPage(200, "text/plain", notFound), why: removed, final: true}
	all["NotFound, in a refusal"] = row{is: apiStatus(400, "", notFound), why: removed, final: true}
	unavailable := "rpc error: code = Unavailable desc = NotFound is not what it is"
	all["Unavailable, in a body"] = row{is: anyPage(200, "text/plain", unavailable), why: notRead, most: time.Minute}
	all["Unavailable, in a refusal"] = row{is: apiStatus(400, "", unavailable), why: notRead, most: time.Minute}
	return all
}

// unserved are the answers of those who serve no logs.
func unserved() map[string]func() *http.Response {
	node := func(code int, words string) func() *http.Response { // as the API server passes it on
		e := apierrors.NewGenericServerResponse(code, "get", schema.GroupResource{Resource: "pods/log"}, "p", words, 0, false)
		return func() *http.Response { return status(e.ErrStatus) }
	}
	internal := func(words string) func() *http.Response {
		return apiStatus(500, "", "Internal error occurred: "+words)
	}
	return map[string]func() *http.Response{
		"a virtual kubelet's 501":          node(501, "501 not implemented"),
		"a node's 405":                     node(405, "Method Not Allowed"),
		"a node's 505":                     node(505, "HTTP Version Not Supported"),
		"a node's 410":                     node(410, "gone"),
		"a node's 406":                     node(406, "unknown"),
		"a node's 415":                     node(415, "unsupported media type"),
		"a page of 501":                    anyPage(501, "text/plain; charset=utf-8", "501 not implemented\n"),
		"a page of 405":                    anyPage(405, "text/html", "<html>405 Not Allowed</html>"),
		"an API server's 405":              apiStatus(405, "", "the server does not allow this method on the requested resource"),
		"a provider's words":               internal("not implemented"),
		"a provider's other words":         internal("GetContainerLogs is not supported by this provider"),
		"a provider's gRPC code":           internal("rpc error: code = Unimplemented desc = unknown method GetContainerLogs"),
		"a provider's third words":         internal("Container logs are Unsupported on this node"),
		"a kubelet's gRPC code, in a body": anyPage(200, "text/plain", "rpc error: code = Unimplemented desc = unknown service"),
	}
}

// Of 501 to every request, as of a virtual kubelet without logs, nobody waits ten minutes
// for another answer.
func TestWhoServesNoLogsIsBelievedWithinSecondsInItsOwnWords(t *testing.T) {
	for name, is := range unserved() {
		t.Run(name, func(t *testing.T) {
			inFront(t, func(int, *corev1.PodLogOptions) *http.Response { return is() }, func(b *bench, c Certificate, took time.Duration) {
				if c.Proof != Incomplete || !strings.HasPrefix(c.Why, noLogsServed) || took > 12*time.Second {
					t.Errorf("certificate %+v after %s", c, took)
				}
				if resp := is(); resp.StatusCode != http.StatusOK && len(c.Why) < len(noLogsServed)+10 {
					t.Errorf("%q does not say what was answered", c.Why)
				}
				start := time.Now()
				text, err := b.readAll("a", ReadOptions{})
				var inc *IncompleteError
				if text != "" || !errors.As(err, &inc) || inc.Why != c.Why || time.Since(start) > time.Second {
					t.Errorf("read %q, %v", text, err)
				}
			})
		})
	}
}

// What others answered before is no sign that a refusal lasts.
func TestARefusalIsBelievedWhenItLastsWhateverWasAnsweredBefore(t *testing.T) {
	for name, refusal := range map[string]func() *http.Response{
		"denied":   apiStatus(403, "", "no"),
		"unserved": anyPage(501, "text/plain", "501 not implemented\n"),
	} {
		t.Run(name, func(t *testing.T) {
			var since time.Time
			inFront(t, func(_ int, o *corev1.PodLogOptions) *http.Response {
				if o.Follow || o.TailLines != nil {
					return nil
				}
				if since.IsZero() {
					since = time.Now()
				}
				switch at := time.Since(since); {
				case at < time.Minute:
					return rows()["connection refused"].is()
				case at < time.Minute+4*time.Second:
					return refusal()
				}
				return nil
			}, func(b *bench, c Certificate, _ time.Duration) {
				if c.Proof != Verified {
					t.Errorf("certificate %+v", c)
				}
			})
		})
	}
}

// inFront plays a run of three lines, some requests for which are answered otherwise.
func inFront(t *testing.T, answer func(k int, o *corev1.PodLogOptions) *http.Response, check func(b *bench, c Certificate, took time.Duration)) {
	t.Helper()
	f := &front{answer: answer}
	inBubbleBy(t, func(n *node) Opener { f.n = n; return f.opener() }, Options{}, nil, func(b *bench) {
		b.n.start("a", "a1")
		b.c.Handle(b.p.running("a", "a1"))
		b.n.print("a", "one", "two")
		time.Sleep(30 * time.Second)
		b.n.print("a", "three")
		b.n.exit("a")
		time.Sleep(time.Second)
		b.c.Handle(b.p.ended("a", "a1"))
		start := time.Now()
		cert := b.drain()[0]
		check(b, cert, time.Since(start))
	})
}

func TestAnAnswerThatIsNoLogIsNeverOutputAndIsWaitedOutWhileTheRunGoesOn(t *testing.T) {
	for name, r := range rows() {
		t.Run(name, func(t *testing.T) {
			inFront(t, func(k int, _ *corev1.PodLogOptions) *http.Response {
				if k > 3 {
					return nil
				}
				return r.is()
			}, func(b *bench, c Certificate, _ time.Duration) {
				if (c.Proof == Verified) == r.gone {
					t.Errorf("certificate %+v", c)
				}
				if text, _ := b.readAll("a", ReadOptions{}); !r.gone && text != "one\ntwo\nthree\n" || r.gone && text != "" {
					t.Errorf("read %q", text)
				}
			})
		})
	}
}

func TestAnAnswerToAFinalReadThatIsNoLogIsWaitedOutOrBelieved(t *testing.T) {
	for name, r := range rows() {
		t.Run(name, func(t *testing.T) {
			finals := 0
			inFront(t, func(_ int, o *corev1.PodLogOptions) *http.Response {
				if o.Follow || o.TailLines != nil {
					return nil
				}
				if finals++; finals > 2 {
					return nil
				}
				return r.is()
			}, func(b *bench, c Certificate, took time.Duration) {
				if (c.Proof == Verified) == r.final || took > 3*time.Minute {
					t.Errorf("certificate %+v after %s", c, took)
				}
				if text, _ := b.readAll("a", ReadOptions{}); text != "one\ntwo\nthree\n" {
					t.Errorf("read %q", text)
				}
			})
		})
	}
}

func TestAFinalReadThatAlwaysFailsIsGivenUpInTimeWithTheReason(t *testing.T) {
	for name, r := range rows() {
		t.Run(name, func(t *testing.T) {
			asked := 0
			inFront(t, func(_ int, o *corev1.PodLogOptions) *http.Response {
				if o.Follow || o.TailLines != nil {
					return nil
				}
				asked++
				return r.is()
			}, func(b *bench, c Certificate, took time.Duration) {
				if c.Proof != Incomplete || !strings.HasPrefix(c.Why, r.why) || len(c.Gaps) != 1 {
					t.Errorf("certificate %+v, want %s", c, r.why)
				}
				if took > r.most+90*time.Second || took < r.most/2 || asked > 400 {
					t.Errorf("given up after %s, %d requests", took, asked)
				}
				if text, _ := b.readAll("a", ReadOptions{}); text != "one\ntwo\nthree\n" {
					t.Errorf("read %q", text)
				}
			})
		})
	}
}

func TestWhoeverWantsToBeLeftAloneForAWhileIs(t *testing.T) {
	for name, follow := range map[string]bool{"a stream": true, "a final read": false} {
		t.Run(name, func(t *testing.T) {
			var last time.Time
			times := 0
			inFront(t, func(_ int, o *corev1.PodLogOptions) *http.Response {
				if o.Follow != follow || o.TailLines != nil || times == 3 {
					return nil
				}
				if d := time.Since(last); d < 7*time.Second {
					t.Errorf("asked again after %s", d)
				}
				last = time.Now()
				times++
				return comeBack(7, page(429, "text/plain", "slow down"))
			}, func(b *bench, c Certificate, _ time.Duration) {
				if c.Proof != Verified || times != 3 {
					t.Errorf("%d times, certificate %+v", times, c)
				}
			})
		})
	}
}

// A run of which nothing but such answers was ever seen is not an empty one.
func TestARunOfWhichNoLogWasSeenIsNotVerified(t *testing.T) {
	for name, r := range rows() {
		t.Run(name, func(t *testing.T) {
			f := &front{answer: func(int, *corev1.PodLogOptions) *http.Response { return r.is() }}
			inBubbleBy(t, func(n *node) Opener { f.n = n; return f.opener() }, Options{}, nil, func(b *bench) {
				b.n.start("a", "a1")
				b.n.print("a", "quick")
				b.n.exit("a")
				b.p.ended("a", "a1")
				c := b.drain()[0]
				if c.Proof != Incomplete || c.Bytes != 0 || !strings.HasPrefix(c.Why, r.why) {
					t.Errorf("certificate %+v", c)
				}
			})
		})
	}
}
