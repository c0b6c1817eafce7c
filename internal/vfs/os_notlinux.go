//go:build !linux

package vfs

import "os"

func openExisting(name string, writable bool) (*os.File, error) {
	if writable {
		return os.OpenFile(name, os.O_RDWR, 0)
	}
	return os.Open(name)
}

func syncData(f *os.File) error { return f.Sync() }

func allocate(f *os.File, off, size int64) error { return extendTo(f, off+size) }

func nextData(_ *os.File, off, size int64) (data, hole int64, err error) { return off, size, nil }
