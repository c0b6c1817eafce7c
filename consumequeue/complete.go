package consumequeue

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"github.com/merlinmq/merlin/message"
)

// Incomplete is a queue that lacks a file, or a part of one.
type Incomplete struct {
	Queue *Queue
	File  string
	Err   error
}

// Incomplete returns the queues of which the folder lacks what the snapshot
// tells of: Open believes it without looking. It returns none when Open did not
// take the snapshot, and an error when the folder cannot be looked at. It is
// for the time between Open and the first Put.
func (t *Table) Incomplete() ([]Incomplete, error) {
	if !t.warm {
		return nil, nil
	}
	var mu sync.Mutex // guards found
	var found []Incomplete
	err := parallel(t.all(), func(q *Queue) error {
		file, lack, err := q.lack()
		if lack != nil {
			mu.Lock()
			found = append(found, Incomplete{q, file, lack})
			mu.Unlock()
		}
		return err
	})
	return found, err
}

var errNotThere = errors.New("the file is not there")

// lack returns the first file that is not there, or not whole, and why.
func (q *Queue) lack() (file string, lack, err error) {
	switch q.end - q.first {
	case 0:
		return "", nil, nil
	case 1: // most are such: one look at the file is cheaper than at its folder
		info, err := q.t.o.FS.Stat(q.fileName(q.first))
		return q.judge(q.first, info, err)
	}
	list, err := q.t.o.FS.ReadDir(q.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, fmt.Errorf("consumequeue: list the files of topic %q queue %d: %w", q.topic.name, q.id, err)
	}
	there := make(map[string]fs.DirEntry, len(list))
	for _, e := range list {
		there[e.Name()] = e
	}
	for n := q.first; n < q.end; n++ {
		e := there[filepath.Base(q.fileName(n))]
		if e == nil {
			return q.fileName(n), errNotThere, nil
		}
		info, err := e.Info()
		if file, lack, err = q.judge(n, info, err); lack != nil || err != nil {
			return file, lack, err
		}
	}
	return "", nil, nil
}

// judge says what a look at the n-th file means.
func (q *Queue) judge(n int64, info fs.FileInfo, err error) (file string, lack, failed error) {
	name := q.fileName(n)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return name, errNotThere, nil
	case err != nil:
		return name, nil, fmt.Errorf("consumequeue: look at %s: %w", name, err)
	case info.Size() != q.t.fileBytes():
		return name, fmt.Errorf("the file has %d bytes and not %d", info.Size(), q.t.fileBytes()), nil
	}
	return name, nil, nil
}

// Clear makes the queue empty, for its entries to be put again: the first Put
// says where it begins. Its files go with the next flush.
func (q *Queue) Clear() error {
	if err := q.t.writable(); err != nil {
		return err
	}
	q.ioMu.Lock()
	defer q.ioMu.Unlock()
	q.dirMade = false // it may be the folder that is missing
	q.mu.Lock()
	defer q.mu.Unlock()
	q.restart, q.unsure = true, true
	q.t.buffered.Add(-int64(cap(q.buf)))
	q.buf, q.base, q.written = nil, 0, 0
	q.lastPos, q.lastSize, q.minPos, q.filled = message.NoPosition, 0, message.NoPosition, false
	q.min.Store(0)
	q.max.Store(0)
	q.markDirtyLocked()
	return nil
}
