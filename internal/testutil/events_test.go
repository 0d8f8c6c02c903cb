package testutil_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
)

// said counts the Events of a reason, and the things that they tell of.
func (s *story) said(reason string) (objects int, count int32, last *corev1.Event) {
	s.Helper()
	list, err := s.CoreV1().Events("default").List(s.ctx, metav1.ListOptions{FieldSelector: "reason=" + reason})
	if err != nil {
		s.Fatal(err)
	}
	for i := range list.Items {
		count += list.Items[i].Count
		last = &list.Items[i]
	}
	return len(list.Items), count, last
}

func TestAPodHasOnlySoManyEvents(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p := steps(make([]string, 10)...)
		s.run(p, 5*time.Second) // 30 Normal Events: Pulled, Created, Started of each; 25 are let through
		s.swap("a", "sh:1")
		s.wait(5 * time.Second)
		for _, reason := range []string{"Killing", "Pulling"} {
			if n, _, _ := s.said(reason); n != 0 {
				s.Errorf("%d %s Events: the budget of 25 was spent before", n, reason)
			}
		}
		s.swap("b", nope)
		s.wait(5 * time.Second)
		if n, _, _ := s.said("Failed"); n != 2 {
			s.Errorf("%d Failed Events, want both: Warnings have a budget of their own", n)
		}
	})
}

func TestManyMessagesOfOneReasonBecomeOneEvent(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		p := steps(make([]string, 13)...)
		for i := range p.Spec.Containers {
			p.Spec.Containers[i].Image = fmt.Sprint(nope, i)
		}
		s.run(p, 8*time.Second)
		n, _, last := s.said("Pulling")
		if n != 10 || last.Count != 4 || last.InvolvedObject.FieldPath != "spec.containers{j}" ||
			last.Message != `(combined from similar events): Pulling image "`+nope+`12"` {
			s.Errorf("%d Events, the last x%d of %s: %s", n, last.Count, last.InvolvedObject.FieldPath, last.Message)
		}
	})
}

func TestEventsAreGoneAfterAnHour(t *testing.T) {
	tell(t, testutil.Options{}, func(s *story) {
		s.run(steps(""), 59*time.Minute)
		if n, _, _ := s.said("Started"); n != 1 {
			s.Errorf("%d before", n)
		}
		s.wait(3 * time.Minute)
		if n, _, _ := s.said("Started"); n != 0 {
			s.Errorf("%d after", n)
		}
	})
}

func TestThePodEndsWithTheCluster(t *testing.T) {
	ended := make(chan error, 1)
	images["reporting"] = func(ctx context.Context, _ []string, _ io.Writer) int {
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return 0
	}
	// In real time: an example runs so.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := testutil.New(testutil.Options{Images: images})
	stopped := make(chan error, 1)
	go func() { stopped <- c.Run(ctx) }()
	k := c.Client()
	create(ctx, t, k, on(steps(""), "reporting:1"))
	w, err := k.CoreV1().Pods("default").Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for e := range w.ResultChan() {
		if p, ok := e.Object.(*corev1.Pod); ok && p.Status.Phase == corev1.PodRunning {
			cancel()
		}
	}
	if err := <-ended; !errors.Is(err, testutil.ErrTerminated) {
		t.Errorf("the program's context ended with %v", err)
	}
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
	if _, err := k.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{}); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("a request after the end: %v", err)
	}
}
