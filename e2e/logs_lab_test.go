package e2e

import (
	"context"
	"crypto/rand"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/go-vela/podlife/e2e/cluster"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

var fullSize = flag.Bool("logs-full", false,
	"capture the logs of crash loops to their fifth run")

// site is a cluster to capture logs on.
type site struct {
	config  *rest.Config
	client  kubernetes.Interface
	cluster *cluster.Cluster // nil if it is not ours
}

// sharedSite is the cluster of all tests.
func sharedSite(t *testing.T) site {
	t.Helper()
	needCluster(t)
	return site{world.config, world.client, world.cluster}
}

// ownSite is a cluster that a test may break.
func ownSite(t *testing.T, cfg cluster.Config) site {
	t.Helper()
	needCluster(t)
	return bringUpSite(t, cfg)
}

func bringUpSite(t *testing.T, cfg cluster.Config) site {
	t.Helper()
	c, config := bringUp(t, cfg)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return site{config, client, c}
}

// lab captures the logs of a test's pods, all with one watch and one Streamer.
type lab struct {
	site
	label   string
	gates   string // a directory of this machine: a pod's file in it opens its gate
	watch   *podwatch.Watcher
	logs    *logstream.Streamer
	latency *stopwatch
	words   *listener
	late    time.Duration // by which captures hear of the pods to come
	swapped bool          // containers of the pods to come are placeholders first
}

func newLab(t *testing.T, s site, o logstream.Options) *lab {
	t.Helper()
	open, err := logstream.FromConfig(s.config)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{site: s, label: strings.ToLower(rand.Text()[:8]), gates: t.TempDir(), latency: newStopwatch(), words: &listener{Opener: open, asks: map[string][]*request{}, last: map[string]time.Time{}, silent: map[string][][2]time.Time{}}}
	if err := os.Chmod(l.gates, 0o755); err != nil {
		t.Fatal(err)
	}
	l.watch, err = podwatch.New(s.client, podwatch.Options{
		Namespace: namespace, LabelSelector: buildLabel + "=" + l.label, Events: podwatch.EventsOff,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.logs = logstream.New(l.words, o)
	runUntilCleanup(t, l.watch.Run, l.logs.Run)
	if err := l.watch.WaitForSync(t.Context()); err != nil {
		t.Fatal(err)
	}
	return l
}

// belated is h, told late if all of the lab's are.
func (l *lab) belated(t *testing.T, h podwatch.Handler) podwatch.Handler {
	t.Helper()
	if l.late == 0 {
		return h
	}
	b := make(belated, 1000)
	late := l.late
	runUntilCleanup(t, func(ctx context.Context) error {
		for {
			select {
			case ev := <-b:
				select {
				case <-time.After(time.Until(ev.at.Add(late))):
					h.Handle(ev.Event)
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	return b
}

// told is what a watch said, and when.
type told struct {
	watch.Event
	at time.Time
}

type belated chan told

func (b belated) Handle(ev watch.Event) { b <- told{ev, time.Now()} }
