package index

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// allocateAhead is how many bytes of items get their place on the disk at once.
const allocateAhead = 8 << 20

// Index is the index files of one folder. Put, TruncateFrom, Drop and
// DropBefore belong to one goroutine at a time; everything is safe beside them.
type Index struct {
	dir    string
	o      Options
	layout layout

	failed atomic.Pointer[error]
	syncMu sync.Mutex // held by Flush and by what closes files; taken first

	// use is held for reading by searches: no mapping is closed and no item
	// changed meanwhile. Taken before mu.
	use sync.RWMutex

	mu      sync.Mutex // guards what follows
	files   []*file    // by name, oldest first
	newName bool       // the folder needs a sync
	closed  bool
}

// file is one index file. Only the newest may be open and mapped, and those
// that were the newest until the last flush.
type file struct {
	name      string
	path      string
	head      head // as of the last Put
	f         vfs.File
	m         vfs.Mapping
	b         []byte // the mapping's bytes, nil if not mapped
	allocated int64  // bytes from the start that have a place on the disk
	dirty     bool   // the mapping has what is not durable
	unsynced  bool   // the file has (length, places, writes)
	touched   byte   // what layout.touch found, so that it is not left out
}

// Open lists the files of the folder, which need not exist, and reads their
// headers. It maps nothing: that waits for the first Put.
func Open(dir string, o Options) (*Index, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	x := &Index{dir: dir, o: o, layout: layout{int64(o.Slots), int64(o.Items)}}
	list, err := o.FS.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("index: list the files: %w", err)
	}
	for _, e := range list {
		if e.IsDir() || !isName(e.Name()) {
			continue
		}
		f := &file{name: e.Name(), path: filepath.Join(dir, e.Name())}
		if err := x.readHead(f); err != nil {
			o.Broken(&BrokenError{File: f.path, Err: err})
			continue
		}
		x.files = append(x.files, f)
	}
	return x, nil
}

const nameLen = 17 // yyyyMMddHHmmssSSS

func isName(s string) bool {
	return len(s) == nameLen && strings.Trim(s, "0123456789") == ""
}

func (x *Index) readHead(f *file) (err error) {
	file, err := x.o.FS.Open(f.path, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	size, err := file.Size()
	if err != nil {
		return err
	}
	if size != x.layout.size() {
		return fmt.Errorf("has %d bytes, not the %d of %d slots and %d items; if it was written with others, set maxHashSlotNum and maxIndexNum to them; if a crash cut it short, remove it",
			size, x.layout.size(), x.layout.slots, x.layout.items)
	}
	var b [headSize]byte
	if err := readFull(file, b[:], 0); err != nil {
		return err
	}
	f.head = getHead(b[:])
	h := &f.head
	if h.count < 1 || h.count > x.layout.items || h.slotsUsed < 0 || h.slotsUsed > x.layout.slots || h.beginPos < 0 || h.endPos < 0 {
		return fmt.Errorf("its header is damaged (%d items, %d slots in use, positions %d to %d)", h.count-1, h.slotsUsed, h.beginPos, h.endPos)
	}
	return nil
}

func readFull(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	if n == len(b) {
		return nil
	}
	return err
}

// Last returns the position and the store time of the newest record with a key,
// or NoPosition and 0 if there is none.
func (x *Index) Last() (message.Position, int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, f := range slices.Backward(x.files) {
		if f.head.count > 1 {
			return f.head.endPos, f.head.endTime
		}
	}
	return message.NoPosition, 0
}

// Flush makes durable what was put before the call, and closes files that are
// full. An error of it is sticky. Put goes on meanwhile.
func (x *Index) Flush() error {
	x.syncMu.Lock()
	defer x.syncMu.Unlock()
	return x.flush()
}

// flush is Flush with syncMu held.
func (x *Index) flush() error {
	if err := x.Failed(); err != nil {
		return err
	}
	type job struct {
		f      *file
		m      vfs.Mapping // nil if nothing was put
		file   vfs.File    // nil if closed
		sync   bool
		retire bool
	}
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return ErrClosed
	}
	var jobs []job
	for i, f := range x.files {
		retire := i < len(x.files)-1 && f.f != nil
		if f.dirty || f.unsynced || retire {
			j := job{f: f, file: f.f, sync: f.unsynced, retire: retire}
			if f.dirty {
				j.m = f.m
			}
			jobs = append(jobs, j)
		}
		f.dirty, f.unsynced = false, false
	}
	newName := x.newName
	x.newName = false
	x.mu.Unlock()

	var err error
	for _, j := range jobs {
		if j.m != nil {
			err = j.m.Sync()
		}
		if j.sync && err == nil {
			err = x.syncFile(j.f.path, j.file)
		}
		if err == nil && j.retire {
			x.use.Lock()
			err = j.f.close()
			x.use.Unlock()
		}
		if err != nil {
			return x.fail(fmt.Errorf("sync %s: %w", j.f.path, err))
		}
	}
	if newName {
		if err = x.o.FS.SyncDir(x.dir); err == nil {
			err = x.o.FS.SyncDir(filepath.Dir(x.dir))
		}
		if err != nil {
			return x.fail(fmt.Errorf("sync folder %s: %w", x.dir, err))
		}
	}
	return nil
}

// syncFile syncs the file itself, which may be closed.
func (x *Index) syncFile(path string, file vfs.File) error {
	if file != nil {
		return file.Sync()
	}
	file, err := x.o.FS.Open(path, true)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// close closes the mapping and the file. use is held.
func (f *file) close() error {
	var err error
	if f.m != nil {
		err = f.m.Close()
	}
	if f.f != nil {
		err = errors.Join(err, f.f.Close())
	}
	f.m, f.b, f.f, f.allocated = nil, nil, nil, 0
	return err
}

// Failed returns the sticky failure, which wraps ErrFailed, or nil.
func (x *Index) Failed() error {
	if err := x.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (x *Index) fail(err error) error {
	err = fmt.Errorf("%w: %w", ErrFailed, err)
	x.failed.CompareAndSwap(nil, &err)
	return x.Failed()
}

// Close flushes and closes the files. A second call does nothing.
func (x *Index) Close() error {
	x.syncMu.Lock()
	defer x.syncMu.Unlock()
	err := x.flush()
	if errors.Is(err, ErrClosed) {
		return nil
	}
	x.use.Lock()
	defer x.use.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.closed = true
	for _, f := range x.files {
		err = errors.Join(err, f.close())
	}
	return err
}
