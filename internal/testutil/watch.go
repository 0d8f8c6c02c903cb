package testutil

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// watchTimeout ends a watch that named no timeoutSeconds: a server takes 30
	// to 60 minutes (apiserver v0.37.2 pkg/server/config.go:454).
	watchTimeout = 45 * time.Minute
	// bookmarkEvery is how often a quiet watch says where it stands
	// (apiserver v0.37.2 pkg/storage/cacher/cacher.go:78).
	bookmarkEvery = time.Minute
)

// watch streams changes until the client goes, the timeout comes or the server
// is told to drop it. It starts after resourceVersion; "" and "0" begin with the
// objects that there are.
func (s *server) watch(w http.ResponseWriter, r *http.Request, res *resource, t target) error {
	o, match, err := listOptions(r, res, t)
	if err != nil {
		return err
	}
	cursor, err := parseVersion(o.ResourceVersion)
	if err != nil {
		return err
	}
	streaming := o.SendInitialEvents != nil && *o.SendInitialEvents // a WatchList: never expired
	var initial []*version
	if cursor == 0 || streaming { // before the answer begins: no change after it is missed
		initial, cursor = s.store.list(res.name, t.namespace, match)
	}
	out := &frames{w: w, res: res}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	for _, v := range initial {
		out.send(watch.Added, v.json)
	}
	if streaming {
		out.bookmark(cursor, true)
	}
	lag := faultOf(r).Lag
	timeout := time.NewTimer(watchTimeoutOf(o))
	defer timeout.Stop()
	var bookmarks <-chan time.Time
	if o.AllowWatchBookmarks {
		ticker := time.NewTicker(bookmarkEvery)
		defer ticker.Stop()
		bookmarks = ticker.C
	}
	for out.err == nil {
		changes, changed, ok := s.store.since(cursor)
		if !ok {
			out.expired(cursor, s.store.now())
			return nil
		}
		var later <-chan time.Time
		for _, c := range changes {
			if early := time.Until(c.at.Add(lag)); lag > 0 && early > 0 {
				later = time.After(early)
				break
			}
			if cursor = c.rv; c.key.resource != res.name {
				continue
			}
			if typ, object := c.event(match); typ != "" {
				out.send(typ, object)
			}
		}
		select {
		case <-changed:
		case <-later:
		case <-bookmarks:
			out.bookmark(cursor, false)
		case <-timeout.C:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
	return nil
}

func watchTimeoutOf(o metav1.ListOptions) time.Duration {
	if o.TimeoutSeconds == nil {
		return watchTimeout
	}
	return time.Duration(*o.TimeoutSeconds) * time.Second
}

// frames writes the events of a watch.
type frames struct {
	w   http.ResponseWriter
	res *resource
	err error // the client is gone
}

func (f *frames) send(typ watch.EventType, object []byte) { f.write(typ, f.res.single(object)) }

func (f *frames) write(typ watch.EventType, object []byte) {
	if f.err == nil {
		frame := append([]byte(`{"type":"`+string(typ)+`","object":`), object...)
		_, f.err = f.w.Write(append(frame, "}\n"...))
	}
}

// bookmark says that everything up to rv was sent. The one that ends the initial
// events of a WatchList is marked.
func (f *frames) bookmark(rv uint64, initial bool) {
	note := ""
	if initial {
		note = fmt.Sprintf(`,"annotations":{%q:"true"}`, metav1.InitialEventsAnnotationKey)
	}
	f.send(watch.Bookmark, fmt.Appendf(nil, `{"metadata":{"resourceVersion":"%d"%s}}`, rv, note))
}

// expired is how a server refuses to go on from a version it has forgotten: not
// with an HTTP error but in the stream, with code 200 (seen on a real server).
func (f *frames) expired(from, now uint64) {
	status := statusOf(apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from, now)))
	b, _ := json.Marshal(status)
	f.write(watch.Error, b)
}
