package index

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/merlinmq/merlin/internal/vfs"
	"github.com/merlinmq/merlin/message"
)

// TruncateFrom removes the items of records at or behind the position, whether
// they are whole or half written: below it everything must have been durable,
// above it nothing is believed, neither links nor the header. It is for the
// time between Open and the first Put. What it did is durable after the next
// Flush; a crash before that leaves the same work to do.
func (x *Index) TruncateFrom(pos message.Position) error {
	return x.change(func() error {
		for len(x.files) > 0 {
			f := x.files[len(x.files)-1]
			left, err := x.truncate(f, pos)
			if err != nil {
				return err
			}
			if left > 1 {
				return nil
			}
			if err := x.removeLocked(len(x.files) - 1); err != nil {
				return err
			}
		}
		return nil
	})
}

// change runs fn with everything locked and no file mapped.
func (x *Index) change(fn func() error) error {
	x.syncMu.Lock()
	defer x.syncMu.Unlock()
	x.use.Lock()
	defer x.use.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, err := x.newestLocked(); err != nil {
		return err
	}
	return fn()
}

// truncate cuts one file and returns its count.
func (x *Index) truncate(f *file, pos message.Position) (left int64, err error) {
	if f.f != nil {
		// What was written through the mapping stays in the file; its sync is due.
		f.unsynced = f.unsynced || f.dirty
		f.dirty = false
		if err := f.close(); err != nil {
			return 0, x.fail(fmt.Errorf("close %s: %w", f.path, err))
		}
	}
	file, err := x.o.FS.Open(f.path, true)
	if err != nil {
		return 0, fmt.Errorf("index: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	c := cutter{l: x.layout, f: file, pos: pos}
	if c.keep, err = c.search(); err != nil || c.keep <= 1 {
		return c.keep, wrap(f, err)
	}
	if err := c.repairSlots(); err != nil {
		return 0, wrap(f, err)
	}
	h, err := c.header(f.head)
	if err != nil {
		return 0, wrap(f, err)
	}
	f.head = h
	f.unsynced = true
	return c.keep, nil
}

func wrap(f *file, err error) error {
	if err != nil {
		return fmt.Errorf("index: cut %s: %w", f.path, err)
	}
	return nil
}

// cutter cuts a file in front of item keep.
type cutter struct {
	l         layout
	f         vfs.File
	pos       message.Position
	keep      int64
	slotsUsed int64
}

func (c *cutter) item(n int64) (item, error) {
	var b [itemSize]byte
	err := readFull(c.f, b[:], c.l.itemPlace(n))
	return getItem(b[:]), err
}

// sector is what a disk writes whole; a longer write may be torn there.
const sector = 512

// seam returns how many bytes of the item are in front of the end of a sector,
// if it lies across one, else 0.
func (c *cutter) seam(n int64) int64 {
	at := c.l.itemPlace(n)
	if left := sector - at%sector; left < itemSize {
		return left
	}
	return 0
}

// search returns the number of the first item that does not count. Durable
// items are the first of the file and ascend by position; behind them is what
// was put later, or zeros. Items across sectors may be torn: the one before
// speaks for them, and one that is the last is looked at closer.
func (c *cutter) search() (int64, error) {
	lo, hi := int64(1), c.l.items
	for lo < hi {
		mid := lo + (hi-lo)/2
		ask := mid
		if c.seam(ask) > 0 && ask > 1 {
			ask--
		}
		it, err := c.item(ask)
		if err != nil {
			return 0, err
		}
		if c.counts(it) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if last := lo - 1; last > 1 && c.seam(last) > 0 {
		ok, err := c.plausible(last)
		if err != nil || !ok {
			return last, err
		}
	}
	return lo, nil
}

func (c *cutter) counts(it item) bool {
	return it.pos >= 0 && it.pos < c.pos && it.hash >= 0 && (it.pos > 0 || it.hash != 0)
}

// plausible looks at an item that may be torn. If it is taken for whole, its
// link is made good, since half a link would lose those before it; a wrong
// hash or position only makes a candidate that the caller turns down.
func (c *cutter) plausible(n int64) (bool, error) {
	it, err := c.item(n)
	if err != nil {
		return false, err
	}
	before, err := c.item(n - 1)
	if err != nil || !c.counts(it) || it.pos < before.pos || it.secs < before.secs {
		return false, err
	}
	slot := int64(it.hash) % c.l.slots
	prev := int64(0)
	err = c.backwards(n, 1, func(m int64, older item) bool {
		if int64(older.hash)%c.l.slots == slot {
			prev = m
		}
		return prev == 0
	})
	if err == nil && prev != int64(it.prev) {
		it.prev = int32(prev)
		var b [itemSize]byte
		putItem(b[:], it)
		_, err = c.f.WriteAt(b[:], c.l.itemPlace(n))
	}
	return true, err
}

// repairSlots leads every slot to its newest item that is kept, counts the
// slots in use, and zeroes the items behind: left there, an item of this life
// could be taken for one of the next.
func (c *cutter) repairSlots() error {
	for from := int64(0); from < c.l.slots; from += windowSlots {
		w := slotWindow{cutter: c, from: from, raw: make([]byte, min(windowSlots, c.l.slots-from)*slotSize)}
		if err := w.repair(); err != nil {
			return err
		}
	}
	return c.zeroItems()
}

const (
	windowSlots = 16 << 20 // slots that are repaired together: 64 MiB; Apache's files have 5,000,000
	chunkSlots  = 1 << 14  // slots that are written together
)

// slotWindow is a part of the slots while it is repaired.
type slotWindow struct {
	*cutter
	from    int64  // the first slot
	raw     []byte // of all of them
	changed []bool // by chunk
	lost    []byte // a bit for each slot whose way down is not on the disk
	losses  int
}

func (w *slotWindow) len() int64           { return int64(len(w.raw) / slotSize) }
func (w *slotWindow) get(slot int64) int64 { return int64(getSlot(w.raw[(slot-w.from)*slotSize:])) }
func (w *slotWindow) set(slot, n int64) {
	putSlot(w.raw[(slot-w.from)*slotSize:], int32(n))
	w.changed[(slot-w.from)/chunkSlots] = true
}

func (w *slotWindow) lose(slot int64) {
	w.set(slot, 0)
	i := slot - w.from
	w.lost[i/8] |= 1 << (i % 8)
	w.losses++
}

func (w *slotWindow) repair() error {
	if err := readFull(w.f, w.raw, w.l.slotPlace(w.from)); err != nil {
		return err
	}
	w.changed = make([]bool, (w.len()+chunkSlots-1)/chunkSlots)
	w.lost = make([]byte, (w.len()+7)/8)
	newest := w.keep - 1
	for slot := w.from; slot < w.from+w.len(); slot++ {
		if n := w.get(slot); n < 0 || n >= w.l.items {
			w.lose(slot)
		} else {
			newest = max(newest, n)
		}
	}
	// A slot that leads to an item that is cut is led to the one before it in
	// the chain, from the newest on, until it leads to one that is kept.
	if err := w.backwards(newest+1, w.keep, func(n int64, it item) bool {
		w.unlink(n, it)
		return true
	}); err != nil {
		return err
	}
	for slot := w.from; slot < w.from+w.len(); slot++ {
		n := w.get(slot)
		if n >= w.keep {
			w.lose(slot) // the item was not written, or is not of the slot
		} else if n != 0 {
			w.slotsUsed++
		}
	}
	if err := w.findLost(); err != nil {
		return err
	}
	for i, changed := range w.changed {
		if !changed {
			continue
		}
		at := int64(i) * chunkSlots
		b := w.raw[at*slotSize : min(at+chunkSlots, w.len())*slotSize]
		if _, err := w.f.WriteAt(b, w.l.slotPlace(w.from+at)); err != nil {
			return err
		}
	}
	return nil
}

// unlink leads the slot past an item that is cut, if it leads to it.
func (w *slotWindow) unlink(n int64, it item) {
	if it.hash < 0 {
		return
	}
	slot := int64(it.hash) % w.l.slots
	if slot < w.from || slot >= w.from+w.len() || w.get(slot) != n {
		return
	}
	// A torn item may have lost its link, or the half of it.
	left := w.seam(n)
	if it.pos < w.pos || it.prev < 0 || int64(it.prev) >= n || left > 0 && (it.prev == 0 || left > itemSize-4) {
		w.lose(slot)
		return
	}
	w.set(slot, int64(it.prev))
}

// findLost goes through the items that are kept, newest first, for the slots
// that nothing leads to.
func (w *slotWindow) findLost() error {
	if w.losses == 0 {
		return nil
	}
	return w.backwards(w.keep, 1, func(n int64, it item) bool {
		slot := int64(it.hash) % w.l.slots
		if i := slot - w.from; i >= 0 && i < w.len() && w.lost[i/8]&(1<<(i%8)) != 0 {
			w.lost[i/8] &^= 1 << (i % 8)
			w.losses--
			w.set(slot, n)
			w.slotsUsed++
		}
		return w.losses > 0
	})
}

// backwards calls fn with the items below end, newest first, down to first,
// until it returns false.
func (c *cutter) backwards(end, first int64, fn func(n int64, it item) bool) error {
	const per = 1 << 13
	raw := make([]byte, min(per, max(0, end-first))*itemSize)
	for end > first {
		from := max(first, end-per)
		b := raw[:(end-from)*itemSize]
		if err := readFull(c.f, b, c.l.itemPlace(from)); err != nil {
			return err
		}
		for n := end - 1; n >= from; n-- {
			if !fn(n, getItem(b[(n-from)*itemSize:])) {
				return nil
			}
		}
		end = from
	}
	return nil
}

// zeroItems makes everything from item keep on zero. Cutting the file short and
// lengthening it again leaves a hole there, and writes nothing.
func (c *cutter) zeroItems() error {
	if err := c.f.Truncate(c.l.itemPlace(c.keep)); err != nil {
		return err
	}
	return c.f.Truncate(c.l.size())
}

// header writes the header of what is kept. The end's time is known to the
// second alone, unless the old header ended with the same record.
func (c *cutter) header(old head) (head, error) {
	first, err := c.item(1)
	if err != nil {
		return head{}, err
	}
	last, err := c.item(c.keep - 1)
	if err != nil {
		return head{}, err
	}
	h := old
	h.beginPos, h.slotsUsed, h.count = first.pos, c.slotsUsed, c.keep
	if old.endPos != last.pos || old.count != c.keep {
		h.endPos, h.endTime = last.pos, old.beginTime+int64(last.secs)*1000+999
	}
	var b [headSize]byte
	putHead(b[:], h)
	_, err = c.f.WriteAt(b[:], 0)
	return h, err
}

// DropBefore removes the files whose records are all below the position; the
// newest stays.
func (x *Index) DropBefore(pos message.Position) error {
	return x.change(func() error {
		for len(x.files) > 1 && x.files[0].head.endPos < pos {
			if err := x.removeLocked(0); err != nil {
				return err
			}
		}
		return nil
	})
}

// Drop removes one file by its path, as a BrokenError names it, durably.
func (x *Index) Drop(path string) error {
	return x.change(func() error {
		i := slices.IndexFunc(x.files, func(f *file) bool { return f.path == path })
		if i >= 0 {
			if err := x.removeLocked(i); err != nil {
				return err
			}
		} else if err := x.o.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("index: remove %s: %w", path, err)
		}
		if err := x.o.FS.SyncDir(x.dir); err != nil {
			return x.fail(fmt.Errorf("sync folder %s: %w", x.dir, err))
		}
		return nil
	})
}

// removeLocked removes a file; the name is gone durably after the next Flush.
func (x *Index) removeLocked(i int) error {
	f := x.files[i]
	if err := f.close(); err != nil {
		return x.fail(fmt.Errorf("close %s: %w", f.path, err))
	}
	if err := x.o.FS.Remove(f.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("index: remove %s: %w", f.path, err)
	}
	x.files = slices.Delete(x.files, i, i+1)
	x.newName = true
	return nil
}
