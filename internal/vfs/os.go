package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// OS is the file system of the machine.
var OS FS = osFS{}

type osFS struct{}

func (osFS) Open(name string, writable bool) (File, error) {
	return wrapFile(openExisting(name, writable))
}

func (osFS) Create(name string) (File, error) {
	return wrapFile(os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644))
}

func wrapFile(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return &osFile{f}, nil
}

func (osFS) Remove(name string) error                  { return os.Remove(name) }
func (osFS) RemoveAll(name string) error               { return os.RemoveAll(name) }
func (osFS) Rename(from, to string) error              { return os.Rename(from, to) }
func (osFS) MkdirAll(dir string) error                 { return os.MkdirAll(dir, 0o755) }
func (osFS) ReadDir(dir string) ([]fs.DirEntry, error) { return os.ReadDir(dir) }
func (osFS) Stat(name string) (fs.FileInfo, error)     { return os.Stat(name) }
func (osFS) SyncDir(dir string) error                  { return syncDir(dir) }
func (osFS) Lock(name string) (io.Closer, error)       { return lockFile(name) }
func (osFS) Usage(dir string) (int64, int64, error)    { return usage(dir) }

// osFile takes ReadAt, WriteAt, Truncate and Close from os.File.
type osFile struct{ *os.File }

func (f *osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *osFile) Sync() error { return f.wrap("sync", syncData(f.File)) }

func (f *osFile) Allocate(off, size int64) error {
	if off < 0 || size < 0 {
		return f.wrap("allocate", syscall.EINVAL)
	}
	if size == 0 {
		return nil
	}
	return f.wrap("allocate", allocate(f.File, off, size))
}

// NextData implements Extents.
func (f *osFile) NextData(off int64) (int64, int64, error) {
	size, err := f.Size()
	if err != nil {
		return 0, 0, err
	}
	if off >= size {
		return size, size, nil
	}
	return nextData(f.File, off, size)
}

func (f *osFile) Map(size int64, writable bool) (Mapping, error) {
	have, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size <= 0 || size > have || int64(int(size)) != size {
		return nil, f.wrap("map", fmt.Errorf("%d bytes of a file of %d: %w", size, have, syscall.EINVAL))
	}
	m, err := mapFile(f.File, int(size), writable)
	if err != nil {
		return nil, f.wrap("map", err)
	}
	return m, nil
}

func (f *osFile) wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: f.Name(), Err: err}
}

// extendTo is Allocate for systems that cannot reserve room: it only makes the
// file long enough.
func extendTo(f *os.File, end int64) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= end {
		return err
	}
	return f.Truncate(end)
}
