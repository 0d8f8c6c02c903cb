package eventsplit

import (
	"strings"
)

// pullWords strips what Kubernetes wraps around the words of the runtime and the registry. It
// returns "" when there are no such words.
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

// afterQuoted returns what follows a quoted image's name and a colon.
func afterQuoted(s string) string {
	if strings.HasPrefix(s, `"`) {
		if end := strings.IndexByte(s[1:], '"'); end >= 0 {
			return strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(s[end+2:]), ":"))
		}
	}
	return ""
}

// pullErrors splits the error that the kubelet makes of one error for each credential that it
// tried: "[e1, e2]" (v1.36 pkg/kubelet/kuberuntime/kuberuntime_image.go:50-70, apimachinery
// pkg/util/errors/errors.go). It strips gRPC's prefix of each; errors of code Unknown come
// without the prefix (cri-client v0.36.3 pkg/remote_image.go:252-262).
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

// splitErrors splits a list of errors at its commas, except in quotes and brackets.
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

// continued are how words behind a comma begin that belong to the same error: "pull access
// denied, repository does not exist ...", `for architecture "arm64", variant "v8", OS "linux"`,
// `StatusCode: 404, "<html>"`, "unexpected commit digest sha256:aa, expected sha256:bb", "is no
// longer supported since containerd v2.1, please rebuild the image".
var continued = []string{"repository does not exist", "variant ", "OS ", "got ", `"`, "expected ", "please ", "see ", "or ", "and ", "but "}

// primary strips the answers of mirrors where the registry itself was asked after them
// (containers/image docker/docker_image_src.go:124).
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

// pullParts splits an error at its colons. containerd puts the errors of the registry on
// separate lines (core/remotes/docker/errcode.go:298).
func pullParts(text string) []string {
	parts := strings.Split(strings.ReplaceAll(strings.TrimSpace(text), "\n", ": "), ": ")
	for i := range parts {
		parts[i] = strings.Trim(parts[i], " \t\r:")
	}
	return parts
}

// unquoted strips what stands in quotes: names of images and addresses, which may contain any
// word. Words behind a last quote without a partner are such a name, cut off.
func unquoted(s string) string {
	var b strings.Builder
	for i, part := range strings.Split(s, `"`) {
		if i%2 == 0 {
			b.WriteString(part)
		}
	}
	return b.String()
}
