// Package vfs is the file system as storage sees it: the few calls that the
// log, the queues and the index need, with three implementations: OS, the real
// one; Mem, one in memory that can be cloned as a power cut would leave it;
// Faulty, a wrapper that fails chosen calls. Names are ordinary paths; all
// implementations are safe for concurrent use.
package vfs

import (
	"errors"
	"io"
	"io/fs"
)

// ErrLocked is returned by Lock when another holder has the file.
var ErrLocked = errors.New("vfs: locked by another process")

// FS is a file system. Errors wrap the fs sentinels (fs.ErrNotExist …) and
// syscall errno values (ENOSPC, EIO), so that errors.Is finds them.
type FS interface {
	// Open opens an existing file; writable says whether WriteAt and the like
	// may be called. It does not create.
	Open(name string, writable bool) (File, error)
	// Create makes a new file for reading and writing; fs.ErrExist if it is there.
	Create(name string) (File, error)
	Remove(name string) error
	// RemoveAll removes a folder and what is in it; nil if it is not there.
	RemoveAll(name string) error
	Rename(from, to string) error
	MkdirAll(dir string) error
	// ReadDir lists a folder, sorted by name; fs.ErrNotExist if it is not there.
	ReadDir(dir string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// SyncDir makes created, renamed and removed names in the folder durable.
	SyncDir(dir string) error
	// Lock takes an exclusive lock on the file, creating it; ErrLocked if it is
	// taken. Closing gives it back.
	Lock(name string) (io.Closer, error)
	// Usage returns the size and the free bytes of the disk that holds dir.
	Usage(dir string) (total, free int64, err error)
}

// File is an open file. ReadAt and WriteAt may be called concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size returns the file's length in bytes.
	Size() (int64, error)
	// Truncate sets the length; new bytes are zero and may be a hole.
	Truncate(size int64) error
	// Allocate makes sure that the disk has room for the range, extending the
	// file if needed. ENOSPC says it has not.
	Allocate(off, size int64) error
	// Sync makes the data, and the length if it changed, durable.
	Sync() error
	// Map maps the first size bytes of the file. See Mapping.
	Map(size int64, writable bool) (Mapping, error)
}

// Mapping is a mapped range of a file, shared with ReadAt and WriteAt. A page
// of it can fault (I/O error, file truncated by someone): use Guard around
// every access.
type Mapping interface {
	// Bytes returns the mapped bytes; they die with Close.
	Bytes() []byte
	// Sync makes what was written through the mapping durable.
	Sync() error
	Close() error
}

// Residency is implemented by mappings that know what of them is in memory. Use
// Resident to get at it.
type Residency interface {
	// Resident tells whether all of n bytes from off on were in memory a moment
	// ago, so that reading them waits for no disk.
	Resident(off, n int64) bool
}

// Extents is implemented by files that know where they are holes. Use NextData
// to get at it.
type Extents interface {
	// NextData returns the first range [data, hole) at or behind off that may
	// hold bytes that are not zero; both are the file's length if there is none.
	NextData(off int64) (data, hole int64, err error)
}

// Syncer makes durable everything that was written since it was opened, of a
// whole disk. That is one wait where fsyncs of thousands of files are as many.
type Syncer interface {
	Sync() error
	Close() error
}

// OpenSyncer returns a Syncer of the disk that holds dir, or nil if the file
// system has none that reports failed writes.
func OpenSyncer(fsys FS, dir string) (Syncer, error) {
	if s, ok := fsys.(interface {
		OpenSyncer(dir string) (Syncer, error)
	}); ok {
		return s.OpenSyncer(dir)
	}
	return nil, nil
}

// Resident asks m as Residency does; a mapping that cannot tell says no.
func Resident(m Mapping, off, n int64) bool {
	r, ok := m.(Residency)
	return ok && r.Resident(off, n)
}

// NextData asks f for its next data as Extents does; a file that cannot tell
// is all data.
func NextData(f File, off int64) (data, hole int64, err error) {
	if e, ok := f.(Extents); ok {
		return e.NextData(off)
	}
	size, err := f.Size()
	return min(off, size), size, err
}
