package index

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"
	"time"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// Put adds a key of the record. The key is complete: TOPIC#key. Positions must
// not go down; a position below the last one is ignored, because its keys are
// there. Searches find the key when Put returns; it is durable after a Flush.
func (x *Index) Put(key []byte, pos message.Position, storeTime int64) error {
	_, err := x.PutKeys([]Key{{Hash: message.JavaHash(key), Position: pos, StoreTime: storeTime}})
	return err
}

// Key is one key of one record.
type Key struct {
	Hash      int32 // message.JavaHash of TOPIC#key
	Position  message.Position
	StoreTime int64 // ms
}

// PutKeys is Put for many keys, in order and at once. With an error, the first
// n keys were put and no other.
func (x *Index) PutKeys(keys []Key) (n int, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f, err := x.newestLocked()
	if err != nil {
		return 0, err
	}
	for n < len(keys) {
		if f != nil && f.head.count > 1 && keys[n].Position < f.head.endPos {
			n++
			continue
		}
		room := x.roomLocked(f)
		if room == 0 {
			if f, err = x.makeRoomLocked(f); err != nil {
				return n, err
			}
			continue // a new file begins where the last one ended
		}
		put, err := x.layout.put(f, keys[n:min(n+room, len(keys))])
		n += put
		f.dirty = f.dirty || put > 0
		if err != nil {
			return n, x.fail(fmt.Errorf("write %s: %w", f.path, err))
		}
	}
	return n, nil
}

// roomLocked returns how many items can be put into the file as it is.
func (x *Index) roomLocked(f *file) int {
	if f == nil || f.b == nil {
		return 0
	}
	return int(max(0, min(x.layout.items, (f.allocated-x.layout.itemPlace(0))/itemSize)-f.head.count))
}

func (x *Index) newestLocked() (*file, error) {
	if x.closed {
		return nil, ErrClosed
	}
	if x.o.ReadOnly {
		return nil, ErrReadOnly
	}
	if err := x.Failed(); err != nil {
		return nil, err
	}
	if len(x.files) == 0 {
		return nil, nil
	}
	return x.files[len(x.files)-1], nil
}

// put writes items for the keys, and what leads to them, in the mapping. It
// passes over keys below the last position and returns how many it dealt with.
func (l layout) put(f *file, keys []Key) (n int, err error) {
	h := f.head
	err = vfs.Guard(func() error {
		b := f.b
		f.touched = l.touch(b, keys)
		for i := range keys {
			k := &keys[i]
			if h.count > 1 && k.Position < h.endPos {
				continue
			}
			if h.count <= 1 {
				h.beginTime, h.beginPos = k.StoreTime, k.Position
			}
			hash := itemHash(k.Hash)
			slot := b[l.slotPlace(int64(hash)%l.slots):]
			prev := getSlot(slot)
			if prev <= 0 || int64(prev) >= h.count {
				prev = 0
				h.slotsUsed++
			}
			putItem(b[l.itemPlace(h.count):], item{hash: hash, pos: k.Position, secs: secsAfter(h.beginTime, k.StoreTime), prev: prev})
			putSlot(slot, int32(h.count))
			h.count++
			h.endTime, h.endPos = k.StoreTime, k.Position
		}
		putHead(b, h)
		return nil
	})
	if err != nil {
		return 0, err
	}
	f.head = h
	return len(keys), nil
}

// touch reads the slots of the keys, which lie anywhere, so that the processor
// fetches several at once: put needs one after the other.
func (l layout) touch(b []byte, keys []Key) (sum byte) {
	for i := range keys {
		sum |= b[l.slotPlace(int64(itemHash(keys[i].Hash))%l.slots)]
	}
	return sum
}

// makeRoomLocked returns the file for the next item, mapped and with a place
// on the disk for it: f, or a new one if f is full or nil.
func (x *Index) makeRoomLocked(f *file) (*file, error) {
	if f == nil || f.head.count >= x.layout.items {
		var err error
		if f, err = x.createLocked(f); err != nil {
			return nil, x.roomError(err)
		}
	}
	if f.f == nil {
		file, err := x.o.FS.Open(f.path, true)
		if err != nil {
			return nil, x.roomError(err)
		}
		f.f = file
	}
	if end := x.layout.itemPlace(f.head.count + 1); f.allocated < end {
		// The slots at first, and more items than are needed now.
		ahead := min(x.layout.size(), end+allocateAhead)
		if err := f.f.Allocate(f.allocated, ahead-f.allocated); err != nil {
			return nil, x.roomError(fmt.Errorf("allocate %s: %w", f.path, err))
		}
		f.allocated, f.unsynced = ahead, true
	}
	if f.b == nil {
		m, err := f.f.Map(x.layout.size(), true)
		if err != nil {
			return nil, x.roomError(fmt.Errorf("map %s: %w", f.path, err))
		}
		f.m, f.b = m, m.Bytes()
	}
	return f, nil
}

func (x *Index) roomError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return fmt.Errorf("index: make room for a key: %w", err)
}

// createLocked adds a file behind the last one, which is full or nil. It is
// made beside the folder and moved in when it has its length durably: a short
// file in the folder is never ours.
func (x *Index) createLocked(last *file) (*file, error) {
	f := &file{head: head{count: 1}}
	if last != nil {
		f.head.beginTime, f.head.endTime = last.head.endTime, last.head.endTime
		f.head.beginPos, f.head.endPos = last.head.endPos, last.head.endPos
	}
	tmp := x.dir + ".new"
	if err := x.o.FS.MkdirAll(x.dir); err != nil {
		return nil, err
	}
	if err := x.o.FS.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	file, err := x.o.FS.Create(tmp)
	if err != nil {
		return nil, err
	}
	ahead := min(x.layout.size(), x.layout.itemPlace(1)+allocateAhead)
	if err = file.Truncate(x.layout.size()); err == nil {
		err = file.Allocate(0, ahead)
	}
	if err == nil {
		err = file.Sync()
	}
	if err == nil {
		f.name, err = x.freeName(last)
		f.path = filepath.Join(x.dir, f.name)
	}
	if err == nil {
		err = x.o.FS.Rename(tmp, f.path)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close(), x.o.FS.Remove(tmp))
	}
	f.f, f.allocated = file, ahead
	x.files = append(x.files, f)
	x.newName = true
	return f, nil
}

// freeName returns a name behind the last file's that no broken file has.
func (x *Index) freeName(last *file) (string, error) {
	for {
		name := x.nextName(last)
		_, err := x.o.FS.Stat(filepath.Join(x.dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
		last = &file{name: name}
	}
}

// nextName is the time of now, moved behind the last file's if need be: files
// are read in the order of their names.
func (x *Index) nextName(last *file) string {
	name := timeName(x.o.Now())
	if last == nil || name > last.name {
		return name
	}
	t, err := time.Parse("20060102150405", last.name[:14])
	if err != nil {
		// Not a time, but 17 digits: keep the order.
		return incremented(last.name)
	}
	var ms int
	for _, c := range last.name[14:] {
		ms = ms*10 + int(c-'0')
	}
	return timeName(t.Add(time.Duration(ms+1) * time.Millisecond))
}

func timeName(t time.Time) string {
	return t.Format("20060102150405") + fmt.Sprintf("%03d", t.Nanosecond()/int(time.Millisecond))
}

func incremented(digits string) string {
	b := []byte(digits)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i]++; b[i] <= '9' {
			break
		}
		b[i] = '0'
	}
	return string(b)
}
