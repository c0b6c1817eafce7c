package consumequeue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/merlinmq/merlin/message"
)

const (
	fullBuffer = 400 * EntrySize // a buffer of this size is written out
	keptBuffer = 100 * EntrySize // what stays in it for readers at the tail
	chunk      = 200             // entries of one read from a file
	maxOffset  = math.MaxInt64 / EntrySize / 2
)

// Queue is one queue of a topic. A handle stays good for the life of the
// table, or until the topic is deleted. Put belongs to one goroutine at a
// time; everything else is safe for concurrent use.
type Queue struct {
	t     *Table
	topic *topic
	id    int32

	min, max atomic.Int64 // written with mu held

	// ioMu guards the queue's files and the fields down to mu. It is taken
	// before mu, never after it.
	ioMu        sync.Mutex
	first, end  int64 // numbers of its files: from first, below end
	unsynced    int64 // number of the first file that needs an fsync, -1 none
	unsyncedEnd int64
	newName     bool // the queue's folder needs a sync
	dirMade     bool

	mu       sync.Mutex // guards what follows, and writes to min and max
	buf      []byte     // the entries from base to max; bytes below len never change without ioMu
	base     int64
	written  int64 // the files have the entries below
	lastPos  message.Position
	minPos   message.Position // of the entry at min, NoPosition if not looked up
	lastSize int32
	started  bool // has, or had, an entry
	dirty    bool // in the table's dirty list
	resident bool // in the table's list of queues with a clean buffer
	dead     bool // the topic was deleted
	cut      bool // the files have something at or behind written that must go
	restart  bool // none of the files counts any more
	filled   bool // the last entry is a filler
	unsure   bool // empty, and not certain where it began: the next Put says
}

func newQueue(t *Table, tp *topic, id int32) *Queue {
	return &Queue{t: t, topic: tp, id: id, unsynced: -1, lastPos: message.NoPosition, minPos: message.NoPosition}
}

// Topic returns the name of the queue's topic.
func (q *Queue) Topic() string { return q.topic.name }

// ID returns the queue's number within its topic.
func (q *Queue) ID() int32 { return q.id }

// Min returns the first offset that can be read; it equals Max in an empty queue.
func (q *Queue) Min() message.Offset { return message.Offset(q.min.Load()) }

// Max returns the offset that the next entry gets.
func (q *Queue) Max() message.Offset { return message.Offset(q.max.Load()) }

// Tail returns where the queue ends, all of one moment.
func (q *Queue) Tail() Tail {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Tail{Offset: message.Offset(q.max.Load()), Position: q.lastPos, Size: q.lastSize}
}

// Put adds the entry of the record that has this offset in the queue. An offset
// below Max is ignored: the entry is there already. For an offset above Max,
// what is between is filled up, and reads as Filler; an empty queue just begins
// there. Readers see the entry when Put returns; it is durable after a Flush.
//
// ErrEntry refuses an entry that cannot be right, ErrNoSpace one for which
// neither disk nor memory has room; the queue is as before then.
func (q *Queue) Put(off message.Offset, e Entry) error {
	q.mu.Lock()
	max := q.max.Load()
	if int64(off) == max && len(q.buf)+EntrySize <= cap(q.buf) && q.dirty && e.Position > q.lastPos &&
		e.Size > 0 && e.Size < fillerSize && q.t.failed.Load() == nil {
		q.appendLocked(e)
		q.mu.Unlock()
		return nil
	}
	dead, unsure := q.dead, q.unsure
	q.mu.Unlock()
	if dead {
		return ErrDeleted
	}
	if err := q.t.writable(); err != nil {
		return err
	}
	if int64(off) < max && !unsure {
		return nil
	}
	return q.putSlow(int64(off), e)
}

func (q *Queue) appendLocked(e Entry) {
	n := len(q.buf)
	q.buf = q.buf[:n+EntrySize]
	putEntry(q.buf[n:], e)
	q.filled = e.Size == fillerSize
	if !q.filled {
		q.lastPos, q.lastSize = e.Position, e.Size
	}
	q.max.Store(q.max.Load() + 1)
}

func (q *Queue) putSlow(off int64, e Entry) error {
	if err := q.check(off, e); err != nil {
		return err
	}
	if off != q.max.Load() && q.max.Load() == q.min.Load() {
		q.beginAt(off)
	}
	for q.max.Load() < off {
		if err := q.push(filler); err != nil {
			return err
		}
	}
	return q.push(e)
}

// beginAt makes an empty queue start at the offset: fillers are for the start
// of its file only.
func (q *Queue) beginAt(off int64) {
	q.ioMu.Lock()
	defer q.ioMu.Unlock()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.restart = q.restart || q.started
	q.t.buffered.Add(-int64(cap(q.buf)))
	q.buf, q.base, q.written = nil, off, off
	q.max.Store(off)
	q.min.Store(off)
	q.minPos = message.NoPosition
}

func (q *Queue) check(off int64, e Entry) error {
	tail := q.Tail()
	what := ""
	switch {
	case !goodName(q.topic.name) || q.id < 0:
		what = "no folder can have the name of its topic or queue"
	case e.Filler():
		what = "position or size is not one of a record"
	case off < 0 || off > maxOffset:
		what = "no file can hold the offset"
	case e.Position <= tail.Position:
		what = fmt.Sprintf("the record before it is at %d", tail.Position)
	case q.Max() > q.Min() && off-int64(q.Max()) > q.t.o.MaxGap:
		what = fmt.Sprintf("the queue ends at %d, and more than %d offsets are missing", q.Max(), q.t.o.MaxGap)
	default:
		return nil
	}
	return fmt.Errorf("%w: topic %q queue %d offset %d position %d size %d: %s", ErrEntry, q.topic.name, q.id, off, e.Position, e.Size, what)
}

func (q *Queue) push(e Entry) error {
	for {
		q.mu.Lock()
		if q.dead {
			q.mu.Unlock()
			return ErrDeleted
		}
		if len(q.buf)+EntrySize <= cap(q.buf) {
			q.appendLocked(e)
			q.started, q.unsure = true, false
			q.markDirtyLocked()
			q.mu.Unlock()
			return nil
		}
		full := len(q.buf) >= fullBuffer
		q.mu.Unlock()
		if err := q.makeRoom(full); err != nil {
			return err
		}
	}
}

// makeRoom writes a full buffer to the files, or gives a small one more memory.
// When the disk is full, memory is what is left.
func (q *Queue) makeRoom(full bool) error {
	var werr error
	if full {
		q.ioMu.Lock()
		if werr = q.writeOutLocked(); werr == nil {
			q.slideLocked()
		}
		q.ioMu.Unlock()
		if werr == nil {
			return nil
		}
		if !isNoSpace(werr) {
			return werr
		}
	}
	q.mu.Lock()
	size := cap(q.buf)
	q.mu.Unlock()
	more := 3 * size
	switch {
	case size == 0:
		more = 4 * EntrySize
	case size >= fullBuffer:
		more = min(size, 1<<20)
	case size+more > fullBuffer:
		more = fullBuffer - size
	}
	if q.t.buffered.Load()+int64(more) > q.t.o.BufferBytes {
		err := q.t.relieve(int64(more))
		if err == nil && q.t.buffered.Load()+int64(more) > q.t.o.BufferBytes {
			err = werr
		}
		if err != nil && isNoSpace(err) {
			return fmt.Errorf("%w: %w; %d bytes of queue entries wait in memory, free some space", ErrNoSpace, err, q.t.buffered.Load())
		}
		if err != nil {
			return err
		}
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	was := cap(q.buf)
	bigger := make([]byte, len(q.buf), was+more)
	copy(bigger, q.buf)
	q.buf = bigger
	q.t.buffered.Add(int64(cap(bigger) - was))
	return nil
}

// slideLocked takes what is in the files out of the buffer, but for the last
// entries, which readers at the tail ask for. ioMu is held.
func (q *Queue) slideLocked() {
	q.mu.Lock()
	defer q.mu.Unlock()
	drop := min(len(q.buf)-keptBuffer, int(q.written-q.base)*EntrySize)
	if drop <= 0 {
		return
	}
	if cap(q.buf) > fullBuffer {
		// It had grown while the disk was full.
		q.t.buffered.Add(int64(fullBuffer - cap(q.buf)))
		q.buf = append(make([]byte, 0, fullBuffer), q.buf[drop:]...)
	} else {
		q.buf = q.buf[:copy(q.buf, q.buf[drop:])]
	}
	q.base += int64(drop / EntrySize)
}

// releaseLocked gives up a buffer whose entries are all in the files.
func (q *Queue) releaseLocked() {
	if q.written == q.max.Load() && q.buf != nil {
		q.t.buffered.Add(-int64(cap(q.buf)))
		q.buf, q.base = nil, q.written
	}
}

// Read fills dst with the entries from this offset on and returns how many:
// dst[i] is that of offset from+i. Fewer than len(dst) means that the queue
// ends there. Entries without a record are Filler. It allocates nothing.
func (q *Queue) Read(from message.Offset, dst []Entry) (n int, err error) {
	for n < len(dst) {
		at := int64(from) + int64(n)
		q.mu.Lock()
		max := q.max.Load()
		switch {
		case q.dead:
			q.mu.Unlock()
			return 0, ErrDeleted
		case at < q.min.Load() || at > max:
			q.mu.Unlock()
			return 0, ErrOutside
		case at == max:
			q.mu.Unlock()
			return n, nil
		case at >= q.base:
			b := q.buf[(at-q.base)*EntrySize:]
			rest := dst[n:]
			if len(rest) > len(b)/EntrySize {
				rest = rest[:len(b)/EntrySize]
			}
			for i := range rest {
				rest[i] = getEntry(b[i*EntrySize:])
			}
			q.mu.Unlock()
			return n + len(rest), nil
		}
		base := q.base
		q.mu.Unlock()
		k, err := q.readFiles(at, dst[n:min(int64(len(dst)), int64(n)+base-at)])
		if err != nil {
			return n, err
		}
		n += k
	}
	return n, nil
}

// readFiles reads up to a chunk of entries, all from one file. Places that the
// file does not have read as zero, which is a filler.
func (q *Queue) readFiles(at int64, dst []Entry) (int, error) {
	per := int64(q.t.o.FileEntries)
	in := at % per
	dst = dst[:min(int64(len(dst)), per-in, chunk)]
	f, err := q.openFile(at / per)
	if errors.Is(err, fs.ErrNotExist) {
		clear(dst)
		return len(dst), nil
	}
	if err != nil {
		return 0, err
	}
	b := q.t.chunks.Get().(*[chunk * EntrySize]byte)
	got, err := f.ReadAt(b[:len(dst)*EntrySize], in*EntrySize)
	q.t.files.release(f)
	if err == io.EOF {
		clear(b[got : len(dst)*EntrySize])
		err = nil
	}
	if err == nil {
		for i := range dst {
			dst[i] = getEntry(b[i*EntrySize:])
		}
	}
	q.t.chunks.Put(b)
	if err != nil {
		return 0, fmt.Errorf("consumequeue: read %s: %w", q.fileName(at/per), err)
	}
	return len(dst), nil
}

// openFile returns the queue's n-th file, to be given back by release.
func (q *Queue) openFile(n int64) (*openFile, error) {
	key := fileKey{q, n}
	if f := q.t.files.get(key); f != nil {
		return f, nil
	}
	if q.t.closed.Load() {
		return nil, ErrClosed
	}
	name := q.fileName(n)
	f, err := q.t.o.FS.Open(name, !q.t.o.ReadOnly)
	if err != nil {
		return nil, fmt.Errorf("consumequeue: open %s: %w", name, err)
	}
	return q.t.files.add(key, f), nil
}

func (q *Queue) dir() string {
	return filepath.Join(q.t.dir, q.topic.name, strconv.Itoa(int(q.id)))
}

func (q *Queue) fileName(n int64) string {
	return filepath.Join(q.dir(), fmt.Sprintf("%020d", n*q.t.fileBytes()))
}

func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
