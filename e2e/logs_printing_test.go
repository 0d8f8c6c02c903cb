package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/logstream"
	"github.com/go-vela/podlife/podwatch"
)

// printing is a pod whose containers print the truth.
type printing struct {
	lab    *lab
	pod    *corev1.Pod
	truths []truth
	logs   *logstream.Capture
	split  *eventsplit.Splitter // nil: its containers are no slots to swap
	track  *podwatch.Tracking
	news   *news
	live   []<-chan reading // of readers that were there before the pod, one a truth
	kept   *keeper          // nil: the node is not ours

	examined []examined // runs that were checked
}

// examined is a run that was captured, with what is known of it.
type examined struct {
	*account
	certificate *logstream.Certificate
	node        *onNode
}

// print creates a pod whose containers print truths.
func (l *lab) print(t *testing.T, name string, policy corev1.RestartPolicy, truths ...truth) *printing {
	t.Helper()
	pod := newPod(name)
	for _, tr := range truths {
		pod.Spec.Containers = append(pod.Spec.Containers, tr.container(path.Join(gates, pod.Name)))
	}
	pod.Labels[buildLabel] = l.label
	pod.Spec.RestartPolicy = policy
	pod.Spec.Volumes = []corev1.Volume{{
		Name: "gate", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: l.gates}},
	}}
	p := &printing{lab: l, truths: truths, news: newNews()}
	handlers := []podwatch.Handler{l.latency, nil, p.news}
	var runs logstream.Runs
	if l.swapped {
		for i := range pod.Spec.Containers {
			pod.Spec.Containers[i].Image = *pauseImage
		}
		p.split = eventsplit.New(pod.Namespace, pod.Name, eventsplit.Options{Placeholder: func(string) bool { return true }})
		runs, handlers = p.split, append(handlers, p.split)
	}
	p.logs = l.logs.Pod(pod.Namespace, pod.Name, runs)
	handlers[1] = l.belated(t, p.logs)
	for _, tr := range truths {
		p.live = append(p.live, p.read(t.Context(), tr))
	}
	var err error
	if p.track, err = l.watch.Track(pod.Namespace, pod.Name, handlers...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.track.Close()
		if p.split != nil {
			p.split.Close()
		}
		if err := p.logs.Close(); err != nil {
			t.Errorf("closing the capture: %v", err)
		}
		p.delete(t)
	})
	if p.pod, err = l.client.CoreV1().Pods(pod.Namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatalf("creating pod %s: %v", pod.Name, err)
	}
	p.track.Created(p.pod)
	if l.cluster != nil {
		dir := filepath.Join(l.cluster.PodLogs(), p.pod.Namespace+"_"+p.pod.Name+"_"+string(p.pod.UID))
		p.kept = newKeeper(dir, t.TempDir())
	}
	return p
}

// swap has slots, which were placeholders so far, print their truths.
func (p *printing) swap(t *testing.T, slots ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := p.split.Swap(ctx, func(ctx context.Context) (*corev1.Pod, error) {
		var images []string
		for _, slot := range slots {
			images = append(images, slot+"="+*printImage)
		}
		return patchImages(ctx, p.lab.client, p.pod, images...)
	}, slots...)
	if err != nil {
		t.Fatalf("swapping %s: %v", slots, err)
	}
}

// openGate ends the containers that wait for it.
func (p *printing) openGate(t *testing.T) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(p.lab.gates, p.pod.Name), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// delete deletes the pod at once, or does nothing if it is gone.
func (p *printing) delete(t *testing.T) {
	t.Helper()
	if p.pod == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 30*time.Second)
	defer cancel()
	err := p.lab.client.CoreV1().Pods(p.pod.Namespace).Delete(ctx, p.pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("deleting pod %s: %v", p.pod.Name, err)
	}
}

func hasEnded(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

func allRun(p *corev1.Pod) bool {
	for i := range p.Status.ContainerStatuses {
		if p.Status.ContainerStatuses[i].State.Running == nil {
			return false
		}
	}
	return len(p.Status.ContainerStatuses) > 0
}

func anything(*corev1.Pod) bool { return true }

// await waits until so holds for the pod.
func (p *printing) await(t *testing.T, so func(*corev1.Pod) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if _, err := p.news.await(ctx, so); err != nil {
		t.Fatal(err)
	}
}

// awaitLines waits until so many lines of the slot's log are captured.
func (p *printing) awaitLines(t *testing.T, slot string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r := p.logs.Reader(ctx, slot, logstream.ReadOptions{})
	defer r.Close()
	for line, err := range r.Lines() {
		if err != nil {
			t.Fatalf("%s/%s: waiting for %d lines more: %v", p.pod.Name, slot, n, err)
		}
		if line.Gap != nil {
			continue
		}
		if n--; n == 0 {
			return
		}
	}
	t.Errorf("%s/%s: its log ended, %d lines short", p.pod.Name, slot, n)
}

// awaitGone waits until the pod is deleted, and its capture knows.
func (p *printing) awaitGone(t *testing.T) {
	t.Helper()
	select {
	case <-p.news.gone:
	case <-time.After(time.Minute):
		t.Fatalf("pod %s is not gone", p.pod.Name)
	}
}

// drain waits until so holds for the pod, and until what has ended of it is captured.
func (p *printing) drain(t *testing.T, so func(*corev1.Pod) bool) []logstream.Certificate {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	pod, err := p.news.await(ctx, so)
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := p.logs.Drain(ctx, pod)
	if err != nil {
		t.Fatalf("draining pod %s: %v", pod.Name, err)
	}
	p.sweep(t)
	return certificates
}

// reading is what a reader of a slot brought.
type reading struct {
	runs []*account
	all  hash.Hash
	err  error
}

// read reads a slot to its end. It returns at once.
func (p *printing) read(ctx context.Context, tr truth) <-chan reading {
	r := p.logs.Reader(ctx, tr.slot, logstream.ReadOptions{})
	done := make(chan reading, 1)
	go func() {
		got := reading{all: sha256.New()}
		for line, err := range r.Lines() {
			if err != nil {
				got.err = err
				break
			}
			if line.Gap != nil {
				continue
			}
			if n := len(got.runs); n == 0 || got.runs[n-1].id != line.ContainerID {
				got.runs = append(got.runs, newAccount(tr, line.ContainerID))
			}
			got.runs[len(got.runs)-1].take(line)
			_, _ = got.all.Write(line.Text)
			if !line.Partial {
				_, _ = got.all.Write([]byte("\n"))
			}
		}
		got.err = errors.Join(got.err, r.Close())
		done <- got
	}()
	return done
}

// plain reads a slot's log as kubectl logs does.
func (p *printing) plain(t *testing.T, slot string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	text, err := p.lab.client.CoreV1().Pods(p.pod.Namespace).GetLogs(p.pod.Name, &corev1.PodLogOptions{Container: slot}).DoRaw(ctx)
	if err != nil {
		t.Errorf("reading the log of %s: %v", slot, err)
	}
	return text
}

// plains reads all slots' logs as kubectl logs does.
func (p *printing) plains(t *testing.T) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, tr := range p.truths {
		all[tr.slot] = p.plain(t, tr.slot)
	}
	return all
}

// check holds everything that was captured of the pod against the truth, against its
// certificates, against the node's files, and against plain reads of the last runs, if
// there are any, and adds it to sum. It waits for the readers, which end when the pod has no run to come.
func (p *printing) check(t *testing.T, sum *tally, certificates []logstream.Certificate, plains map[string][]byte) {
	t.Helper()
	for i, tr := range p.truths {
		name := p.pod.Name + "/" + tr.slot
		var got reading
		select {
		case got = <-p.live[i]:
		case <-time.After(time.Minute):
			t.Fatalf("%s: the reader does not end", name)
		}
		byID := map[string]*account{}
		for j, a := range got.runs {
			if j > 0 && a.begin.Before(got.runs[j-1].last) {
				t.Errorf("%s: run %.8s has lines of the one before", name, a.id)
			}
			if byID[a.id] != nil {
				t.Errorf("%s: run %s comes in pieces", name, a.id)
			}
			byID[a.id] = a
		}
		var last *logstream.Certificate
		for j := range certificates {
			c := &certificates[j]
			if c.Slot != tr.slot {
				continue
			}
			last = c
			a := byID[c.ContainerID]
			if a == nil { // It printed nothing, or nothing of it was captured.
				a = newAccount(tr, c.ContainerID)
			}
			delete(byID, c.ContainerID)
			n := p.onNode(t, tr, c.ContainerID)
			p.examined = append(p.examined, examined{a, c, n})
			for _, flaw := range a.judge(c, n) {
				t.Errorf("%s: run %.8s, %s (%s), gaps %+v: %s", name, c.ContainerID, c.Proof, c.Why, c.Gaps, flaw)
			}
			shown := p.lab.latency.shownAt(c.ContainerID)
			if p.lab.latency.wasBrief(p.pod.Name, c) {
				sum.brief++
				continue
			}
			sum.add(a, c, n, shown)
			if c.Run == 0 && a.lines > 0 {
				sum.addRequest(p.lab.words.first(p.pod.Name, tr.slot), shown, a.read)
			}
			if all, _ := a.lost(n); all > 0 {
				t.Logf("%s: run %s, %s, shown at %s: lost are %v, and after %s: %t; gaps %+v",
					name, c.ContainerID, c.Proof, stamp(shown), a.missing, stamp(a.last), !a.ended, c.Gaps)
			}
		}
		for id := range byID {
			t.Errorf("%s: run %s was read, but has no certificate", name, id)
		}
		if last == nil {
			t.Errorf("%s: no run was captured", name)
			continue
		}
		p.checkEnd(t, name, got, certificates)
		p.checkLate(t, name, tr, got, last, plains)
	}
}

// checkEnd checks that the reader's end says whether something is missing.
func (p *printing) checkEnd(t *testing.T, name string, got reading, certificates []logstream.Certificate) {
	t.Helper()
	slot := name[len(p.pod.Name)+1:]
	incomplete := false
	for i := range certificates {
		incomplete = incomplete || certificates[i].Slot == slot && certificates[i].Proof == logstream.Incomplete
	}
	var said *logstream.IncompleteError
	switch {
	case incomplete && !errors.As(got.err, &said):
		t.Errorf("%s: incomplete, but its reader ended in %v", name, got.err)
	case !incomplete && got.err != nil:
		t.Errorf("%s: its reader ended in %v", name, got.err)
	}
}

// checkLate reads the slot once more, now that all is over: to a reader, time makes
// no difference. What it brings ends with what a plain read brought.
func (p *printing) checkLate(t *testing.T, name string, tr truth, live reading, last *logstream.Certificate, plains map[string][]byte) {
	t.Helper()
	r := p.logs.Reader(t.Context(), tr.slot, logstream.ReadOptions{Gap: func(logstream.Gap) string { return "" }})
	defer r.Close()
	late, end := sha256.New(), &tail{most: len(plains[tr.slot])}
	if _, err := io.Copy(io.MultiWriter(late, end), r); err != nil {
		t.Errorf("%s: reading it once more: %v", name, err)
	}
	if !bytes.Equal(late.Sum(nil), live.all.Sum(nil)) {
		t.Errorf("%s: a reader that came after the end got other bytes", name)
	}
	plain, ok := plains[tr.slot]
	switch {
	case !ok:
	case last.Proof != logstream.Incomplete && !bytes.Equal(end.end(), plain):
		t.Errorf("%s: %s, but it does not end with what kubectl logs says", name, last.Proof)
	case last.Proof == logstream.Verified && last.Bytes != int64(len(plain)):
		t.Errorf("%s: Verified are %d bytes, kubectl logs has %d", name, last.Bytes, len(plain))
	}
}

// tail keeps the last bytes that are written to it.
type tail struct {
	most int
	text []byte
}

func (w *tail) Write(text []byte) (int, error) {
	w.text = append(w.text, text...)
	if len(w.text) > 2*w.most+1<<20 {
		w.text = append(w.text[:0], w.end()...)
	}
	return len(text), nil
}

func (w *tail) end() []byte { return w.text[max(0, len(w.text)-w.most):] }
