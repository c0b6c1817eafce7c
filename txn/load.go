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
// read yet come back as bits, the first for fromHalf. A commit of which the log
// lost the final message counts for nothing.
func (c *Coordinator) readMarks(from, to, fromHalf, nextHalf message.Offset, unsafe message.Position) ([]uint64, error) {
	ended := make([]uint64, (max(nextHalf-fromHalf, 0)+63)/64)
	apply := func(off message.Offset) {
		switch {
		case off >= nextHalf:
		case off >= fromHalf:
			ended[(off-fromHalf)/64] |= 1 << ((off - fromHalf) % 64)
		default:
			c.settledLocked(off, Unknown)
		}
	}
	finals := finalsBehind{c: c, from: max(unsafe-maxBehind, 0)}
	for from < to {
		var doubtful []message.Offset
		next, err := c.log.Read(message.TopicOp, from, func(v message.View) {
			if !isMark(v) {
				return
			}
			var commits map[message.Offset]bool
			if list, ok := v.Properties().Get(propCommits); ok && unsafe >= 0 && v.Position() >= unsafe {
				commits = map[message.Offset]bool{}
				eachMarked(list, func(off message.Offset) {
					commits[off] = true
					doubtful = append(doubtful, off)
				})
			}
			eachMarked(v.Body(), func(off message.Offset) {
				if !commits[off] {
					apply(off)
				}
			})
		})
		if err != nil {
			return nil, fmt.Errorf("read the marks from %d on: %w", from, err)
		}
		for _, off := range doubtful {
			there, err := finals.has(off)
			if err != nil {
				return nil, err
			}
			if there {
				apply(off)
			}
		}
		if next <= from {
			break
		}
		from = next
	}
	return ended, nil
}

// maxBehind is how far a final message is looked for before its mark: they were
// written together. One that is further away is taken for lost, which delivers
// it twice.
const maxBehind = 64 << 20

// finalsBehind finds out whether the final messages of halves are in the log
// from a position on. It reads each queue once.
type finalsBehind struct {
	c     *Coordinator
	from  message.Position
	read  map[finalQueue]bool
	found map[message.Position]bool
}

type finalQueue struct {
	topic string
	queue int32
}

func (f *finalsBehind) has(off message.Offset) (bool, error) {
	pos, err := f.c.log.Place(message.TopicHalf, off)
	if err != nil {
		return true, nil // the half is gone: nobody can end it any more
	}
	v, err := f.c.log.Record(pos)
	if err != nil {
		return true, nil
	}
	m, err := restore(v, 0)
	if _, delayed := m.Properties.Get(message.PropDelay); err != nil || delayed {
		return true, nil // its final message waits elsewhere
	}
	if f.read == nil {
		f.read, f.found = map[finalQueue]bool{}, map[message.Position]bool{}
	}
	if q := (finalQueue{m.Topic, m.QueueID}); !f.read[q] {
		if err := f.c.log.Finals(q.topic, q.queue, f.from, f.found); err != nil {
			return false, fmt.Errorf("look for committed messages in %s, queue %d: %w", q.topic, q.queue, err)
		}
		f.read[q] = true
	}
	return f.found[pos], nil
}

// readHalves takes in the halves without a mark. Apache's broker stores a half
// again for each check, and then only the last one counts.
func (c *Coordinator) readHalves(from, next message.Offset, ended []uint64) error {
	var byKey map[string]message.Offset // of what is pending; made when it is needed
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
		if err != nil || string(v.Topic()) != message.TopicHalf || v.QueueOffset() != off {
			c.failed(fmt.Sprintf("the half %d cannot be read and is passed over", off), err)
			continue
		}
		p := v.Properties()
		if n, ok := preparedOffset(p); ok {
			c.settledLocked(n, carried)
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
