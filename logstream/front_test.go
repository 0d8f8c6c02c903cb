package logstream

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// A front is the API server before a node, and whatever stands before the API server:
// client-go talks HTTP to it.
type front struct {
	n      *node
	answer func(k int, o *corev1.PodLogOptions) *http.Response // k counts from 1; nil: the node's

	mu    sync.Mutex
	asked int
}

func (f *front) opener() Opener {
	o, err := FromConfig(&rest.Config{Host: "http://cluster", Transport: f})
	if err != nil {
		panic(err)
	}
	return o
}

func (f *front) RoundTrip(r *http.Request) (*http.Response, error) {
	q := r.URL.Query()
	o := &corev1.PodLogOptions{
		Container: q.Get("container"), Follow: q.Has("follow"), Previous: q.Has("previous"), Timestamps: q.Has("timestamps"),
	}
	for name, to := range map[string]**int64{"tailLines": &o.TailLines, "limitBytes": &o.LimitBytes} {
		if n, err := strconv.ParseInt(q.Get(name), 10, 64); err == nil {
			*to = &n
		}
	}
	if t, err := time.Parse(time.RFC3339, q.Get("sinceTime")); err == nil {
		o.SinceTime = &metav1.Time{Time: t}
	}
	f.mu.Lock()
	f.asked++
	var resp *http.Response
	if f.answer != nil {
		resp = f.answer(f.asked, o)
	}
	f.mu.Unlock()
	if resp != nil {
		resp.Request = r
		return resp, nil
	}
	body, err := f.n.OpenLog(r.Context(), "n", "p", o)
	var st *apierrors.StatusError
	switch {
	case errors.As(err, &st):
		return status(st.ErrStatus), nil
	case err != nil:
		return nil, err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/plain"}}, Body: body, Request: r}, nil
}

// status is an answer of the API server's own.
func status(s metav1.Status) *http.Response {
	s.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	s.Status = metav1.StatusFailure
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return page(int(s.Code), "application/json", string(b))
}

// page is an answer of anybody's.
func page(code int, contentType, body string) *http.Response {
	r := &http.Response{StatusCode: code, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body))}
	if body == "" {
		r.Header, r.Body = http.Header{}, http.NoBody
	}
	return r
}

func comeBack(seconds int, r *http.Response) *http.Response {
	r.Header.Set("Retry-After", strconv.Itoa(seconds))
	return r
}
