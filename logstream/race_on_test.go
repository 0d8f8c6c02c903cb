//go:build race

package logstream

// slowed: the race detector makes the flood of a gigabyte one of a minute.
const slowed = 64
