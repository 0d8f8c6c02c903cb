package eventsplit

import (
	"strings"
)

// pullWords strips from a pull message what Kubernetes wrapped around the words
// of the registry; it is "" when nothing else is there.
func pullWords(message string) string {
	m := strings.TrimSpace(message)
	if rest, ok := strings.CutPrefix(m, "Error: "); ok {
		m = rest
	}
	switch m {
	case reasonErrImagePull, reasonImagePullBackOff:
		return ""
	}
	for _, prefix := range []string{"Back-off pulling image ", "Failed to pull image ", inspecting, "Failed to apply default image tag "} {
		if rest, ok := strings.CutPrefix(m, prefix); ok {
			if m = afterQuoted(rest); m == "" {
				return ""
			}
			break
		}
	}
	m = strings.TrimPrefix(m, "ErrImagePull: ")
	if rest, ok := strings.CutPrefix(m, "image pull failed for "); ok { // pkg/kubelet/images/image_manager.go evalCRIPullErr, v1.36
		for _, because := range []string{" because the registry is unavailable: ", " because the signature validation failed: "} {
			if _, words, ok := strings.Cut(rest, because); ok {
				m = words
			}
		}
	}
	if rest, ok := strings.CutPrefix(m, grpcError); ok {
		if _, desc, ok := strings.Cut(rest, " desc = "); ok {
			m = desc
		}
	}
	return strings.TrimSpace(m)
}

const inspecting = "Failed to inspect image "

// afterQuoted returns what follows a quoted image name and a colon.
func afterQuoted(s string) string {
	if strings.HasPrefix(s, `"`) {
		if end := strings.IndexByte(s[1:], '"'); end >= 0 {
			return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(s[end+2:]), ":"))
		}
	}
	return ""
}

// pullErrors takes apart what the kubelet made of one error for each credential that
// it tried: "[e1, e2]" (pkg/kubelet/kuberuntime/kuberuntime_image.go:50-70,
// apimachinery pkg/util/errors/errors.go, v1.36), and cuts off gRPC's wrapping, which
// errors of code Unknown come without (cri-client v0.36.3 pkg/remote_image.go).
func pullErrors(words string) []string {
	list, ok := strings.CutPrefix(strings.TrimSpace(words), "[")
	if !ok {
		return []string{cleanRuntime(words)}
	}
	var all []string
	for i, part := range strings.Split(strings.TrimSuffix(list, "]"), ", "+grpcError) {
		if i > 0 {
			part = grpcError + part
		}
		all = append(all, splitErrors(part)...)
	}
	return all
}

// splitErrors takes a list of errors apart at its commas, but those in quotes or brackets.
func splitErrors(list string) (all []string) {
	from, depth, quoted := 0, 0, false
	for i := range len(list) {
		switch c := list[i]; {
		case c == '"' && (i == 0 || list[i-1] != '\\'):
			quoted = !quoted
		case quoted:
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		case c == ',' && depth <= 0 && strings.HasPrefix(list[i:], ", ") && !hasAnyPrefix(list[i+2:], continued...):
			all, from = append(all, cleanRuntime(list[from:i])), i+2
		}
	}
	return append(all, cleanRuntime(list[from:]))
}

// continued are how the words behind a comma begin that belong to the error before
// it: "pull access denied, repository does not exist ...", `for architecture "arm64",
// variant "v8", OS "linux"`, `StatusCode: 404, "<html>"`, "unexpected commit digest
// sha256:aa, expected sha256:bb", "is no longer supported since containerd v2.1, please
// rebuild the image".
var continued = []string{"repository does not exist", "variant ", "OS ", "got ", `"`, "expected ", "please ", "see ", "or ", "and ", "but "}

// primary leaves out what mirrors answered, where the registry itself was asked
// after them (containers/image docker/docker_image_src.go:124).
func primary(words string) string {
	before, rest, ok := strings.Cut(words, "(Mirrors also failed: ")
	if !ok {
		return words
	}
	if end := strings.LastIndex(rest, "]): "); end >= 0 {
		return before + rest[end+len("]): "):]
	}
	return words
}

// pullParts takes an error apart at its colons. containerd puts the registry's own
// errors on lines of their own (core/remotes/docker/errcode.go:298).
func pullParts(text string) []string {
	parts := strings.Split(strings.ReplaceAll(strings.TrimSpace(text), "\n", ": "), ": ")
	for i := range parts {
		parts[i] = strings.Trim(parts[i], " \t\r:")
	}
	return parts
}

// unquoted leaves out what stands in quotes: names of images and addresses, which
// may hold any word. Behind a last quote that was cut off stands such a name, too.
func unquoted(s string) string {
	var b strings.Builder
	for i, part := range strings.Split(s, `"`) {
		if i%2 == 0 {
			b.WriteString(part)
		}
	}
	return b.String()
}
