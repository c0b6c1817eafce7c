package vfs

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// openExisting is os.OpenFile without the five calls by which that finds out
// whether the file could be waited for: a start opens a file for each queue.
func openExisting(name string, writable bool) (*os.File, error) {
	flag := unix.O_RDONLY
	if writable {
		flag = unix.O_RDWR
	}
	for {
		fd, err := unix.Open(name, flag|unix.O_CLOEXEC|unix.O_LARGEFILE, 0)
		if err == nil {
			return os.NewFile(uintptr(fd), name), nil
		}
		if err != unix.EINTR {
			return nil, &os.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

// OpenSyncer is described at the function of this name.
func (osFS) OpenSyncer(dir string) (Syncer, error) {
	if !syncfsReports() {
		return nil, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return &syncer{f}, nil
}

// syncfsReports tells whether syncfs returns errors of earlier writebacks,
// which it does since Linux 5.8.
func syncfsReports() bool {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return false
	}
	var major, minor int
	n, _ := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor) // n tells
	return n == 2 && (major > 5 || major == 5 && minor >= 8)
}

type syncer struct{ *os.File }

func (s *syncer) Sync() error {
	for {
		if err := unix.Syncfs(int(s.Fd())); err != unix.EINTR {
			return os.NewSyscallError("syncfs", err)
		}
	}
}

func syncData(f *os.File) error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); err != unix.EINTR {
			return err
		}
	}
}

func allocate(f *os.File, off, size int64) error {
	for {
		switch err := unix.Fallocate(int(f.Fd()), 0, off, size); {
		case err == unix.EINTR:
		case errors.Is(err, errors.ErrUnsupported):
			return extendTo(f, off+size)
		default:
			return err
		}
	}
}

func nextData(f *os.File, off, size int64) (data, hole int64, err error) {
	fd := int(f.Fd())
	data, err = unix.Seek(fd, off, unix.SEEK_DATA)
	switch {
	case err == unix.ENXIO:
		return size, size, nil
	case err != nil: // the file system cannot tell
		return off, size, nil
	}
	hole, err = unix.Seek(fd, data, unix.SEEK_HOLE)
	if err != nil || hole <= data {
		hole = size
	}
	return data, hole, nil
}
