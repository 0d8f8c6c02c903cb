package eventsplit

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// namedImage returns the image that the kubelet's text names, "" when it names none. A
// tag that the spec leaves out is added (pkg/kubelet/images/image_manager.go
// applyDefaultImageTag, evalCRIPullErr, v1.37).
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

// inWords finds the image in a runtime's words: containerd v2.4.2 client/pull.go:97-202,
// containers/image v5.36.2 copy/copy.go:230 and docker/docker_transport.go.
var inWords = regexp.MustCompile(`(?:failed to pull and unpack image|failed to resolve reference) "([^"]+)"|docker://([^\s"]+?):?(?:[\s"]|$)`)

// pulledImage is the image that a failure to pull speaks of, as the spec names it: the
// container's own, or that of a volume that it mounts. The status of a container has the
// runtime's words alone, and the volumes may have been stripped from the spec. It is ""
// where the words name none and it may be either.
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

// namesImage reports whether words hold an image's name, and not a longer one.
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

// imageName is an image's name taken apart.
type imageName struct {
	registry, path string
	version        string // the digest, else the tag; a tag beside a digest says nothing
}

// parseImage takes a name apart by the rules of github.com/distribution/reference
// normalize.go, which the kubelet, containerd, CRI-O and docker go by.
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

// sameImage reports whether a spec's name may be what named names in full. Without a
// registry it is one of docker.io's, or of whichever CRI-O found it at.
func sameImage(spec, named string) bool {
	a, b := parseImage(spec), parseImage(named)
	return a.path == b.path && a.version == b.version && (a.registry == b.registry || a.registry == "")
}

// imageVolumes returns the images of the volumes that a container mounts. When one
// cannot be pulled, those containers do not start and all others do
// (pkg/kubelet/kuberuntime/kuberuntime_manager.go:1831-1903, v1.36).
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
