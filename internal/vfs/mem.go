package vfs

import (
	"fmt"
	"io"
	"io/fs"
	"math/rand"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// blockSize is what a disk writes as a whole in Mem and Faulty.
const blockSize = 4096

// Mem is a file system in memory that remembers what has been synced. Use
// NewMem. CrashClone tells what a power cut would leave.
//
// The model is stricter than common file systems: a file's data is durable
// after its Sync, its name after SyncDir of its folder, and until then each
// block and each name change is lost or kept on its own. SyncDir also makes
// the folder itself and those above it durable.
type Mem struct {
	mu    sync.Mutex // guards everything in Mem, and lengths and blocks of its files
	now   func() time.Time
	live  map[string]*node // by clean path; folders too
	disk  map[string]*node // the names that are durable
	log   []nameOp         // changes of names that are not, oldest first
	locks map[string]bool
}

// nameOp is one change of names.
type nameOp struct {
	from, to string // "" for none: creation has only to, removal only from
	n        *node
}

// node is a file or a folder.
type node struct {
	dir     bool
	data    []byte           // as a reader sees it
	synced  map[int64][]byte // durable blocks that are not zeros
	length  int64            // durable length
	dirty   map[int64]bool   // blocks written since the last Sync
	mapped  int              // open mappings, which forbid moving data
	written int              // writable mappings ever: any block may differ
	modTime time.Time
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	m := &Mem{now: time.Now, live: map[string]*node{}, disk: map[string]*node{}, locks: map[string]bool{}}
	for _, root := range []string{"/", "."} {
		m.live[root] = &node{dir: true}
		m.disk[root] = m.live[root]
	}
	return m
}

// SetNow sets the clock for modification times.
func (m *Mem) SetNow(now func() time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = now
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// Open implements FS.
func (m *Mem) Open(name string, writable bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.live[filepath.Clean(name)]
	switch {
	case n == nil:
		return nil, pathError("open", name, fs.ErrNotExist)
	case n.dir:
		return nil, pathError("open", name, syscall.EISDIR)
	}
	return &memFile{m: m, n: n, name: name, writable: writable}, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := filepath.Clean(name)
	if m.live[at] != nil {
		return nil, pathError("create", name, fs.ErrExist)
	}
	if err := m.needDirLocked("create", at); err != nil {
		return nil, err
	}
	n := &node{synced: map[int64][]byte{}, dirty: map[int64]bool{}, modTime: m.now()}
	m.changeLocked(nameOp{to: at, n: n})
	return &memFile{m: m, n: n, name: name, writable: true}, nil
}

func (m *Mem) needDirLocked(op, at string) error {
	if d := m.live[filepath.Dir(at)]; d == nil || !d.dir {
		return pathError(op, at, fs.ErrNotExist)
	}
	return nil
}

func (m *Mem) changeLocked(op nameOp) {
	op.apply(m.live)
	m.log = append(m.log, op)
}

func (op nameOp) apply(names map[string]*node) {
	if op.from != "" {
		if op.to == "" {
			delete(names, op.from)
			return
		}
		for name, n := range names { // a folder takes what is below it along
			if below(name, op.from) {
				delete(names, name)
				names[op.to+name[len(op.from):]] = n
			}
		}
		delete(names, op.from)
	}
	names[op.to] = op.n
}

func below(name, dir string) bool {
	return strings.HasPrefix(name, dir) && len(name) > len(dir) && (name[len(dir)] == filepath.Separator || dir == "/")
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := filepath.Clean(name)
	n := m.live[at]
	if n == nil {
		return pathError("remove", name, fs.ErrNotExist)
	}
	if n.dir && len(m.childrenLocked(at)) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	m.changeLocked(nameOp{from: at, n: n})
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := filepath.Clean(name)
	var all []string
	for p := range m.live {
		if p == at || below(p, at) {
			all = append(all, p)
		}
	}
	slices.Sort(all)
	for _, p := range slices.Backward(all) {
		m.changeLocked(nameOp{from: p, n: m.live[p]})
	}
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, t := filepath.Clean(from), filepath.Clean(to)
	n := m.live[f]
	if n == nil {
		return pathError("rename", from, fs.ErrNotExist)
	}
	if err := m.needDirLocked("rename", t); err != nil {
		return err
	}
	if old := m.live[t]; old != nil && old.dir != n.dir {
		return pathError("rename", to, fs.ErrExist)
	}
	if f != t {
		m.changeLocked(nameOp{from: f, to: t, n: n})
	}
	return nil
}

// MkdirAll implements FS.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var missing []string
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		n := m.live[at]
		if n != nil && !n.dir {
			return pathError("mkdir", dir, syscall.ENOTDIR)
		}
		if n != nil {
			break
		}
		missing = append(missing, at)
	}
	for _, at := range slices.Backward(missing) {
		m.changeLocked(nameOp{to: at, n: &node{dir: true, modTime: m.now()}})
	}
	return nil
}

func (m *Mem) childrenLocked(dir string) []fs.DirEntry {
	var out []fs.DirEntry
	for name, n := range m.live {
		if name != dir && filepath.Dir(name) == dir {
			out = append(out, fs.FileInfoToDirEntry(infoOf(name, n)))
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out
}

// ReadDir implements FS.
func (m *Mem) ReadDir(dir string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := filepath.Clean(dir)
	if n := m.live[at]; n == nil || !n.dir {
		return nil, pathError("readdir", dir, fs.ErrNotExist)
	}
	return m.childrenLocked(at), nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.live[filepath.Clean(name)]
	if n == nil {
		return nil, pathError("stat", name, fs.ErrNotExist)
	}
	return infoOf(name, n), nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := filepath.Clean(dir)
	if n := m.live[at]; n == nil || !n.dir {
		return pathError("syncdir", dir, fs.ErrNotExist)
	}
	left := m.log[:0:0]
	for _, op := range m.log {
		own := op.to != "" && filepath.Dir(op.to) == at || op.from != "" && filepath.Dir(op.from) == at
		if own || op.from == "" && op.n.dir && (op.to == at || below(at, op.to)) {
			op.apply(m.disk)
		} else {
			left = append(left, op)
		}
	}
	m.log = left
	return nil
}

// Lock implements FS.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := filepath.Clean(name)
	if m.locks[at] {
		return nil, fmt.Errorf("lock %s: %w", name, ErrLocked)
	}
	if err := m.needDirLocked("lock", at); err != nil {
		return nil, err
	}
	if m.live[at] == nil {
		m.changeLocked(nameOp{to: at, n: &node{synced: map[int64][]byte{}, dirty: map[int64]bool{}, modTime: m.now()}})
	}
	m.locks[at] = true
	return &memLock{m: m, at: at}, nil
}

type memLock struct {
	m    *Mem
	at   string
	once sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		delete(l.m.locks, l.at)
	})
	return nil
}

// Usage implements FS: a disk of 1 TiB on which every byte of a file counts.
func (m *Mem) Usage(string) (total, free int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	total = 1 << 40
	free = total
	for _, n := range m.live {
		free -= int64(len(n.data))
	}
	return total, free, nil
}

// CrashClone returns a new file system with what would be on the disk if the
// power failed now: of every block, file length and name that changed since it
// was last synced, the old or the new state, as rng decides for each alone. A
// nil rng loses all that is not synced. Nobody may write through a mapping
// meanwhile; everything else may go on.
func (m *Mem) CrashClone(rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	keep := func() bool { return rng != nil && rng.Intn(2) == 0 }
	names := make(map[string]*node, len(m.disk))
	for name, n := range m.disk {
		names[name] = n
	}
	for _, op := range m.log {
		if keep() {
			op.apply(names)
		}
	}
	out := NewMem()
	out.now = m.now
	copies := map[*node]*node{}
	paths := make([]string, 0, len(names))
	for name := range names {
		paths = append(paths, name)
	}
	slices.Sort(paths) // so that the same seed gives the same clone
	for _, name := range paths {
		if !reachable(names, name) {
			continue
		}
		n := names[name]
		if copies[n] == nil {
			copies[n] = n.crashed(keep)
		}
		out.live[name], out.disk[name] = copies[n], copies[n]
	}
	return out
}

// LoseWriteback makes a file as a failed write to the disk leaves it on Linux:
// it reads as it was written, and the next Sync finds nothing to do and
// succeeds; but what was not synced before is not on the disk.
func (m *Mem) LoseWriteback(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.live[filepath.Clean(name)]
	if n == nil || n.dir {
		return pathError("lose", name, fs.ErrNotExist)
	}
	clear(n.dirty)
	return nil
}

// reachable tells whether all folders above the name are there.
func reachable(names map[string]*node, name string) bool {
	for dir := filepath.Dir(name); ; dir = filepath.Dir(dir) {
		if n := names[dir]; n == nil || !n.dir {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

type memInfo struct {
	name string
	size int64
	mode fs.FileMode
	mod  time.Time
}

func infoOf(name string, n *node) fs.FileInfo {
	mode := fs.FileMode(0o644)
	if n.dir {
		mode = fs.ModeDir | 0o755
	}
	return memInfo{filepath.Base(name), int64(len(n.data)), mode, n.modTime}
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) Mode() fs.FileMode  { return i.mode }
func (i memInfo) ModTime() time.Time { return i.mod }
func (i memInfo) IsDir() bool        { return i.mode.IsDir() }
func (i memInfo) Sys() any           { return nil }
