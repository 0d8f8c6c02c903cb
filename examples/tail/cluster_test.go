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

	"github.com/go-vela/podlife/examples/internal/cli"
	"github.com/go-vela/podlife/internal/testutil"
)

// cluster is a simulated cluster and what the tail of it prints.
type cluster struct {
	*testutil.Cluster
	t              *testing.T
	selector       string
	text           bool // instead of JSON
	tail           *tailer
	status         int
	ended          chan struct{}   // closed when the tail has
	took           time.Duration   // from the interrupt to the end
	out            io.Writer       // what the tail takes for stdout
	stdout, stderr strings.Builder // to be read when the tail has ended
}

// tailed tails a simulated cluster in virtual time: prepare comes before the tail, the
// interrupt when script returns.
func tailed(t *testing.T, prepare, script func(*cluster)) (c *cluster) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c = &cluster{t: t, ended: make(chan struct{}), Cluster: testutil.New(testutil.Options{
			Namespaces: []string{"other"},
			Images:     map[string]testutil.Program{"demo/sh": testutil.Shell, "demo/long": long},
		})}
		alive, stop := context.WithCancel(t.Context())
		stopped := make(chan struct{})
		go func() { defer close(stopped); _ = c.Run(alive) }()
		ctx, interrupt := context.WithCancel(t.Context())
		c.out = &c.stdout
		if prepare != nil {
			prepare(c)
		}
		var err error
		if c.tail, err = newTailer(c.Config(), "default", c.selector, newPrinter(ctx, !c.text, c.out, &c.stderr)); err != nil {
			t.Fatal(err)
		}
		go func() { defer close(c.ended); c.status = c.tail.run(ctx) }()
		script(c)
		interrupted := time.Now()
		interrupt()
		<-c.ended
		c.took = time.Since(interrupted)
		stop()
		<-stopped
	})
	c.t = t
	return c
}

// long prints a line of 200,000 bytes, one of three mebibytes, and one that has no end.
func long(_ context.Context, _ []string, out io.Writer) int {
	fmt.Fprintf(out, "%s\n%s\n%s", strings.Repeat("x", 200_000), strings.Repeat("z", 3<<20), strings.Repeat("y", 130_000))
	return 0
}

func (c *cluster) create(namespace string, p *corev1.Pod) {
	c.t.Helper()
	if err := cli.Create(c.t.Context(), c.Cluster, namespace, p); err != nil {
		c.t.Error(err)
	}
}

func (c *cluster) remove(name string) {
	c.t.Helper()
	if err := c.Client().CoreV1().Pods("default").Delete(c.t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		c.t.Error(err)
	}
}

func (c *cluster) patch(name, patch string) {
	c.t.Helper()
	if _, err := c.Client().CoreV1().Pods("default").Patch(c.t.Context(), name, "application/strategic-merge-patch+json", []byte(patch), metav1.PatchOptions{}); err != nil {
		c.t.Error(err)
	}
}

// printed are the lines printed as JSON, by pod, container and run, and behind which
// of them there is a gap.
func (c *cluster) printed() (lines map[string][]string, gaps map[string][]int) {
	c.t.Helper()
	lines, gaps = map[string][]string{}, map[string][]int{}
	for text := range strings.Lines(c.stdout.String()) {
		var o struct {
			logLine
			Gap *cli.Gap
		}
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&o); err != nil {
			c.t.Fatalf("%v: %s", err, text)
		}
		key := o.String()
		if o.Gap != nil {
			gaps[key] = append(gaps[key], len(lines[key]))
			continue
		}
		if _, err := time.Parse(time.RFC3339Nano, o.Timestamp); err != nil || o.Timestamp < "2000" {
			c.t.Errorf("timestamp %q: %v", o.Timestamp, err)
		}
		lines[key] = append(lines[key], o.Message)
	}
	return lines, gaps
}

func (c *cluster) expect(want map[string][]string) {
	c.t.Helper()
	lines, _ := c.printed()
	if diff := cmp.Diff(want, lines); diff != "" {
		c.t.Errorf("lines (-want +got):\n%s", diff)
	}
}

// says checks that one line on stderr has all the words.
func (c *cluster) says(words ...string) {
	c.t.Helper()
	for line := range strings.Lines(c.stderr.String()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			return
		}
	}
	c.t.Errorf("no line on stderr has the words %q:\n%s", words, c.stderr.String())
}

func numbers(n int) (lines []string) {
	for i := range n {
		lines = append(lines, fmt.Sprint(i+1))
	}
	return lines
}

// pipe is a stdout that takes some bytes a second, and after so many writes nothing
// until it is opened, or an error.
type pipe struct {
	io.Writer
	speed  int
	writes int // 0: any number
	err    error
	opened chan struct{}
}

func (p *pipe) Write(b []byte) (int, error) {
	if p.speed > 0 {
		time.Sleep(time.Duration(len(b)) * time.Second / time.Duration(p.speed))
	}
	if p.writes > 0 {
		if p.writes--; p.writes == 0 {
			if p.err != nil {
				return 0, p.err
			}
			<-p.opened
		}
	}
	return p.Writer.Write(b)
}

// clog makes stdout take some lines, and then no more.
func (c *cluster) clog(lines int) *pipe {
	p := &pipe{Writer: &c.stdout, writes: lines + 1, opened: make(chan struct{})}
	c.out = p
	return p
}
