package vfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"syscall"
)

// memFile is an open file of a Mem.
type memFile struct {
	m        *Mem
	n        *node
	name     string
	writable bool
	closed   bool // guarded by m.mu
}

func (f *memFile) checkLocked(op string, write bool) error {
	switch {
	case f.closed:
		return pathError(op, f.name, fs.ErrClosed)
	case write && !f.writable:
		return pathError(op, f.name, syscall.EBADF)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("read", false); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("read", f.name, syscall.EINVAL)
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("write", true); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("write", f.name, syscall.EINVAL)
	}
	if err := f.n.growLocked(off + int64(len(p))); err != nil {
		return 0, pathError("write", f.name, err)
	}
	copy(f.n.data[off:], p)
	f.n.touchLocked(off, off+int64(len(p)))
	f.n.modTime = f.m.now()
	return len(p), nil
}

func (f *memFile) Size() (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return int64(len(f.n.data)), f.checkLocked("size", false)
}

func (f *memFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("truncate", true); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, syscall.EINVAL)
	}
	f.n.modTime = f.m.now()
	if have := int64(len(f.n.data)); size < have {
		clear(f.n.data[size:]) // what comes back by growing must be zeros
		f.n.data = f.n.data[:size]
		f.n.touchLocked(size, have)
		return nil
	}
	if err := f.n.growLocked(size); err != nil {
		return pathError("truncate", f.name, err)
	}
	return nil
}

func (f *memFile) Allocate(off, size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("allocate", true); err != nil {
		return err
	}
	if off < 0 || size < 0 {
		return pathError("allocate", f.name, syscall.EINVAL)
	}
	if err := f.n.growLocked(off + size); err != nil {
		return pathError("allocate", f.name, err)
	}
	return nil
}

func (f *memFile) Sync() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("sync", false); err != nil {
		return err
	}
	f.n.syncLocked()
	return nil
}

func (f *memFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("close", false); err != nil {
		return err
	}
	f.closed = true
	return nil
}

func (f *memFile) Map(size int64, writable bool) (Mapping, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if err := f.checkLocked("map", writable); err != nil {
		return nil, err
	}
	if size <= 0 || size > int64(len(f.n.data)) {
		return nil, pathError("map", f.name, syscall.EINVAL)
	}
	f.n.mapped++
	if writable {
		f.n.written++
	}
	return &memMapping{f: f, data: f.n.data[:size:size]}, nil
}

type memMapping struct {
	f    *memFile
	data []byte
}

func (p *memMapping) Bytes() []byte { return p.data }

// Resident implements Residency.
func (p *memMapping) Resident(off, n int64) bool { return true }

func (p *memMapping) Sync() error {
	p.f.m.mu.Lock()
	defer p.f.m.mu.Unlock()
	p.f.n.syncLocked()
	return nil
}

func (p *memMapping) Close() error {
	p.f.m.mu.Lock()
	defer p.f.m.mu.Unlock()
	if p.data != nil {
		p.data = nil
		p.f.n.mapped--
	}
	return nil
}

var errMapped = errors.New("a file of Mem cannot grow while it is mapped")

func (n *node) growLocked(size int64) error {
	have := int64(len(n.data))
	if size <= have {
		return nil
	}
	if size > int64(cap(n.data)) {
		if n.mapped > 0 {
			return errMapped
		}
		n.data = slices.Grow(n.data, int(size-have))
	}
	n.data = n.data[:size]
	clear(n.data[have:])
	return nil
}

// touchLocked notes that the bytes [from, to) may differ from the disk's.
func (n *node) touchLocked(from, to int64) {
	for b := from / blockSize; b*blockSize < to; b++ {
		n.dirty[b] = true
	}
}

// unsyncedLocked calls fn for the blocks that may differ from the disk's, in order.
func (n *node) unsyncedLocked(fn func(b int64)) {
	if n.written == 0 {
		blocks := make([]int64, 0, len(n.dirty))
		for b := range n.dirty {
			blocks = append(blocks, b)
		}
		slices.Sort(blocks)
		for _, b := range blocks {
			fn(b)
		}
		return
	}
	for b := int64(0); b*blockSize < max(int64(len(n.data)), n.length); b++ {
		if old, now := n.synced[b], n.blockLocked(b); n.dirty[b] || !bytes.Equal(trimZeros(old), trimZeros(now)) {
			fn(b)
		}
	}
}

// blockLocked returns the block's present bytes; the last one may be short.
func (n *node) blockLocked(b int64) []byte {
	from := min(b*blockSize, int64(len(n.data)))
	return n.data[from:min(from+blockSize, int64(len(n.data)))]
}

func trimZeros(b []byte) []byte { return bytes.TrimRight(b, "\x00") }

func (n *node) syncLocked() {
	n.unsyncedLocked(func(b int64) { setBlock(n.synced, b, n.blockLocked(b)) })
	clear(n.dirty)
	n.length = int64(len(n.data))
}

func setBlock(blocks map[int64][]byte, b int64, data []byte) {
	if data = trimZeros(data); len(data) == 0 {
		delete(blocks, b)
		return
	}
	blocks[b] = slices.Clone(data)
}

// crashed returns the node as a power cut leaves it.
func (n *node) crashed(keep func() bool) *node {
	if n.dir {
		return &node{dir: true, modTime: n.modTime}
	}
	out := &node{synced: make(map[int64][]byte, len(n.synced)), dirty: map[int64]bool{}, length: n.length, modTime: n.modTime}
	for b, data := range n.synced {
		out.synced[b] = data
	}
	n.unsyncedLocked(func(b int64) {
		if keep() {
			setBlock(out.synced, b, n.blockLocked(b))
		}
	})
	if now := int64(len(n.data)); now != n.length && keep() {
		out.length = now
	}
	out.data = make([]byte, out.length)
	for b, data := range out.synced {
		if at := b * blockSize; at < out.length {
			copied := copy(out.data[at:], data)
			out.synced[b] = data[:copied]
		} else {
			delete(out.synced, b)
		}
	}
	return out
}

// NextData implements Extents: blocks of zeros are holes.
func (f *memFile) NextData(off int64) (data, hole int64, err error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	size := int64(len(f.n.data))
	zero := func(b int64) bool { return len(trimZeros(f.n.blockLocked(b))) == 0 }
	b := off / blockSize
	for b*blockSize < size && zero(b) {
		b++
	}
	data = min(max(off, b*blockSize), size)
	for b*blockSize < size && !zero(b) {
		b++
	}
	return data, min(max(data, b*blockSize), size), f.checkLocked("seek", false)
}
