package eventsplit

import (
	"slices"
	"strings"
)

func containsAny(s string, subs ...string) bool {
	for _, sub := range subs {
		if strings.Contains(s, sub) {
			return true
		}
	}
	return false
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// grpcError is how the error of a call to the runtime begins (google.golang.org/grpc
// internal/status.Error).
const grpcError = "rpc error: code = "

// cleanRuntime strips the kubelet's and gRPC's prefixes from an error of the runtime.
func cleanRuntime(message string) string {
	m := strings.TrimPrefix(strings.TrimSpace(message), "Error: ")
	if rest, ok := strings.CutPrefix(m, grpcError); ok {
		if _, desc, ok := strings.Cut(rest, " desc = "); ok {
			m = desc
		}
	}
	return m
}
