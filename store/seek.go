package store

import (
	"errors"
	"fmt"

	"github.com/merlinmq/merlin/commitlog"
	"github.com/merlinmq/merlin/consumequeue"
	"github.com/merlinmq/merlin/message"
)

// QueueMin returns the first offset of a queue that can be read, 0 for a queue
// that there is not.
func (s *Store) QueueMin(topic string, queue int32) message.Offset {
	if cq := s.table.Lookup(topic, queue); cq != nil {
		return cq.Min()
	}
	return 0
}

// QueueMax returns the offset that the next visible message of a queue gets, 0
// for a queue that there is not.
func (s *Store) QueueMax(topic string, queue int32) message.Offset {
	if cq := s.table.Lookup(topic, queue); cq != nil {
		return cq.Max()
	}
	return 0
}

// Entries fills dst with a queue's entries from an offset on and returns how
// many; fewer than len(dst) means that the queue ends there. Entries without a
// record are Filler. ErrNotFound for an offset outside of the queue, or a queue
// that there is not.
func (s *Store) Entries(topic string, queue int32, from message.Offset, dst []Entry) (n int, err error) {
	cq := s.table.Lookup(topic, queue)
	if cq == nil {
		return 0, fmt.Errorf("%w: no queue %d of %s", ErrNotFound, queue, topic)
	}
	n, err = cq.Read(from, dst)
	if errors.Is(err, consumequeue.ErrOutside) || errors.Is(err, consumequeue.ErrDeleted) {
		return 0, fmt.Errorf("%w: %s queue %d goes from %d to %d: %w", ErrNotFound, topic, queue, cq.Min(), cq.Max(), err)
	}
	if err != nil {
		return n, s.readError(err)
	}
	return n, nil
}

// Record returns a checked copy of the record at a position. ErrNotFound when
// the log does not reach there; a *commitlog.CorruptError when there is none,
// or a damaged one.
func (s *Store) Record(pos message.Position) (message.View, error) {
	v, err := s.log.Record(pos)
	if err != nil {
		return nil, s.readError(err)
	}
	return v, nil
}

// RecordAt returns a copy of the record of a queue's entry. ErrNotFound for an
// entry that leads to no record of the queue.
func (s *Store) RecordAt(topic string, queue int32, off message.Offset) (message.View, error) {
	var entries [1]Entry
	n, err := s.Entries(topic, queue, off, entries[:])
	if err != nil {
		return nil, err
	}
	if n == 0 || entries[0].Filler() {
		return nil, fmt.Errorf("%w: %s queue %d has no message at offset %d", ErrNotFound, topic, queue, off)
	}
	return s.recordOf(topic, queue, off, entries[0])
}

func (s *Store) recordOf(topic string, queue int32, off message.Offset, e Entry) (message.View, error) {
	v, err := s.log.Record(e.Position)
	if err == nil && (v.QueueID() != queue || string(v.Topic()) != topic) {
		err = fmt.Errorf("the record there belongs to %q queue %d", v.Topic(), v.QueueID())
	}
	if errors.Is(err, commitlog.ErrClosed) {
		return nil, s.readError(err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotFound, &RecordError{Topic: topic, Queue: queue, Offset: int64(off), Err: err})
	}
	return v, nil
}

// StoreTimeAt returns when the message at an offset was stored, in ms.
func (s *Store) StoreTimeAt(topic string, queue int32, off message.Offset) (int64, error) {
	v, err := s.RecordAt(topic, queue, off)
	if err != nil {
		return 0, err
	}
	return v.StoreTimestamp(), nil
}

// EarliestTime returns when the first message of a queue that can still be
// read was stored, in ms. ErrNotFound if there is none.
func (s *Store) EarliestTime(topic string, queue int32) (int64, error) {
	cq := s.table.Lookup(topic, queue)
	if cq == nil {
		return 0, fmt.Errorf("%w: no queue %d of %s", ErrNotFound, queue, topic)
	}
	_, t, err := s.nextTime(topic, queue, cq.Min(), cq.Max())
	if err == nil && t < 0 {
		err = fmt.Errorf("%w: %s queue %d is empty", ErrNotFound, topic, queue)
	}
	return t, err
}

// Boundary says which offset is meant by a time.
type Boundary int

// Lower is the first message not before the time, or the queue's end. Upper is
// the last one not after it, or the queue's first.
const (
	Lower Boundary = iota
	Upper
)

// OffsetByTime finds the offset in a queue that belongs to a time of storing,
// in ms. It is 0 for a queue that there is not, or that is empty.
func (s *Store) OffsetByTime(topic string, queue int32, ms int64, b Boundary) (message.Offset, error) {
	cq := s.table.Lookup(topic, queue)
	if cq == nil {
		return 0, nil
	}
	first, end := cq.Min(), cq.Max()
	after := ms // the first message at or after this time is wanted
	if b == Upper {
		after++
	}
	lo, hi := first, end
	for lo < hi {
		mid := lo + (hi-lo)/2
		at, t, err := s.nextTime(topic, queue, mid, hi)
		if err != nil {
			return 0, err
		}
		if t < 0 || t >= after {
			hi = mid
		} else {
			lo = at + 1
		}
	}
	if b == Upper {
		return max(lo-1, first), nil
	}
	return lo, nil
}

// nextTime returns the first offset from `from` on, below end, that leads to a
// record, and its store time; -1 if none does.
func (s *Store) nextTime(topic string, queue int32, from, end message.Offset) (message.Offset, int64, error) {
	var entries [16]Entry
	for from < end {
		n, err := s.Entries(topic, queue, from, entries[:min(len(entries), int(end-from))])
		if errors.Is(err, ErrNotFound) || err == nil && n == 0 {
			return end, -1, nil // trimmed meanwhile
		}
		if err != nil {
			return end, -1, err
		}
		for i, e := range entries[:n] {
			if e.Filler() {
				continue
			}
			v, err := s.recordOf(topic, queue, from+message.Offset(i), e)
			if err == nil {
				return from + message.Offset(i), v.StoreTimestamp(), nil
			}
			if !errors.Is(err, ErrNotFound) {
				return end, -1, err
			}
		}
		from += message.Offset(n)
	}
	return end, -1, nil
}
