package eventsplit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
)

// A script is a story of one pod. Lines at the margin are played, one by one;
// what the Splitter says to each stands below it, indented. See testdata.
//
//	new [placeholder=a,b|*] [restart=Never] [buffer=N]
//	spec [init:|sidecar:|eph:|rule42:|all88:]NAME=IMAGE ...          the pod's containers
//	mount NAME=IMAGE                                  a container mounts the image as a volume
//	pod [phase=P] [reason=R] [message=M] [deleting] [node=N] [cond=TYPE:STATUS:REASON[:MESSAGE]] [NAME=STATUS ...]
//	unseen ...                                        a version that the watch never shows
//	deleted                                           the pod as it is, DELETED
//	   STATUS: waiting:REASON[:MESSAGE] | running:ID | terminated:ID:CODE[:REASON[:MESSAGE]], then @RESTARTS, then <LASTID:CODE[:REASON]
//	           ~ID: the status' containerID is ID, and its state has none
//	image NAME=IMAGE                                  someone patches the spec
//	event NAME|- TYPE REASON MESSAGE [uid=U] [count=N]
//	swap NAME=IMAGE ... [answer=CODE:REASON:MESSAGE|timeout|lost|nil] (lost: not applied; timeout: applied; both unknown)
//	wait NAME started|ended|ready|pulled|running      slot "-" is the pod
//	next NAME [AFTER]
//	state NAME, sleep DURATION, stale, fresh, outofscope, close
//
// Fields with blanks are quoted.
type script struct {
	t    *testing.T
	s    *Splitter
	pod  *corev1.Pod
	rv   int
	said map[string]uint64
	out  chan string
	ctx  context.Context
	stop context.CancelFunc
	uid  int
}

const testNS, testPod = "ci", "build"

// play runs a script in virtual time and returns the script with its output.
func play(t *testing.T, text string) string {
	t.Helper()
	var b strings.Builder
	synctest.Test(t, func(t *testing.T) {
		sc := &script{t: t, said: map[string]uint64{}, out: make(chan string, 1000)}
		sc.ctx, sc.stop = context.WithCancel(t.Context())
		for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
			if strings.HasPrefix(line, "    ") {
				continue
			}
			b.WriteString(line + "\n")
			if line == "" || strings.HasPrefix(line, "#") {
				continue
			}
			sc.do(fields(line))
			synctest.Wait()
			for _, l := range sc.news() {
				b.WriteString("    " + l + "\n")
			}
		}
		if sc.s != nil {
			sc.s.Close()
		}
		sc.stop()
		synctest.Wait()
	})
	return b.String()
}

// fields splits a line at blanks, except in backquotes, and strips the backquotes.
func fields(line string) []string {
	var fs []string
	var cur strings.Builder
	quoted, some := false, false
	for _, r := range line {
		switch {
		case r == '`':
			quoted, some = !quoted, true
		case r == ' ' && !quoted:
			if some || cur.Len() > 0 {
				fs = append(fs, cur.String())
			}
			cur.Reset()
			some = false
		default:
			cur.WriteRune(r)
		}
	}
	if some || cur.Len() > 0 {
		fs = append(fs, cur.String())
	}
	return fs
}

func (sc *script) do(f []string) {
	args := f[1:]
	switch f[0] {
	case "new":
		sc.start(args)
	case "spec":
		sc.spec(args)
	case "mount":
		name, image, _ := strings.Cut(args[0], "=")
		mounts(name, image)(sc.pod)
	case "pod":
		sc.change(args)
		sc.deliver(watch.Modified)
	case "unseen":
		sc.change(args)
	case "deleted":
		sc.change(args)
		sc.deliver(watch.Deleted)
	case "image":
		sc.patch(args)
		sc.deliver(watch.Modified)
	case "event":
		sc.event(args)
	case "swap":
		sc.swap(args)
	case "wait":
		sc.wait(args)
	case "next":
		sc.next(args)
	case "state":
		sc.out <- "= " + stateText(sc.s.State(slotArg(args[0])))
	case "sleep":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			sc.t.Fatal(err)
		}
		time.Sleep(d)
	case "stale", "fresh", "outofscope", "closed":
		reason := map[string]metav1.StatusReason{"stale": "Stale", "fresh": "Fresh", "outofscope": "OutOfScope", "closed": "Closed"}[f[0]]
		sc.s.Handle(watch.Event{Type: watch.Error, Object: &metav1.Status{Reason: reason}})
	case "close":
		sc.s.Close()
	default:
		sc.t.Fatalf("script: unknown command %q", f[0])
	}
}

func slotArg(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

func option(args []string, key string) (string, []string) {
	for i, a := range args {
		if v, ok := strings.CutPrefix(a, key+"="); ok {
			return v, slices.Delete(slices.Clone(args), i, i+1)
		}
	}
	return "", args
}

func (sc *script) start(args []string) {
	var o Options
	ph, args := option(args, "placeholder")
	if ph != "" {
		o.Placeholder = func(slot string) bool { return ph == "*" || slices.Contains(strings.Split(ph, ","), slot) }
	}
	restart, args := option(args, "restart")
	if restart == "" {
		restart = "Never"
	}
	if b, _ := option(args, "buffer"); b != "" {
		o.Buffer, _ = strconv.Atoi(b)
	}
	sc.s = New(testNS, testPod, o)
	sc.pod = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: testNS, Name: testPod, UID: "pod-1"},
		Spec:       corev1.PodSpec{RestartPolicy: corev1.RestartPolicy(restart)},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
}

func (sc *script) spec(args []string) {
	for _, a := range args {
		name, image, _ := strings.Cut(a, "=")
		c := corev1.Container{Image: image}
		kind, bare, ok := strings.Cut(name, ":")
		if !ok {
			kind, bare = "", name
		}
		c.Name = bare
		switch kind {
		case "init":
			sc.pod.Spec.InitContainers = append(sc.pod.Spec.InitContainers, c)
		case "sidecar":
			always := corev1.ContainerRestartPolicyAlways
			c.RestartPolicy = &always
			sc.pod.Spec.InitContainers = append(sc.pod.Spec.InitContainers, c)
		case "eph":
			sc.pod.Spec.EphemeralContainers = append(sc.pod.Spec.EphemeralContainers,
				corev1.EphemeralContainer{EphemeralContainerCommon: corev1.EphemeralContainerCommon(c)})
		case "rule42": // restarted only on exit code 42
			onlyOn(&c, 42, corev1.ContainerRestartRuleActionRestart)
			fallthrough
		case "all88": // all containers are restarted on exit code 88
			if kind == "all88" {
				onlyOn(&c, 88, corev1.ContainerRestartRuleActionRestartAllContainers)
			}
			fallthrough
		default:
			sc.pod.Spec.Containers = append(sc.pod.Spec.Containers, c)
		}
	}
}

// onlyOn gives a container a rule by which one exit code restarts it, or all containers of the
// pod.
func onlyOn(c *corev1.Container, code int32, action corev1.ContainerRestartRuleAction) {
	never := corev1.ContainerRestartPolicyNever
	c.RestartPolicy = &never
	c.RestartPolicyRules = []corev1.ContainerRestartRule{{Action: action, ExitCodes: &corev1.ContainerRestartRuleOnExitCodes{
		Operator: corev1.ContainerRestartRuleOnExitCodesOpIn, Values: []int32{code},
	}}}
}

func (sc *script) deliver(t watch.EventType) {
	sc.rv++
	sc.pod.ResourceVersion = strconv.Itoa(sc.rv)
	sc.s.Handle(watch.Event{Type: t, Object: sc.pod.DeepCopy()})
}

func (sc *script) patch(args []string) {
	for _, a := range args {
		name, image, _ := strings.Cut(a, "=")
		c := sc.container(name)
		if c.Image != image {
			c.Image = image
			sc.pod.Generation++
		}
	}
}

func (sc *script) container(name string) *corev1.Container {
	for i := range sc.pod.Spec.Containers {
		if sc.pod.Spec.Containers[i].Name == name {
			return &sc.pod.Spec.Containers[i]
		}
	}
	for i := range sc.pod.Spec.InitContainers {
		if sc.pod.Spec.InitContainers[i].Name == name {
			return &sc.pod.Spec.InitContainers[i]
		}
	}
	sc.t.Fatalf("script: no container %q", name)
	return nil
}

func (sc *script) change(args []string) {
	p := sc.pod
	for _, a := range args {
		key, v, _ := strings.Cut(a, "=")
		switch key {
		case "phase":
			p.Status.Phase = corev1.PodPhase(v)
		case "reason":
			p.Status.Reason = v
		case "message":
			p.Status.Message = v
		case "deleting":
			now := metav1.Now()
			p.DeletionTimestamp = &now
		case "node":
			p.Spec.NodeName = v
		case "uid":
			p.UID = types.UID(v)
		case "cond":
			part := append(strings.SplitN(v, ":", 4), "", "", "")
			p.Status.Conditions = slices.DeleteFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return string(c.Type) == part[0] })
			p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{
				Type: corev1.PodConditionType(part[0]), Status: corev1.ConditionStatus(part[1]), Reason: part[2], Message: part[3],
				LastTransitionTime: metav1.Now(),
			})
		default:
			sc.status(key, v)
		}
	}
}

var errNet = errors.New("http2: client connection lost")

func (sc *script) swap(args []string) {
	answer, args := option(args, "answer")
	var names []string
	for _, a := range args {
		name, _, _ := strings.Cut(a, "=")
		names = append(names, name)
	}
	go func() {
		err := sc.s.Swap(sc.ctx, func(context.Context) (*corev1.Pod, error) {
			sc.out <- "patch called"
			part := append(strings.SplitN(answer, ":", 3), "", "")
			code, _ := strconv.Atoi(part[0])
			switch {
			case code != 0:
				return nil, &apierrors.StatusError{ErrStatus: metav1.Status{
					Status: "Failure", Code: int32(code), Reason: metav1.StatusReason(part[1]), Message: part[2],
				}}
			case answer == "lost":
				return nil, errNet
			}
			sc.patch(args)
			sc.rv++
			sc.pod.ResourceVersion = strconv.Itoa(sc.rv)
			switch answer {
			case "timeout":
				return nil, errNet
			case "nil":
				return nil, nil
			}
			return sc.pod.DeepCopy(), nil
		}, names...)
		sc.out <- fmt.Sprintf("swap %s: %s", strings.Join(names, " "), errText(err))
	}()
}

func (sc *script) wait(args []string) {
	until := map[string]func(State) bool{
		"started": Started, "ended": Ended, "ready": Ready, "pulled": Pulled,
		"running": func(s State) bool { return s.Phase == PhaseRunning },
	}[args[1]]
	go func() {
		st, err := sc.s.Wait(sc.ctx, slotArg(args[0]), until)
		text := stateText(st)
		switch {
		case err == nil:
		case until(st):
			text = "it held, with an error: " + text
		default:
			text = errText(err)
		}
		sc.out <- fmt.Sprintf("wait %s: %s", strings.Join(args, " "), text)
	}()
}

func (sc *script) next(args []string) {
	after := ""
	if len(args) > 1 {
		after = args[1]
	}
	go func() {
		id, err := sc.s.NextRun(sc.ctx, args[0], after)
		if err != nil {
			id = errText(err)
		}
		sc.out <- fmt.Sprintf("next %s: %s", strings.Join(args, " "), id)
	}()
}

// news returns what was told since the last line: the new entries of each slot in order, then
// the answers, sorted.
func (sc *script) news() []string {
	var lines []string
	if sc.s != nil {
		for _, name := range sc.names() {
			lines = append(lines, sc.newEntries(name)...)
		}
	}
	var answers []string
	for len(sc.out) > 0 {
		answers = append(answers, <-sc.out)
	}
	slices.Sort(answers)
	return append(lines, answers...)
}

func (sc *script) names() []string {
	names := []string{""}
	for _, sl := range sc.s.order {
		names = append(names, sl.name)
	}
	return names
}

func (sc *script) newEntries(name string) []string {
	sc.s.mu.Lock()
	defer sc.s.mu.Unlock()
	t := &sc.s.record.timeline
	if name != "" {
		t = &sc.s.slots[name].timeline
	}
	entries, dropped := t.since(max(sc.said[name], 1))
	var lines []string
	if dropped > 0 {
		lines = append(lines, fmt.Sprintf("%s: %d dropped", name, dropped))
	}
	for _, e := range entries {
		sc.said[name] = e.Seq + 1
		text := entryText(name, e)
		if n := len(lines); n > 0 && lines[n-1] == text && e.State != nil {
			continue // the two States differ in what the text leaves out, for instance the image during a swap
		}
		lines = append(lines, text)
	}
	return lines
}
