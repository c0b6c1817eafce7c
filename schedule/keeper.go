package schedule

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
)

// runKeeper follows the queues of timed messages and of schedules, makes rows
// of what it finds, and loads rows that are due soon.
func (s *Service) runKeeper(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for pause := time.Duration(0); sleep(ctx, s.wakeKeeper, timer, pause); {
		pause = longestNap
		if err := s.keep(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.o.Warn("delayed messages cannot be indexed; it is tried again every second", "error", err)
			timer.Reset(retryPause)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
	}
}

// keep is one pass of the keeper.
func (s *Service) keep(ctx context.Context) (err error) {
	s.rowMu.Lock()
	defer s.rowMu.Unlock()
	defer func() {
		s.mu.Lock()
		s.rowFault = err != nil
		s.mu.Unlock()
		wake(s.wakeDeliverer)
	}()
	if err := s.indexLocked(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.caughtUp = true
	s.mu.Unlock()
	return s.fillLocked()
}

// indexLocked goes through what is new in the two queues. It lets go of rowMu
// between chunks only by returning: a catch-up after the kv store was lost
// holds changes up until it is done.
func (s *Service) indexLocked(ctx context.Context) error {
	if err := s.followLocked(ctx, message.TopicTimer, markIndexed, &s.indexed, s.indexRecord); err != nil {
		return err
	}
	return s.followLocked(ctx, TopicRecurring, markDefinitions, &s.defsIndexed, s.indexDefinition)
}

// followLocked hands the records of a queue from *next on to each, and saves
// the changes together with the progress.
func (s *Service) followLocked(ctx context.Context, topic, mark string, next *message.Offset, each func(c *indexing, v message.View) error) error {
	var entries [indexChunk]Entry
	for ctx.Err() == nil {
		first, end := s.log.Bounds(topic, 0)
		if *next < first {
			*next = first
		}
		if *next > end {
			*next = end // the log lost its tail: what comes there is new
		}
		if *next == end {
			return nil
		}
		n, err := s.log.Entries(topic, 0, *next, entries[:])
		if errors.Is(err, ErrGone) || err == nil && n == 0 {
			return nil // trimmed meanwhile: the next pass looks again
		}
		if err != nil {
			return fmt.Errorf("read the queue of %s at %d: %w", topic, *next, err)
		}
		from := *next
		c := &indexing{s: s, change: s.rows.change(), mark: []byte(mark), next: next}
		for i := range entries[:n] {
			c.at = from + message.Offset(i)
			if err := s.indexEntry(c, &entries[i], each); err != nil {
				return err
			}
		}
		c.at = from + message.Offset(n)
		if err := c.flush(); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// indexing is the way through one chunk of a queue.
type indexing struct {
	s      *Service
	change *change
	mark   []byte
	next   *message.Offset
	at     message.Offset // of the record in hand
	defs   []string       // schedules that changed
}

// flush writes what was gathered from the records below at.
func (c *indexing) flush() error {
	if err := c.s.rows.marks.PutTo(&c.change.batch, c.mark, c.at); err != nil {
		return err
	}
	for _, name := range c.defs {
		if err := c.s.putScheduleTo(&c.change.batch, name); err != nil {
			return err
		}
	}
	if err := c.change.write(kv.Buffered); err != nil {
		return err
	}
	*c.next = c.at
	c.s.addDue(c.change.added)
	c.s.pending.Store(c.s.rows.total())
	c.change, c.defs = c.s.rows.change(), nil
	return nil
}

func (s *Service) indexEntry(c *indexing, e *Entry, each func(*indexing, message.View) error) error {
	if e.Size <= 0 {
		return nil
	}
	v, err := s.log.Record(e.Position)
	if errors.Is(err, ErrGone) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the record at %d: %w", e.Position, err)
	}
	return each(c, v)
}

// addDue takes new rows into memory that belong there.
func (s *Service) addDue(added []rowKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range added {
		if k.less(s.loaded) {
			s.due.Push(k)
		}
	}
	if s.due.Len() > 2*s.o.MaxDue {
		s.loaded = s.due.keep(s.o.MaxDue)
	}
}

// indexRecord makes a row of a record of the timer topic, or takes one away.
func (s *Service) indexRecord(c *indexing, v message.View) error {
	p := v.Properties()
	replaced, hasReplaced := p.Get(PropReplaces)
	if hasReplaced {
		if err := s.replace(c, string(replaced)); err != nil {
			return err
		}
	}
	due, ok := dueOf(p)
	if unique, marks := p.Get(message.PropTimerDelUniqueKey); marks {
		if hasReplaced || !ok {
			return nil
		}
		return s.removeSame(c, v, deletedKey(string(unique)), due)
	}
	topic, hasTopic := p.Get(message.PropRealTopic)
	if !ok || !hasTopic {
		s.stats.lost.Add(1)
		s.o.Warn("a record of the timer topic does not say when or where it is to be delivered; it is left out", "position", v.Position())
		return nil
	}
	if v.QueueOffset() < s.o.Taken.Offset && slotOf(due) < s.o.Taken.Time {
		return nil // Apache's broker delivered it
	}
	if times := p.Value(message.PropTimerRollTimes); times != "" && times != "0" {
		unique, _ := p.Get(message.PropUniqueKey)
		if err := s.removeSame(c, v, string(unique), due); err != nil {
			return err
		}
	}
	return c.change.add(rowKey{due, v.Position()}, topic)
}

// deletedKey returns the unique key that Apache's delete mark names, which may
// have the topic and a plus sign in front.
func deletedKey(text string) string { return text[strings.LastIndexByte(text, '+')+1:] }

// removeSame takes the rows away of earlier records that have the same unique
// key and slot: those that a delete mark or a rolled copy stands for.
func (s *Service) removeSame(c *indexing, v message.View, unique string, due int64) error {
	if unique == "" {
		return nil
	}
	if err := c.flush(); err != nil { // it may be among those
		return err
	}
	var fault error
	err := s.eachTimed(unique, slotOf(due), func(old message.View, oldDue int64) bool {
		if old.Position() < v.Position() {
			fault = s.removeRow(c, rowKey{oldDue, old.Position()})
		}
		return fault == nil
	})
	if err := errors.Join(err, fault); err != nil {
		return fmt.Errorf("find the timed message %s: %w", unique, err)
	}
	return nil
}

// eachTimed calls fn with the records of the timer topic that have a unique key
// and a slot, until it returns false; not all of them may wait. Without an index
// of keys it goes through the rows of the slot, which must have been written.
func (s *Service) eachTimed(unique string, slot int64, fn func(v message.View, due int64) bool) error {
	look := func(v message.View) bool {
		p := v.Properties()
		due, ok := dueOf(p)
		if !ok || slotOf(due) != slot || string(v.Topic()) != message.TopicTimer || p.Value(message.PropUniqueKey) != unique {
			return true
		}
		return fn(v, due)
	}
	err := s.log.Find(message.TopicTimer, unique, look)
	if !errors.Is(err, ErrNoIndex) {
		return err
	}
	var fault error
	err = s.rows.timed.Range(rowKey{due: slot + 1}.bytes(), rowKey{due: slot + precision + 1}.bytes(), func(key, _ []byte) bool {
		k, ok := parseRowKey(key)
		if !ok {
			return true
		}
		v, err := s.log.Record(k.pos)
		if errors.Is(err, ErrGone) {
			return true
		}
		fault = err
		return err == nil && look(v)
	})
	return errors.Join(err, fault)
}

// removeRow takes a row away, if it is there, from memory too.
func (s *Service) removeRow(c *indexing, k rowKey) error {
	if c.change.batch.Len() > 0 {
		if err := c.flush(); err != nil { // it may be among those
			return err
		}
	}
	topic, found, err := s.rows.timed.Get(k.bytes())
	if err != nil || !found {
		return err
	}
	s.mu.Lock()
	_, away := s.away[k]
	if !away {
		s.due.drop(k)
	}
	s.mu.Unlock()
	if !away { // else the saver removes it
		c.change.remove(k, string(topic))
	}
	return nil
}

// replace reads what a record takes the place of, and takes that away.
func (s *Service) replace(c *indexing, text string) error {
	r, ok := parseReplaced(text)
	if !ok {
		return nil
	}
	k := rowKey{r.due, r.pos}
	if r.level == 0 {
		return s.removeRow(c, k)
	}
	if _, found, err := s.rows.timed.Get(k.bytes()); err != nil {
		return err
	} else if found { // it had been set aside
		return s.removeRow(c, k)
	}
	s.mu.Lock()
	s.skip[r.pos] = r.due
	s.mu.Unlock()
	return s.rows.skips.PutTo(&c.change.batch, positionKey(r.pos), r.due)
}

// replaced names a waiting message: level 0 is a timed one.
type replaced struct {
	level int
	due   int64
	pos   message.Position
}

func (r replaced) String() string { return fmt.Sprintf("%d:%d:%d", r.level, r.due, r.pos) }

func parseReplaced(text string) (r replaced, ok bool) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return r, false
	}
	level, err1 := strconv.ParseUint(parts[0], 10, 16)
	due, err2 := strconv.ParseInt(parts[1], 10, 64)
	pos, err3 := strconv.ParseInt(parts[2], 10, 64)
	return replaced{int(level), due, message.Position(pos)}, err1 == nil && err2 == nil && err3 == nil
}

// fillLocked loads rows into memory up to the horizon, as far as there is room.
func (s *Service) fillLocked() error {
	until := rowKey{due: s.o.Now().Add(horizon).UnixMilli()}
	s.mu.Lock()
	from, room := s.loaded, s.o.MaxDue-s.due.Len()
	s.mu.Unlock()
	// Half of the room must be free: each load begins with a search.
	if !from.less(until) || room < (s.o.MaxDue+1)/2 {
		return nil
	}
	var start []byte
	if from.due > math.MinInt64 {
		start = from.bytes()
	}
	var found []rowKey
	next := until
	err := s.rows.timed.Range(start, until.bytes(), func(key []byte, _ []byte) bool {
		k, ok := parseRowKey(key)
		if !ok {
			return true
		}
		if len(found) == room {
			next = k
			return false
		}
		found = append(found, k)
		return true
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, k := range found {
		if _, gone := s.away[k]; !gone {
			s.due.Push(k)
		}
	}
	s.loaded = next
	return nil
}
