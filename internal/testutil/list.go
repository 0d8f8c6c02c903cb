package testutil

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// page is the rest of a list that a limit cut, as it was at resourceVersion rv.
type page struct {
	items []*version
	rv    uint64
}

func (s *server) list(r *http.Request, res *resource, t target) ([]byte, error) {
	o, match, err := listOptions(r, res, t)
	if err != nil {
		return nil, err
	}
	if err := s.await(r, o.ResourceVersion); err != nil {
		return nil, err
	}
	var p page
	switch {
	case o.Continue != "":
		s.mu.Lock()
		known, ok := s.pages[o.Continue]
		s.mu.Unlock()
		if !ok {
			return nil, apierrors.NewResourceExpired("The provided continue parameter is too old to display a consistent list result. " +
				"You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. " +
				"Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between " +
				"the time the first chunk was returned and now may show up in the list.")
		}
		p = known
	default:
		p.items, p.rv = s.store.list(res.name, t.namespace, match)
	}
	next := ""
	if o.Limit > 0 && o.ResourceVersion != "0" && int64(len(p.items)) > o.Limit { // a list at 0 is never cut
		next = s.id()
		s.mu.Lock()
		s.pages[next] = page{items: p.items[o.Limit:], rv: p.rv}
		s.mu.Unlock()
		p.items = p.items[:o.Limit]
	}
	return res.encodeList(p, next), nil
}

func (r *resource) encodeList(p page, next string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"kind":"%sList","apiVersion":"v1","metadata":{"resourceVersion":"%d"`, r.kind, p.rv)
	if next != "" {
		fmt.Fprintf(&b, `,"continue":%q`, next)
	}
	b.WriteString(`},"items":[`)
	for i, v := range p.items {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(v.json)
	}
	b.WriteString("]}\n")
	return b.Bytes()
}

// await refuses a list of the future: a server waits three seconds for it
// (apiserver v0.37.2 pkg/storage/cacher/watch_cache.go:49) and gives up.
func (s *server) await(r *http.Request, version string) error {
	rv, err := parseVersion(version)
	if err != nil {
		return err
	}
	deadline := time.NewTimer(3 * time.Second)
	defer deadline.Stop()
	for now := s.store.now(); rv > now; now = s.store.now() {
		_, changed, _ := s.store.since(now)
		select {
		case <-changed:
		case <-deadline.C:
			e := apierrors.NewTimeoutError(fmt.Sprintf("Too large resource version: %d, current: %d", rv, now), 1)
			e.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: metav1.CauseTypeResourceVersionTooLarge, Message: "Too large resource version"}}
			return e
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
	return nil
}

func parseVersion(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	rv, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return 0, apierrors.NewBadRequest(fmt.Sprintf("invalid resource version %q: %v", s, err))
	}
	return rv, nil
}

// forgetPages makes every continue token expire.
func (s *server) forgetPages() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.pages)
}
