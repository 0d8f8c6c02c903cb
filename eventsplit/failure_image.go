package eventsplit

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// namedImage returns the image that a text of the kubelet names, "" when the text names none.
// The kubelet adds the tag that a spec leaves out (v1.37 pkg/kubelet/images/image_manager.go
// applyDefaultImageTag, evalCRIPullErr).
func namedImage(message string) string {
	m := strings.TrimSpace(message)
	for _, prefix := range []string{"Back-off pulling image ", "Failed to pull image ", "Failed to apply default image tag ", "Container image ", "Pulling image ", "Successfully pulled image "} {
		if rest, ok := strings.CutPrefix(m, prefix+`"`); ok {
			image, _, _ := strings.Cut(rest, `"`)
			return image
		}
	}
	if rest, ok := strings.CutPrefix(m, "image pull failed for "); ok {
		image, _, _ := strings.Cut(rest, " ")
		return image
	}
	return ""
}

// inWords finds the image's name in an error of a runtime (containerd v2.4.2
// client/pull.go:97-202; containers/image v5.36.2 copy/copy.go:230, docker/docker_transport.go).
var inWords = regexp.MustCompile(`(?:failed to pull and unpack image|failed to resolve reference) "([^"]+)"|docker://([^\s"]+?):?(?:[\s"]|$)`)

// pulledImage returns the image that a failed pull is about, as the spec names it: own, the
// container's image, or one of volumes, the images that the container mounts. It returns "" when
// the words name no image and the container mounts some. A status gives only the runtime's
// words, and a transform may have stripped the volumes from the spec.
func pulledImage(f *Failure, own string, volumes []string) string {
	if f.Class != ClassImagePull {
		return cmp.Or(f.Image, own)
	}
	all := append([]string{own}, volumes...)
	image := f.Image
	if m := inWords.FindStringSubmatch(f.Message); m != nil {
		image = cmp.Or(image, m[1], m[2])
	}
	if image != "" {
		if i := slices.IndexFunc(all, func(of string) bool { return sameImage(of, image) }); i >= 0 {
			return all[i]
		}
		return image
	}
	for _, of := range all {
		if len(of) > len(image) && namesImage(f.Message, of) {
			image = of
		}
	}
	if image == "" && len(volumes) == 0 {
		image = own
	}
	return image
}

// namesImage reports whether words contain an image's name as a whole, not as a part of a longer
// name.
func namesImage(words, image string) bool {
	for rest := words; image != ""; {
		before, after, ok := strings.Cut(rest, image)
		if !ok {
			return false
		}
		if (before == "" || strings.ContainsAny(before[len(before)-1:], `"/ [(`)) && (after == "" || strings.ContainsAny(after[:1], `":@, ])`)) {
			return true
		}
		rest = after
	}
	return false
}

// imageName is an image's name in its parts.
type imageName struct {
	registry, path string
	version        string // the digest, else the tag; a tag beside a digest says nothing
}

// parseImage splits an image's name by the rules of github.com/distribution/reference
// normalize.go, which the kubelet, containerd, CRI-O and docker follow.
func parseImage(image string) imageName {
	name, version, digested := strings.Cut(image, "@")
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		if !digested {
			version = name[i+1:]
		}
		name = name[:i]
	}
	n := imageName{path: name, version: cmp.Or(version, "latest")}
	if registry, path, ok := strings.Cut(name, "/"); ok && (strings.ContainsAny(registry, ".:") || registry == "localhost" || strings.ToLower(registry) != registry) {
		n.registry, n.path = registry, path
	}
	switch n.registry {
	case "docker.io", "index.docker.io":
		n.registry, n.path = "docker.io", strings.TrimPrefix(n.path, "library/")
	}
	return n
}

// sameImage reports whether the full name named may be the image that spec names. A spec without
// a registry means docker.io, or with CRI-O whichever registry has the image.
func sameImage(spec, named string) bool {
	a, b := parseImage(spec), parseImage(named)
	return a.path == b.path && a.version == b.version && (a.registry == b.registry || a.registry == "")
}

// imageVolumes returns the images of the volumes that a container mounts. When one of them
// cannot be pulled, the containers that mount it do not start, and all others do (v1.36
// pkg/kubelet/kuberuntime/kuberuntime_manager.go:1831-1903).
func imageVolumes(p *corev1.Pod, c *corev1.Container) []string {
	var images []string
	for i := range p.Spec.Volumes {
		v := &p.Spec.Volumes[i]
		if v.Image != nil && slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == v.Name }) {
			images = append(images, v.Image.Reference)
		}
	}
	return images
}
