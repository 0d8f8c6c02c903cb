package testutil_test

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/go-vela/podlife/internal/testutil"
)

func TestACancelledReadEndsWhateverIsUnderWay(t *testing.T) {
	api(t, func(ctx context.Context, _ *testutil.Cluster, k kubernetes.Interface) {
		create(ctx, t, k, pod("x", "a"))
		ctx, cancel := context.WithCancel(ctx)
		body, err := k.CoreV1().RESTClient().Get().Resource("pods").Stream(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer body.Close()
		synctest.Wait() // all of it is there to be read
		cancel()
		if n, err := body.Read(make([]byte, 1)); n != 0 || !errors.Is(err, context.Canceled) {
			t.Errorf("read %d, %v", n, err)
		}
	})
}

func TestNobodyListensWhileTheServerIsDown(t *testing.T) {
	api(t, func(ctx context.Context, c *testutil.Cluster, k kubernetes.Interface) {
		w, err := k.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		up := make(chan error, 1)
		go func() { up <- c.RestartServer(ctx, time.Minute) }()
		synctest.Wait()
		if _, open := <-w.ResultChan(); open {
			t.Error("the watch goes on")
		}
		_, err = k.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
		var dial *net.OpError
		if !errors.As(err, &dial) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("while it is down: %v", err)
		}
		if err := <-up; err != nil {
			t.Error(err)
		}
		if _, err := k.CoreV1().Pods("").List(ctx, metav1.ListOptions{}); err != nil {
			t.Errorf("after it: %v", err)
		}
	})
}

func TestAQuietWatchSaysWhereItStandsAndEndsInTheEnd(t *testing.T) {
	api(t, func(ctx context.Context, _ *testutil.Cluster, k kubernetes.Interface) {
		p := create(ctx, t, k, pod("x", "a"))
		limit := int64(150)
		start := time.Now()
		w, err := k.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{ResourceVersion: p.ResourceVersion, AllowWatchBookmarks: true, TimeoutSeconds: &limit})
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for e := range w.ResultChan() {
			o, ok := e.Object.(metav1.Object)
			if !ok || o.GetResourceVersion() != p.ResourceVersion {
				t.Errorf("%s %+v", e.Type, e.Object)
			}
			got = append(got, string(e.Type)+" "+time.Since(start).String())
		}
		if len(got) != 2 || got[0] != "BOOKMARK 1m0s" || got[1] != "BOOKMARK 2m0s" || time.Since(start) != 150*time.Second {
			t.Errorf("%v, ended after %s", got, time.Since(start))
		}
	})
}

func TestAReaderThatStopsForAnHourMissesNothing(t *testing.T) {
	const total = 32 << 20
	images["flood"] = func(_ context.Context, _ []string, out io.Writer) int {
		line := make([]byte, 1<<16)
		line[len(line)-1] = '\n'
		for range total >> 16 {
			_, _ = out.Write(line)
		}
		return 0
	}
	tell(t, testutil.Options{}, func(s *story) {
		s.run(on(steps(""), "flood:1"), 5*time.Second)
		body, err := s.CoreV1().RESTClient().Get().Namespace("default").Resource("pods").Name("p").SubResource("log").Stream(s.ctx)
		if err != nil {
			s.Fatal(err)
		}
		s.wait(time.Hour)
		n, err := io.Copy(io.Discard, body) // it went on from where it stood
		if n != total || err != nil {
			s.Errorf("read %d, %v", n, err)
		}
	})
}
