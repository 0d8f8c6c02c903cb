package podstatus

import "k8s.io/apimachinery/pkg/util/resourceversion"

// CompareVersions orders two resourceVersions of pods of one cluster: c is below 0 when a
// is older than b, 0 when they are the same, above 0 when a is newer. ok is false when the
// two have no order: one is empty, or not a number as those of an API server are (fake
// clientsets, foreign servers).
func CompareVersions(a, b string) (c int, ok bool) {
	if a == b {
		return 0, a != ""
	}
	c, err := resourceversion.CompareResourceVersion(a, b)
	return c, err == nil
}
