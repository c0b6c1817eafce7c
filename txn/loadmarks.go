package txn

import (
	"fmt"

	"github.com/merlinmq/merlin/message"
)

// readMarks applies the marks from an offset on. Those of halves that are not
// read yet come back as bits, the first for fromHalf. A mark of which the log
// lost the final message, or the copy of the half, counts for nothing.
func (c *Coordinator) readMarks(from, to, fromHalf, nextHalf message.Offset, unsafe message.Position) ([]uint64, error) {
	ended := make([]uint64, (max(nextHalf-fromHalf, 0)+63)/64)
	apply := func(s settles) {
		switch {
		case s.off >= nextHalf:
		case s.off >= fromHalf:
			ended[(s.off-fromHalf)/64] |= 1 << ((s.off - fromHalf) % 64)
			c.outcomeLocked(s.off, s.verdict)
		default:
			c.settledLocked(s.off, s.verdict)
		}
	}
	made := madeBehind{c: c, from: max(unsafe-maxBehind, 0)}
	for from < to {
		var doubtful []settles
		next, err := c.log.Read(message.TopicOp, from, func(v message.View) {
			if !isMark(v) {
				return
			}
			readMark(v, func(s settles) {
				if makes := s.verdict == Commit || s.copied != ""; makes && unsafe >= 0 && v.Position() >= unsafe {
					doubtful = append(doubtful, s)
					return
				}
				apply(s)
			})
		})
		if err != nil {
			return nil, fmt.Errorf("read the marks from %d on: %w", from, err)
		}
		for _, s := range doubtful {
			there, err := made.has(s)
			if err != nil {
				return nil, err
			}
			if there {
				apply(s)
			}
		}
		if next <= from {
			break
		}
		from = next
	}
	return ended, nil
}

// maxBehind is how far a final message or a copy is looked for before its mark:
// they were written together. One that is further away is taken for lost, which
// delivers it twice.
const maxBehind = 64 << 20

// madeBehind finds out whether what was made of halves, with their marks, is in
// the log from a position on. It reads each queue once.
type madeBehind struct {
	c    *Coordinator
	from message.Position
	read map[queueName]bool
	made map[madeOf]bool
}

type queueName struct {
	topic string
	queue int32
}

// madeOf names the half that a final message or a copy was made of.
type madeOf struct {
	topic string // of the copy; "" for a final message
	half  message.Position
}

func (f *madeBehind) has(s settles) (bool, error) {
	pos, err := f.c.log.Place(message.TopicHalf, s.off)
	if err != nil {
		return true, nil // the half is gone: nobody can end it any more
	}
	v, err := f.c.log.Record(pos)
	if err != nil {
		return true, nil
	}
	q := queueName{topic: s.copied}
	if s.copied == "" {
		m, err := restore(v, 0)
		if _, delayed := m.Properties.Get(message.PropDelay); err != nil || delayed {
			return true, nil // its final message waits elsewhere
		}
		q = queueName{m.Topic, m.QueueID}
	}
	if f.read == nil {
		f.read, f.made = map[queueName]bool{}, map[madeOf]bool{}
	}
	if !f.read[q] {
		err := f.c.log.Behind(q.topic, q.queue, f.from, func(v message.View) {
			// A half at position 0 cannot be told from none.
			if s.copied != "" && v.PreparedPosition() > 0 || s.copied == "" && v.SysFlag().Transaction() == message.FlagCommit {
				f.made[madeOf{s.copied, v.PreparedPosition()}] = true
			}
		})
		if err != nil {
			return false, fmt.Errorf("look for what became of halves in %s, queue %d: %w", q.topic, q.queue, err)
		}
		f.read[q] = true
	}
	return f.made[madeOf{s.copied, pos}], nil
}
