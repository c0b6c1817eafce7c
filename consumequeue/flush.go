package consumequeue

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/merlinmq/merlin/internal/vfs"
)

// Flush makes durable what was put before the call: it writes the buffers to
// the files, syncs those, and the folders of new ones. If the disk is full the
// error wraps ErrNoSpace, what is left waits in memory, and the next Flush
// tries again; any other failure is sticky.
func (t *Table) Flush() error {
	t.flushMu.Lock()
	defer t.flushMu.Unlock()
	if err := t.writable(); err != nil {
		if errors.Is(err, ErrReadOnly) {
			return nil
		}
		return err
	}
	t.releaseIdle()
	t.dirtyMu.Lock()
	queues := t.dirty
	t.dirty, t.spilled = nil, 0
	t.dirtyMu.Unlock()

	together := len(queues) > syncTogether && t.syncer != nil
	err := parallel(queues, func(q *Queue) error {
		if err := t.Failed(); err != nil {
			return err
		}
		err := q.flush(!together)
		if err != nil {
			q.mu.Lock()
			q.markDirtyLocked()
			q.mu.Unlock()
		}
		return err
	})
	for _, q := range queues {
		q.mu.Lock()
		if q.buf != nil && !q.resident {
			q.resident = true
			t.resident = append(t.resident, q)
		}
		q.mu.Unlock()
	}
	if failed := t.Failed(); failed != nil {
		return failed
	}
	// Folders first: what is made beside the sync of the disk must wait for the next.
	if derr := t.syncFolders(!together); derr != nil {
		return derr
	}
	if together {
		if serr := t.syncer.Sync(); serr != nil {
			return t.fail(fmt.Errorf("sync the disk of %s: %w", t.dir, serr))
		}
	}
	if err != nil && isNoSpace(err) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// syncTogether is above how many queues one sync of the whole disk is cheaper
// than one or two fsyncs for each.
const syncTogether = 500

// releaseIdle takes the buffers from queues that got nothing since the last
// flush. flushMu is held.
func (t *Table) releaseIdle() {
	keep := t.resident[:0]
	for _, q := range t.resident {
		q.mu.Lock()
		if q.dirty {
			keep = append(keep, q)
		} else {
			q.releaseLocked()
			q.resident = false
		}
		q.mu.Unlock()
	}
	clear(t.resident[len(keep):])
	t.resident = keep
	if len(keep) == 0 {
		t.resident = nil
	}
}

// relieve writes out the oldest dirty queues, without an fsync, and takes their
// buffers, until there is room for so many bytes more, and a quarter of all.
// No lock is held.
func (t *Table) relieve(more int64) error {
	goal := t.o.BufferBytes * 3 / 4
	for waited := false; t.buffered.Load()+more > goal; {
		t.dirtyMu.Lock()
		var q *Queue
		if t.spilled < len(t.dirty) {
			q = t.dirty[t.spilled]
			t.spilled++
		}
		t.dirtyMu.Unlock()
		if q != nil {
			if err := q.spill(); err != nil {
				t.dirtyMu.Lock()
				t.spilled = 0 // it is to be tried again
				t.dirtyMu.Unlock()
				return err
			}
			continue
		}
		if waited {
			// A second turn takes the queues that were filled after their first.
			t.dirtyMu.Lock()
			t.spilled = 0
			t.dirtyMu.Unlock()
			return nil
		}
		// The rest belongs to a flush that is under way, or to idle queues.
		waited = true
		t.flushMu.Lock()
		t.releaseIdle()
		t.flushMu.Unlock()
	}
	return nil
}

func (q *Queue) spill() error {
	q.ioMu.Lock()
	defer q.ioMu.Unlock()
	if err := q.writeOutLocked(); err != nil {
		return err
	}
	q.mu.Lock()
	q.releaseLocked()
	q.mu.Unlock()
	return nil
}

func (q *Queue) markDirtyLocked() {
	if q.dirty || q.dead {
		return
	}
	q.dirty = true
	q.t.dirtyMu.Lock()
	q.t.dirty = append(q.t.dirty, q)
	q.t.dirtyMu.Unlock()
}

// flush makes the queue's entries durable. The fsync runs without a lock: a Put
// whose buffer is full must not wait for it. Without fsync the caller makes
// durable what was written.
func (q *Queue) flush(fsync bool) error {
	q.ioMu.Lock()
	q.mu.Lock()
	q.dirty = false
	q.mu.Unlock()
	err := q.writeOutLocked()
	from, end, newName := q.unsynced, q.unsyncedEnd, q.newName
	if err == nil {
		q.unsynced, q.newName = -1, false
	}
	q.ioMu.Unlock()
	if err != nil || !fsync || from < 0 && !newName {
		return err
	}
	for n := from; n >= 0 && n < end; n++ {
		if err := q.syncFile(n); err != nil {
			return err
		}
	}
	if newName {
		if err := q.t.o.FS.SyncDir(q.dir()); err != nil && !q.gone(err, -1) {
			return q.t.fail(fmt.Errorf("sync folder %s: %w", q.dir(), err))
		}
	}
	return nil
}

func (q *Queue) syncFile(n int64) error {
	f, err := q.openFile(n)
	if err != nil {
		if q.gone(err, n) {
			return nil
		}
		return q.t.fail(err)
	}
	defer q.t.files.release(f)
	if err := f.Sync(); err != nil {
		return q.t.fail(fmt.Errorf("fsync %s: %w", q.fileName(n), err))
	}
	return nil
}

// gone reports whether the error is that of a file or folder which was removed
// for a reason meanwhile: topic deleted, retention, restart.
func (q *Queue) gone(err error, n int64) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	q.ioMu.Lock()
	defer q.ioMu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dead || n >= 0 && (n < q.first || n >= q.end)
}

// writeOutLocked brings the files up to Max. ioMu is held; a full disk leaves
// the rest in the buffer and is not sticky.
func (q *Queue) writeOutLocked() error {
	q.mu.Lock()
	from, to := q.written, q.max.Load()
	cut, restart, dead := q.cut, q.restart, q.dead
	b := q.buf[(from-q.base)*EntrySize:]
	q.mu.Unlock()
	if dead {
		return nil
	}
	if restart {
		if err := q.makeDirLocked(); err != nil {
			return q.writeFailed(err)
		}
		if err := q.removeFilesLocked(q.first, q.end); err != nil {
			return err
		}
		q.first, q.end = 0, 0
	} else if cut {
		if err := q.cutFilesLocked(from); err != nil {
			return err
		}
	}
	if restart || cut {
		q.mu.Lock()
		q.cut, q.restart = false, false
		q.mu.Unlock()
	}
	per := int64(q.t.o.FileEntries)
	for from < to {
		n, in := from/per, from%per
		k := min(to-from, per-in)
		if err := q.writeLocked(n, in, b[:k*EntrySize]); err != nil {
			return err
		}
		from, b = from+k, b[k*EntrySize:]
		q.mu.Lock()
		q.written = from
		q.mu.Unlock()
	}
	return nil
}

func (q *Queue) writeLocked(n, in int64, b []byte) error {
	f, err := q.fileForWriteLocked(n, in)
	if err != nil {
		return q.writeFailed(err)
	}
	defer q.t.files.release(f)
	q.touchLocked(n)
	if _, err := f.WriteAt(b, in*EntrySize); err != nil {
		return q.writeFailed(fmt.Errorf("consumequeue: write %s: %w", q.fileName(n), err))
	}
	return nil
}

func (q *Queue) writeFailed(err error) error {
	if isNoSpace(err) {
		return err
	}
	return q.t.fail(err)
}

// touchLocked notes that the n-th file needs an fsync.
func (q *Queue) touchLocked(n int64) {
	if q.unsynced < 0 {
		q.unsynced, q.unsyncedEnd = n, n+1
		return
	}
	q.unsynced, q.unsyncedEnd = min(q.unsynced, n), max(q.unsyncedEnd, n+1)
}

// fileForWriteLocked returns the n-th file, making it if it is not there; the
// part before place `in` of a new one is filled up.
func (q *Queue) fileForWriteLocked(n, in int64) (*openFile, error) {
	if n >= q.first && n < q.end {
		f, err := q.openFile(n)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
		// Somebody removed it. Its offsets read as fillers from now on.
	}
	if err := q.makeDirLocked(); err != nil {
		return nil, err
	}
	name := q.fileName(n)
	file, err := q.t.o.FS.Create(name)
	if errors.Is(err, fs.ErrNotExist) { // somebody removed the folder
		q.dirMade = false
		if err = q.makeDirLocked(); err == nil {
			file, err = q.t.o.FS.Create(name)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		// A file that a crash left behind an end.
		if file, err = q.t.o.FS.Open(name, true); err == nil {
			err = file.Truncate(0)
		}
	}
	if err == nil {
		err = fillFile(file, in, q.t.fileBytes())
	}
	if err != nil {
		err = fmt.Errorf("consumequeue: make %s: %w", name, err)
		if file != nil {
			err = errors.Join(err, file.Close())
			err = errors.Join(err, q.t.o.FS.Remove(name))
		}
		return nil, err
	}
	q.newName = true
	q.touchLocked(n)
	if q.end == q.first {
		q.first, q.end = n, n
	}
	q.first, q.end = min(q.first, n), max(q.end, n+1)
	return q.t.files.add(fileKey{q, n}, file), nil
}

func fillFile(f vfs.File, in, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	var b [chunk * EntrySize]byte
	for i := range chunk {
		putEntry(b[i*EntrySize:], filler)
	}
	for at := int64(0); at < in; at += chunk {
		if _, err := f.WriteAt(b[:min(in-at, chunk)*EntrySize], at*EntrySize); err != nil {
			return err
		}
	}
	return nil
}

func (q *Queue) makeDirLocked() error {
	if q.dirMade {
		return nil
	}
	if err := q.t.o.FS.MkdirAll(q.dir()); err != nil {
		return fmt.Errorf("consumequeue: make folder %s: %w", q.dir(), err)
	}
	q.dirMade = true
	tp := q.topic
	tp.mu.Lock()
	news, made := !tp.newName, !tp.dirMade
	tp.newName, tp.dirMade = true, true
	tp.mu.Unlock()
	q.t.dirtyMu.Lock()
	if news {
		q.t.dirtyTopics = append(q.t.dirtyTopics, tp)
	}
	q.t.newTopic = q.t.newTopic || made
	q.t.dirtyMu.Unlock()
	return nil
}

// syncFolders makes new topics and queues durable as names. Without fsync they
// are so already.
func (t *Table) syncFolders(fsync bool) error {
	t.dirtyMu.Lock()
	topics, root := t.dirtyTopics, t.newTopic
	t.dirtyTopics, t.newTopic = nil, false
	t.dirtyMu.Unlock()
	err := parallel(topics, func(tp *topic) error {
		tp.mu.Lock()
		tp.newName = false
		tp.mu.Unlock()
		if !fsync {
			return nil
		}
		err := t.o.FS.SyncDir(t.topicDir(tp.name))
		if errors.Is(err, fs.ErrNotExist) { // deleted meanwhile
			return nil
		}
		return err
	})
	if err == nil && root && fsync {
		err = t.o.FS.SyncDir(t.dir)
	}
	if err != nil {
		return t.fail(fmt.Errorf("sync the folders of queues: %w", err))
	}
	return nil
}
