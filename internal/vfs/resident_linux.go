package vfs

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxResident is how many pages Resident looks at; it says no about more.
const maxResident = 1024

var pageSize = int64(os.Getpagesize())

// Resident implements Residency.
func (m *unixMapping) Resident(off, n int64) bool {
	if off < 0 || n < 0 || off+n > int64(len(m.data)) {
		return false
	}
	from := off &^ (pageSize - 1)
	pages := (off + n - from + pageSize - 1) / pageSize
	if pages == 0 {
		return true
	}
	if pages > maxResident {
		return false
	}
	var in [maxResident]byte
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m.data[from])), uintptr(off+n-from), uintptr(unsafe.Pointer(&in)))
	if errno != 0 {
		return false
	}
	for _, page := range in[:pages] {
		if page&1 == 0 {
			return false
		}
	}
	return true
}
