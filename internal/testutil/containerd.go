package testutil

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/go-vela/podlife/internal/testutil/nodelog"
)

// containerd is the container runtime of the node: it outlives the
// kubelet. It keeps the containers of a pod until they are removed.
type containerd struct {
	id    func() string
	stamp func(now time.Time, i int) time.Time // Options.Stamp

	mu       sync.Mutex
	pods     map[types.UID][]*container // newest first
	programs sync.WaitGroup
}

// container is one run of a slot. What a kubelet can ask about it is in status,
// guarded by the runtime's lock.
type container struct {
	status containerStatus
	log    *nodelog.Log
	term   context.CancelCauseFunc
	ended  func()        // called at its end, whatever ended it
	killed chan struct{} // closed then
}

type containerState int

const (
	created containerState = iota
	running
	exited
)

// containerStatus is a snapshot of a container.
type containerStatus struct {
	container         *container
	id                string // containerd://...
	name              string
	specImage         string // what the pod's spec said when it was created
	image, imageID    string // what the runtime calls it
	attempt           int32  // restartCount
	state             containerState
	exitCode          int32
	reason, message   string
	started, finished time.Time
}

func newContainerd(id func() string, stamp func(time.Time, int) time.Time) *containerd {
	return &containerd{id: id, stamp: stamp, pods: map[types.UID][]*container{}}
}

// containers are the containers of a pod, newest first.
func (r *containerd) containers(uid types.UID) podStatus {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all podStatus
	for _, c := range r.pods[uid] {
		all = append(all, c.status)
	}
	return all
}

// podStatus is what the runtime says of a pod, newest container first.
type podStatus []containerStatus

// latest is the newest container of a name, nil if there never was one.
func (p podStatus) latest(name string) *containerStatus {
	for i := range p {
		if p[i].name == name {
			return &p[i]
		}
	}
	return nil
}

// differs says whether a container was made or removed since before.
func (p podStatus) differs(before podStatus) bool {
	return len(p) != len(before) || len(p) > 0 && p[0].id != before[0].id
}

// create makes a container, not yet running; ended is called at its end.
func (r *containerd) create(pod *corev1.Pod, c *corev1.Container, image image, attempt int32, ended func()) *container {
	id := "containerd://" + r.id()
	it := &container{ended: ended, killed: make(chan struct{})}
	o := nodelog.Options{
		ID: id, Notice: followEnds, Path: fmt.Sprintf("/var/log/pods/%s_%s_%s/%s/%d.log", pod.Namespace, pod.Name, pod.UID, c.Name, attempt),
	}
	if r.stamp != nil {
		o.Clock = func(now time.Time, i, _ int) time.Time { return r.stamp(now, i) }
	}
	it.log = nodelog.New(o)
	it.status = containerStatus{
		container: it, id: id, name: c.Name, specImage: c.Image,
		image: image.ref, imageID: image.id, attempt: attempt,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pods[pod.UID] = slices.Insert(r.pods[pod.UID], 0, it)
	return it
}

// start runs the program of the container. Where there is none, and of a command
// below /no/such, which no image has, runc says so; containerd reports exit code
// 128, reason StartError and the epoch as the start.
func (r *containerd) start(ctx context.Context, c *container, program Program, command []string) error {
	if program == nil || len(command) > 0 && strings.HasPrefix(command[0], "/no/such") {
		err := startError(append(command, "/no/such/entrypoint")[0])
		r.exited(c, 128, "StartError", err.Error())
		return err
	}
	ctx = context.WithoutCancel(ctx) // it outlives the kubelet that starts it
	ctx, term := context.WithCancelCause(context.WithValue(ctx, killedKey{}, (<-chan struct{})(c.killed)))
	r.mu.Lock()
	c.term, c.status.state, c.status.started = term, running, time.Now()
	r.mu.Unlock()
	r.programs.Go(func() {
		defer term(nil)
		code := program(ctx, command, c.log)
		if code == OOMKilled {
			r.exited(c, 137, "OOMKilled", "")
		} else {
			r.exited(c, int32(code), "", "")
		}
	})
	return nil
}

type startError string

func (command startError) Error() string {
	return `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: ` +
		`unable to start container process: exec: "` + string(command) + `": stat ` + string(command) + `: no such file or directory: unknown`
}

// exited notes the end of a container, once: a program that returns after it
// was killed changes nothing any more.
func (r *containerd) exited(c *container, code int32, reason, message string) {
	r.mu.Lock()
	s := &c.status
	if s.state == exited {
		r.mu.Unlock()
		return
	}
	if s.started.IsZero() {
		s.started = time.Unix(0, 0)
	}
	s.state, s.exitCode, s.reason, s.message, s.finished = exited, code, reason, message, time.Now()
	if reason == "" {
		s.reason = "Completed"
		if code != 0 {
			s.reason = "Error"
		}
	}
	c.log.Exit() // everything it wrote is in the log before anybody sees the exit
	close(c.killed)
	term := c.term
	r.mu.Unlock()
	if term != nil {
		term(ErrTerminated)
	}
	c.ended()
}

// stop sends SIGTERM and, when the grace period is over, SIGKILL. It returns
// when the container is dead, or ctx ends (the kubelet dies: no SIGKILL comes).
func (r *containerd) stop(ctx context.Context, c *container, grace time.Duration) error {
	r.mu.Lock()
	term := c.term
	r.mu.Unlock()
	if term != nil {
		term(ErrTerminated)
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-c.killed:
	case <-timer.C:
		r.exited(c, 137, "", "")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	return wait(ctx, stopTakes)
}

// collect removes the dead containers of a pod but the newest of each name, as
// the kubelet does at every death; the others' logs are gone. So the log of run
// k can be read until run k+1 ends (kubernetes v1.36.3
// pkg/kubelet/pod_container_deletor.go:84-99).
func (r *containerd) collect(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := map[string]bool{}
	r.pods[uid] = slices.DeleteFunc(r.pods[uid], func(c *container) bool {
		if c.status.state != exited {
			return false
		}
		dead := seen[c.status.name]
		seen[c.status.name] = true
		return dead
	})
}

// remove forgets a pod.
func (r *containerd) remove(uid types.UID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pods, uid)
}

// find is the container of that ID (containerd://...), nil when it was removed.
func (r *containerd) find(uid types.UID, id string) *container {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.pods[uid] {
		if c.status.id == id {
			return c
		}
	}
	return nil
}

// named is the container of that ID, whatever its pod; nil when it was removed.
func (r *containerd) named(id string) *container {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cs := range r.pods {
		for _, c := range cs {
			if c.status.id == id {
				return c
			}
		}
	}
	return nil
}

// running are the containers that run, in the order of their IDs.
func (r *containerd) running() (all []*container) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cs := range r.pods {
		for _, c := range cs {
			if c.status.state == running {
				all = append(all, c)
			}
		}
	}
	slices.SortFunc(all, func(a, b *container) int { return cmp.Compare(a.status.id, b.status.id) })
	return all
}

// close kills everything and waits for the programs.
func (r *containerd) close() {
	r.mu.Lock()
	var all []*container
	for _, cs := range r.pods {
		all = append(all, cs...)
	}
	r.mu.Unlock()
	for _, c := range all {
		r.exited(c, 137, "", "")
	}
	r.programs.Wait()
}
