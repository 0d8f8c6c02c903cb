package e2e

import (
	"bufio"
	"encoding/json"
	"net/url"
	"os"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/e2e/cluster"
)

// auditEntry is a request that the API server answered, by its own audit log.
type auditEntry struct {
	Verb, Resource, Subresource, Namespace, Name string

	Code  int // of the answer; a watch's may be 200 and end in an error
	Query url.Values
	At    time.Time
}

// audited returns the requests of one client, known by its user agent, in the
// order in which they came.
func audited(t *testing.T, c *cluster.Cluster, userAgent string) []auditEntry {
	t.Helper()
	f, err := os.Open(c.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []auditEntry
	index := map[string]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var entry struct {
			AuditID, RequestURI, Verb, UserAgent string

			ObjectRef                struct{ Resource, Subresource, Namespace, Name string }
			ResponseStatus           struct{ Code int }
			RequestReceivedTimestamp metav1.MicroTime
		}
		if err := json.Unmarshal(lines.Bytes(), &entry); err != nil {
			continue // A killed API server may leave half a line.
		}
		if entry.UserAgent != userAgent {
			continue
		}
		uri, err := url.Parse(entry.RequestURI)
		if err != nil {
			t.Fatal(err)
		}
		r := auditEntry{
			Verb: entry.Verb, Resource: entry.ObjectRef.Resource, Subresource: entry.ObjectRef.Subresource,
			Namespace: entry.ObjectRef.Namespace, Name: entry.ObjectRef.Name,
			Code: entry.ResponseStatus.Code, Query: uri.Query(), At: entry.RequestReceivedTimestamp.Time,
		}
		// A watch has a line when it begins and, unless the server is killed, one when it ends.
		if i, known := index[entry.AuditID]; known {
			all[i] = r
			continue
		}
		index[entry.AuditID] = len(all)
		all = append(all, r)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// verbsAsked returns what was asked of a resource between two moments, without what
// the server could not answer while it started.
func verbsAsked(all []auditEntry, resource string, from, to time.Time) []string {
	var said []string
	for _, r := range all {
		if r.Resource == resource && !r.At.Before(from) && r.At.Before(to) && r.Code != 429 && r.Code < 500 {
			said = append(said, r.Verb)
		}
	}
	return said
}
