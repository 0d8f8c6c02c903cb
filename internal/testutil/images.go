package testutil

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/flowcontrol"
)

// Why a container waits to start: the words in status.containerStatuses.
var (
	errImagePull        = errors.New("ErrImagePull")
	errImagePullBackOff = errors.New("ImagePullBackOff")
	errImageNeverPull   = errors.New("ErrImageNeverPull")
	errInvalidImageName = errors.New("InvalidImageName")
	errRunContainer     = errors.New("RunContainerError")
	errCrashLoopBackOff = errors.New("CrashLoopBackOff")
)

// image is what the runtime knows of an image. Two tags of one image are one
// image to it: ref is the tag it saw first.
type image struct {
	id, ref string
	program Program
}

// images is the kubelet's image manager with the runtime's store of images.
type images struct {
	programs map[string]Program
	pull     func(ref string) (time.Duration, error)
	serial   chan struct{} // one pull at a time on the node: serializeImagePulls is on by default

	mu      sync.Mutex
	known   map[string]image // by ID
	present map[string]bool  // refs
	failed  map[string]string
	backoff *flowcontrol.Backoff // client-go's, the one that the kubelet uses
}

func newImages(o Options) *images {
	m := &images{
		programs: map[string]Program{"pause": Pause, "registry.k8s.io/pause": Pause, "kubernetes/pause": Pause},
		pull:     o.Pull, serial: make(chan struct{}, 1),
		known: map[string]image{}, present: map[string]bool{}, failed: map[string]string{},
		backoff: flowcontrol.NewBackOff(10*time.Second, 300*time.Second),
	}
	maps.Copy(m.programs, o.Images)
	return m
}

// lookup finds the program of an image: under its name or, whatever its tag,
// under its name without one.
func (m *images) lookup(ref string) (image, bool) {
	name := ref
	program, ok := m.programs[name]
	if !ok {
		if tag := strings.LastIndexByte(ref, ':'); tag > strings.LastIndexByte(ref, '/') {
			name = ref[:tag]
		}
		program, ok = m.programs[name]
	}
	return image{id: fmt.Sprintf("%s@sha256:%x", name, sha256.Sum256([]byte(name))), ref: ref, program: program}, ok
}

// ensure sees to it that the image of a container is present, with the Events
// and errors of the kubelet (kubernetes v1.36.3 pkg/kubelet/images/image_manager.go:262-320).
func (m *images) ensure(ctx context.Context, uid types.UID, c *corev1.Container, say func(kind, reason, message string)) (image, string, error) {
	if c.Image != strings.ToLower(c.Image) || strings.ContainsAny(c.Image, " \t") {
		msg := fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: invalid reference format", c.Image, c.Image)
		say(corev1.EventTypeWarning, "InspectFailed", msg)
		return image{}, msg, errInvalidImageName
	}
	if c.ImagePullPolicy != corev1.PullAlways && m.has(c.Image) {
		say(corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Container image %q already present on machine and can be accessed by the pod", c.Image))
		return m.have(c.Image), "", nil
	}
	if c.ImagePullPolicy == corev1.PullNever {
		msg := fmt.Sprintf("Container image %q is not present with pull policy of Never", c.Image)
		say(corev1.EventTypeWarning, "ErrImageNeverPull", msg)
		return image{}, msg, errImageNeverPull
	}
	key := string(uid) + "_" + c.Image
	if m.backoff.IsInBackOffSinceUpdate(key, time.Now()) {
		msg := fmt.Sprintf("Back-off pulling image %q", c.Image)
		say(corev1.EventTypeNormal, "BackOff", msg)
		m.mu.Lock()
		defer m.mu.Unlock()
		if why, ok := m.failed[key]; ok {
			msg += ": " + why
		}
		return image{}, msg, errImagePullBackOff
	}
	say(corev1.EventTypeNormal, "Pulling", fmt.Sprintf("Pulling image %q", c.Image))
	asked := time.Now()
	took, err := m.fetch(ctx, c.Image)
	if err != nil {
		if ctx.Err() != nil {
			return image{}, "", context.Cause(ctx)
		}
		say(corev1.EventTypeWarning, "Failed", fmt.Sprintf("Failed to pull image %q: %v", c.Image, err))
		m.backoff.Next(key, time.Now())
		m.mu.Lock()
		defer m.mu.Unlock()
		m.failed[key] = fmt.Sprintf("%v: %v", errImagePull, err)
		return image{}, err.Error(), errImagePull
	}
	say(corev1.EventTypeNormal, "Pulled", fmt.Sprintf("Successfully pulled image %q in %v (%v including waiting). Image size: %d bytes.",
		c.Image, took.Truncate(time.Millisecond), time.Since(asked).Truncate(time.Millisecond), 1<<20))
	return m.have(c.Image), "", nil
}

// has says whether an image is present: it was pulled or, unless Options.Pull
// says how that goes, is known. A node has the pause image anyway, its sandboxes
// run it.
func (m *images) has(ref string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	name, _, _ := strings.Cut(ref[strings.LastIndexByte(ref, '/')+1:], ":")
	_, known := m.lookup(ref)
	return m.present[ref] || known && (m.pull == nil || name == "pause")
}

// have notes that an image is present.
func (m *images) have(ref string) image {
	found, _ := m.lookup(ref)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.present[ref] = true
	if first, ok := m.known[found.id]; ok {
		return first
	}
	m.known[found.id] = found
	return found
}

// fetch pulls the image from its registry.
func (m *images) fetch(ctx context.Context, ref string) (time.Duration, error) {
	select {
	case m.serial <- struct{}{}:
		defer func() { <-m.serial }()
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	took, err := pullTakes, error(nil)
	if m.pull != nil {
		took, err = m.pull(ref)
	}
	if _, ok := m.lookup(ref); !ok && err == nil {
		err = missing(ref)
	}
	if stopped := wait(ctx, took); stopped != nil {
		return took, stopped
	}
	return took, err
}

// missing is what containerd says of an image that cannot be pulled.
func missing(ref string) error {
	prefix := fmt.Sprintf(`failed to pull and unpack image %q: failed to resolve reference %q: `, ref, ref)
	host, rest, _ := strings.Cut(ref, "/")
	if strings.HasPrefix(host, "127.0.0.1:") || strings.HasPrefix(host, "localhost:") {
		name, tag, _ := strings.Cut(rest, ":")
		return fmt.Errorf(`%sfailed to do request: Head "https://%s/v2/%s/manifests/%s": dial tcp %s: connect: connection refused`, prefix, host, name, tag, host)
	}
	return fmt.Errorf("rpc error: code = NotFound desc = %s%s: not found", prefix, ref)
}
