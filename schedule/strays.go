package schedule

import (
	"errors"
	"fmt"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// strayChunk is how many strays of a level are set aside at a time, with one
// sync of the log and one write; what is due is delivered in between.
const strayChunk = 256

// moveStrays makes rows of level messages that would hold up those behind them:
// the clock was set back, or they were stored when the level was longer. It
// moves a chunk of each level at most; more says that there may be others.
func (s *Service) moveStrays(now int64) (more bool, err error) {
	rules := s.o.Rules()
	for _, l := range s.levels {
		if l.number > len(rules.Levels) {
			continue
		}
		list, err := s.straysOf(l, now+rules.Levels.Delay(l.number).Milliseconds()+1000)
		if err != nil {
			return false, fmt.Errorf("read the queue of delay level %d: %w", l.number, err)
		}
		if len(list) == 0 {
			continue
		}
		if err := s.setAside(l, list); err != nil {
			return false, fmt.Errorf("set messages of delay level %d aside: %w", l.number, err)
		}
		more = more || len(list) == strayChunk
	}
	return more, nil
}

// straysOf returns the first entries of a level as far as they are due behind
// the limit.
func (s *Service) straysOf(l *level, limit int64) (list []Entry, err error) {
	for len(list) < strayChunk {
		e, err := s.head(l, len(list))
		if err != nil {
			return nil, err
		}
		if e == nil || e.TagCode <= limit || e.Size <= 0 {
			break
		}
		list = append(list, *e)
	}
	return list, nil
}

// setAside makes rows of the first entries of a level.
func (s *Service) setAside(l *level, list []Entry) error {
	if err := s.log.Sync(); err != nil { // the progress says that those before are delivered
		return err
	}
	s.rowMu.Lock()
	defer s.rowMu.Unlock()
	c := s.rows.change()
	var skipped []message.Position
	for _, e := range list {
		s.mu.Lock()
		_, skip := s.skip[e.Position]
		s.mu.Unlock()
		if skip {
			skipped = append(skipped, e.Position)
			continue
		}
		v, err := s.log.Record(e.Position)
		if errors.Is(err, ErrGone) {
			continue
		}
		if err != nil {
			return err
		}
		topic, _ := v.Properties().Get(message.PropRealTopic)
		if err := c.add(rowKey{e.TagCode, e.Position}, topic); err != nil {
			return err
		}
	}
	next := l.next + message.Offset(len(list))
	if err := s.rows.marks.PutTo(&c.batch, l.mark(), next); err != nil {
		return err
	}
	if err := c.write(kv.Buffered); err != nil {
		return err
	}
	s.mu.Lock()
	l.next = next
	s.skipped = append(s.skipped, skipped...)
	s.mu.Unlock()
	s.addDue(c.added)
	s.pending.Store(s.rows.total())
	return nil
}
