// Package kv keeps the small state of a broker that its log cannot rebuild:
// topics, groups, committed offsets, progress marks. It is the only package
// that touches goleveldb, whose defaults lose data silently; what is promised
// here is narrower and checked:
//
//   - A synced write is on the disk when it returns. A write that is not synced
//     may be lost in a power cut, never in the crash of the process alone.
//   - A Batch is applied as a whole or not at all, wherever a crash falls.
//   - A damaged manifest never passes for a shorter history: the folder is
//     copied aside, rebuilt from its tables and journals, and the damage is
//     reported through Options.Report.
//   - After a failed write nothing more is written until the database has been
//     opened again from what the disk holds; the next write tries that.
//   - A folder of a newer format is refused and left untouched.
//
// One process per folder. All methods are safe for concurrent use. Values are
// small; iteration sees the state of the moment it began.
package kv

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/syndtr/goleveldb/leveldb"
	lderrors "github.com/syndtr/goleveldb/leveldb/errors"
	"github.com/syndtr/goleveldb/leveldb/filter"
	"github.com/syndtr/goleveldb/leveldb/opt"
	"github.com/syndtr/goleveldb/leveldb/storage"
)

// Format is the version of the layout of keys that this package writes.
const Format = 1

var formatKey = []byte("\x00format")

var (
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("the database is closed")
	// ErrLocked says that another process, or another DB of this one, has the folder.
	ErrLocked = errors.New("the folder is in use by another process")
)

// FormatError says that the folder was written by a newer version.
type FormatError struct {
	Dir   string
	Found string // the version that the folder names
}

// Error implements error.
func (e *FormatError) Error() string {
	return fmt.Sprintf("kv: %s has format %s, this version knows formats up to %d: start the newer version that wrote it, or restore a backup", e.Dir, e.Found, Format)
}

// CorruptError says that stored bytes are damaged. Repair rebuilds the folder
// from what is whole.
type CorruptError struct {
	Dir string
	Err error
}

// Error implements error.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("kv: %s is damaged: %v; merlin store repair --kv keeps what is readable", e.Dir, e.Err)
}

// Unwrap returns the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

// Report tells what an Open found and did besides opening.
type Report struct {
	Dir    string
	Damage error  // what was wrong
	Copy   string // where the folder was copied before it was rebuilt; empty if it was not rebuilt
	Keys   int    // how many keys the rebuilt folder holds
}

// String returns the report as one line for an operator.
func (r Report) String() string {
	if r.Copy == "" {
		return fmt.Sprintf("kv: %s: %v", r.Dir, r.Damage)
	}
	return fmt.Sprintf("kv: %s was damaged (%v); rebuilt with %d keys, the damaged files are kept in %s", r.Dir, r.Damage, r.Keys, r.Copy)
}

// Options of Open. The zero value is usable.
type Options struct {
	// Memory keeps everything in memory, and dir is only a name for errors.
	Memory bool
	// CacheSize bounds the cache of read blocks in bytes; default 1 MiB.
	CacheSize int
	// WriteBuffer is the size in bytes at which buffered writes become a table; default 1 MiB.
	WriteBuffer int
	// Report is told of damage that was found; nil drops it.
	Report func(Report)
}

func (o Options) withDefaults() Options {
	if o.CacheSize <= 0 {
		o.CacheSize = 1 << 20
	}
	if o.WriteBuffer <= 0 {
		o.WriteBuffer = 1 << 20
	}
	if o.Report == nil {
		o.Report = func(Report) {}
	}
	return o
}

func (o Options) leveldb() *opt.Options {
	return &opt.Options{
		Strict:                 opt.DefaultStrict | opt.StrictManifest,
		BlockCacheCapacity:     o.CacheSize,
		WriteBuffer:            o.WriteBuffer,
		OpenFilesCacheCapacity: 64,
		DisableSeeksCompaction: true,
		Filter:                 filter.NewBloomFilter(10),
	}
}

// DB is an open database.
type DB struct {
	dir  string
	opts Options

	failed atomic.Bool // a write failed: reopen before the next one

	mu     sync.RWMutex // guards what follows; held shared for the length of a call, exclusively to reopen and close
	stor   storage.Storage
	ldb    *leveldb.DB
	closed bool
}

// Open opens the database in the folder, making it if needed.
func Open(dir string, o Options) (*DB, error) {
	o = o.withDefaults()
	if o.Memory {
		return openStorage(dir, storage.NewMemStorage(), o)
	}
	stor, err := openFiles(dir)
	if err != nil {
		return nil, err
	}
	db, err := openStorage(dir, stor, o)
	var corrupt *CorruptError
	if !errors.As(err, &corrupt) {
		return db, err
	}
	report, err := repair(dir, corrupt.Err, o)
	if err != nil {
		return nil, err
	}
	o.Report(report)
	if stor, err = openFiles(dir); err != nil {
		return nil, err
	}
	return openStorage(dir, stor, o)
}

// openStorage opens the database over a storage, which is closed on errors and
// by DB.Close.
func openStorage(dir string, stor storage.Storage, o Options) (*DB, error) {
	db := &DB{dir: dir, opts: o, stor: &watched{Storage: stor, dropped: func(line string) {
		o.Report(Report{Dir: dir, Damage: errors.New(line)})
	}}}
	ldb, err := leveldb.Open(db.stor, o.leveldb())
	if err != nil {
		stor.Close()
		return nil, db.wrap("open", err)
	}
	db.ldb = ldb
	if err := db.checkFormat(); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

func openFiles(dir string) (storage.Storage, error) {
	stor, err := storage.OpenFile(dir, false)
	switch {
	case err == nil:
		return durableNames{stor, func() error { return syncFolder(dir) }}, nil
	case isLocked(err):
		return nil, fmt.Errorf("kv: %s: %w", dir, ErrLocked)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("kv: %s: this user may not write there; change the owner or choose another folder: %w", dir, err)
	}
	return nil, fmt.Errorf("kv: open %s: %w", dir, err)
}

// checkFormat refuses newer formats and marks a new folder.
func (db *DB) checkFormat() error {
	v, err := db.ldb.Get(formatKey, nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		err := db.ldb.Put(formatKey, strconv.AppendInt(nil, Format, 10), &opt.WriteOptions{Sync: true})
		return db.wrap("mark the format", err)
	}
	if err != nil {
		return db.wrap("read the format", err)
	}
	return db.knows(v)
}

// knows refuses a format that this version does not know.
func (db *DB) knows(format []byte) error {
	if n, err := strconv.Atoi(string(format)); err != nil || n > Format {
		return &FormatError{Dir: db.dir, Found: strconv.Quote(string(format))}
	}
	return nil
}

// Close waits for background work and gives the folder back.
func (db *DB) Close() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return nil
	}
	db.closed = true
	var err error
	if db.ldb != nil {
		err = db.ldb.Close()
	}
	return db.wrap("close", errors.Join(err, db.stor.Close()))
}

// wrap gives an error of goleveldb the folder's name and this package's types.
func (db *DB) wrap(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, leveldb.ErrClosed):
		return fmt.Errorf("kv: %s: %s: %w", db.dir, what, ErrClosed)
	case isCorrupted(err):
		return &CorruptError{Dir: db.dir, Err: err}
	}
	return fmt.Errorf("kv: %s: %s: %w", db.dir, what, err)
}

// isCorrupted is goleveldb's IsCorrupted for an error that may be joined with
// others.
func isCorrupted(err error) bool {
	var table *lderrors.ErrCorrupted
	var stored *storage.ErrCorrupted
	return errors.As(err, &table) || errors.As(err, &stored)
}

// get returns the value of a whole key.
func (db *DB) get(key []byte) ([]byte, bool, error) {
	db.mu.RLock()
	defer db.mu.RUnlock()
	if err := db.usableLocked(); err != nil {
		return nil, false, err
	}
	v, err := db.ldb.Get(key, nil)
	if errors.Is(err, leveldb.ErrNotFound) {
		return nil, false, nil
	}
	return v, err == nil, db.wrap("read", err)
}

func (db *DB) usableLocked() error {
	switch {
	case db.closed:
		return fmt.Errorf("kv: %s: %w", db.dir, ErrClosed)
	case db.ldb == nil:
		return fmt.Errorf("kv: %s could not be opened again after a failed write", db.dir)
	}
	return nil
}

// reopen opens the database from what the disk holds, after a failed write:
// what was acknowledged is replayed from the journal into a synced table.
func (db *DB) reopen() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return fmt.Errorf("kv: %s: %w", db.dir, ErrClosed)
	}
	if !db.failed.Load() {
		return nil
	}
	if db.ldb != nil {
		_ = db.ldb.Close() // its state is suspect, which is why it goes
		db.ldb = nil
	}
	ldb, err := leveldb.Open(db.stor, db.opts.leveldb())
	if err != nil {
		return db.wrap("open again after a failed write", err)
	}
	db.ldb = ldb
	db.failed.Store(false)
	return nil
}

// watched hands goleveldb's log lines about skipped parts of a journal on;
// damage of a manifest comes as an error.
type watched struct {
	storage.Storage
	dropped func(line string)
}

// Log implements storage.Storage.
func (w *watched) Log(line string) {
	w.Storage.Log(line)
	if strings.HasPrefix(line, "journal@drop journal") {
		w.dropped("a part of the journal was damaged and skipped, which at its end is the usual trace of a crash: " + line)
	}
}
