package broker

import (
	"errors"
	"strconv"
	"strings"

	"github.com/merlinmq/merlin/internal/kv"
	"github.com/merlinmq/merlin/message"
	"github.com/merlinmq/merlin/store"
)

// openDead makes the dead-letter queues begin where they did.
func (b *Broker) openDead() error {
	b.dead.marks = kv.NewBucket(b.db, "deadmark", kv.JSON[deadMark]())
	marks := map[string]deadMark{}
	err := b.dead.marks.Range(nil, nil, func(topic []byte, m deadMark) bool {
		marks[string(topic)] = m
		return true
	})
	for topic, m := range marks {
		if _, ferr := b.store.ForgetTo(topic, 0, min(m.Begin, b.store.QueueMax(topic, 0))); ferr != nil {
			err = errors.Join(err, ferr)
		}
	}
	if err != nil {
		return err
	}
	// Letters that a crash left twice are one again before anybody sends them.
	b.dead.mu.Lock()
	defer b.dead.mu.Unlock()
	for topic, m := range marks {
		if m.Upto == 0 {
			continue
		}
		if err := b.carryQueue(topic, m.Upto, 0, false); err != nil {
			b.events.Warn("dead letters that a crash left twice stay so until they are carried forward again", "topic", topic, "error", err)
		}
	}
	return nil
}

// forgetDeadTopic lets go of what is kept of a dead-letter queue before it is
// deleted: its offsets begin anew.
func (b *Broker) forgetDeadTopic(topic string) error {
	if !message.IsDLQTopic(topic) {
		return nil
	}
	if err := b.redrives.forgetTopic(topic); err != nil {
		return err
	}
	b.dead.mu.Lock()
	defer b.dead.mu.Unlock()
	if err := b.dead.marks.Delete([]byte(topic), kv.Synced); err != nil {
		return fail(KindSystem, err, "removing where %s begins", topic)
	}
	return nil
}

// forgetDead takes dead letters from readers that are older than
// dlqReservedTime. Queues with a time of their own, and those that are being
// re-driven, are left alone.
func (b *Broker) forgetDead() error {
	keep := b.cfg.DeadHours.Load()
	if keep <= 0 {
		return nil
	}
	var errs []error
	before := b.now().Add(-hours(keep)).UnixMilli()
	for _, t := range b.topics.All() {
		if !message.IsDLQTopic(t.Name) || t.Attributes[topicRetention] != "" || b.redrives.runningOf(strings.TrimPrefix(t.Name, message.DLQPrefix)) > 0 {
			continue
		}
		errs = append(errs, b.forgetDeadBefore(t.Name, before))
	}
	return errors.Join(errs...)
}

// forgetDeadBefore goes by the time of storing, and then by the time of death,
// which is earlier for letters that were carried forward.
func (b *Broker) forgetDeadBefore(topic string, before int64) error {
	if _, err := b.store.ForgetBefore(topic, before); err != nil {
		return err
	}
	lo, hi := b.store.QueueMin(topic, 0), b.store.QueueMax(topic, 0)
	keep := hi
	err := b.eachDead(topic, lo, hi, func(d *deadView) bool {
		if d.since >= before {
			keep = d.offset
		}
		return d.since < before
	})
	if err == nil && keep > lo {
		_, err = b.store.ForgetTo(topic, 0, keep)
	}
	return err
}

// carryDead keeps dead letters that dlqReservedTime keeps for longer than the
// log, before the log below a position is dropped: it appends them anew. They
// are not carried when the log is dropped for want of room.
func (b *Broker) carryDead(upto message.Position) error {
	keep := b.cfg.DeadHours.Load()
	if keep <= b.cfg.ReservedHours.Load() || !b.retain.expired.Load() {
		return nil
	}
	b.dead.mu.Lock()
	defer b.dead.mu.Unlock()
	for _, t := range b.topics.All() {
		if !message.IsDLQTopic(t.Name) {
			continue
		}
		end, err := b.firstAt(t.Name, upto)
		if err != nil {
			return err
		}
		if end <= b.store.QueueMin(t.Name, 0) {
			continue
		}
		if err := b.carryQueue(t.Name, end, b.now().Add(-hours(keep)).UnixMilli(), true); err != nil {
			return err
		}
	}
	return nil
}

// carryBatch bounds one append.
const carryBatch = 256

// carryQueue makes a queue begin at an offset and carries those below it that
// did not die before a time, in ms. With lossy set one that cannot be carried
// goes, else nothing does. dead.mu is held.
func (b *Broker) carryQueue(topic string, end message.Offset, since int64, lossy bool) error {
	// The letters cannot be told from their copies but by where a mark says that
	// they stand, so that a crash must not take what it names.
	if err := b.store.Sync(); err != nil {
		return b.storeRefusal(err)
	}
	for {
		mark, _, err := b.dead.marks.Get([]byte(topic))
		if err != nil {
			return fail(KindSystem, err, "reading where %s begins", topic)
		}
		if mark.Upto == 0 || mark.Upto == end {
			return b.carryTo(topic, mark, end, since, lossy)
		}
		// What a crash ended is done first.
		if err := b.carryTo(topic, mark, mark.Upto, since, lossy); err != nil {
			return err
		}
		if end <= mark.Upto {
			return nil
		}
	}
}

// carryTo is carryQueue with the queue's mark, which is of no other carrying.
func (b *Broker) carryTo(topic string, mark deadMark, end message.Offset, since int64, lossy bool) (err error) {
	lo, hi := b.store.QueueMin(topic, 0), b.store.QueueMax(topic, 0)
	done := map[message.Offset]bool{} // by an attempt that a crash ended
	if mark.Upto > 0 {
		if done, err = b.carriedSince(topic, mark.From); err != nil {
			return err
		}
	}
	// What a crash leaves of this is found by the mark.
	if mark.Upto == 0 || b.store.Max() < mark.From {
		mark.From = b.store.Max()
	}
	mark.Upto = end
	mark.Carried++
	if err := b.dead.marks.Put([]byte(topic), mark, kv.Synced); err != nil {
		return fail(KindSystem, err, "storing that %s is carried forward", topic)
	}
	batch := b.store.NewBatch()
	count := int64(0)
	flush := func() error {
		err := b.store.Append(batch)
		batch.Reset()
		return b.storeRefusal(err)
	}
	var addErr error
	err = b.eachDead(topic, lo, min(end, hi), func(d *deadView) bool {
		if d.since < since || done[d.ident] {
			return true
		}
		m := d.Message()
		if _, carried := m.Properties.Get(PropDeadOffset); !carried {
			m.Properties = m.Properties.Append(PropDeadOffset, strconv.FormatInt(int64(d.ident), 10)).Append(PropDeadSince, strconv.FormatInt(d.since, 10))
		}
		if addErr = b.illegal(batch.Add(&m)); addErr != nil {
			if !lossy {
				return false
			}
			b.events.Warn("a dead letter cannot be kept for longer than the log", "topic", topic, "offset", d.offset, "error", addErr)
			addErr = nil
		}
		count++
		if batch.Len() >= carryBatch || batch.Size() >= redriveBytes {
			addErr = flush()
		}
		return addErr == nil
	})
	if err = errors.Join(err, addErr); err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	b.countDead(strings.TrimPrefix(topic, message.DLQPrefix), -count) // they only move
	return b.hideDead(topic, func(m *deadMark) { m.Begin, m.Upto, m.From = end, 0, 0 })
}

// firstAt returns the first offset of a queue at a position or behind it.
func (b *Broker) firstAt(topic string, pos message.Position) (message.Offset, error) {
	lo, hi := b.store.QueueMin(topic, 0), b.store.QueueMax(topic, 0)
	var row [1]store.Entry
	for lo < hi {
		mid := lo + (hi-lo)/2
		at := mid
		for ; at < hi; at++ { // over holes
			n, err := b.store.Entries(topic, 0, at, row[:])
			if err != nil {
				return 0, fail(KindSystem, err, "reading the queue of %s", topic)
			}
			if n > 0 && !row[0].Filler() {
				break
			}
		}
		if at == hi || row[0].Position >= pos {
			hi = mid
		} else {
			lo = at + 1
		}
	}
	return lo, nil
}

// carriedSince returns the letters that were carried at or behind a position.
func (b *Broker) carriedSince(topic string, from message.Position) (map[message.Offset]bool, error) {
	first, err := b.firstAt(topic, from)
	if err != nil {
		return nil, err
	}
	done := map[message.Offset]bool{}
	err = b.eachDead(topic, first, b.store.QueueMax(topic, 0), func(d *deadView) bool {
		if d.ident != d.offset {
			done[d.ident] = true
		}
		return true
	})
	return done, err
}

// deadMeter remembers when the oldest letter of a queue died.
type deadMeter struct {
	first  message.Offset
	oldest int64
}

// DeadStats are numbers about the dead letters of a group.
type DeadStats struct {
	Messages int64
	Oldest   int64 // when the oldest died, ms; 0 if there is none
	Died     int64 // since the start
	Redriven int64 // since the start
	Running  int   // re-drives
}

// DeadStats returns numbers by group.
func (b *Broker) DeadStats() map[string]DeadStats {
	all := map[string]DeadStats{}
	b.redrives.mu.Lock()
	redriven := make(map[string]int64, len(b.redrives.sent))
	for group, n := range b.redrives.sent {
		redriven[group] = n
	}
	b.redrives.mu.Unlock()
	for _, t := range b.topics.All() {
		group, ok := strings.CutPrefix(t.Name, message.DLQPrefix)
		if !ok {
			continue
		}
		lo, hi := b.store.QueueMin(t.Name, 0), b.store.QueueMax(t.Name, 0)
		s := DeadStats{Messages: int64(hi - lo), Redriven: redriven[group], Running: b.redrives.runningOf(group)}
		b.dead.countMu.Lock()
		s.Died = b.dead.arrived[group]
		m, known := b.dead.meter[group]
		b.dead.countMu.Unlock()
		if hi > lo {
			if !known || m.first != lo || m.oldest == 0 {
				m = deadMeter{first: lo}
				_ = b.eachDead(t.Name, lo, hi, func(d *deadView) bool { // not readable: no age is told
					m.oldest = d.since
					return false
				})
				b.dead.countMu.Lock()
				if b.dead.meter == nil {
					b.dead.meter = map[string]deadMeter{}
				}
				b.dead.meter[group] = m
				b.dead.countMu.Unlock()
			}
			s.Oldest = m.oldest
		}
		all[group] = s
	}
	return all
}

// deadArrived counts dead letters. The dispatcher calls it.
func (b *Broker) deadArrived(arrivals []store.Arrival) {
	for i := range arrivals {
		if group, ok := strings.CutPrefix(arrivals[i].Topic, message.DLQPrefix); ok {
			b.countDead(group, 1)
		}
	}
}

// countDead adds to how many died.
func (b *Broker) countDead(group string, n int64) {
	b.dead.countMu.Lock()
	defer b.dead.countMu.Unlock()
	if b.dead.arrived == nil {
		b.dead.arrived = map[string]int64{}
	}
	b.dead.arrived[group] += n
}
