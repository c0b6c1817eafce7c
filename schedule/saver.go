package schedule

import (
	"context"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// runSaver makes progress durable from time to time.
func (s *Service) runSaver(ctx context.Context) {
	timer := time.NewTimer(s.o.SaveEvery)
	defer timer.Stop()
	for sleep(ctx, nil, timer, s.o.SaveEvery) {
		if err := s.save(kv.Buffered); err != nil {
			s.o.Warn("the progress of delayed messages could not be saved; after a crash what was delivered since the last time is delivered again", "error", err)
		}
	}
}

// progress is what is to be saved: how things stood before the log was synced.
type progress struct {
	delivered []deliveredRow
	skipped   []message.Position
	levels    []message.Offset
	schedules []Schedule
}

// save writes how far delivery came, after the log has made durable what was
// delivered.
func (s *Service) save(d kv.Durability) error {
	s.mu.Lock()
	if !s.dirty && len(s.delivered) == 0 && len(s.skipped) == 0 {
		s.mu.Unlock()
		return nil
	}
	p := progress{delivered: s.delivered, skipped: s.skipped, schedules: s.schedules.changed()}
	for _, l := range s.levels {
		p.levels = append(p.levels, l.next)
	}
	s.delivered, s.skipped, s.dirty = nil, nil, false
	s.mu.Unlock()
	rest, err := s.write(&p, d)
	if err != nil {
		s.mu.Lock()
		s.delivered = append(rest, s.delivered...)
		s.skipped = append(p.skipped, s.skipped...)
		s.schedules.changeAgain(p.schedules)
		s.dirty = true
		s.mu.Unlock()
	}
	return err
}

// write returns the rows that are still to be removed when it fails.
func (s *Service) write(p *progress, d kv.Durability) (rest []deliveredRow, err error) {
	rest = p.delivered
	if err := s.log.Sync(); err != nil {
		return rest, err
	}
	for len(rest) > deleteChunk {
		if err := s.removeDelivered(rest[:deleteChunk], nil, kv.Buffered); err != nil {
			return rest, err
		}
		rest = rest[deleteChunk:]
	}
	return rest, s.removeDelivered(rest, p, d)
}

// removeDelivered takes the rows of delivered messages away, together with the
// rest of the progress, if there is one.
func (s *Service) removeDelivered(list []deliveredRow, p *progress, d kv.Durability) error {
	s.rowMu.Lock()
	defer s.rowMu.Unlock()
	c := s.rows.change()
	for _, row := range list {
		c.remove(row.key, row.topic)
	}
	if p != nil {
		if err := s.addProgress(c, p); err != nil {
			return err
		}
	}
	if err := c.write(d); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, row := range list {
		delete(s.away, row.key)
		if s.awayBy[row.topic]--; s.awayBy[row.topic] <= 0 {
			delete(s.awayBy, row.topic)
		}
	}
	if p != nil {
		for _, pos := range p.skipped {
			delete(s.skip, pos)
		}
	}
	s.pending.Store(s.rows.total())
	return nil
}

func (s *Service) addProgress(c *change, p *progress) error {
	for i, next := range p.levels {
		if next == 0 {
			continue
		}
		if err := s.rows.marks.PutTo(&c.batch, s.levels[i].mark(), next); err != nil {
			return err
		}
	}
	for _, pos := range p.skipped {
		s.rows.skips.DeleteTo(&c.batch, positionKey(pos))
	}
	for i := range p.schedules {
		if err := s.putSaved(&c.batch, &p.schedules[i]); err != nil {
			return err
		}
	}
	return nil
}
