//go:build unix

package commitlog

import "syscall"

var noSpaceErrnos = []syscall.Errno{syscall.EDQUOT}
