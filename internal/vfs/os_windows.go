package vfs

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/windows"
)

// syncDir does nothing: Windows has no such call, and NTFS logs names itself.
func syncDir(dir string) error {
	_, err := os.Stat(dir)
	return err
}

func lockFile(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	err = windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, new(windows.Overlapped))
	if err == nil {
		return f, nil
	}
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		err = ErrLocked
	}
	return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
}

func usage(dir string) (total, free int64, err error) {
	name, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, 0, err
	}
	var avail, all, rest uint64
	if err := windows.GetDiskFreeSpaceEx(name, &avail, &all, &rest); err != nil {
		return 0, 0, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return int64(all), int64(avail), nil
}

type windowsMapping struct {
	data   []byte
	addr   uintptr
	handle windows.Handle
}

func mapFile(f *os.File, size int, writable bool) (Mapping, error) {
	prot, access := uint32(windows.PAGE_READONLY), uint32(windows.FILE_MAP_READ)
	if writable {
		prot, access = windows.PAGE_READWRITE, windows.FILE_MAP_WRITE
	}
	h, err := windows.CreateFileMapping(windows.Handle(f.Fd()), nil, prot, uint32(uint64(size)>>32), uint32(size), nil)
	if err != nil {
		return nil, os.NewSyscallError("CreateFileMapping", err)
	}
	addr, err := windows.MapViewOfFile(h, access, 0, 0, uintptr(size))
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("MapViewOfFile", err), windows.CloseHandle(h))
	}
	data := unsafe.Slice((*byte)(*(*unsafe.Pointer)(unsafe.Pointer(&addr))), size)
	return &windowsMapping{data: data, addr: addr, handle: h}, nil
}

func (m *windowsMapping) Bytes() []byte { return m.data }

func (m *windowsMapping) Sync() error {
	if err := windows.FlushViewOfFile(m.addr, uintptr(len(m.data))); err != nil {
		return os.NewSyscallError("FlushViewOfFile", err)
	}
	return nil
}

func (m *windowsMapping) Close() error {
	if m.data == nil {
		return nil
	}
	m.data = nil
	return errors.Join(
		os.NewSyscallError("UnmapViewOfFile", windows.UnmapViewOfFile(m.addr)),
		os.NewSyscallError("CloseHandle", windows.CloseHandle(m.handle)))
}
