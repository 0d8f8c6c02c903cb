package kubelog

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func status(code int32, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Message: message}}
}

func TestEveryAnswerIsUnderstood(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want Answer
	}{
		"pod object gone":    {apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "p"), PodGone},
		"node object gone":   {apierrors.NewNotFound(schema.GroupResource{Resource: "nodes"}, "x"), Node},
		"kubelet resyncs":    {apierrors.NewNotFound(schema.GroupResource{Resource: "pods/log"}, "p"), NotYet},
		"waiting":            {status(400, `container "c" in pod "p" is waiting to start: ContainerCreating`), NotYet},
		"no status yet":      {status(400, `container "c" in pod "p" is not available`), NotYet},
		"previous is gone":   {status(400, `previous terminated container "c" in pod "p" not found`), Gone},
		"kubelet is down":    {apierrors.NewGenericServerResponse(500, "get", schema.GroupResource{}, "p", "dial tcp 10.0.0.1:10250: connect: connection refused", 0, true), Down},
		"too many requests":  {status(http.StatusTooManyRequests, "slow down"), Down},
		"forbidden":          {apierrors.NewForbidden(schema.GroupResource{Resource: "pods/log"}, "p", nil), Denied},
		"unauthorized":       {apierrors.NewUnauthorized("no"), Denied},
		"the connection":     {io.ErrUnexpectedEOF, Broken},
		"wrapped":            {fmt.Errorf("opening: %w", apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "p")), PodGone},
		"removed, newer 400": {status(400, "unable to retrieve container logs for containerd://1"), Absent},
		"too many files":     {status(400, "failed to open log file \"x\": too many open files"), Failed},
		"inotify, newer 400": {status(400, "failed to create fsnotify watcher: too many open files"), Watchers},
	} {
		if got := Refuse(c.err).Answer; got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestARefusalSaysWhenToAskAgain(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want time.Duration
	}{
		"it does not say":    {status(500, "no"), 0},
		"no answer":          {io.ErrUnexpectedEOF, 0},
		"too many requests":  {apierrors.NewTooManyRequests("slow down", 7), 7 * time.Second},
		"a wait without end": {apierrors.NewTooManyRequests("slow down", 1<<30), time.Minute},
	} {
		if got := Refuse(c.err); got.RetryAfter != c.want || !errors.Is(got.Err, c.err) {
			t.Errorf("%s: %+v, want %v", name, got, c.want)
		}
	}
}
