//go:build !linux

package cluster

// Without Linux there is no cluster; this lets the package compile.

func unmount(string) error { return nil }

func onOverlay(string) bool { return false }
