package e2e

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"

	"github.com/go-vela/podlife/eventsplit"
	"github.com/go-vela/podlife/podwatch"
)

var recordTraces = flag.Bool("record", false, "write what the cluster showed as eventsplit's golden traces; then run: go test ./eventsplit -run GoldenTraces -update")

// goldenDir holds eventsplit's golden traces.
const goldenDir = "../eventsplit/testdata"

// tape is a Handler that writes down what a watch shows of a pod, as a script that
// eventsplit's golden tests can play: eventsplit/script_test.go has the format.
// Names of runs, ports and times are made such that it tells the same each time.
type tape struct {
	name      string // of the pod
	namespace string

	mu       sync.Mutex
	lines    []string
	at       time.Time
	slots    []string          // in the order of the spec
	regular  map[string]bool   // slots that are neither init nor ephemeral containers
	images   map[string]string // of the spec, by slot
	wanted   map[string]string // images that a swap asks for
	shown    map[string]string // what was written last of each slot, condition and field
	runs     map[string]string // containerID: its name in the trace
	counts   map[string]int    // runs of each slot
	first    map[string]string // the first containerID of each slot
	now      map[string]bool   // slots that run
	pods     []types.UID       // in the order in which they showed
	uids     map[types.UID]string
	burnt    int32 // Warnings counted
	perEvent map[types.UID]int32
}

func newTape(pod *corev1.Pod, plain bool) *tape {
	p := &tape{
		name: pod.Name, namespace: pod.Namespace, regular: map[string]bool{}, images: map[string]string{}, wanted: map[string]string{},
		shown: map[string]string{}, runs: map[string]string{}, counts: map[string]int{}, first: map[string]string{},
		now: map[string]bool{}, uids: map[types.UID]string{}, perEvent: map[types.UID]int32{},
	}
	start := "new placeholder=* restart="
	if plain {
		start = "new restart="
	}
	spec, asks := p.spec(pod)
	p.lines = slices.Concat([]string{start + string(pod.Spec.RestartPolicy)}, spec, asks)
	return p
}

// spec returns what is new in a pod's spec, containers and images that no swap asked for,
// and what asks about containers that are new.
func (p *tape) spec(pod *corev1.Pod) (spec, asks []string) {
	var added, patched, mounts []string
	see := func(kind string, c *corev1.Container) {
		image, known := p.images[c.Name]
		p.images[c.Name] = c.Image
		switch text := c.Name + "=" + steady(c.Image); {
		case !known:
			p.slots = append(p.slots, c.Name)
			added = append(added, kind+text)
			asks = append(asks, "wait "+c.Name+" ended", "next "+c.Name)
			for _, image := range mountedImages(pod, c) {
				mounts = append(mounts, "mount "+c.Name+"="+steady(image))
			}
		case image != c.Image && p.wanted[c.Name] != c.Image:
			patched = append(patched, text)
		}
	}
	for i := range pod.Spec.InitContainers {
		c := &pod.Spec.InitContainers[i]
		kind := "init:"
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			kind = "sidecar:"
		}
		see(kind, c)
	}
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		p.regular[c.Name] = true
		see(ruleOf(c), c)
	}
	for i := range pod.Spec.EphemeralContainers {
		c := corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		see("eph:", &c)
	}
	if len(added) > 0 {
		spec = append(spec, "spec "+strings.Join(added, " "))
	}
	spec = append(spec, mounts...)
	if len(patched) > 0 {
		spec = append(spec, "image "+strings.Join(patched, " "))
	}
	return spec, asks
}

// ruleOf is what a script calls a container with a rule of its own.
func ruleOf(c *corev1.Container) string {
	switch {
	case len(c.RestartPolicyRules) == 0:
		return ""
	case c.RestartPolicyRules[0].Action == corev1.ContainerRestartRuleActionRestartAllContainers:
		return "all88:"
	}
	return "rule42:"
}

// mountedImages returns the images that a container mounts as volumes.
func mountedImages(pod *corev1.Pod, c *corev1.Container) (images []string) {
	for _, v := range pod.Spec.Volumes {
		mounts := func(m corev1.VolumeMount) bool { return m.Name == v.Name }
		if v.Image != nil && slices.ContainsFunc(c.VolumeMounts, mounts) {
			images = append(images, v.Image.Reference)
		}
	}
	return images
}

// Handle writes down what is new.
func (p *tape) Handle(ev watch.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch obj := ev.Object.(type) {
	case *corev1.Pod:
		p.pod(obj, ev.Type == watch.Deleted)
	case *corev1.Event:
		if ev.Type != watch.Deleted {
			p.event(obj)
		}
	case *metav1.Status:
		if obj.Reason != podwatch.Closed {
			p.write(strings.ToLower(string(obj.Reason)))
		}
	}
}

// write writes a line, and before it how long nothing happened.
func (p *tape) write(line string) {
	if p.at.IsZero() {
		p.at = time.Now()
	}
	// What is rounded off is not lost, it is part of the next gap.
	if gap := time.Since(p.at).Truncate(100 * time.Millisecond); gap > 0 {
		p.lines = append(p.lines, "sleep "+gap.String())
		p.at = p.at.Add(gap)
	}
	p.lines = append(p.lines, p.anonymous(line))
}

// anonymous replaces the names that are the test's own.
func (p *tape) anonymous(text string) string {
	text = strings.ReplaceAll(text, p.name, "build")
	if p.namespace != metav1.NamespaceDefault {
		text = strings.ReplaceAll(text, p.namespace, "ci")
	}
	for i, uid := range p.pods {
		text = strings.ReplaceAll(text, string(uid), fmt.Sprintf("pod-%d", i+1))
	}
	return text
}

// swap writes down that images are swapped in; refused adds to it what the API server
// says to that, if it says no.
func (p *tape) swap(images []string) (refused func(error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, text := range images {
		slot, image, _ := strings.Cut(text, "=")
		p.wanted[slot] = image
	}
	p.write("swap " + steady(strings.Join(images, " ")))
	line := len(p.lines) - 1
	return func(err error) {
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, text := range images {
			slot, _, _ := strings.Cut(text, "=")
			delete(p.wanted, slot)
		}
		s := status.Status()
		p.lines[line] += " " + p.anonymous(quoted(fmt.Sprintf("answer=%d:%s:%s", s.Code, s.Reason, s.Message)))
	}
}

func (p *tape) pod(pod *corev1.Pod, deleted bool) {
	var parts []string
	show := func(key, text string) {
		if p.shown[key] != text {
			p.shown[key] = text
			parts = append(parts, text)
		}
	}
	if !slices.Contains(p.pods, pod.UID) {
		p.pods = append(p.pods, pod.UID)
		clear(p.shown)
	}
	spec, asks := p.spec(pod)
	for _, line := range spec {
		p.write(line)
	}
	if n := len(p.pods); n > 1 {
		show("uid", fmt.Sprintf("uid=pod-%d", n))
	}
	show("phase", "phase="+string(pod.Status.Phase))
	if pod.Status.Reason != "" {
		show("reason", "reason="+pod.Status.Reason)
		show("message", quoted("message="+pod.Status.Message))
	}
	if pod.DeletionTimestamp != nil {
		show("deleting", "deleting")
	}
	for _, c := range pod.Status.Conditions {
		if slices.Contains([]corev1.PodConditionType{corev1.PodScheduled, corev1.DisruptionTarget, corev1.PodReadyToStartContainers, corev1.PodReady}, c.Type) {
			show("cond "+string(c.Type), quoted(fmt.Sprintf("cond=%s:%s:%s:%s", c.Type, c.Status, c.Reason, c.Message)))
		}
	}
	for _, st := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses, pod.Status.EphemeralContainerStatuses) {
		show("status "+st.Name, p.status(&st))
	}
	switch {
	case deleted:
		p.write(strings.Join(append([]string{"deleted"}, parts...), " "))
	case len(parts)+len(asks) > 0:
		p.write(strings.Join(append([]string{"pod"}, parts...), " "))
	}
	p.lines = append(p.lines, asks...)
}

// status returns a container's status in a script's short form.
func (p *tape) status(st *corev1.ContainerStatus) string {
	text, last := "", ""
	p.now[st.Name] = st.State.Running != nil
	if t := st.LastTerminationState.Terminated; t != nil { // which was before
		last = fmt.Sprintf("<%s:%d", p.run(st.Name, t.ContainerID), t.ExitCode)
		if t.Reason != "Completed" {
			last += ":" + t.Reason
		}
	}
	switch s := st.State; {
	case s.Running != nil:
		text = "running:" + p.run(st.Name, st.ContainerID)
	case s.Terminated != nil:
		text = fmt.Sprintf("terminated:%s:%d:%s:%s", p.run(st.Name, s.Terminated.ContainerID), s.Terminated.ExitCode, s.Terminated.Reason, s.Terminated.Message)
	case s.Waiting != nil:
		text = "waiting:" + s.Waiting.Reason + ":" + s.Waiting.Message
	}
	return st.Name + "=" + quoted(fmt.Sprintf("%s@%d%s", text, st.RestartCount, last))
}

// run names the runs of a slot in the order in which they showed.
func (p *tape) run(slot, id string) string {
	if id == "" {
		return ""
	}
	if p.runs[id] == "" {
		p.counts[slot]++
		p.runs[id] = fmt.Sprintf("%s-%d", slot, p.counts[slot])
		if p.first[slot] == "" {
			p.first[slot] = id
		}
	}
	return p.runs[id]
}

func (p *tape) event(e *corev1.Event) {
	if p.uids[e.UID] == "" {
		p.uids[e.UID] = fmt.Sprintf("e%d", len(p.uids)+1)
	}
	if e.Type == corev1.EventTypeWarning {
		p.burnt += max(e.Count, 1) - p.perEvent[e.UID]
		p.perEvent[e.UID] = max(e.Count, 1)
	}
	slot := "-"
	if _, rest, ok := strings.Cut(e.InvolvedObject.FieldPath, "{"); ok {
		slot = strings.TrimSuffix(rest, "}")
	}
	p.write(fmt.Sprintf("event %s %s %s %s uid=%s count=%d", slot, e.Type, e.Reason, quoted(e.Message), p.uids[e.UID], e.Count))
}

// placeholder returns the first containerID of a slot.
func (p *tape) placeholder(slot string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first[slot]
}

// names returns the slots.
func (p *tape) names() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.slots)
}

// running returns how many containers run that are neither init nor ephemeral ones.
func (p *tape) running() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for slot, runs := range p.now {
		if runs && p.regular[slot] {
			n++
		}
	}
	return n
}

// warnings returns how many Warnings about the pod came, repetitions counted.
func (p *tape) warnings() int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.burnt
}

// text returns the script, which ends with what is said of each slot by now.
func (p *tape) text(title, version string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.at = p.at.Add(-100 * time.Millisecond) // Rather a moment more than less.
	for _, slot := range p.slots {
		p.write("state " + slot)
	}
	p.write("state -")
	return "# " + title + "\n# Recorded on a real kubelet, " + version + ": e2e/tape_test.go.\n" + strings.Join(p.lines, "\n") + "\n"
}

var (
	notInNames = regexp.MustCompile(`[^a-z0-9]+`)

	loopback = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	resolver = regexp.MustCompile(` on [0-9.]+:53`)
	source   = regexp.MustCompile(`read udp [0-9.:]+->[0-9.:]+`)
)

// steady replaces what is another one each time.
func steady(text string) string {
	text = loopback.ReplaceAllString(text, "127.0.0.1:5000")
	text = resolver.ReplaceAllString(text, " on 192.0.2.53:53")
	return source.ReplaceAllString(text, "read udp 192.0.2.1:33000->192.0.2.53:53")
}

func quoted(text string) string {
	text = steady(strings.NewReplacer("`", "'", "\n", " ").Replace(text))
	if strings.ContainsAny(text, " ") || text == "" {
		return "`" + text + "`"
	}
	return text
}

// outline is what a timeline comes to, whatever the watch happened to show of it:
// runs, ends and failures. How long a slot waited for what is left out.
type outline struct {
	lines []string
	runs  []string
}

func (o *outline) add(slot, phase, id string, end *eventsplit.Outcome, f *eventsplit.Failure) {
	exit, failure := "", ""
	if end != nil {
		exit = fmt.Sprint(end.ExitCode)
	}
	if f != nil {
		failure = kindOf(f)
	}
	o.addText(slot, phase, id, exit, failure)
}

func (o *outline) addText(slot, phase, id, exit, failure string) {
	text := strings.ToLower(phase)
	if slot == "" && failure == "" && exit == "" || phase != "Running" && phase != "Ended" && failure == "" {
		return // The pod's phase may go unseen, as waiting may.
	}
	if id != "" {
		if !slices.Contains(o.runs, id) {
			o.runs = append(o.runs, id)
		}
		text = fmt.Sprintf("run %d %s", slices.Index(o.runs, id)+1, text)
	}
	if exit != "" {
		text += " exit " + exit
	}
	if failure != "" {
		text += " " + failure
	}
	if n := len(o.lines); n == 0 || o.lines[n-1] != text {
		o.lines = append(o.lines, text)
	}
}

var (
	goldenState   = regexp.MustCompile(`^    (?:~ )?(\S+) (NotRun|Waiting|Running|Ended)( \S+-\d+)?(?: |$)`)
	goldenExit    = regexp.MustCompile(` exit=(\d+)`)
	goldenFailure = regexp.MustCompile(` failure=\[([^\]]+)\]`)
)

// outlines reads a golden trace.
func outlines(trace string) map[string][]string {
	found := map[string]*outline{}
	for line := range strings.Lines(trace) {
		m := goldenState.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			continue
		}
		slot := strings.TrimPrefix(m[1], "-")
		if found[slot] == nil {
			found[slot] = &outline{}
		}
		exit, failure := "", ""
		if m := goldenExit.FindStringSubmatch(line); m != nil {
			exit = m[1]
		}
		if m := goldenFailure.FindStringSubmatch(line); m != nil {
			failure = m[1]
		}
		found[slot].addText(slot, m[2], strings.TrimSpace(m[3]), exit, failure)
	}
	all := map[string][]string{}
	for slot, o := range found {
		if len(o.lines) > 0 {
			all[slot] = o.lines
		}
	}
	return all
}

// compareWithGolden holds what eventsplit said on this cluster against the golden
// trace of the same story, or records that.
func (p *play) compareWithGolden(t *testing.T, name string, got map[string][]string) {
	t.Helper()
	file := filepath.Join(goldenDir, "real-"+strings.Trim(notInNames.ReplaceAllString(strings.ToLower(name), "-"), "-")+".txt")
	if *recordTraces && p.real {
		if err := os.WriteFile(file, []byte(p.tape.text(name, versionOf(t, p.client))), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("no golden trace; record it with -record: %v", err)
	}
	if diff := cmp.Diff(outlines(string(golden)), got); diff != "" {
		t.Errorf("%s tells another story (-golden +cluster):\n%s", file, diff)
	}
}

// versionOf returns that of a cluster's Kubernetes.
func versionOf(t *testing.T, client kubernetes.Interface) string {
	t.Helper()
	v, err := client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	return v.GitVersion
}
