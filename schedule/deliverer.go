package schedule

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/merlinmq/merlin/message"
)

// runDeliverer appends what is due, in small batches. After full ones it rests
// for as long as they took, so that the messages of others find their way; less
// than a timer can measure is saved up.
func (s *Service) runDeliverer(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	d := &delivery{s: s}
	for pause := time.Duration(0); sleep(ctx, s.wakeDeliverer, timer, pause); {
		owed := time.Duration(0)
		for {
			began := s.o.Now()
			full, err := d.run()
			if err != nil {
				s.o.Warn("messages that are due cannot be delivered; it is tried again every second", "error", err)
			}
			if err == nil && !full {
				break
			}
			wait := retryPause
			if err == nil {
				if owed += max(s.o.Now().Sub(began), 0); owed < leastPause && ctx.Err() == nil {
					runtime.Gosched()
					continue
				}
				wait, owed = min(owed, maxPause), 0
			}
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-timer.C:
			}
		}
		pause = max(s.untilNext(), time.Millisecond/2)
	}
}

// delivery is one batch; its memory is used again.
type delivery struct {
	s        *Service
	items    []dueItem
	heads    []*Entry // of each level: the first that was not taken
	unwanted []bool   // of each head: nobody waits for it
	messages []message.Message
	sent     []int // which item each message is of
	last     int64 // when the batch before began
	caught   int64 // when it was made sure last that all that was sent is known
}

// stoodStill tells whether the first message should have been delivered long
// before: the process was suspended, or has more to do than it can. Once in a
// while then what was sent last is indexed first, so that it comes in its turn.
func (d *delivery) stoodStill(now int64) bool {
	if len(d.items) == 0 || now-d.items[0].key.due < standstill.Milliseconds() || now-d.caught < catchUpEvery.Milliseconds() && now >= d.caught {
		return false
	}
	d.caught = now
	return true
}

const (
	standstill   = time.Second
	catchUpEvery = 10 * time.Second
	catchUpTime  = 500 * time.Millisecond
)

// catchUp indexes what was sent so far, for a bounded time. An error is the
// keeper's to tell, which meets it too.
func (s *Service) catchUp() {
	if !s.rowMu.TryLock() {
		return // somebody carries or changes what waits, and indexes it
	}
	defer s.rowMu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), catchUpTime)
	defer cancel()
	if s.log.Sync() == nil && s.indexLocked(ctx) == nil {
		_ = s.fillLocked()
	}
}

// dueItem is a message that is due.
type dueItem struct {
	key      rowKey // of a timed message; due and position of any other
	level    *level
	schedule *liveSchedule
	planned  int64 // of a firing
	unwanted bool  // it was recalled or moved
	topic    string
}

// run delivers one batch. full says that more may be due.
func (d *delivery) run() (full bool, err error) {
	s := d.s
	s.deliverMu.Lock()
	defer s.deliverMu.Unlock()
	now := s.o.Now().UnixMilli()
	if now < d.last-replanAfter.Milliseconds() {
		s.replanSchedules(now)
	}
	d.last = now
	full, err = d.collect(now)
	if err == nil && d.stoodStill(now) {
		d.giveBack(0)
		s.catchUp()
		full, err = d.collect(now)
	}
	if err != nil || len(d.items) == 0 {
		d.giveBack(0)
		return full && err == nil, err
	}
	used, err := d.build(now)
	if err != nil {
		d.giveBack(0)
		return false, err
	}
	d.giveBack(used)
	full = full || used < len(d.items)
	d.items = d.items[:used]
	if err := d.append(); err != nil {
		d.giveBack(0)
		return false, err
	}
	d.settle()
	return full, nil
}

// collect takes what is due, in order of due time, up to a full batch.
func (d *delivery) collect(now int64) (full bool, err error) {
	s := d.s
	d.items = d.items[:0]
	more, err := s.moveStrays(now)
	if err != nil {
		return false, err
	}
	if err := d.lookAtLevels(); err != nil {
		return false, err
	}
	for len(d.items) < s.o.MaxBatch {
		s.mu.Lock()
		if s.closing || !s.caughtUp { // what was recalled before the start must be known
			s.mu.Unlock()
			return more && !s.closing, nil
		}
		limit := now
		if !s.rowFault && s.loaded.due <= now {
			limit = s.loaded.due // what is due before must be loaded first
			wake(s.wakeKeeper)
		}
		item, found := s.earliestLocked(limit)
		s.mu.Unlock()
		best := -1
		for i, e := range d.heads {
			if e == nil {
				continue
			}
			due := e.TagCode
			if d.unwanted[i] {
				due = min(due, limit) // it must not hold up what came when the clock was set back
			}
			if due <= limit && (!found || due < item.key.due) {
				item, found, best = dueItem{key: rowKey{e.TagCode, e.Position}, level: s.levels[i], unwanted: e.Size <= 0}, true, i
			}
		}
		if !found {
			return more, nil
		}
		s.mu.Lock()
		s.takeLocked(&item)
		s.mu.Unlock()
		d.items = append(d.items, item)
		if best >= 0 {
			if err := d.lookAtLevel(best); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// lookAtLevels finds the next entry of each level, once for a batch: asking
// for each message what came to all levels takes longer than delivering it.
func (d *delivery) lookAtLevels() error {
	d.heads, d.unwanted = d.heads[:0], d.unwanted[:0]
	for i := range d.s.levels {
		d.heads, d.unwanted = append(d.heads, nil), append(d.unwanted, false)
		if err := d.lookAtLevel(i); err != nil {
			return err
		}
	}
	return nil
}

func (d *delivery) lookAtLevel(i int) (err error) {
	l := d.s.levels[i]
	if d.heads[i], err = d.s.head(l, l.taken); err != nil {
		return fmt.Errorf("read the queue of delay level %d: %w", l.number, err)
	}
	if e := d.heads[i]; e != nil {
		d.s.mu.Lock()
		_, d.unwanted[i] = d.s.skip[e.Position]
		d.s.mu.Unlock()
	}
	return nil
}

// earliestLocked returns the first timed message or firing, if it is due.
func (s *Service) earliestLocked(limit int64) (item dueItem, found bool) {
	if s.due.Len() > 0 && s.due.First().due <= limit {
		item, found = dueItem{key: s.due.First()}, true
	}
	if sched := s.schedules.due(s.o.Now().UnixMilli()); sched != nil && sched.at <= limit && (!found || sched.at < item.key.due) {
		item, found = dueItem{key: rowKey{sched.at, sched.Position}, schedule: sched, planned: sched.at}, true
	}
	return item, found
}

// takeLocked takes an item out of where it waits.
func (s *Service) takeLocked(item *dueItem) {
	switch {
	case item.level != nil:
		item.level.taken++
		if _, skip := s.skip[item.key.pos]; skip {
			item.unwanted = true
		}
	case item.schedule != nil:
		s.schedules.advance(item.schedule, s.o.Now().UnixMilli())
		s.dirty = true
	default:
		s.due.Pop()
		s.away[item.key] = struct{}{}
	}
}

// giveBack puts the items from the i-th on back where they waited.
func (d *delivery) giveBack(i int) {
	s := d.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := len(d.items) - 1; n >= i; n-- {
		item := &d.items[n]
		s.gaveBack = s.gaveBack || item.key.pos < s.carrying
		switch {
		case item.level != nil:
			item.level.taken--
		case item.schedule != nil:
			s.schedules.takeBack(item.schedule, item.planned)
		default:
			delete(s.away, item.key)
			if item.key.less(s.loaded) {
				s.due.Push(item.key)
			}
		}
	}
}

// build reads the records and makes the messages, and returns how many of the
// items they are of.
func (d *delivery) build(now int64) (used int, err error) {
	d.messages, d.sent = d.messages[:0], d.sent[:0]
	bytes := 0
	for i := range d.items {
		item := &d.items[i]
		if item.unwanted {
			continue
		}
		v, err := d.s.log.Record(item.key.pos)
		if err == nil && item.level == nil {
			err = d.s.verify(item, v)
		}
		if errors.Is(err, ErrGone) {
			d.s.stats.lost.Add(1)
			d.s.o.Warn("a delayed message is gone from the log; it cannot be delivered", "position", item.key.pos, "due", formatMs(item.key.due))
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read the record at %d: %w", item.key.pos, err)
		}
		if bytes += v.Size(); bytes > d.s.o.MaxBytes && i > 0 {
			return i, nil
		}
		m, err := d.s.restored(item, v, now)
		if err != nil {
			d.s.stats.lost.Add(1)
			d.s.o.Warn("a delayed message cannot be delivered", "error", err)
			continue
		}
		item.topic = m.Topic
		d.messages, d.sent = append(d.messages, m), append(d.sent, i)
	}
	return len(d.items), nil
}

// verify makes sure that a record is the one that a row or a schedule means, with
// ErrGone if not: a power cut can leave the row of a record that the log has lost.
func (s *Service) verify(item *dueItem, v message.View) error {
	if item.schedule == nil {
		return s.verifyRow(item.key, v)
	}
	return verifySchedule(item.schedule.Name, v)
}

func verifySchedule(name string, v message.View) error {
	if p := v.Properties(); string(v.Topic()) != TopicRecurring || p.Value(PropCronName) != name || p.Value(PropOperation) != "" {
		return fmt.Errorf("%w: the record is another one", ErrGone)
	}
	return nil
}

func (s *Service) verifyRow(k rowKey, v message.View) error {
	due, ok := dueOf(v.Properties())
	switch string(v.Topic()) {
	case message.TopicTimer:
	case message.TopicSchedule:
		var err error
		due, err = s.entryCode(v)
		var refused *RefusedError
		if ok = err == nil; !ok && !errors.As(err, &refused) {
			return err
		}
	default:
		ok = false
	}
	if !ok || due != k.due {
		return fmt.Errorf("%w: the record is another one", ErrGone)
	}
	return nil
}

// restored returns the message as it goes to its real topic.
func (s *Service) restored(item *dueItem, v message.View, now int64) (message.Message, error) {
	m, err := Restore(v)
	if err != nil {
		return m, err
	}
	if item.schedule != nil {
		s.firing(&m, item.schedule.Name, item.planned, now)
		return m, nil
	}
	if string(v.Topic()) != message.TopicTimer {
		m.Properties = m.Properties.Without(PropDue)
		return m, nil
	}
	p := m.Properties.Without(PropReplaces, message.PropTimerEnqueueMs, message.PropTimerDequeueMs).
		Append(message.PropTimerEnqueueMs, strconv.FormatInt(v.StoreTimestamp(), 10)).
		Append(message.PropTimerDequeueMs, strconv.FormatInt(now, 10))
	if len(p) <= message.MaxPropertiesSize {
		m.Properties = p
	}
	return m, nil
}

// append stores the messages. One that can never be stored must not hold the
// others up.
func (d *delivery) append() error {
	if len(d.messages) == 0 {
		return nil
	}
	err := d.s.log.Append(d.messages)
	if !errors.Is(err, ErrIllegal) {
		return err
	}
	for i := range d.messages {
		err := d.s.log.Append(d.messages[i : i+1])
		if errors.Is(err, ErrIllegal) {
			d.s.stats.lost.Add(1)
			d.s.o.Warn("a delayed message cannot be stored in its topic; it is dropped", "topic", d.messages[i].Topic, "error", err)
			continue
		}
		if err != nil {
			return err // those before are delivered again
		}
	}
	return nil
}

// settle notes that the items are delivered.
func (d *delivery) settle() {
	s := d.s
	now := s.o.Now().UnixMilli()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty = true
	for i := range d.items {
		item := &d.items[i]
		switch {
		case item.level != nil:
			item.level.next++
			item.level.taken--
			if _, skip := s.skip[item.key.pos]; skip {
				s.skipped = append(s.skipped, item.key.pos)
			}
		case item.schedule != nil:
			s.schedules.fired(item.schedule, item.planned)
		default:
			s.awayBy[item.topic]++
			s.delivered = append(s.delivered, deliveredRow{item.key, item.topic})
		}
	}
	for _, i := range d.sent {
		s.stats.late(now - d.items[i].key.due)
	}
	clear(d.messages)
	d.items = slices.Delete(d.items, 0, len(d.items))
}

// untilNext returns how long nothing is due.
func (s *Service) untilNext() time.Duration {
	now := s.o.Now()
	next := now.Add(longestNap).UnixMilli()
	s.mu.Lock()
	if !s.caughtUp {
		s.mu.Unlock()
		return longestNap // the keeper wakes the deliverer
	}
	if s.due.Len() > 0 {
		next = min(next, s.due.First().due)
	}
	if !s.rowFault {
		next = min(next, s.loaded.due) // then more is to be loaded
	}
	if first := s.schedules.first(); first != nil {
		next = min(next, first.at)
	}
	s.mu.Unlock()
	for _, l := range s.levels {
		if e, err := s.head(l, 0); err == nil && e != nil {
			next = min(next, e.TagCode)
		}
	}
	return time.UnixMilli(next).Sub(now)
}
