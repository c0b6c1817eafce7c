package consumequeue

import (
	"errors"
	"fmt"
	"iter"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// workers is how many goroutines open, flush and trim queues when there are
// many. An fsync waits for the disk; several at once share its journal commits.
const workers = 16

// Table is the queues of one folder. Its methods are safe for concurrent use.
type Table struct {
	dir      string
	o        Options
	files    *fileCache
	chunks   sync.Pool // *[chunk*EntrySize]byte
	buffered atomic.Int64
	closed   atomic.Bool
	failed   atomic.Pointer[error]
	warm     bool       // Open believed the snapshot
	syncer   vfs.Syncer // of the whole disk, nil if there is none

	mu     sync.RWMutex // guards topics, their queue lists, count and stamp
	topics map[string]*topic
	count  int
	stamp  string

	flushMu sync.Mutex // held by the one who flushes or closes; guards resident
	// resident are queues with a buffer that held nothing new at the last flush.
	resident []*Queue

	dirtyMu     sync.Mutex // guards what follows; taken last
	dirty       []*Queue   // with entries that are not durable, oldest first
	spilled     int        // of dirty, so many were written out to make room
	dirtyTopics []*topic   // whose folder needs a sync
	newTopic    bool       // the table's own folder needs a sync
}

// topic is a folder of queues.
type topic struct {
	name    string
	queues  []*Queue // ascending by id; guarded by Table.mu
	mu      sync.Mutex
	dirMade bool // guarded by mu, as newName
	newName bool
}

// Open reads what the folder has, which may be nothing, and returns the table,
// ready. With a snapshot that fits it opens no queue; otherwise it looks for
// the end of each. A folder of files with another length is refused.
func Open(dir string, o Options) (*Table, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Table{dir: dir, o: o, topics: make(map[string]*topic)}
	t.files = newFileCache(o.OpenFiles, func(err error) { t.fail(fmt.Errorf("close a queue file: %w", err)) })
	t.chunks.New = func() any { return new([chunk * EntrySize]byte) }
	if !o.ReadOnly {
		if err := makeDir(o.FS, dir); err != nil {
			return nil, fmt.Errorf("consumequeue: make the folder of the queues: %w", err)
		}
	}
	names, err := t.topicNames()
	if err != nil {
		return nil, err
	}
	if t.warm = t.loadSnapshot(names); !t.warm {
		if err := t.scan(names); err != nil {
			t.files.closeAll()
			return nil, err
		}
	}
	// From here on the files change, and an old snapshot must not outlive that.
	if !o.ReadOnly {
		if t.syncer, err = vfs.OpenSyncer(o.FS, dir); err != nil {
			t.files.closeAll()
			return nil, fmt.Errorf("consumequeue: open the folder %s: %w", dir, err)
		}
		if err := t.removeSnapshot(); err != nil {
			t.files.closeAll()
			return nil, errors.Join(err, t.closeSyncer())
		}
	}
	return t, nil
}

// FromSnapshot reports whether Open took the queues' ends from the snapshot.
func (t *Table) FromSnapshot() bool { return t.warm }

// Queue returns the queue, making it if it is new. A new queue has no files
// before its first entry.
func (t *Table) Queue(name string, id int32) *Queue {
	if q := t.Lookup(name, id); q != nil {
		return q
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.queueLocked(name, id)
}

func (t *Table) queueLocked(name string, id int32) *Queue {
	tp := t.topics[name]
	if tp == nil {
		tp = &topic{name: strings.Clone(name)}
		t.topics[tp.name] = tp
	}
	i, found := tp.find(id)
	if !found {
		tp.queues = slices.Insert(tp.queues, i, newQueue(t, tp, id))
		t.count++
	}
	return tp.queues[i]
}

// Lookup returns the queue, or nil if there is none.
func (t *Table) Lookup(name string, id int32) *Queue {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if tp := t.topics[name]; tp != nil {
		if i, found := tp.find(id); found {
			return tp.queues[i]
		}
	}
	return nil
}

// Topic returns the queues of the topic, ascending by id.
func (t *Table) Topic(name string) []*Queue {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if tp := t.topics[name]; tp != nil {
		return slices.Clone(tp.queues)
	}
	return nil
}

func (tp *topic) find(id int32) (int, bool) {
	return slices.BinarySearchFunc(tp.queues, id, func(q *Queue, id int32) int { return int(q.id) - int(id) })
}

// All returns the queues that there are at the call, in no order.
func (t *Table) All() iter.Seq[*Queue] {
	return slices.Values(t.all())
}

func (t *Table) all() []*Queue {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make([]*Queue, 0, t.count)
	for _, tp := range t.topics {
		all = append(all, tp.queues...)
	}
	return all
}

// Delete removes the queues of the topic and their files, durably. Handles to
// them return ErrDeleted from then on; a topic of that name begins at 0 again.
// Deleting what is not there is no error.
func (t *Table) Delete(name string) error {
	if err := t.writable(); err != nil {
		return err
	}
	if !goodName(name) {
		return nil
	}
	// Held to the end, so that nobody makes the topic anew in a folder that is
	// being removed.
	t.mu.Lock()
	defer t.mu.Unlock()
	if tp := t.topics[name]; tp != nil {
		for _, q := range tp.queues {
			q.kill()
		}
		t.count -= len(tp.queues)
		delete(t.topics, name)
	}
	dir := filepath.Join(t.dir, name)
	if err := t.o.FS.RemoveAll(dir); err != nil {
		return fmt.Errorf("consumequeue: delete %s: %w", dir, err)
	}
	if err := t.o.FS.SyncDir(t.dir); err != nil {
		return t.fail(fmt.Errorf("sync folder %s: %w", t.dir, err))
	}
	return nil
}

func (q *Queue) kill() {
	q.ioMu.Lock()
	defer q.ioMu.Unlock()
	q.mu.Lock()
	q.dead = true
	q.written = q.max.Load()
	q.releaseLocked()
	q.mu.Unlock()
	q.t.files.drop(q, q.first, q.end)
	q.unsynced, q.newName = -1, false
}

// SetStamp names the state of the log for the snapshot that Close writes.
func (t *Table) SetStamp(stamp string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stamp = stamp
}

// Failed returns the sticky failure, which wraps ErrFailed, or nil.
func (t *Table) Failed() error {
	if err := t.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes the error sticky and returns the first that was.
func (t *Table) fail(err error) error {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	t.failed.CompareAndSwap(nil, &err)
	return t.Failed()
}

func (t *Table) writable() error {
	if t.closed.Load() {
		return ErrClosed
	}
	if t.o.ReadOnly {
		return ErrReadOnly
	}
	return t.Failed()
}

// Stats returns the table's numbers.
func (t *Table) Stats() Stats {
	t.mu.RLock()
	n := t.count
	t.mu.RUnlock()
	t.dirtyMu.Lock()
	dirty := len(t.dirty)
	t.dirtyMu.Unlock()
	return Stats{Queues: n, DirtyQueues: dirty, BufferedBytes: t.buffered.Load(), OpenFiles: t.files.len()}
}

// Close flushes, leaves a snapshot if it has a stamp and nothing failed, and
// closes the files. It returns what went wrong; a second call does nothing.
func (t *Table) Close() error {
	if t.closed.Load() {
		return nil
	}
	var err error
	if !t.o.ReadOnly {
		err = t.Flush()
	}
	t.flushMu.Lock()
	defer t.flushMu.Unlock()
	if t.closed.Swap(true) {
		return err
	}
	if err == nil && !t.o.ReadOnly {
		err = t.writeSnapshot()
	}
	t.files.closeAll()
	return errors.Join(err, t.failedAfter(err), t.closeSyncer())
}

func (t *Table) closeSyncer() error {
	if t.syncer == nil {
		return nil
	}
	return t.syncer.Close()
}

// failedAfter returns a failure that err does not tell of already.
func (t *Table) failedAfter(err error) error {
	if errors.Is(err, ErrFailed) {
		return nil
	}
	return t.Failed()
}

func (t *Table) fileBytes() int64 { return int64(t.o.FileEntries) * EntrySize }

// TruncateFrom drops every entry at or behind the position, in all queues, and
// whatever a crash may have left in the files behind an end. What is dropped is
// gone from the disk after the next Flush.
func (t *Table) TruncateFrom(pos message.Position) error {
	if err := t.writable(); err != nil {
		return err
	}
	return parallel(t.all(), func(q *Queue) error { return q.TruncateFrom(pos) })
}

// DropBefore forgets the entries of records below the position, which the log
// does not have any more: it raises Min and removes files that have nothing
// else. The last file of a queue stays.
func (t *Table) DropBefore(min message.Position) error {
	if err := t.writable(); err != nil {
		return err
	}
	return parallel(t.all(), func(q *Queue) error { return q.DropBefore(min) })
}

// parallel calls fn for each queue, in order if they are few, and returns the
// first error; the others are still served.
func parallel[T any](items []T, fn func(T) error) error {
	var first error
	if len(items) <= 4*workers {
		for _, it := range items {
			if err := fn(it); err != nil && first == nil {
				first = err
			}
		}
		return first
	}
	var next atomic.Int64
	var mu sync.Mutex // guards first
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(items) {
					return
				}
				if err := fn(items[i]); err != nil {
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return first
}

func goodName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) <= 255 && !strings.ContainsAny(name, "/\\\x00")
}
