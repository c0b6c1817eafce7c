package txn

import (
	"fmt"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// load finds what is pending: what the DB says, without what the log does not
// have, and then what the two queues say behind the DB's marks.
func (c *Coordinator) load() error {
	firstHalf, nextHalf := c.log.Bounds(message.TopicHalf)
	firstOp, nextOp := c.log.Bounds(message.TopicOp)
	fromHalf, fromOp, known, err := c.loadMarks()
	if err != nil {
		return err
	}
	c.nextHalf, c.nextOp, c.cursor, c.maxMark = nextHalf, nextOp, nextHalf, nextHalf-1
	if known && (fromHalf > nextHalf || fromOp > nextOp) {
		// The log lost its end, or the queues were deleted.
		known = fromHalf <= nextHalf
		fromOp = firstOp
	}
	if known {
		if err := c.loadPending(firstHalf, nextHalf); err != nil {
			return err
		}
	} else {
		fromHalf, fromOp = max(c.o.StartHalf, 0), max(c.o.StartOp, 0)
		if fromHalf > nextHalf {
			fromHalf = firstHalf
		}
		if fromOp > nextOp {
			fromOp = firstOp
		}
		if err := c.forget(); err != nil {
			return err
		}
	}
	fromHalf, fromOp = max(fromHalf, firstHalf), max(fromOp, firstOp)
	ended, err := c.readMarks(fromOp, nextOp, fromHalf, nextHalf)
	if err != nil {
		return err
	}
	if err := c.readHalves(fromHalf, nextHalf, ended, !known); err != nil {
		return err
	}
	c.saved[1] = fromOp
	return c.save(true)
}

func (c *Coordinator) loadMarks() (half, op message.Offset, known bool, err error) {
	h, okHalf, err := c.state.marks.Get(keyHalfMark)
	if err != nil {
		return 0, 0, false, err
	}
	o, okOp, err := c.state.marks.Get(keyOpMark)
	return message.Offset(h), message.Offset(o), okHalf && okOp, err
}

// loadPending takes in the halves of the DB that the queue still holds.
func (c *Coordinator) loadPending(first, next message.Offset) error {
	err := c.state.halves.Range(nil, nil, func(key []byte, h storedHalf) bool {
		off := offOf(key)
		if off < first || off >= next {
			c.gone = append(c.gone, off)
			return true
		}
		c.adoptLocked(off, half{pos: h.pos, stored: h.stored, born: h.born, due: h.due, checks: h.checks, kept: true}, h.group)
		return true
	})
	if err != nil {
		return err
	}
	return c.state.moves.Range(nil, nil, func(key []byte, m storedMove) bool {
		c.moved[offOf(key)] = movedTo{m.To, m.Old}
		return true
	})
}

// forget empties the DB of halves and moves of another log.
func (c *Coordinator) forget() error {
	var w kv.Batch
	err := c.state.halves.Range(nil, nil, func(key []byte, _ storedHalf) bool {
		c.state.halves.DeleteTo(&w, key)
		return true
	})
	if err != nil {
		return err
	}
	err = c.state.moves.Range(nil, nil, func(key []byte, _ storedMove) bool {
		c.state.moves.DeleteTo(&w, key)
		return true
	})
	if err != nil || w.Len() == 0 {
		return err
	}
	return c.state.db.Write(&w, kv.Synced)
}

// readMarks applies the marks from an offset on. Those of halves that are not
// read yet come back as bits, the first for fromHalf.
func (c *Coordinator) readMarks(from, to, fromHalf, nextHalf message.Offset) ([]uint64, error) {
	ended := make([]uint64, (max(nextHalf-fromHalf, 0)+63)/64)
	for from < to {
		next, err := c.log.Read(message.TopicOp, from, func(v message.View) {
			if !isMark(v) {
				return
			}
			eachMarked(v.Body(), func(off message.Offset) {
				switch {
				case off >= nextHalf:
				case off >= fromHalf:
					ended[(off-fromHalf)/64] |= 1 << ((off - fromHalf) % 64)
				default:
					c.settledLocked(off, Unknown)
				}
			})
		})
		if err != nil {
			return nil, fmt.Errorf("read the marks from %d on: %w", from, err)
		}
		if next <= from {
			break
		}
		from = next
	}
	return ended, nil
}

// readHalves takes in the halves without a mark. In a folder of Apache's broker
// a half was stored again for each check, and only the last one counts.
func (c *Coordinator) readHalves(from, next message.Offset, ended []uint64, foreign bool) error {
	last := map[string]message.Offset{}
	for off := from; off < next; off++ {
		_, has := c.pending[off]
		if ended[(off-from)/64]&(1<<((off-from)%64)) != 0 {
			if has {
				c.settledLocked(off, Unknown)
			}
			continue
		}
		if has {
			continue
		}
		pos, err := c.log.Place(message.TopicHalf, off)
		if err != nil {
			continue // no record: retention took it, or it was damaged, which the store tells
		}
		v, err := c.log.Record(pos)
		if err != nil || string(v.Topic()) != message.TopicHalf {
			c.failed(fmt.Sprintf("the half %d cannot be read and is passed over", off), err)
			continue
		}
		p := v.Properties()
		if n, ok := preparedOffset(p); ok {
			c.settledLocked(n, carried)
		}
		if key := p.Value(message.PropUniqueKey); foreign && key != "" {
			if old, ok := last[key]; ok {
				c.settledLocked(old, carried)
			}
			last[key] = off
		}
		c.adoptViewLocked(off, half{pos: pos, stored: v.StoreTimestamp()}, v)
	}
	return nil
}

func (c *Coordinator) failed(what string, err error) {
	if c.o.Events.Failed != nil {
		c.o.Events.Failed(what, err)
	}
}
