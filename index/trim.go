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
	blocks    []block // of items that are cut, by number modulo their count
}

// block is a piece of the items, kept while chains are followed through it.
type block struct {
	number int64 // from 1; 0: empty
	items  []byte
}

const (
	blockItems = 4096
	maxBlocks  = 64 // 5 MiB in all
)

// cutItem is item for one that is cut: nothing writes to those meanwhile.
func (c *cutter) cutItem(n int64) (item, error) {
	if c.blocks == nil {
		c.blocks = make([]block, maxBlocks)
	}
	number := n/blockItems + 1
	b := &c.blocks[number%maxBlocks]
	if b.number != number {
		from := (number - 1) * blockItems
		b.number, b.items = 0, make([]byte, (min(from+blockItems, c.l.items)-from)*itemSize)
		if err := readFull(c.f, b.items, c.l.itemPlace(from)); err != nil {
			return item{}, err
		}
		b.number = number
	}
	return getItem(b.items[n%blockItems*itemSize:]), nil
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
	err = c.backwards(n, func(m int64, older item) bool {
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
	// lost are slots whose way down is not on the disk.
	lost := make(map[int64]bool)
	const per = 1 << 14
	raw := make([]byte, per*slotSize)
	for s := int64(0); s < c.l.slots; s += per {
		b := raw[:min(per, c.l.slots-s)*slotSize]
		if err := readFull(c.f, b, c.l.slotPlace(s)); err != nil {
			return err
		}
		changed := false
		for i := 0; i < len(b); i += slotSize {
			n := int64(getSlot(b[i:]))
			slot := s + int64(i/slotSize)
			if n < 0 || n >= c.keep {
				down, ok, err := c.down(slot, n)
				if err != nil {
					return err
				}
				if !ok {
					lost[slot] = true
				}
				putSlot(b[i:], int32(down))
				changed, n = true, down
			}
			if n != 0 {
				c.slotsUsed++
			}
		}
		if changed {
			if _, err := c.f.WriteAt(b, c.l.slotPlace(s)); err != nil {
				return err
			}
		}
	}
	if err := c.findLost(lost); err != nil {
		return err
	}
	return c.zeroItems()
}

// down follows a slot's chain to an item that is kept. It is not ok if the
// chain is broken: the item was not written, or is not of the slot.
func (c *cutter) down(slot, n int64) (int64, bool, error) {
	for n >= c.keep {
		if n >= c.l.items {
			return 0, false, nil
		}
		it, err := c.cutItem(n)
		if err != nil {
			return 0, false, err
		}
		if it.pos < c.pos || it.hash < 0 || int64(it.hash)%c.l.slots != slot || int64(it.prev) >= n {
			return 0, false, nil
		}
		// A torn item may have lost its link, or the half of it.
		if left := c.seam(n); left > 0 && (it.prev == 0 || left > itemSize-4) {
			return 0, false, nil
		}
		n = int64(it.prev)
	}
	return max(n, 0), n >= 0, nil
}

// findLost goes through the items that are kept, newest first, for the slots
// that nothing leads to.
func (c *cutter) findLost(lost map[int64]bool) error {
	if len(lost) == 0 {
		return nil
	}
	var werr error
	err := c.backwards(c.keep, func(n int64, it item) bool {
		slot := int64(it.hash) % c.l.slots
		if lost[slot] {
			delete(lost, slot)
			var s [slotSize]byte
			putSlot(s[:], int32(n))
			_, werr = c.f.WriteAt(s[:], c.l.slotPlace(slot))
			c.slotsUsed++
		}
		return len(lost) > 0 && werr == nil
	})
	return errors.Join(err, werr)
}

// backwards calls fn with the items below end, newest first, until it returns
// false.
func (c *cutter) backwards(end int64, fn func(n int64, it item) bool) error {
	const per = 1 << 13
	raw := make([]byte, min(per, end)*itemSize)
	for end > 1 {
		from := max(1, end-per)
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
