package schedule

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/merlinmq/merlin/message"
)

// CarryForward stores every waiting message whose record lies before a position
// anew at the end of the log. When it returns nil, nothing needs the log below.
// On a disk without room that is so only where nothing waits; the error wraps
// ErrNoSpace where something does.
func (s *Service) CarryForward(upto message.Position) error {
	s.rowMu.Lock()
	defer s.rowMu.Unlock()
	defer s.watchCarried(0)
	for range carryPasses {
		s.watchCarried(upto)
		if err := s.carryLocked(upto); err != nil {
			return err
		}
		// The batch under way may still read there.
		s.rowMu.Unlock()
		s.deliverMu.Lock()
		s.deliverMu.Unlock() //lint:ignore SA2001 waiting is the purpose
		s.rowMu.Lock()
		// What was delivered meanwhile, and carried, must be durable.
		if err := s.settleLocked(); err != nil && !errors.Is(err, ErrNoSpace) {
			return err
		}
		if s.allCarried() {
			return nil
		}
	}
	return fmt.Errorf("schedule: messages stored below %d are due and could not be delivered; it is tried again", upto)
}

// carryPasses bounds how often what a delivery gave back is gone after.
const carryPasses = 3

// watchCarried makes giveBack note messages below a position, 0 for none: they
// were passed over as being delivered, and wait again.
func (s *Service) watchCarried(upto message.Position) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carrying, s.gaveBack = upto, false
}

func (s *Service) allCarried() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.gaveBack
}

// carryLocked is one pass over everything that waits.
func (s *Service) carryLocked(upto message.Position) error {
	c := &carrier{s: s}
	err := s.settleLocked()
	if errors.Is(err, ErrNoSpace) {
		// All below upto can be read. A recall behind it perhaps cannot, so
		// nothing is carried; but what nothing waits in may go, and make room.
		c.full = err
		err = s.indexLocked(context.Background())
	}
	if err != nil {
		return err
	}
	if err := s.carryRowsLocked(c, upto); err != nil {
		return fmt.Errorf("schedule: carry timed messages forward: %w", err)
	}
	if err := s.carryLevelsLocked(c, upto); err != nil {
		return fmt.Errorf("schedule: carry delayed messages forward: %w", err)
	}
	if err := s.carrySchedulesLocked(c, upto); err != nil {
		return fmt.Errorf("schedule: carry recurring messages forward: %w", err)
	}
	if c.full == nil {
		if err := s.settleLocked(); err != nil {
			return err
		}
	}
	s.forgetSkippedLocked(upto)
	return nil
}

// forgetSkippedLocked lets go of level messages that were passed over because
// the log has lost them, as it was told it may.
func (s *Service) forgetSkippedLocked(upto message.Position) {
	s.mu.Lock()
	var old []message.Position
	for pos := range s.skip {
		if pos < upto {
			old = append(old, pos)
		}
	}
	s.mu.Unlock()
	for _, pos := range old {
		if _, err := s.log.Record(pos); errors.Is(err, ErrGone) {
			s.mu.Lock()
			s.skipped = append(s.skipped, pos)
			s.mu.Unlock()
		}
	}
}

// carrier gathers records to be stored anew.
type carrier struct {
	s     *Service
	puts  []message.Message
	undo  []func()
	bytes int
	full  error // why nothing can be stored, nil if it can
}

func (c *carrier) add(m message.Message, undo func()) error {
	if c.full != nil {
		undo()
		return c.full
	}
	c.puts, c.undo = append(c.puts, m), append(c.undo, undo)
	c.bytes += len(m.Body) + len(m.Properties)
	if len(c.puts) < c.s.o.MaxBatch && c.bytes < c.s.o.MaxBytes {
		return nil
	}
	return c.flush()
}

func (c *carrier) flush() error {
	if len(c.puts) == 0 {
		return nil
	}
	err := c.s.log.Append(c.puts)
	for i := 0; errors.Is(err, ErrIllegal) && i < len(c.puts); i++ {
		if one := c.s.log.Append(c.puts[i : i+1]); errors.Is(one, ErrIllegal) {
			c.s.stats.lost.Add(1)
			c.s.o.Warn("a delayed message has no room for what must be noted of it; it goes with the old end of the log", "error", one)
		} else if one != nil {
			err = one
		}
		if i == len(c.puts)-1 && errors.Is(err, ErrIllegal) {
			err = nil
		}
	}
	if err != nil {
		for _, undo := range c.undo {
			undo()
		}
	}
	c.puts, c.undo, c.bytes = nil, nil, 0
	return err
}

// carryRowsLocked lets go of rowMu between pieces: going through millions of
// rows must not keep new ones waiting.
func (s *Service) carryRowsLocked(c *carrier, upto message.Position) error {
	var start []byte
	for more := true; more; {
		var keys []rowKey
		more = false
		err := s.rows.timed.Range(start, nil, func(key []byte, _ []byte) bool {
			if more = len(keys) == deleteChunk; more {
				return false
			}
			if k, ok := parseRowKey(key); ok {
				keys = append(keys, k)
				start = rowKey{k.due, k.pos + 1}.bytes()
			}
			return true
		})
		if err != nil {
			return errors.Join(err, c.flush())
		}
		for _, k := range keys {
			if k.pos >= upto {
				continue
			}
			if err := s.carry(c, k.pos, k.due); err != nil {
				return errors.Join(err, c.flush())
			}
		}
		if err := c.flush(); err != nil {
			return err
		}
		s.rowMu.Unlock()
		s.rowMu.Lock()
	}
	return nil
}

// carry stores one record anew, if it waits.
func (s *Service) carry(c *carrier, pos message.Position, due int64) error {
	v, err := s.log.Record(pos)
	if err == nil {
		err = s.verifyRow(rowKey{due, pos}, v)
	}
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return err
	}
	r, undo, err := s.withdrawLocked(v, due)
	var refused *RefusedError
	if errors.As(err, &refused) {
		return nil // it is being delivered, or was
	}
	if err != nil {
		return err
	}
	return c.add(moved(v, r.due, r), undo)
}

func (s *Service) carryLevelsLocked(c *carrier, upto message.Position) error {
	for _, l := range s.levels {
		at := s.levelNext(l)
		var entries [indexChunk]Entry
		for more := true; more; {
			n, err := s.log.Entries(message.TopicSchedule, l.queue, at, entries[:])
			if errors.Is(err, ErrGone) || err == nil && n == 0 {
				break
			}
			if err != nil {
				return errors.Join(err, c.flush())
			}
			for _, e := range entries[:n] {
				if more = e.Position < upto; !more {
					break
				}
				if e.Size <= 0 {
					continue
				}
				if err := s.carry(c, e.Position, e.TagCode); err != nil {
					return errors.Join(err, c.flush())
				}
			}
			at += message.Offset(n)
		}
	}
	return c.flush()
}

func (s *Service) carrySchedulesLocked(c *carrier, upto message.Position) error {
	s.mu.Lock()
	var old []Schedule
	for _, l := range s.schedules.byName {
		if l.Position < upto {
			old = append(old, l.Schedule)
		}
	}
	s.mu.Unlock()
	for i := range old {
		v, err := s.log.Record(old[i].Position)
		if err == nil {
			err = verifySchedule(old[i].Name, v)
		}
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return errors.Join(err, c.flush())
		}
		state, err := json.Marshal(old[i])
		if err != nil {
			return err
		}
		m := v.Message()
		m.Properties = m.Properties.Set(PropState, string(state))
		if err := c.add(m, func() {}); err != nil {
			return err
		}
	}
	return c.flush()
}
