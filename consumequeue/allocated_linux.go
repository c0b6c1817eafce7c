package consumequeue

import (
	"io/fs"
	"syscall"
)

// allocated returns how many bytes of the file have a place on the disk.
func allocated(info fs.FileInfo) (int64, bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Blocks * 512, true
}
