package e2e

import (
	"bufio"
	"bytes"
	"context"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-vela/podlife/logstream"
)

// plainly follows every slot's log as kubectl logs -f does, once and to the first end
// of the stream, to tell what logstream is worth. It is called before the pod runs, and
// returns what to call after its end.
func (p *printing) plainly(t *testing.T) (lost func(*tally)) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	var all sync.WaitGroup
	accounts := make([]*account, len(p.truths))
	for i, tr := range p.truths {
		accounts[i] = newAccount(tr, "")
		all.Go(func() { p.followPlainly(ctx, accounts[i]) })
	}
	return func(sum *tally) {
		// A stream that hangs is over, too.
		time.AfterFunc(time.Minute, cancel)
		all.Wait()
		for i, a := range accounts {
			lines, unwritten := a.lost(p.onNode(t, p.truths[i], "")) // of its first run
			sum.plainLost += lines - unwritten
			if sum.plain++; a.ended {
				sum.plainEnds++
			}
		}
	}
}

func (p *printing) followPlainly(ctx context.Context, a *account) {
	o := &corev1.PodLogOptions{Container: a.truth.slot, Follow: true}
	for {
		body, err := p.lab.client.CoreV1().Pods(p.pod.Namespace).GetLogs(p.pod.Name, o).Stream(ctx)
		if err != nil { // it does not run yet
			select {
			case <-time.After(50 * time.Millisecond):
				continue
			case <-ctx.Done():
				return
			}
		}
		lines := bufio.NewReader(body)
		for {
			text, err := lines.ReadBytes('\n')
			if err != nil {
				break
			}
			a.take(logstream.Line{Text: bytes.TrimSuffix(text, []byte("\n"))})
		}
		body.Close()
		return
	}
}
