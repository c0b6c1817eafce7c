package txn

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/merlinmq/merlin/message"
)

// discard gives a half up: it goes to the topic of discarded halves.
func (c *Coordinator) discard(off message.Offset, h half, group string, age time.Duration, now time.Time) {
	err := c.move(off, h, Discarded, now, func(v message.View) message.Message {
		m := v.Message()
		m.Topic, m.QueueID = message.TopicCheckMax, 0
		m.Properties = noted(m.Properties, message.PropCheckTimes, strconv.Itoa(int(h.checks)))
		if c.o.Events.Discarded != nil {
			c.o.Events.Discarded(group, m.Properties.Value(message.PropUniqueKey), h.checks, age)
		}
		return m
	})
	switch {
	case hopeless(err):
		c.lose(off, err)
	case err != nil:
		c.failed(fmt.Sprintf("the half %d of the group %s cannot be given up; it is tried again", off, group), err)
	default:
		c.stats.discarded.Add(1)
	}
}

// hopeless tells whether an error about a half will be the same next time.
func hopeless(err error) bool { return errors.Is(err, ErrGone) || errors.Is(err, ErrIllegal) }

// lose lets go of a half that nothing can be done with any more: it must not
// hold up the others, nor the retention of the log.
func (c *Coordinator) lose(off message.Offset, err error) {
	c.mu.Lock()
	_, pending := c.pending[off]
	_, ending := c.settling[off]
	if pending && !ending {
		c.settledLocked(off, lost)
	}
	c.mu.Unlock()
	if !pending || ending {
		return
	}
	c.stats.lost.Add(1)
	c.failed(fmt.Sprintf("the half %d can be neither read nor stored again; its transaction is lost", off), err)
}

// move stores what make makes of a half, and its mark, with one write.
func (c *Coordinator) move(off message.Offset, h half, v Verdict, now time.Time, make func(message.View) message.Message) error {
	view, err := c.log.Record(h.pos)
	if err != nil {
		return err
	}
	c.mu.Lock()
	if _, busy := c.settling[off]; busy {
		c.mu.Unlock()
		return nil
	}
	c.settling[off] = v
	at := c.nextOp
	flight := &at
	c.flights[flight] = struct{}{}
	c.mu.Unlock()
	m := make(view)
	m.PreparedPosition = h.pos // by which a start finds the copy of a mark
	c.work.Reset()
	if err = c.work.Add(&m); err == nil {
		op := mark(appendMark(nil, off), propCopied, m.Topic, now)
		if err = c.work.Add(&op); err == nil {
			err = c.work.Append()
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.settling, off)
	delete(c.flights, flight)
	if err != nil {
		return err
	}
	if v == carried {
		to, _ := c.work.Result(0)
		c.movedLocked(off, to, h.pos)
	} else {
		c.noteLocked(off, endEvent, Event{At: now, What: v.String()})
	}
	c.settledLocked(off, v)
	return nil
}

// movedLocked notes where a half is now, so that ends may name the old place.
func (c *Coordinator) movedLocked(off, to message.Offset, old message.Position) {
	for first, m := range c.moved {
		if m.off == off {
			c.moved[first] = movedTo{to, m.old}
		}
	}
	c.moved[off] = movedTo{to, old}
	c.movesChanged = true
}

// Carry stores the halves again whose records are below a position, before
// retention drops them. Those that cannot be are let go of, and told.
func (c *Coordinator) Carry(upto message.Position) error {
	c.working.Lock()
	defer c.working.Unlock()
	c.mu.Lock()
	var list []message.Offset
	for off, h := range c.pending {
		if h.pos < upto {
			list = append(list, off)
		}
	}
	c.mu.Unlock()
	if len(list) == 0 {
		return nil
	}
	now := c.now()
	for _, off := range list {
		c.mu.Lock()
		h, ok := c.pending[off]
		c.mu.Unlock()
		if !ok {
			continue // it has its outcome by now
		}
		// An end that came in between would find neither place.
		c.moving.Lock()
		err := c.move(off, h, carried, now, func(v message.View) message.Message {
			m := v.Message()
			m.Properties = noted(m.Properties, message.PropPreparedOffset, strconv.FormatInt(int64(off), 10))
			if h.checks > 0 {
				m.Properties = noted(m.Properties, message.PropCheckTimes, strconv.Itoa(int(h.checks)))
			}
			return m
		})
		c.moving.Unlock()
		if hopeless(err) {
			c.lose(off, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("txn: carry the half %d forward: %w", off, err)
		}
		c.stats.carried.Add(1)
	}
	return nil
}
