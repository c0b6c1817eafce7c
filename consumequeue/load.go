package consumequeue

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

func (t *Table) topicDir(name string) string { return filepath.Join(t.dir, name) }

// makeDir makes the folder and its name durable.
func makeDir(fsys vfs.FS, dir string) error {
	if _, err := fsys.Stat(dir); err == nil {
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}

func (t *Table) topicNames() ([]string, error) {
	list, err := t.o.FS.ReadDir(t.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("consumequeue: list the topics: %w", err)
	}
	var names []string
	for _, e := range list {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// scan finds the queues in the folders of the topics, and where they end.
func (t *Table) scan(names []string) error {
	return parallel(names, func(name string) error {
		list, err := t.o.FS.ReadDir(t.topicDir(name))
		if err != nil {
			return fmt.Errorf("consumequeue: list the queues of topic %q: %w", name, err)
		}
		tp := &topic{name: name, dirMade: true}
		for _, e := range list {
			id, err := strconv.ParseInt(e.Name(), 10, 32)
			if err != nil || id < 0 || !e.IsDir() || strconv.FormatInt(id, 10) != e.Name() {
				continue
			}
			q := newQueue(t, tp, int32(id))
			q.dirMade = true
			if err := q.load(); err != nil {
				return err
			}
			i, _ := tp.find(q.id)
			tp.queues = append(tp.queues, nil)
			copy(tp.queues[i+1:], tp.queues[i:])
			tp.queues[i] = q
		}
		t.mu.Lock()
		t.topics[name] = tp
		t.count += len(tp.queues)
		t.mu.Unlock()
		return nil
	})
}

// load looks at the queue's files, as Open does: nobody else has the queue.
func (q *Queue) load() error {
	if err := q.listFiles(); err != nil || q.end == q.first {
		return err
	}
	per := int64(q.t.o.FileEntries)
	start := q.first * per
	if q.end == q.first+1 {
		if short, err := q.loadShort(start); short || err != nil {
			return err
		}
	}
	end := start
	for n := q.end - 1; n >= q.first && end == start; n-- {
		rows, err := q.rowsOf(n)
		if err != nil {
			return err
		}
		if rows > 0 {
			end = n*per + rows
		}
	}
	// Everything below is read from the files: the buffer begins at the end.
	q.base, q.written = end, end
	q.max.Store(end)
	low, err := q.skipFillers(start, end)
	if err != nil {
		return err
	}
	q.min.Store(low)
	tail, err := q.lastRecord(low, end)
	if err != nil {
		return err
	}
	q.lastPos, q.lastSize = tail.Position, tail.Size
	q.filled = int64(tail.Offset) < end
	q.minPos, err = q.positionAt(low, end)
	q.started = true
	return err
}

// loadShort does what load does for a queue of which one read shows all, as it
// does for most where there are many, and reports whether it was one.
func (q *Queue) loadShort(start int64) (bool, error) {
	var rows [chunk]Entry
	got, err := q.readFiles(start, rows[:])
	if err != nil {
		return false, err
	}
	n := 0
	for n < got && rows[n].used() {
		n++
	}
	if n == got {
		return false, nil // there may be more
	}
	low, tail := 0, n-1
	for low < n && rows[low].Filler() {
		low++
	}
	for tail >= low && rows[tail].Filler() {
		tail--
	}
	end := start + int64(n)
	q.base, q.written = end, end
	q.max.Store(end)
	q.min.Store(start + int64(low))
	if tail >= low {
		q.lastPos, q.lastSize = rows[tail].Position, rows[tail].Size
		q.minPos = rows[low].Position
	}
	q.filled = tail >= low && tail < n-1
	q.started = true
	return true, nil
}

// listFiles fills in first and end, and brings files that a crash left short to
// their full length.
func (q *Queue) listFiles() error {
	list, err := q.t.o.FS.ReadDir(q.dir())
	if err != nil {
		return fmt.Errorf("consumequeue: list the files of topic %q queue %d: %w", q.topic.name, q.id, err)
	}
	var last fs.DirEntry
	for i, e := range list {
		place, err := strconv.ParseInt(e.Name(), 10, 64)
		if len(e.Name()) != 20 || err != nil || place < 0 || e.IsDir() {
			continue
		}
		size := q.t.fileBytes()
		n := place / size
		name := filepath.Join(q.dir(), e.Name())
		if place%size != 0 {
			return &DamageError{File: name, Err: fmt.Errorf("its name is not a multiple of %d bytes; set mappedFileSizeConsumeQueue to what the folder was written with", size)}
		}
		if n > maxOffset/int64(q.t.o.FileEntries) {
			return &DamageError{File: name, Err: errors.New("no queue is that long; move the file away")}
		}
		if q.end > q.first && n != q.end {
			q.t.o.Damaged(&DamageError{File: q.fileName(q.end), Err: fmt.Errorf("missing, and so may be others before %s; their messages cannot be reached by offset", e.Name())})
		}
		if q.end == q.first {
			q.first = n
		}
		q.end = n + 1
		have, err := q.sizeOf(e, n, i == len(list)-1)
		if err != nil {
			return fmt.Errorf("consumequeue: look at %s: %w", name, err)
		}
		if have > size {
			return &DamageError{File: name, Err: fmt.Errorf("has %d bytes where a queue file has %d; set mappedFileSizeConsumeQueue to what the folder was written with", have, size)}
		}
		if last != nil {
			q.t.o.Damaged(&DamageError{File: filepath.Join(q.dir(), last.Name()), Err: errors.New("was too short; what it lacks reads as missing")})
			last = nil
		}
		if have < size {
			last = e
			if err := q.lengthen(n, have); err != nil {
				return err
			}
		}
	}
	return nil
}

// sizeOf returns the length of the n-th file. The last one is opened for that:
// its end is read next.
func (q *Queue) sizeOf(e fs.DirEntry, n int64, last bool) (int64, error) {
	if last {
		f, err := q.openFile(n)
		if err != nil {
			return 0, err
		}
		defer q.t.files.release(f)
		return f.Size()
	}
	info, err := e.Info()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (q *Queue) lengthen(n, size int64) error {
	if q.t.o.ReadOnly {
		return nil
	}
	f, err := q.openFile(n)
	if err != nil {
		return err
	}
	defer q.t.files.release(f)
	// Half an entry at the end would be made whole with zeros, and be wrong.
	if err = f.Truncate(size / EntrySize * EntrySize); err == nil {
		err = f.Truncate(q.t.fileBytes())
	}
	if err != nil {
		return fmt.Errorf("consumequeue: bring %s to its full length: %w", q.fileName(n), err)
	}
	q.touchLocked(n)
	q.markDirtyLocked()
	return nil
}

// rowsOf returns how many rows of the n-th file are used. Rows are used from
// the first on, so a few reads find the end.
func (q *Queue) rowsOf(n int64) (int64, error) {
	per := int64(q.t.o.FileEntries)
	var rows [chunk]Entry
	got, err := q.readFiles(n*per, rows[:])
	if err != nil {
		return 0, err
	}
	if !rows[got-1].used() {
		for i := range got {
			if !rows[i].used() {
				return int64(i), nil
			}
		}
	}
	lo, hi := int64(got), per
	for lo < hi {
		mid := lo + (hi-lo)/2
		if _, err := q.readFiles(n*per+mid, rows[:1]); err != nil {
			return 0, err
		}
		if rows[0].used() {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo, nil
}

// skipFillers returns where the queue begins in its first file, of which the
// part before may be filled up. It goes row by row: behind the first entry
// there may be fillers again, for records that damage has taken.
func (q *Queue) skipFillers(start, end int64) (int64, error) {
	var rows [chunk]Entry
	for at := start; at < end; {
		part := rows[:min(int64(len(rows)), end-at)]
		if at == start {
			part = part[:1] // most begin at once
		}
		if err := q.readAll(at, part); err != nil {
			return 0, err
		}
		for i, e := range part {
			if !e.used() || !e.Filler() {
				return at + int64(i), nil
			}
		}
		at += int64(len(part))
	}
	return end, nil
}

// restore sets the queue to what a snapshot says.
func (q *Queue) restore(first, end, low, high int64, pos message.Position, size int32) {
	q.dirMade = true
	q.first, q.end = first, end
	q.base, q.written = high, high
	q.min.Store(low)
	q.max.Store(high)
	q.lastPos, q.lastSize = pos, size
	q.started = true
}
