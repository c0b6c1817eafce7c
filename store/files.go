package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/merlinmq/merlin/internal/vfs"
)

// The folder, as Apache lays it out, and our two files in it.
const (
	logFolder      = "commitlog"
	queueFolder    = "consumequeue"
	indexFolder    = "index"
	checkpointFile = "checkpoint"
	abortFile      = "abort" // there while a store is open: an unclean stop leaves it
	lockFile       = "lock"
	markFile       = "merlin.mark"   // our own checkpoint, see mark
	snapshotFile   = "merlin.queues" // where the queues end, after a clean stop
)

// abortSign stands in our abort file behind the process id, where Apache's has
// the id alone: it tells who used the folder last.
const abortSign = "\nmerlin\n"

func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// lock takes the folder for this process.
func (s *Store) takeLock() error {
	closer, err := s.o.FS.Lock(s.path(lockFile))
	if errors.Is(err, vfs.ErrLocked) {
		return fmt.Errorf("%w: %s; stop the Merlin or RocketMQ broker that runs on it, or name another folder with --data", ErrLocked, s.dir)
	}
	if err != nil {
		return fmt.Errorf("store: lock the folder %s (it must be writable for this user): %w", s.dir, err)
	}
	s.lock = closer
	return nil
}

// readAbort tells whether the folder was left without a clean stop, and
// whether by us.
func (s *Store) readAbort() (there, ours bool, err error) {
	text, err := readSmall(s.o.FS, s.path(abortFile), 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return false, false, nil
	}
	return true, bytes.HasSuffix(text, []byte(abortSign)), err
}

// writeAbort leaves the sign that the folder is in use.
func (s *Store) writeAbort() error {
	_, gone := s.o.FS.Stat(s.path(abortFile))
	err := s.writeSmall(abortFile, 0, fmt.Appendf(nil, "%d%s", os.Getpid(), abortSign), true)
	if err != nil && errors.Is(gone, fs.ErrNotExist) {
		// Half of it would be taken for the sign of Apache's broker.
		if rerr := s.o.FS.Remove(s.path(abortFile)); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("store: remove %s: %w", s.path(abortFile), rerr))
		}
	}
	return err
}

// removeAbort is the last thing that a clean stop does.
func (s *Store) removeAbort() error {
	if err := s.o.FS.Remove(s.path(abortFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("store: remove %s: %w", s.path(abortFile), err)
	}
	return s.syncFolder()
}

func (s *Store) syncFolder() error {
	if err := s.o.FS.SyncDir(s.dir); err != nil {
		return fmt.Errorf("store: sync the folder %s: %w", s.dir, err)
	}
	return nil
}

// lockTime returns when the lock file was written last, which a start of
// Apache's broker does and ours does not.
func (s *Store) lockTime() int64 {
	info, err := s.o.FS.Stat(s.path(lockFile))
	if err != nil {
		return 0
	}
	return info.ModTime().UnixNano()
}

// writeSmall writes data durably into a file of the folder, making it if it is
// not there. whole cuts what was in it before.
func (s *Store) writeSmall(name string, at int64, data []byte, whole bool) (err error) {
	name = s.path(name)
	f, err := s.o.FS.Open(name, true)
	made := errors.Is(err, fs.ErrNotExist)
	if made {
		f, err = s.o.FS.Create(name)
	}
	if err != nil {
		return fmt.Errorf("store: write %s: %w", name, err)
	}
	if whole && !made {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(data, at)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("store: write %s: %w", name, err)
	}
	if made {
		return s.syncFolder()
	}
	return nil
}

// readSmall returns up to limit bytes of a file.
func readSmall(fsys vfs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name, false)
	if err != nil {
		return nil, fmt.Errorf("store: read %s: %w", name, err)
	}
	size, err := f.Size()
	data := make([]byte, min(size, limit))
	if err == nil {
		var n int
		if n, err = f.ReadAt(data, 0); errors.Is(err, io.EOF) && n == len(data) {
			err = nil
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, fmt.Errorf("store: read %s: %w", name, err)
	}
	return data, nil
}
