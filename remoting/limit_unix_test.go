//go:build unix

package remoting

import "syscall"

// descriptors is how many this process may have open. Go has raised the soft
// limit to the hard one.
func descriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return 1024
	}
	return int(min(uint64(l.Cur), 1<<20))
}
