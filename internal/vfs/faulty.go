package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
)

// Kind is a kind of operation on a file system.
type Kind uint8

// The kinds. KindAny stands for all of them in a Rule.
const (
	KindAny Kind = iota
	KindOpen
	KindCreate
	KindRemove
	KindRename
	KindMkdir
	KindReadDir
	KindStat
	KindSyncDir
	KindLock
	KindRead
	KindWrite
	KindTruncate
	KindAllocate
	KindSync
	KindMap
	KindMapSync
	kinds
)

var kindNames = [kinds]string{"any", "open", "create", "remove", "rename", "mkdir", "readdir", "stat",
	"syncdir", "lock", "read", "write", "truncate", "allocate", "sync", "map", "mapsync"}

// String returns the kind's name.
func (k Kind) String() string {
	if k < kinds {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Op is one operation that is about to be done.
type Op struct {
	Kind Kind
	Name string // of the file or folder
	Off  int64  // for reads, writes, Allocate
	Size int64  // for reads, writes, Truncate, Allocate, Map
}

// Changes tells whether the operation can change what is on the disk.
func (o Op) Changes() bool {
	switch o.Kind {
	case KindCreate, KindRemove, KindRename, KindMkdir, KindSyncDir, KindWrite, KindTruncate, KindAllocate, KindSync, KindMapSync:
		return true
	}
	return false
}

// Rule says which operations fail, and how.
type Rule struct {
	Kind  Kind          // KindAny for every kind
	Match func(Op) bool // nil for every operation of the kind
	Skip  int           // so many that match go through first
	Times int           // then so many fail; 0 for all from then on
	Err   error         // wrapped in a *fs.PathError; syscall.EIO if nil
	// Short lets a failing write do half of its bytes first.
	Short bool
}

// Faulty wraps a file system and fails chosen operations. Use NewFaulty.
type Faulty struct {
	inner FS

	mu     sync.Mutex // guards the fields below
	rules  []*Rule
	hook   func(Op)
	counts [kinds]int
	budget *budget // nil for none
}

// NewFaulty returns a wrapper that fails nothing yet.
func NewFaulty(inner FS) *Faulty { return &Faulty{inner: inner} }

// Inject adds a rule. The first rule that matches an operation decides.
func (f *Faulty) Inject(r Rule) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Err == nil {
		r.Err = syscall.EIO
	}
	if r.Times == 0 {
		r.Times = -1
	}
	f.rules = append(f.rules, &r)
}

// FailNth fails the n-th operation of the kind from now on, counted from 1.
func (f *Faulty) FailNth(kind Kind, n int, err error) {
	f.Inject(Rule{Kind: kind, Skip: n - 1, Times: 1, Err: err})
}

// FailAll fails every operation of the kind from now on; KindAny for every one.
func (f *Faulty) FailAll(kind Kind, err error) { f.Inject(Rule{Kind: kind, Err: err}) }

// Clear removes all rules. The hook, the counts and the budget stay.
func (f *Faulty) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rules = nil
}

// Hook has fn called before every operation, on the goroutine that does it and
// with nothing locked; nil ends that. fn may use the wrapped file system.
func (f *Faulty) Hook(fn func(Op)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = fn
}

// Count returns how many operations of the kind were asked for; KindAny for all.
func (f *Faulty) Count(kind Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[kind]
}

// SetBudget gives the disk a size in bytes, in whole blocks of 4 KiB; 0 for no
// bound. Blocks are taken by writes and Allocate and come back when files are
// removed or cut. Files that are there already count from their first use.
func (f *Faulty) SetBudget(bytes int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if bytes <= 0 {
		f.budget = nil
		return
	}
	if f.budget == nil {
		f.budget = &budget{files: map[string]map[int64]bool{}}
	}
	f.budget.total = bytes / blockSize
}

// before counts the operation, calls the hook and finds the rule that fails it.
func (f *Faulty) before(op Op) (short bool, err error) {
	f.mu.Lock()
	hook := f.hook
	f.counts[op.Kind]++
	f.counts[KindAny]++
	f.mu.Unlock()
	if hook != nil {
		hook(op)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.rules {
		if r.Kind != KindAny && r.Kind != op.Kind || r.Match != nil && !r.Match(op) {
			continue
		}
		if r.Skip > 0 {
			r.Skip--
			continue
		}
		if r.Times == 0 {
			continue
		}
		if r.Times > 0 {
			r.Times--
		}
		return r.Short, pathError(op.Kind.String(), op.Name, r.Err)
	}
	return false, nil
}

func (f *Faulty) check(kind Kind, name string) error {
	_, err := f.before(Op{Kind: kind, Name: name})
	return err
}

// withBudget runs fn with the budget, if there is one.
func (f *Faulty) withBudget(fn func(b *budget)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.budget != nil {
		fn(f.budget)
	}
}

// Open implements FS.
func (f *Faulty) Open(name string, writable bool) (File, error) {
	if err := f.check(KindOpen, name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.inner.Open(name, writable))
}

// Create implements FS.
func (f *Faulty) Create(name string) (File, error) {
	if err := f.check(KindCreate, name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.inner.Create(name))
}

func (f *Faulty) wrap(name string) func(File, error) (File, error) {
	return func(inner File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		size, err := inner.Size()
		if err != nil {
			return nil, err
		}
		f.withBudget(func(b *budget) { b.seen(filepath.Clean(name), size) })
		return &faultyFile{f: f, inner: inner, name: name}, nil
	}
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	if err := f.check(KindRemove, name); err != nil {
		return err
	}
	err := f.inner.Remove(name)
	if err == nil {
		f.withBudget(func(b *budget) { b.removed(filepath.Clean(name)) })
	}
	return err
}

// RemoveAll implements FS.
func (f *Faulty) RemoveAll(name string) error {
	if err := f.check(KindRemove, name); err != nil {
		return err
	}
	err := f.inner.RemoveAll(name)
	if err == nil {
		f.withBudget(func(b *budget) { b.removed(filepath.Clean(name)) })
	}
	return err
}

// Rename implements FS.
func (f *Faulty) Rename(from, to string) error {
	if err := f.check(KindRename, from); err != nil {
		return err
	}
	err := f.inner.Rename(from, to)
	if err == nil {
		f.withBudget(func(b *budget) { b.renamed(filepath.Clean(from), filepath.Clean(to)) })
	}
	return err
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(dir string) error {
	if err := f.check(KindMkdir, dir); err != nil {
		return err
	}
	return f.inner.MkdirAll(dir)
}

// ReadDir implements FS.
func (f *Faulty) ReadDir(dir string) ([]fs.DirEntry, error) {
	if err := f.check(KindReadDir, dir); err != nil {
		return nil, err
	}
	return f.inner.ReadDir(dir)
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (fs.FileInfo, error) {
	if err := f.check(KindStat, name); err != nil {
		return nil, err
	}
	return f.inner.Stat(name)
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(dir string) error {
	if err := f.check(KindSyncDir, dir); err != nil {
		return err
	}
	return f.inner.SyncDir(dir)
}

// Lock implements FS.
func (f *Faulty) Lock(name string) (io.Closer, error) {
	if err := f.check(KindLock, name); err != nil {
		return nil, err
	}
	return f.inner.Lock(name)
}

// Usage implements FS: that of the budget if there is one.
func (f *Faulty) Usage(dir string) (total, free int64, err error) {
	total, free, err = f.inner.Usage(dir)
	f.withBudget(func(b *budget) { total, free = b.total*blockSize, max(0, b.total-b.used)*blockSize })
	return total, free, err
}

// faultyFile is a file of a Faulty.
type faultyFile struct {
	f     *Faulty
	inner File
	name  string
}

func (f *faultyFile) check(kind Kind, off, size int64) (short bool, err error) {
	return f.f.before(Op{Kind: kind, Name: f.name, Off: off, Size: size})
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if _, err := f.check(KindRead, off, int64(len(p))); err != nil {
		return 0, err
	}
	return f.inner.ReadAt(p, off)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	short, fail := f.check(KindWrite, off, int64(len(p)))
	if fail != nil {
		if !short {
			return 0, fail
		}
		p = p[:len(p)/2]
	} else {
		room := f.take(off, int64(len(p)))
		if room < int64(len(p)) {
			p, fail = p[:room], pathError("write", f.name, syscall.ENOSPC)
		}
	}
	if len(p) == 0 {
		return 0, fail
	}
	n, err := f.inner.WriteAt(p, off)
	if err == nil {
		err = fail
	}
	return n, err
}

// take returns how many of the bytes at off have room in the budget.
func (f *faultyFile) take(off, size int64) (room int64) {
	room = size
	f.f.withBudget(func(b *budget) { room = b.take(filepath.Clean(f.name), off, size) })
	return room
}

func (f *faultyFile) Close() error         { return f.inner.Close() }
func (f *faultyFile) Size() (int64, error) { return f.inner.Size() }

func (f *faultyFile) Truncate(size int64) error {
	if _, err := f.check(KindTruncate, 0, size); err != nil {
		return err
	}
	err := f.inner.Truncate(size)
	if err == nil {
		f.f.withBudget(func(b *budget) { b.cut(filepath.Clean(f.name), size) })
	}
	return err
}

func (f *faultyFile) Allocate(off, size int64) error {
	if _, err := f.check(KindAllocate, off, size); err != nil {
		return err
	}
	if f.take(off, size) < size {
		return pathError("allocate", f.name, syscall.ENOSPC)
	}
	return f.inner.Allocate(off, size)
}

func (f *faultyFile) Sync() error {
	if _, err := f.check(KindSync, 0, 0); err != nil {
		return err
	}
	return f.inner.Sync()
}

func (f *faultyFile) Map(size int64, writable bool) (Mapping, error) {
	if _, err := f.check(KindMap, 0, size); err != nil {
		return nil, err
	}
	m, err := f.inner.Map(size, writable)
	if err != nil {
		return nil, err
	}
	return &faultyMapping{m, f}, nil
}

// NextData implements Extents.
func (f *faultyFile) NextData(off int64) (data, hole int64, err error) { return NextData(f.inner, off) }

type faultyMapping struct {
	Mapping
	file *faultyFile
}

func (m *faultyMapping) Sync() error {
	if _, err := m.file.check(KindMapSync, 0, 0); err != nil {
		return err
	}
	return m.Mapping.Sync()
}

// budget counts the blocks of a disk that files have taken.
type budget struct {
	total, used int64
	files       map[string]map[int64]bool
}

func (b *budget) seen(name string, size int64) {
	if b.files[name] == nil {
		b.files[name] = map[int64]bool{}
		for i := int64(0); i*blockSize < size; i++ {
			b.files[name][i] = true
			b.used++
		}
	}
}

// take takes the blocks of a range as far as there are any left and returns
// how many bytes of the range they hold.
func (b *budget) take(name string, off, size int64) int64 {
	blocks := b.files[name]
	if blocks == nil { // removed while it was open
		return size
	}
	for i := off / blockSize; i*blockSize < off+size; i++ {
		if blocks[i] {
			continue
		}
		if b.used >= b.total {
			return max(0, i*blockSize-off)
		}
		blocks[i] = true
		b.used++
	}
	return size
}

func (b *budget) cut(name string, size int64) {
	for i := range b.files[name] {
		if i*blockSize >= size {
			delete(b.files[name], i)
			b.used--
		}
	}
}

func (b *budget) removed(name string) {
	for file, blocks := range b.files {
		if file == name || strings.HasPrefix(file, name+string(filepath.Separator)) {
			b.used -= int64(len(blocks))
			delete(b.files, file)
		}
	}
}

func (b *budget) renamed(from, to string) {
	if blocks, ok := b.files[from]; ok {
		b.removed(to)
		delete(b.files, from)
		b.files[to] = blocks
	}
}
