package eventsplit

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Only its text tells why a pull failed: the runtime's error crosses gRPC, and the gRPC code
// NotFound is the node's as often as the registry's. Each rule below names the sources of both
// sides: of the texts that the rule means, and of those that look alike and that it does not
// mean. The sources are containerd v2.4.2 (v1.7.35 where that differs); containers/image
// v5.36.2, which CRI-O v1.37 pulls with; moby v28.5.2, which cri-dockerd v0.4 pulls with;
// kubernetes v1.36.3.

// pullCause is a cause, whether Kubernetes may overcome it, and the texts that tell it, in lower
// case.
type pullCause struct {
	cause      Cause
	mayRecover bool
	texts      []string
}

// readPull sets Message, Image, Cause and MayRecover from the kubelet's text of a failed pull. A
// text without words of its own leaves Cause and MayRecover as they are.
func (f *Failure) readPull(message string) {
	words := pullWords(message)
	f.Message, f.Image = words, cmp.Or(namedImage(message), f.Image)
	if words == "" {
		return
	}
	if strings.HasPrefix(strings.TrimSpace(message), inspecting) {
		words = message // the prefix says that the registry was not asked
	}
	if f.Cause == "" { // else the waiting reason has told the cause
		f.Cause, f.MayRecover = classifyPull(words)
	}
}

// classifyPull returns why a pull failed and whether a later try may succeed, from the words of
// the failure. Where the kubelet tried several credentials, a later try may succeed as long as
// it may with one of them.
func classifyPull(words string) (cause Cause, mayRecover bool) {
	for i, one := range pullErrors(words) {
		c, may := classifyPullError(one)
		switch {
		case may && (!mayRecover || cause == ""):
			cause, mayRecover = c, true
		case i == 0:
			cause = c
		case !mayRecover && c == CauseUnauthorized:
			cause = c // a registry may answer "not found" to someone who may not see the image
		}
	}
	return cause, mayRecover
}

func classifyPullError(words string) (Cause, bool) {
	text := unquoted(primary(words))
	lower, parts := strings.ToLower(text), pullParts(text)
	status := answered(parts)
	if c := find(lower, limits); c != nil {
		return c.cause, c.mayRecover
	}
	if status == http.StatusTooManyRequests {
		return CauseRateLimited, true
	}
	if containsAny(lower, otherPlatform...) { // containerd may say so while it unpacks
		return CauseNotFound, false
	}
	if containsAny(lower, atNode...) {
		if strings.Contains(lower, "no space left on device") {
			return CauseDiskFull, true
		}
		return "", true
	}
	if c := find(lower, fixed); c != nil {
		return c.cause, c.mayRecover
	}
	if !containsAny(lower, ofLayers...) && !byMirror.MatchString(text) {
		if c := find(lower, refused); c != nil {
			return c.cause, c.mayRecover
		}
		if c := refusal(words, lower, parts); c != "" {
			return c, false
		}
	}
	if containsAny(lower, network...) || serverFault.MatchString(text) || status/100 == 5 || status == http.StatusRequestTimeout || unanswered(parts) {
		return CauseNetwork, true
	}
	return "", true
}

// limits are checked first, because a registry wraps them in texts of "unauthorized" and "not
// found".
var limits = []pullCause{
	{CauseThrottled, true, []string{"pull qps exceeded"}}, // kubelet images/helpers.go
	{CauseRateLimited, true, []string{
		"toomanyrequests", "too many requests", "rate limit",
		"quota exceeded for quota metric", // Google's registries, behind the code DENIED
	}},
}

// atNode are the texts in front of an error of the node itself: of its content store, its
// snapshotter, its disk, its runtime's socket. Such an error may end in "not found", "permission
// denied", "unexpected EOF", or in the 403 of a snapshotter that pulls lazily; it tells nothing
// about the image. A later try may succeed, or the node has to be repaired.
var atNode = []string{
	"failed to extract layer", "prepare extraction snapshot", "failed to commit snapshot", "failed to stat snapshot", // containerd core/unpack/unpacker.go:513-648
	"failed to unpack image", "unable to initialize unpacker", "snapshotter", // containerd client/pull.go:97-189
	"content digest sha256:", "failed to get reader from content store", // containerd core/metadata/content.go, core/diff/apply
	"unexpected media type",                                                                           // containerd core/images/image.go:242: a blob in the store that is no manifest
	"get image config descriptor", "failed to create image reference", "failed to update image store", // containerd internal/cri/server/images/image_pull.go
	"failed to inspect image",                                 // kubelet images/image_manager.go: the registry is not asked
	"adding layer with blob", "committing the finished image", // containers/image storage/storage_dest.go, copy/copy.go:366
	"initializing destination",                                       // containers/image copy/copy.go:230
	"failed to register layer",                                       // moby distribution/xfer/download.go:362
	"error reading from server", "transport is closing", "dial unix", // grpc: the runtime itself does not answer
	"cannot connect to the docker daemon", "connection error: desc", // moby client; grpc
}

// ofLayers are the texts in front of an error about a part of an image whose manifest the
// registry has already delivered. A 404 does not mean that the image does not exist. A refusal
// often means that an address or a token, valid for a few minutes, has expired.
var ofLayers = []string{
	"httpreadseeker", "failed to copy", "could not fetch content", // containerd core/remotes/docker/httpreadseeker.go:183, fetcher.go:366, core/content/helpers.go:229
	"reading blob", "fetching blob", "reading config blob", "external blob", // containers/image copy/single.go:640,855, docker/docker_client.go:999,1059
	"error pulling image configuration", "download failed after", // moby distribution/pull_v2.go, xfer/download.go
}

// byMirror finds the address of a mirror in an answer. containerd asks its hosts in turn, tells
// a mirror which registry it stands for by the parameter ns, and returns the first status above
// 399 that is not 404, even where the registry itself did not answer or lacks the image
// (core/remotes/docker/resolver.go:315-380,647). A mirror's refusal is therefore not the
// registry's.
var byMirror = regexp.MustCompile(`[?&]ns=`)

// fixed are causes that a phrase tells wherever the phrase stands.
var fixed = []pullCause{
	{CauseInvalidName, false, []string{
		"invalid reference format", "couldn't parse image", "failed to parse image reference", "invalidimagename", "must be lowercase",
		"name invalid", "name_invalid", // the registry's own code, distribution registry/api/v2/errors.go
		"did not resolve to an alias", "short name mode is enforcing", "short-name resolution enforced", // containers/image pkg/shortnames: the name lacks a registry
	}},
	{CauseSignature, false, []string{
		"signature validation", "signature verification", "signaturevalidationfailed", "source image rejected",
		"blocked pull of", // containerd core/transfer/local/pull.go:90, an image verifier of the node
	}},
	{"", false, []string{
		"is no longer supported since containerd", "schema 1 image manifests are no longer supported", // containerd client/pull.go:224
		"cannot be used on this platform", "-based image is incompatible with", // moby distribution/config.go:155, pull_v2_windows.go:144
		"is blocked in ", // containers/image docker/docker_client.go:256: the node's configuration forbids the registry
	}},
	{CauseDiskFull, true, []string{"no space left on device", "disk quota exceeded"}},
	// The name or certificate of a proxy is not that of the registry.
	{CauseNetwork, true, []string{"proxyconnect", "proxy authentication required"}},
	{CauseNoSuchHost, true, []string{"no such host", "server misbehaving", "name resolution", "name or service not known"}},
	{CauseCertificate, true, []string{outOfDate}},
	{CauseCertificate, false, []string{"x509:", "certificate signed by unknown authority", "server gave http response to https client"}},
}

// outOfDate is the text of crypto/x509 for a certificate outside of its validity (verify.go,
// CertificateInvalidError). A later try may succeed: the certificate is renewed, or the clock of
// a node that has just booted is set.
const outOfDate = "certificate has expired or is not yet valid"

// refused are phrases that only a registry says, or a client that quotes the registry.
var refused = []pullCause{
	{CauseUnauthorized, false, []string{
		"pull access denied", "repository does not exist or may require", "no basic auth credentials", "insufficient_scope", // containerd resolver.go:336, authorizer.go:202; moby distribution/errors.go:55
		"access to the resource is denied", // distribution registry/api/errcode/register.go, the text of DENIED
		"invalid username/password",        // containers/image docker/errors.go:27
		"incorrect username or password",   // Docker Hub
	}},
	{CauseNotFound, false, []string{
		"manifest unknown", "manifest_unknown", "name unknown", "name_unknown", // distribution registry/api/v2/errors.go
		"repository name not known to registry", // the text of NAME_UNKNOWN, which containers/image gives alone
	}},
}

// otherPlatform are the texts for an image that exists, for other platforms only.
var otherPlatform = []string{
	"no matching manifest for", "was found but its platform", "was found but does not provide", // moby distribution/pull_v2.go:809, daemon/images/image.go:198
	"no match for platform in manifest",                                    // containerd core/images/handlers.go:426, image.go:250
	"no image found in manifest list for", "no image found in image index", // containers/image internal/manifest/docker_schema2_list.go:164, oci_index.go:257
}

func lacksPlatform(words string) bool { return containsAny(strings.ToLower(words), otherPlatform...) }

// codes are the registry's own words of a refusal. They stand alone between colons: "denied:
// ...", "DENIED: ..." (distribution registry/api/errcode/errors.go, Error.Error). The node's
// "permission denied" and a proxy's "Unauthorized" do not stand so.
var codes = map[string]Cause{
	"unauthorized": CauseUnauthorized, "UNAUTHORIZED": CauseUnauthorized, "authentication required": CauseUnauthorized,
	"denied": CauseUnauthorized, "DENIED": CauseUnauthorized,
}

// jsonCode finds the registry's code in an answer that is quoted as JSON.
var jsonCode = regexp.MustCompile(`"code\\?"\s*:\s*\\?"([A-Z_]+)`)

var jsonCodes = map[string]Cause{
	"UNAUTHORIZED": CauseUnauthorized, "DENIED": CauseUnauthorized,
	"MANIFEST_UNKNOWN": CauseNotFound, "NAME_UNKNOWN": CauseNotFound, "NOT_FOUND": CauseNotFound,
}

// network are the texts for an answer that did not arrive, or that is not the registry's.
var network = []string{
	"dial tcp", "connection refused", "connection reset", "connection timed out", "i/o timeout", "tls handshake", "tls: ",
	"client.timeout exceeded", "request canceled", "deadline exceeded", "unexpected eof", "network is unreachable",
	"no route to host", "host is down", "broken pipe", "use of closed network connection", "server closed idle connection",
	"client connection lost", "timeout awaiting response headers", "http2: ", "stream error:", "goaway",
	"registry is unavailable", "registryunavailable", "failed to do request",
}

// serverFault finds a status 5xx with its text; proxies choose the text freely.
var serverFault = regexp.MustCompile(`\b5\d\d [A-Z][a-z]`)

// refusal returns the cause when the registry itself refused the image, "" when it did not. Who
// says "not found" or "denied" decides, not that the error ends in these words.
func refusal(words, lower string, parts []string) Cause {
	for _, p := range parts {
		if c, ok := codes[p]; ok {
			return c
		}
	}
	if i := slices.Index(parts, "unknown"); i >= 0 && i+1 < len(parts) {
		if c := unknownCode(strings.ToLower(parts[i+1])); c != "" {
			return c
		}
	}
	if m := jsonCode.FindStringSubmatch(words); m != nil && jsonCodes[m[1]] != "" {
		return jsonCodes[m[1]]
	}
	switch answered(parts) {
	case 401, 403:
		return CauseUnauthorized
	case 404:
		if containsAny(lower, "reading manifest ", "/manifests/") { // else the server of the tokens may have answered
			return CauseNotFound
		}
	}
	return unresolved(parts)
}

// unknownCode reads the text behind a code that the registry's clients do not know and print as
// "unknown" (distribution registry/api/errcode/errors.go): NOT_FOUND of Harbor, TAG_EXPIRED of
// quay; Artifactory and Nexus send no code.
func unknownCode(text string) Cause {
	switch {
	case text == "not found", strings.HasSuffix(text, " not found"), strings.HasSuffix(text, " not found or deleted."), // Google's
		strings.HasPrefix(text, "tag ") && strings.Contains(text, " was deleted or has expired"): // quay, TAG_EXPIRED
		return CauseNotFound
	case text == "forbidden", text == "unauthorized", text == "bad credentials", text == "authentication is required",
		text == "wrong username was used", strings.Contains(text, " is forbidden for user"): // Artifactory
		return CauseUnauthorized
	}
	return ""
}

// unresolved returns CauseNotFound when a registry answered 404 for a reference, "" otherwise.
// containerd then says "failed to resolve reference "REF": REF: not found" (client/pull.go:202,
// or "failed to resolve image" in core/transfer/local/pull.go:62; resolver.go:354). Other things
// that containerd does not find have other words between the two: "no resolve hosts" (:281),
// "rejecting 9 byte manifest for" (:463). Where an error says nothing but "not found", the image
// was not found.
func unresolved(parts []string) Cause {
	at := slices.IndexFunc(parts, func(p string) bool {
		return strings.HasPrefix(p, "failed to resolve reference") || strings.HasPrefix(p, "failed to resolve image")
	})
	if parts[len(parts)-1] != "not found" {
		return ""
	}
	between := parts[at+1 : len(parts)-1]
	if len(between) == 0 || len(between) == 1 && isReference(between[0]) {
		return CauseNotFound
	}
	return ""
}

// isReference reports whether s is an image's name, not a sentence and not a digest alone.
func isReference(s string) bool {
	return s != "" && !strings.ContainsFunc(s, unicode.IsSpace) && !strings.HasPrefix(s, "sha256:")
}

// statusText finds the HTTP status in texts such as "status code from registry 403 (Forbidden)",
// "StatusCode: 404," and "parsing HTTP 503 response body" (containers/image docker/errors.go:92,
// docker_client.go; distribution registry/client/errors.go:38).
var statusText = regexp.MustCompile(`(?i)(?:status code|status code from registry|parsing http) (\d{3})\b`)

// answered returns the HTTP status that a registry answered with, 0 when the words give none.
func answered(parts []string) int {
	for i, p := range parts {
		digits := ""
		if m := statusText.FindStringSubmatch(p); m != nil {
			digits = m[1]
		} else if i > 0 && len(p) >= 3 && strings.Contains(strings.ToLower(parts[i-1]), "status") {
			digits = p[:3] // "unexpected status from HEAD request to URL: 403 Forbidden"
		}
		if n, err := strconv.Atoi(digits); err == nil {
			return n
		}
	}
	return 0
}

// unanswered reports whether no registry answered a request, for whatever reason. Go's net/http
// names the method and the address in front of the reason (net/url Error.Error); a proxy's
// refusal is such a reason (net/http transport.go:1937: `Head "https://r/v2/": Forbidden`).
func unanswered(parts []string) bool {
	return slices.ContainsFunc(parts, func(p string) bool {
		switch p {
		case "Get", "Head", "Post", "EOF":
			return true
		}
		return strings.HasSuffix(p, " EOF")
	})
}

// find returns the first of causes that text tells, nil when it tells none.
func find(text string, causes []pullCause) *pullCause {
	for i := range causes {
		if containsAny(text, causes[i].texts...) {
			return &causes[i]
		}
	}
	return nil
}
