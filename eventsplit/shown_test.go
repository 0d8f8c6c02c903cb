package eventsplit

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// telling is what the cluster says of one container of a script, or of its pod.
type telling struct {
	kind     string     // what container of what pod, "pod" the pod itself
	statuses [][]string // by the versions of the pod; what one version says has no order
	events   []string   // which come by a watch of their own

	id   string // of the container that the status spoke of last
	last string // reason of its lastState
}

// shows reports whether all that the other says is said here, in that order, among more.
func (t *telling) shows(script *telling) bool {
	if t.kind != script.kind {
		return false
	}
	said := slices.Concat(t.statuses...)
	for _, version := range script.statuses {
		end := 0
		for _, word := range version {
			i := slices.IndexFunc(said, func(s string) bool { return isSaid(s, word) })
			if i < 0 {
				return false
			}
			end = max(end, i+1)
		}
		said = said[end:]
	}
	events := t.events
	for _, e := range script.events {
		i := slices.Index(events, e)
		if i < 0 {
			return false
		}
		events = events[i+1:]
	}
	return true
}

// isSaid: of a condition a script need not give the reason.
func isSaid(said, script string) bool {
	return said == script || strings.HasPrefix(script, "cond ") && strings.HasSuffix(script, ":") && strings.HasPrefix(said, script)
}

// hearing takes a script for what it says.
type hearing struct {
	policy string
	all    map[string]*telling // "-" is the pod
	swaps  [][]string          // whose patch was not called yet
	last   string              // command
}

func hear(text string) map[string]*telling {
	h := &hearing{all: map[string]*telling{"-": {kind: "pod"}}, policy: "Never"}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "    patch called":
			h.patched()
		case line != "" && line[0] != ' ' && line[0] != '#':
			h.command(fields(line))
		}
	}
	return h.all
}

func (h *hearing) of(name string) *telling {
	if h.all[name] == nil {
		h.all[name] = &telling{kind: name}
	}
	return h.all[name]
}

func (h *hearing) say(name string, words ...string) {
	t := h.of(name)
	t.statuses = append(t.statuses, words)
}

func (h *hearing) command(f []string) {
	args := f[1:]
	switch h.last = f[0]; f[0] {
	case "new":
		if policy, _ := option(args, "restart"); policy != "" {
			h.policy = policy
		}
	case "spec":
		for _, a := range args {
			kind, name := "", strings.SplitN(a, "=", 2)[0]
			if k, bare, ok := strings.Cut(name, ":"); ok {
				kind, name = k, bare
			}
			h.all[name] = &telling{kind: strings.TrimSpace(kind + " container, " + h.policy)}
		}
	case "mount":
		h.of(strings.SplitN(args[0], "=", 2)[0]).kind += ", mounts an image"
	case "pod", "unseen", "deleted":
		h.version(f[0], args)
	case "image":
		for _, a := range args {
			h.say(strings.SplitN(a, "=", 2)[0], "image")
		}
	case "swap":
		h.swaps = append(h.swaps, args)
	case "event":
		t := h.of(args[0])
		t.events = append(t.events, args[1]+" "+args[2])
	case "stale", "fresh", "outofscope":
		h.say("-", f[0])
	}
}

// patched is when a swap's patch was called: the newest one's, unless it was held back.
func (h *hearing) patched() {
	i := 0
	if h.last == "swap" {
		i = len(h.swaps) - 1
	}
	answer, args := option(h.swaps[i], "answer")
	h.swaps = slices.Delete(h.swaps, i, i+1)
	for _, a := range args {
		switch name, _, _ := strings.Cut(a, "="); answer {
		case "", "timeout", "nil":
			h.say(name, "image")
		case "lost":
		default:
			h.say(name, "refused")
		}
	}
}

func (h *hearing) version(command string, args []string) {
	var words []string
	for _, a := range args {
		switch key, v, _ := strings.Cut(a, "="); key {
		case "deleting":
			words = append(words, key)
		case "phase", "reason":
			words = append(words, key+" "+v)
		case "uid":
			words = append(words, key)
		case "cond":
			part := append(strings.SplitN(v, ":", 4), "", "")
			if said := strings.Join(part[:3], ":"); said != "PodScheduled:True:" {
				words = append(words, "cond "+said)
			}
		case "message", "node":
		default:
			h.status(key, v)
		}
	}
	if command == "deleted" {
		words = append(words, command)
	}
	if len(words) > 0 {
		h.say("-", words...)
	}
}

// status: what a program exits with is its own choice, so it is no word of the cluster's.
func (h *hearing) status(name, text string) {
	t := h.of(name)
	say := func(word, reason string) {
		if reason == "Completed" || reason == "Error" {
			reason = ""
		}
		t.statuses = append(t.statuses, []string{strings.TrimSpace(word + " " + reason)})
	}
	if i := strings.LastIndex(text, "<"); i >= 0 {
		if last := strings.SplitN(text[i+1:], ":", 3); len(last) == 3 && last[2] != "Error" && last[2] != t.last {
			t.last = last[2]
			say("last", t.last)
		}
		text = text[:i]
	}
	if i := strings.LastIndex(text, "@"); i >= 0 {
		text = text[:i]
	}
	part := append(strings.SplitN(text, ":", 5), "", "", "", "")
	if part[0] == "waiting" {
		say("waiting", part[1])
		return
	}
	id, reason := part[1], ""
	if part[0] == "terminated" {
		reason = part[3]
		if id != t.id && reason != "StartError" {
			say("running", "") // seen or not
		}
	}
	t.id = id
	if id == "" || id[0] == '~' {
		part[0] += " without an ID"
	}
	say(part[0], reason)
}

// notShown is why no real trace shows what a script says: what one node of the cluster of
// e2e cannot play, or what no cluster plays.
var notShown = map[string]string{
	"cure-by-events-alone":          noScheduler + "; " + noVolumes,
	"cure-owner-refused":            noControllers,
	"cure-sandbox-made-anew":        "the pods of the cluster are in the node's network, and no plugin fails for them",
	"cure-scheduled":                noScheduler,
	"cure-status-goes-on":           noChance,
	"events-before-pod":             noScheduler,
	"hint-called-off":               noControllers,
	"hint-condition-taken-back":     noControllers,
	"hint-deletion":                 noControllers,
	"hint-node-well-again":          noControllers,
	"image-volume-and-own-image":    noChance + ": the Event that is the sum of ten like it",
	"image-volume-spec-unknown":     noCluster + ": a spec that is not shown whole",
	"lost-pod-of-a-virtual-kubelet": noKubelet,
	"lost-unknown-end":              noKubelet,
	"no-id-in-the-state":            noKubelet,
	"no-ids-lost-init":              noChance + ": the kubelet restarts after the init containers' ends have been cleaned up",
	"no-ids-placeholder":            noKubelet,
	"no-ids-restarts":               noKubelet,
	"no-ids-virtual-kubelet":        noKubelet,
	"owner-refused":                 noControllers,
	"pod-drained-after-the-end":     noControllers + ", whose finalizer keeps a pod that has ended",
	"pod-evicted":                   "the kubelet of the cluster does not find the file system that is below its root, and without it its eviction manager does nothing",
	"pod-failed-then-disrupted":     noControllers,
	"pod-node-lost":                 noControllers,
	"pod-node-not-ready":            noControllers,
	"pod-node-recovered":            noControllers,
	"pod-podgc":                     noControllers,
	"pod-preempted":                 noScheduler,
	"pod-unschedulable":             noScheduler,
	"pod-volume-attached-elsewhere": noVolumes,
	"pod-volume-never-detached":     noVolumes,
	"swap-before-placeholder-good":  noScheduler,
	"swap-pull-failed":              noCluster + ": its last version takes back a failure that is final",
	"vanished-and-found":            noChance + ": the runtime forgets a container for a moment",
	"vanished-without-a-word":       noChance + ": the runtime forgets a container and cannot make it anew",
}

const (
	noScheduler   = "the cluster has no scheduler"
	noControllers = "the cluster has no controllers: no jobs, no taint manager, no disruption controller, no collector of pods"
	noVolumes     = "the cluster has one node, and no volumes that are attached to nodes"
	noKubelet     = "no kubelet says so: a virtual one's provider, or a fake"
	noChance      = "a kubelet may say so, and nothing makes it"
	noCluster     = "no cluster says so"
)

// What a script makes the cluster say a real kubelet has said, in a trace recorded on it: of
// some container of the same kind the same, in the same order, and of some pod. Where none
// has, it is said why.
func TestScriptsSayWhatARealKubeletHasSaid(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	scripts, recorded := map[string]map[string]*telling{}, map[string]map[string]*telling{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		into := scripts
		if strings.HasPrefix(name, "real-") {
			into = recorded
		}
		into[name] = hear(string(text))
	}
	for _, name := range slices.Sorted(maps.Keys(scripts)) {
		missing := notSaid(scripts[name], recorded)
		switch why, excused := notShown[name]; {
		case len(missing) > 0 && !excused:
			t.Errorf("%s: no trace recorded on a real kubelet shows this, and notShown does not say why:\n%s", name, strings.Join(missing, "\n"))
		case len(missing) == 0 && excused:
			t.Errorf("%s: real traces show it all; notShown need not say %q", name, why)
		}
	}
	for name := range notShown {
		if scripts[name] == nil {
			t.Errorf("notShown speaks of %s, and there is no such script", name)
		}
	}
}

// notSaid returns what of a script no trace shows.
func notSaid(script map[string]*telling, recorded map[string]map[string]*telling) (missing []string) {
	for _, slot := range slices.Sorted(maps.Keys(script)) {
		said := false
		for _, trace := range recorded {
			for _, other := range trace {
				said = said || other.shows(script[slot])
			}
		}
		if s := script[slot]; !said {
			missing = append(missing, fmt.Sprintf("  %s (%s): %q, events %q", slot, s.kind, s.statuses, s.events))
		}
	}
	return missing
}
