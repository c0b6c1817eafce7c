package commitlog

import "syscall"

// ERROR_HANDLE_DISK_FULL and ERROR_DISK_FULL.
var noSpaceErrnos = []syscall.Errno{39, 112}
