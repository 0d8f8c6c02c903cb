package cluster

import "syscall"

// unmount takes a mount away at once, even if something still uses it.
func unmount(path string) error { return syscall.Unmount(path, syscall.MNT_DETACH) }

func onOverlay(path string) bool {
	const overlayMagic = 0x794c7630 // statfs(2), OVERLAYFS_SUPER_MAGIC
	var fs syscall.Statfs_t
	return syscall.Statfs(path, &fs) == nil && uint32(fs.Type) == overlayMagic //nolint:gosec // A 32-bit magic number.
}
