//go:build !linux

package vfs

import "os"

func syncData(f *os.File) error { return f.Sync() }

func allocate(f *os.File, off, size int64) error { return extendTo(f, off+size) }

func nextData(_ *os.File, off, size int64) (data, hole int64, err error) { return off, size, nil }
