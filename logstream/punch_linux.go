package logstream

import (
	"os"
	"syscall"
)

// punch gives a part of the spill file back to the disk. Where the filesystem
// cannot, the part is used again, or goes with the file.
func punch(f spillFile, off, n int64) {
	const keepSize, punchHole = 1, 2 // linux/falloc.h
	if f, ok := f.(*os.File); ok {
		if c, err := f.SyscallConn(); err == nil { // which keeps another file from taking its number
			_ = c.Control(func(fd uintptr) { _ = syscall.Fallocate(int(fd), keepSize|punchHole, off, n) })
		}
	}
}
