package eventsplit

import "strings"

// pullCauses are what pull messages say, the first match counts: rate limits come
// wrapped in "unauthorized" or "not found" texts, and a host that is not found is
// not an image that is not found.
var pullCauses = []struct {
	cause      Cause
	mayRecover bool
	texts      []string
}{
	{CauseThrottled, true, []string{"pull qps exceeded"}},
	{CauseRateLimited, true, []string{"toomanyrequests", "too many requests", "rate limit"}},
	{CauseInvalidName, false, []string{"invalid reference format", "couldn't parse image", "invalidimagename", "repository name must be lowercase"}},
	{CauseNoSuchHost, true, []string{"no such host", "server misbehaving", "temporary failure in name resolution"}},
	{CauseCertificate, false, []string{"x509:", "certificate signed by unknown authority", "server gave http response to https client"}},
	{CauseSignature, false, []string{"signature validation", "signature verification", "source image rejected"}},
	{CauseUnauthorized, false, []string{
		"pull access denied", "access to the resource is denied", "no basic auth credentials",
		"repository does not exist or may require", "unauthorized", "authentication required",
		"insufficient_scope", "403 forbidden", "denied:",
	}},
	{CauseNotFound, false, []string{
		"manifest unknown", "name unknown", "name_unknown", "manifest_unknown", "no matching manifest",
		"no match for platform", "not found",
	}},
	{CauseDiskFull, true, []string{"no space left on device"}},
	{CauseNetwork, true, []string{
		"dial tcp", "connection refused", "i/o timeout", "tls handshake", "client.timeout exceeded",
		"request canceled", "connection reset", "deadline exceeded", "unexpected eof", "network is unreachable",
		"no route to host", "503 service unavailable", "502 bad gateway", "500 internal server error", "registry is unavailable",
	}},
}

// classifyPull tells from the words of a failed pull why it failed and whether a
// later try may do better.
func classifyPull(words string) (Cause, bool) {
	lower := strings.ToLower(unquoted(words))
	for i := range pullCauses {
		if containsAny(lower, pullCauses[i].texts...) {
			return pullCauses[i].cause, pullCauses[i].mayRecover
		}
	}
	return "", true
}

// unquoted leaves out what stands in quotes: names of images and addresses, which
// may hold any word.
func unquoted(s string) string {
	if strings.Count(s, `"`)%2 != 0 {
		return s
	}
	var b strings.Builder
	for i, part := range strings.Split(s, `"`) {
		if i%2 == 0 {
			b.WriteString(part)
		}
	}
	return b.String()
}
