package vfs

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

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
