package consumequeue

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// TruncateFrom drops the queue's entries at or behind the position. After a
// crash the rows behind the caller's certain position may have holes; nothing
// but the position says where the good ones end. A queue of which nothing is
// left keeps its Max, but the next Put may begin it anywhere.
func (q *Queue) TruncateFrom(pos message.Position) error {
	if err := q.t.writable(); err != nil {
		return err
	}
	q.ioMu.Lock()
	defer q.ioMu.Unlock()
	q.mu.Lock()
	lo, end, last, dead, filled := q.min.Load(), q.max.Load(), q.lastPos, q.dead, q.filled
	q.mu.Unlock()
	if dead {
		return nil
	}
	if lo < end && (last < 0 || last >= pos || filled) {
		keep, err := q.search(lo, end, func(p message.Position) bool { return p < pos })
		if err != nil {
			return err
		}
		// Fillers go with the record behind them.
		tail, err := q.lastRecord(lo, keep)
		if err != nil {
			return err
		}
		q.mu.Lock()
		q.endAtLocked(tail)
		q.unsure = tail.Position < 0
		q.mu.Unlock()
	}
	if q.end > q.first {
		q.mu.Lock()
		q.cut = true
		q.markDirtyLocked()
		q.mu.Unlock()
	}
	return nil
}

// endAtLocked makes the queue end at the tail. ioMu and mu are held.
func (q *Queue) endAtLocked(tail Tail) {
	end := int64(tail.Offset)
	q.lastPos, q.lastSize = tail.Position, tail.Size
	if end <= q.base {
		q.t.buffered.Add(-int64(cap(q.buf)))
		q.buf, q.base = nil, end
	} else {
		q.buf = q.buf[:(end-q.base)*EntrySize]
	}
	q.written, q.filled = min(q.written, end), false
	if q.min.Load() >= end {
		q.minPos = message.NoPosition
	}
	q.max.Store(end)
}

// search returns the first offset from lo to end whose record does not satisfy
// less; positions ascend. A filler counts as the record before it.
func (q *Queue) search(lo, end int64, less func(message.Position) bool) (int64, error) {
	from := lo
	for lo < end {
		mid := lo + (end-lo)/2
		tail, err := q.lastRecord(from, mid+1)
		if err != nil {
			return 0, err
		}
		if tail.Position < 0 || less(tail.Position) {
			lo = mid + 1
		} else {
			end = mid
		}
	}
	return lo, nil
}

// lastRecord finds the last entry with a record from lo on and below end, and
// returns the tail of a queue that ends with it; {lo, NoPosition} for none.
func (q *Queue) lastRecord(lo, end int64) (Tail, error) {
	var rows [32]Entry
	for n := int64(1); end > lo; n = int64(len(rows)) {
		from := max(lo, end-n)
		if err := q.readAll(from, rows[:end-from]); err != nil {
			return Tail{}, err
		}
		for i := end - from - 1; i >= 0; i-- {
			if e := rows[i]; !e.Filler() {
				return Tail{Offset: message.Offset(from + i + 1), Position: e.Position, Size: e.Size}, nil
			}
		}
		end = from
	}
	return Tail{Offset: message.Offset(lo), Position: message.NoPosition}, nil
}

// readAll reads rows wherever they are, without looking at Min and Max.
func (q *Queue) readAll(from int64, dst []Entry) error {
	for len(dst) > 0 {
		q.mu.Lock()
		base := q.base
		var n int
		if from >= base {
			b := q.buf[min(int64(len(q.buf)), (from-base)*EntrySize):]
			n = min(len(dst), len(b)/EntrySize)
			for i := range n {
				dst[i] = getEntry(b[i*EntrySize:])
			}
			clear(dst[n:])
			q.mu.Unlock()
			return nil
		}
		q.mu.Unlock()
		n, err := q.readFiles(from, dst[:min(int64(len(dst)), base-from)])
		if err != nil {
			return err
		}
		from, dst = from+int64(n), dst[n:]
	}
	return nil
}

// cutFilesLocked makes the files zero from the offset on and removes those that
// begin behind it, but for the first. ioMu is held.
func (q *Queue) cutFilesLocked(from int64) error {
	if q.end == q.first {
		return nil
	}
	per := int64(q.t.o.FileEntries)
	n, in := from/per, from%per
	if n < q.first {
		n, in = q.first, 0
	}
	keep := n + 1
	if in == 0 && n > q.first {
		keep = n
	}
	if keep < q.end {
		if err := q.removeFilesLocked(keep, q.end); err != nil {
			return err
		}
		q.end = keep
	}
	if n >= q.end {
		return nil
	}
	f, err := q.openFile(n)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return q.writeFailed(err)
	}
	defer q.t.files.release(f)
	if q.zeroFrom(f, in*EntrySize) {
		return nil
	}
	q.touchLocked(n)
	if err = f.Truncate(in * EntrySize); err == nil {
		err = f.Truncate(q.t.fileBytes())
	}
	if err != nil {
		return q.writeFailed(fmt.Errorf("consumequeue: cut %s: %w", q.fileName(n), err))
	}
	return nil
}

// zeroFrom reports whether the file is known to be of full length and zero from
// the place on: the rest of its page is read, and behind that there is a hole.
func (q *Queue) zeroFrom(f *openFile, place int64) bool {
	const page = 4096
	size, err := f.Size()
	if err != nil || size != q.t.fileBytes() {
		return false
	}
	edge := min((place+page-1)/page*page, size)
	if data, _, err := vfs.NextData(f.File, edge); err != nil || data < size {
		return false
	}
	var b [page]byte
	if _, err := f.ReadAt(b[:edge-place], place); err != nil {
		return false
	}
	return b == [page]byte{}
}

// removeFilesLocked removes the files of these numbers. ioMu is held.
func (q *Queue) removeFilesLocked(from, end int64) error {
	q.t.files.drop(q, from, end)
	for n := from; n < end; n++ {
		if err := q.t.o.FS.Remove(q.fileName(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return q.writeFailed(fmt.Errorf("consumequeue: remove %s: %w", q.fileName(n), err))
		}
		q.newName = true
	}
	return nil
}

// DropBefore forgets the queue's entries of records below the position. The
// removal of a file is durable after the next Flush that writes to the queue;
// a crash before that brings it back, and the next DropBefore removes it again.
func (q *Queue) DropBefore(pos message.Position) error {
	if err := q.t.writable(); err != nil {
		return err
	}
	q.ioMu.Lock()
	defer q.ioMu.Unlock()
	q.mu.Lock()
	lo, end, minPos, last, dead := q.min.Load(), q.max.Load(), q.minPos, q.lastPos, q.dead
	q.mu.Unlock()
	if dead || lo == end || minPos >= pos {
		return nil
	}
	keep := end
	if last < 0 || last >= pos {
		var err error
		if keep, err = q.search(lo, end, func(p message.Position) bool { return p < pos }); err != nil {
			return err
		}
		if minPos, err = q.positionAt(keep, end); err != nil {
			return err
		}
	} else {
		minPos = message.NoPosition
	}
	q.mu.Lock()
	// The queue may have grown meanwhile, which changes nothing below end.
	q.min.Store(keep)
	q.minPos = minPos
	q.mu.Unlock()
	per := int64(q.t.o.FileEntries)
	n := min(keep/per, q.end-1)
	if q.first >= n {
		return nil
	}
	// What stays must outlive a power cut: it says where the queue begins.
	if q.unsynced >= 0 || q.newName {
		q.ioMu.Unlock()
		err := q.flush(true)
		q.ioMu.Lock()
		if err != nil {
			return err
		}
	}
	q.mu.Lock()
	dead = q.dead
	q.mu.Unlock()
	if dead {
		return nil
	}
	for n = min(n, q.end-1); q.first < n; {
		if err := q.removeFilesLocked(q.first, q.first+1); err != nil {
			return err
		}
		// One after another: a crash must not bring back an older file alone,
		// which would look as if those behind it had been lost.
		if q.first++; q.first < n {
			if err := q.t.o.FS.SyncDir(q.dir()); err != nil {
				return q.t.fail(fmt.Errorf("sync folder %s: %w", q.dir(), err))
			}
		}
	}
	return nil
}

func (q *Queue) positionAt(off, end int64) (message.Position, error) {
	if off >= end {
		return message.NoPosition, nil
	}
	var row [1]Entry
	if err := q.readAll(off, row[:]); err != nil {
		return 0, err
	}
	if row[0].Filler() {
		return message.NoPosition, nil
	}
	return row[0].Position, nil
}
