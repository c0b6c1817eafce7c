package index

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

func getSlot(b []byte) int32    { return int32(binary.BigEndian.Uint32(b)) }
func putSlot(b []byte, n int32) { binary.BigEndian.PutUint32(b, uint32(n)) }

// Find returns the positions of at most limit records that may have the key and
// were stored from begin to end (ms, both included): the newest, ascending. Keys
// are compared by hash, and times by the second, so the caller looks at the
// records; Search goes on when some are none.
func (x *Index) Find(key []byte, begin, end int64, limit int) ([]message.Position, error) {
	var found []message.Position
	if limit <= 0 {
		return nil, nil
	}
	err := x.Search(key, begin, end, func(pos message.Position) bool {
		found = append(found, pos)
		return len(found) < limit
	})
	slices.Reverse(found)
	return found, err
}

// Search calls fn with the positions of records that may have the key and were
// stored from begin to end (ms, both included), newest first, until it returns
// false. A record that has the key twice is named once. fn must not call the
// index's other methods.
func (x *Index) Search(key []byte, begin, end int64, fn func(message.Position) bool) error {
	x.use.RLock()
	defer x.use.RUnlock()
	x.mu.Lock()
	files := slices.Clone(x.files)
	closed := x.closed
	x.mu.Unlock()
	if closed {
		return ErrClosed
	}
	w := walk{x: x, hash: hashOf(key), begin: begin, end: end, last: message.NoPosition, fn: fn}
	for _, f := range slices.Backward(files) {
		x.mu.Lock()
		h, b := f.head, f.b
		x.mu.Unlock()
		if h.count <= 1 || end < h.beginTime || begin > h.endTime {
			if h.count > 1 && h.beginTime < begin {
				return nil
			}
			continue
		}
		more, err := w.file(f, h, b)
		if err != nil || !more || h.beginTime < begin {
			return err
		}
	}
	return nil
}

// walk is one search.
type walk struct {
	x          *Index
	hash       int32
	begin, end int64
	last       message.Position
	fn         func(message.Position) bool
}

// file walks the chain of one file and reports whether to go on to the next.
func (w *walk) file(f *file, h head, b []byte) (more bool, err error) {
	l := w.x.layout
	read := func(dst []byte, at int64) error { return vfs.Copy(dst, b[at:]) }
	if b == nil {
		file, err := w.x.o.FS.Open(f.path, false)
		if err != nil {
			return false, fmt.Errorf("index: search: %w", err)
		}
		defer func() {
			if cerr := file.Close(); cerr != nil && err == nil {
				err = cerr
			}
		}()
		read = func(dst []byte, at int64) error { return readFull(file, dst, at) }
	}
	var raw [itemSize]byte
	w.x.mu.Lock() // Put writes slots
	err = read(raw[:slotSize], l.slotPlace(int64(w.hash)%l.slots))
	limit := f.head.count
	w.x.mu.Unlock()
	if err != nil {
		return false, fmt.Errorf("index: read %s: %w", f.path, err)
	}
	// Items below n do not change any more. A chain leads down; one that does
	// not is damaged, and ends.
	for n := int64(getSlot(raw[:])); n > 0 && n < limit; limit, n = n, int64(getItem(raw[:]).prev) {
		if err := read(raw[:], l.itemPlace(n)); err != nil {
			return false, fmt.Errorf("index: read %s: %w", f.path, err)
		}
		it := getItem(raw[:])
		at := h.beginTime + int64(it.secs)*1000 // to within the second that begins here
		if at+999 < w.begin {
			return true, nil
		}
		if it.hash != w.hash || at > w.end || it.pos == w.last {
			continue
		}
		w.last = it.pos
		if !w.fn(it.pos) {
			return false, nil
		}
	}
	return true, nil
}
