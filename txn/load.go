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
	unsafe := c.o.Unsafe
	if !known && unsafe >= 0 {
		unsafe = 0
	}
	fromHalf, fromOp = max(fromHalf, firstHalf), max(fromOp, firstOp)
	ended, err := c.readMarks(fromOp, nextOp, fromHalf, nextHalf, unsafe)
	if err != nil {
		return err
	}
	if err := c.readHalves(fromHalf, nextHalf, ended); err != nil {
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
	err = c.state.moves.Range(nil, nil, func(key []byte, m storedMove) bool {
		c.moved[offOf(key)] = movedTo{m.To, m.Old}
		return true
	})
	if err != nil {
		return err
	}
	var w kv.Batch
	if err := c.outcomes.cut(&w, next); err != nil {
		return err
	}
	return c.write(&w)
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
	if err != nil {
		return err
	}
	if err = c.outcomes.cut(&w, 0); err != nil || w.Len() == 0 {
		return err
	}
	return c.state.db.Write(&w, kv.Synced)
}

// readHalves takes in the halves without a mark. Apache's broker stores a half
// again for each check, and then only the last one counts.
func (c *Coordinator) readHalves(from, next message.Offset, ended []uint64) error {
	var byKey map[string]message.Offset // of what is pending; made when it is needed
	for off := from; off < next; off++ {
		_, has := c.pending[off]
		if ended[(off-from)/64]&(1<<((off-from)%64)) != 0 {
			if has {
				v, err := c.outcome(off)
				if err != nil {
					return err
				}
				c.settledLocked(off, v)
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
		if err != nil || string(v.Topic()) != message.TopicHalf || v.QueueOffset() != off {
			c.failed(fmt.Sprintf("the half %d cannot be read and is passed over", off), err)
			continue
		}
		p := v.Properties()
		if n, ok := preparedOffset(p); ok {
			c.settledLocked(n, carried)
			c.movedLocked(n, off, v.PreparedPosition())
		}
		key := p.Value(message.PropUniqueKey)
		if byKey == nil && checkTimes(p) > 0 {
			byKey = c.pendingByKey()
		}
		if old, ok := byKey[key]; ok && key != "" && checkTimes(p) > 0 {
			c.settledLocked(old, carried)
		}
		if byKey != nil {
			byKey[key] = off
		}
		c.adoptViewLocked(off, half{pos: pos, stored: v.StoreTimestamp()}, v)
	}
	return nil
}

// pendingByKey reads the unique keys of what is pending.
func (c *Coordinator) pendingByKey() map[string]message.Offset {
	keys := make(map[string]message.Offset, len(c.pending))
	for off, h := range c.pending {
		if v, err := c.log.Record(h.pos); err == nil {
			keys[v.Properties().Value(message.PropUniqueKey)] = off
		}
	}
	return keys
}

func (c *Coordinator) failed(what string, err error) {
	if c.o.Events.Failed != nil {
		c.o.Events.Failed(what, err)
	}
}
