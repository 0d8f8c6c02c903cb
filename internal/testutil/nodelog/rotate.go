package nodelog

import (
	"slices"
	"strings"
	"time"
)

// A rotation is the kubelet's: Rename, then the runtime's: Reopen and Turn. Until the
// runtime has made a new file, the log cannot be read. A kubelet that dies meanwhile
// leaves that to the next one (container_log_manager.go:236-247).

// Rename makes room for one more rotated file, compresses the older ones and gives the
// current file another name: of five files that are kept (maxFiles) one is the current
// one, one was rotated last, and three are compressed (container_log_manager.go:277-371,
// 416-422). It reports whether there was a current file.
func (l *Log) Rename(maxFiles int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		return false
	}
	keep := max(maxFiles-2, 0)
	for len(l.rotated) > keep {
		l.remove(l.rotated[0])
		l.rotated = slices.Delete(l.rotated, 0, 1)
	}
	for _, f := range slices.Clone(l.rotated) {
		if !strings.HasSuffix(f.name, ".gz") {
			l.rename(f, f.name+".gz")
		}
	}
	f := l.current
	l.current = nil
	l.rename(f, l.name+"."+time.Now().Format("20060102-150405"))
	l.rotated = append(l.rotated, f)
	return true
}

// RenameBack gives the file that was rotated last its name back, as the kubelet does
// when the runtime made no new one (container_log_manager.go:424-433).
func (l *Log) RenameBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last := len(l.rotated) - 1; l.current == nil && last >= 0 {
		l.current, l.rotated = l.rotated[last], l.rotated[:last]
		l.rename(l.current, l.name)
	}
}

// Reopen has the runtime make a new file, which it does not write to yet. It reports
// whether it did: not for a container that is dead.
func (l *Log) Reopen() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended.IsZero() || l.removed || l.current != nil {
		return false
	}
	l.create()
	return true
}

// Turn has the runtime write to the new file from now on. containerd makes the file
// before it turns to it, and writes what it has of a line to the old one (containerd
// internal/cri/server/container_log_reopen.go:39-50): a follower that has opened the new
// file by then never sees that. conmon does both between two reads of the output.
func (l *Log) Turn() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flush()
	if l.current != nil && l.out != l.current {
		l.out = l.current
		l.turns++
	}
}

// Rotate is a rotation in which nothing takes time. late are written to the old file
// after the new one is there.
func (l *Log) Rotate(maxFiles int, late ...Record) {
	l.Rename(maxFiles)
	l.Reopen()
	l.Append(late...)
	l.Turn()
}

// FailToRotate is a rotation for which the runtime makes no new file.
func (l *Log) FailToRotate(maxFiles int) {
	if l.Rename(maxFiles) {
		l.RenameBack()
	}
}

// Truncate empties the current file, as somebody does who is short of space.
func (l *Log) Truncate() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.current; f != nil {
		f.data = nil
		f.emptied++
		l.o.Disk.Truncate(f.name)
		l.tell(changed)
	}
}
