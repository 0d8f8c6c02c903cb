package main

import (
	"context"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// health tells a person when the API server or a kubelet does not answer, and when
// it does again. The library goes on by itself.
type health struct {
	logstream.Opener
	out *printer

	mu      sync.Mutex
	failing map[string]bool // pods whose logs cannot be opened
}

// notice tells what troubles the watch.
func (h *health) notice(n podwatch.Notice) {
	switch n.Kind {
	case podwatch.NoticeStale:
		h.out.say("watch of %s: lost contact with the API server, trying again: %v", n.Resource, n.Err)
	case podwatch.NoticeFresh:
		h.out.say("watch of %s: contact again", n.Resource)
	case podwatch.NoticeForbidden:
		h.out.say("watch of %s: refused: %v", n.Resource, n.Err)
	}
}

// OpenLog opens a log, and notes whether that works.
func (h *health) OpenLog(ctx context.Context, namespace, pod string, o *corev1.PodLogOptions) (io.ReadCloser, error) {
	body, err := h.Opener.OpenLog(ctx, namespace, pod, o)
	if ctx.Err() == nil {
		h.note(namespace+"/"+pod, err)
	}
	return body, err
}

func (h *health) note(pod string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before := len(h.failing)
	// That there is no such container, or none any more, is an answer too.
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsBadRequest(err) {
		if h.failing == nil {
			h.failing = map[string]bool{}
		}
		h.failing[pod] = true
	} else {
		delete(h.failing, pod)
	}
	switch now := len(h.failing); {
	case before == 0 && now > 0:
		h.out.say("logs cannot be read, trying again: %s: %s", pod, cli.OneLine(err))
	case before > 0 && now == 0:
		h.out.say("logs can be read again")
	}
}

// forget a pod that is gone.
func (h *health) forget(namespace, pod string) { h.note(namespace+"/"+pod, nil) }

// watch tells of streams that broke off, which otherwise nobody would notice.
func (h *health) watch(ctx context.Context, s *logstream.Streamer) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := int64(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := s.Stats().Resumed
		if now > last {
			h.out.say("log streams that broke off and were taken up again: %d", now-last)
		}
		last = now
	}
}
