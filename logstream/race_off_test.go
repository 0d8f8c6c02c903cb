//go:build !race

package logstream

const slowed = 1
