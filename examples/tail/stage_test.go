package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/internal/testutil"
	"github.com/go-vela/podlife/logstream"
)

// stage is a simulated cluster and what the tail of it prints.
type stage struct {
	*testutil.Cluster
	t              *testing.T
	tail           *tailer
	status         int
	ended          chan struct{}   // closed when the tail has
	took           time.Duration   // from the interrupt to the end
	out            io.Writer       // what the tail takes for stdout
	memory         int64           // its budget, without a disk; 0: what it has
	stdout, stderr strings.Builder // to be read when the tail has ended
}

// play tails, in virtual time, what script does; the interrupt comes when it returns.
func play(t *testing.T, o options, script func(*stage)) (s *stage) {
	t.Helper()
	return playOn(t, o, func(*stage) {}, script)
}

// playOn is play on a cluster that is prepared before the tail begins.
func playOn(t *testing.T, o options, prepare, script func(*stage)) (s *stage) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s = &stage{t: t, Cluster: testutil.New(testutil.Options{
			Namespaces: []string{"other"},
			Images:     map[string]testutil.Program{"demo/sh": testutil.Shell, "demo/long": long},
		})}
		alive, stop := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() { defer close(stopped); _ = s.Run(alive) }()
		ctx, interrupt := context.WithCancel(t.Context())
		s.ended, s.out = make(chan struct{}), &s.stdout
		if o.namespace == "" {
			o.namespace = "default"
		}
		prepare(s)
		var err error
		if s.tail, err = newTailer(s.Config(), o, newPrinter(ctx, o.output != "text", s.out, &s.stderr)); err != nil {
			t.Fatal(err)
		}
		if s.memory > 0 {
			opener, err := logstream.FromConfig(s.Config())
			if err != nil {
				t.Fatal(err)
			}
			s.tail.logs = logstream.New(opener, logstream.Options{Memory: s.memory, Disk: -1})
		}
		go func() { defer close(s.ended); s.status = s.tail.run(ctx) }()
		script(s)
		interrupted := time.Now()
		interrupt()
		<-s.ended
		s.took = time.Since(interrupted)
		stop()
		<-stopped
	})
	s.t = t
	return s
}

// long prints a line of 200,000 bytes, and one that has no end.
func long(_ context.Context, _ []string, out io.Writer) int {
	fmt.Fprintf(out, "%s\n%s", strings.Repeat("x", 200_000), strings.Repeat("y", 130_000))
	return 0
}

func (s *stage) create(namespace string, p *corev1.Pod) {
	s.t.Helper()
	if err := create(s.t.Context(), s.Cluster, namespace, p); err != nil {
		s.t.Error(err)
	}
}

func (s *stage) remove(name string, grace int64) {
	s.t.Helper()
	if err := s.Client().CoreV1().Pods("default").Delete(s.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &grace}); err != nil {
		s.t.Error(err)
	}
}

// messages are the lines printed as JSON, by pod, container and run, without the gaps.
func (s *stage) messages() map[string][]string {
	s.t.Helper()
	all, _ := s.objects()
	return all
}

// objects are what was printed as JSON, by pod, container and run: the lines, and
// behind which of them there is a gap.
func (s *stage) objects() (all map[string][]string, gaps map[string][]int) {
	s.t.Helper()
	all, gaps = map[string][]string{}, map[string][]int{}
	for text := range strings.Lines(s.stdout.String()) {
		if strings.Contains(text, `"gap":`) {
			var g gapLine
			if err := json.Unmarshal([]byte(text), &g); err != nil {
				s.t.Fatalf("%v: %s", err, text)
			}
			key := fmt.Sprintf("%s/%s %s#%d", g.Namespace, g.PodName, g.ContainerName, g.Run)
			gaps[key] = append(gaps[key], len(all[key]))
			continue
		}
		var l logLine
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&l); err != nil {
			s.t.Fatalf("%v: %s", err, text)
		}
		if _, err := time.Parse(time.RFC3339Nano, l.Timestamp); err != nil || l.Timestamp < "2000" {
			s.t.Errorf("timestamp %q: %v", l.Timestamp, err)
		}
		key := fmt.Sprintf("%s/%s %s#%d", l.Namespace, l.PodName, l.ContainerName, l.Run)
		all[key] = append(all[key], l.Message)
	}
	return all, gaps
}

func (s *stage) expect(want map[string][]string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.messages()); diff != "" {
		s.t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// says checks that one line on stderr has all the words.
func (s *stage) says(words ...string) {
	s.t.Helper()
	for line := range strings.Lines(s.stderr.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return
		}
	}
	s.t.Errorf("no line on stderr has the words %q:\n%s", words, s.stderr.String())
}

func never(p *corev1.Pod) *corev1.Pod {
	p.Spec.RestartPolicy = corev1.RestartPolicyNever
	return p
}

func numbers(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprint(i+1))
	}
	return lines
}
