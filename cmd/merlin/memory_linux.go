package main

import (
	"os"
	"strconv"
	"strings"
	"syscall"
)

// memorySize returns the bytes of memory that this process may use, the page
// cache of its files included: the machine's, or its control group's if that
// has fewer. 0 is not known.
func memorySize() int64 {
	var info syscall.Sysinfo_t
	if err := syscall.Sysinfo(&info); err != nil {
		return 0
	}
	size := int64(uint64(info.Totalram) * uint64(info.Unit))
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		// "max" is none.
		if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 {
			size = min(size, n)
		}
	}
	return size
}
